"""Where a tick belongs: segments, intervals, and the slot of an interval."""

import numpy as np

from marketpipe.bars._compile import entry, inlined
from marketpipe.bars._slot_kernel import clear, clear_aux
from marketpipe.bars.layout import (
    CONFIRMED,
    HAS_TABLE,
    HINT,
    INDEXED,
    INTRADAY,
    LATE_CAUSE,
    N_SLOTS,
    OPEN,
    WEEKS,
)

DAY_NS = 86_400_000_000_000
MONDAY_NS = 4 * DAY_NS
WALK = 64
"""Steps back in time before the hash index is built."""


@entry
def find_segment(cfg, seg, ts):
    """Return the index of the segment that holds ``ts``, -1 for none."""
    n = seg.shape[0]
    hint = cfg[HINT]
    if hint < n and seg[hint]["open"] <= ts < seg[hint]["close"]:
        return hint
    lo = 0
    hi = n
    while lo < hi:
        mid = (lo + hi) // 2
        if seg[mid]["open"] <= ts:
            lo = mid + 1
        else:
            hi = mid
    i = lo - 1
    if i >= 0 and ts < seg[i]["close"]:
        cfg[HINT] = i
        return i
    return -1


@entry
def find_auction(ses, ts):
    """Return the session whose closing auction may still print at ``ts``, -1 for none."""
    lo = 0
    hi = ses.shape[0]
    while lo < hi:
        mid = (lo + hi) // 2
        if ses[mid]["close"] <= ts:
            lo = mid + 1
        else:
            hi = mid
    i = lo - 1
    if i >= 0 and ts < ses[i]["auction_end"]:
        return i
    return -1


@entry
def session_edges(level, grp, session):
    """Return (ts_open, ts_close, confirm_at, session_date) of a day-like bar."""
    g = level["length"]
    return grp[g, session, 0], grp[g, session, 1], grp[g, session, 2], grp[g, session, 3]


@entry
def _table_edges(cfg, level, seg, ses, grp, ts):
    """Return what `edges` does, from the session table."""
    i = find_segment(cfg, seg, ts)
    session = seg[i]["session"]
    if level["kind"] != INTRADAY:
        return session_edges(level, grp, session)
    start = seg[i]["open"]
    lo = start + (ts - start) // level["length"] * level["length"]
    hi = min(lo + level["length"], seg[i]["close"])
    return lo, hi, hi, ses[session]["date"]


@inlined
def edges(cfg, level, seg, ses, grp, ts):
    """Return (ts_open, ts_close, confirm_at, session_date) of the bar that holds ``ts``.

    ``ts`` lies in a segment, or there is no table and the grid is that of UTC.
    """
    if cfg[HAS_TABLE]:
        return _table_edges(cfg, level, seg, ses, grp, ts)
    origin = MONDAY_NS if level["kind"] == WEEKS else 0
    lo = origin + (ts - origin) // level["length"] * level["length"]
    hi = lo + level["length"]
    return lo, hi, hi, lo // DAY_NS


@inlined
def _bucket(stream, level, ts_open, size):
    """Hash an identity into a table of ``size`` (a power of two) entries."""
    h = (
        (ts_open // 1_000_000_000 & 0x7FFFFFFF) * 0x9E3779B1
        + np.int64(stream) * 0x85EBCA77
        + np.int64(level) * 0x27D4EB2F
    )
    h = h ^ (h >> 29)
    h = (h & 0x7FFFFFFF) * 0x9E3779B1
    return (h >> 16) & (size - 1)


@inlined
def _enter(index, size, slots, i):
    """Write slot ``i`` into the first ``size`` entries of the hash index."""
    r = slots[i]
    h = _bucket(np.int64(r["stream"]), np.int64(r["level"]), r["ts_open"], size)
    while index[h] != 0:
        h = (h + 1) & (size - 1)
    index[h] = i + 1


@entry
def index_all(cfg, index, slots):
    """Build the hash index of every slot, in as little room as leaves it three quarters free."""
    n = cfg[N_SLOTS]
    size = np.int64(1024)
    while size < 4 * n and 2 * size <= index.shape[0]:
        size *= 2
    for i in range(size):
        index[i] = 0
    for i in range(n):
        _enter(index, size, slots, i)
    cfg[INDEXED] = size


@entry
def index_add(cfg, index, slots, i):
    """Enter slot ``i``, which is counted already, into the hash index; rebuild one half full."""
    if 2 * cfg[N_SLOTS] > cfg[INDEXED] and 2 * cfg[INDEXED] <= index.shape[0]:
        index_all(cfg, index, slots)
    else:
        _enter(index, cfg[INDEXED], slots, i)


@entry
def find(cfg, slots, last, index, levels_n, s, k, ts_open):
    """Return (slot, successor): the slot of an interval or -1, and the one after the gap."""
    after = np.int64(-1)
    i = np.int64(last[s * levels_n + k])
    if i < 0 or slots[i]["ts_open"] < ts_open:
        return -1, after
    if slots[i]["ts_open"] == ts_open:
        return i, after
    if cfg[INDEXED] == 0:
        for _ in range(WALK):
            if i < 0 or slots[i]["ts_open"] <= ts_open:
                break
            after = i
            i = np.int64(slots[i]["prev"])
        if i < 0 or slots[i]["ts_open"] < ts_open:
            return -1, after
        if slots[i]["ts_open"] == ts_open:
            return i, after
        index_all(cfg, index, slots)
    size = cfg[INDEXED]
    h = _bucket(s, k, ts_open, size)
    while index[h] != 0:
        i = np.int64(index[h]) - 1
        if slots[i]["ts_open"] == ts_open and slots[i]["stream"] == s and slots[i]["level"] == k:
            return i, -1
        h = (h + 1) & (size - 1)
    return -1, -1


@inlined
def await_close(w, r, i):
    """Enter slot ``i``, record ``r``, into the list of a stream's open bars."""
    r["status"] = OPEN
    r["next_open"] = w["open_head"]
    w["open_head"] = i
    w["n_open"] += 1
    w["next_close"] = min(w["next_close"], r["confirm_at"])


@entry
def place(st, s, k, lo, hi, confirm_at, date, late):
    """Return the slot of an interval; take a new one where there is none yet.

    For a late tick (``late``), a new slot whose ``confirm_at`` the watermark has passed is
    born confirmed, and its first revision has the cause ``late``. Otherwise it is born open,
    though it may be due at once. The caller has seen to free room.
    """
    cfg, levels, streams, slots, aux, _, _, last, _, _, _, index, _, _ = st
    n = levels.shape[0]
    i, after = find(cfg, slots, last, index, n, s, k, lo)
    if i >= 0:
        return i
    i = cfg[N_SLOTS]
    cfg[N_SLOTS] = i + 1
    r = slots[i]
    clear(r)
    if aux.shape[0] > 0:
        clear_aux(aux[i])
    r["ts_open"] = lo
    r["ts_close"] = hi
    r["confirm_at"] = confirm_at
    r["stream"] = s
    r["level"] = k
    r["session_date"] = date
    r["revision"] = -1
    r["cause"] = 0
    r["next_open"] = -1
    at = s * n + k
    if last[at] < 0 or slots[last[at]]["ts_open"] < lo:
        r["prev"] = last[at]
        last[at] = i
    elif after >= 0:
        r["prev"] = slots[after]["prev"]
        slots[after]["prev"] = i
    else:
        r["prev"] = -1
    if cfg[INDEXED]:
        index_add(cfg, index, slots, i)
    w = streams[s]
    if late and confirm_at <= w["watermark"]:
        r["status"] = CONFIRMED
        r["cause"] = LATE_CAUSE
    else:
        await_close(w, r, i)
    return i
