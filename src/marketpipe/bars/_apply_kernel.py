"""The loop over ticks, and its scalar twin for one tick at a time."""

import numpy as np

from marketpipe.bars._compile import entry, inlined, pasted
from marketpipe.bars._grid_kernel import edges, find_auction, find_segment, session_edges
from marketpipe.bars._life_kernel import direct, settle_run, settle_stream, turn, walk
from marketpipe.bars._slot_kernel import fold, fold_aux
from marketpipe.bars.layout import (
    APPLIED,
    CLOCK_KNOWN,
    DERIVED,
    DONE,
    EVENT_TIME,
    GRACE,
    GROW_OUT,
    GROW_SLOTS,
    HAS_TABLE,
    I64_MAX,
    I64_MIN,
    INTRADAY,
    MODE,
    N_DIRTY,
    N_OUT,
    N_SLOTS,
    OUTSIDE,
    OVERFLOW,
    RECEIPT_TIME,
    ROOTS_END,
    SHARDS,
    STATUS,
)
from marketpipe.domain.ticks import CLOSING_AUCTION, OFFICIAL_CLOSE, OFFICIAL_OPEN

OFFICIAL = OFFICIAL_OPEN | OFFICIAL_CLOSE


@inlined
def room(st, s):
    """Say whether one more tick of a stream surely fits, or which array must grow."""
    cfg, levels, streams, slots, _, _, _, _, _, _, _, _, out, _ = st
    n = levels.shape[0]
    # a bar that is confirmed may open one bar of each level that is derived from it
    need = 4 * n + streams[s]["n_open"] * (n if cfg[DERIVED] else 1)
    if cfg[N_SLOTS] + need > slots.shape[0]:
        return GROW_SLOTS
    if cfg[N_OUT] + need + n > out.shape[0]:
        return GROW_OUT
    return DONE


@entry
def slow(st, s, root, session, t, a, b, c, price, size, fl, known):
    """Apply a tick that is late, or a closing print past the close, straight to its slots."""
    cfg, levels, _, _, _, _, _, _, seg, ses, grp, _, _, _ = st
    settle_stream(st, s, np.int64(I64_MAX))
    if session >= 0 and not fl & CLOSING_AUCTION:
        # the official close is a statement about the auction, not a trade in it
        fl = np.int64(OFFICIAL_CLOSE)
    for k in range(levels.shape[0]):
        level = levels[k]
        if level["derived"] or level["root"] != root:
            continue
        f = (fl >> level["shift"]) & 0x1F
        if session >= 0:
            if level["kind"] == INTRADAY:
                continue
            lo, hi, confirm_at, date = session_edges(level, grp, session)
        else:
            lo, hi, confirm_at, date = edges(cfg, level, seg, ses, grp, t)
        direct(st, s, k, lo, hi, confirm_at, date, f, fl, t, a, b, c, price, size, known)


@pasted
def tick(st, s, t, a, b, c, price, size, fl, known):
    """Apply one tick to one stream; `room` has said that it fits."""
    cfg, levels, streams, _, aux, runs, run_aux, _, seg, ses, grp, _, _, _ = st
    n = levels.shape[0]
    w = streams[s]
    mark = w["watermark"]
    if cfg[MODE] == EVENT_TIME:
        mark = max(mark, t)
    elif cfg[MODE] == RECEIPT_TIME and known != I64_MIN:
        mark = max(mark, known - cfg[GRACE])
    session = np.int64(-1)
    inside = True
    if cfg[HAS_TABLE] and find_segment(cfg, seg, t) < 0:
        inside = False
        if fl & (CLOSING_AUCTION | OFFICIAL_CLOSE):
            session = find_auction(ses, t)
        if session < 0:
            cfg[OUTSIDE] += 1
    for k in range(cfg[ROOTS_END]):
        level = levels[k]
        if level["feed"] >= 0:
            continue
        f = (fl >> level["shift"]) & 0x1F
        official = fl & OFFICIAL if level["shift"] else np.int64(0)
        if f == 0 and official == 0:
            continue
        r = runs[s * n + k]
        on_time = inside
        if inside and r["status"] and r["ts_open"] <= t < r["ts_close"]:
            on_time = r["confirm_at"] > w["watermark"]
        elif inside:
            lo, hi, confirm_at, date = edges(cfg, level, seg, ses, grp, t)
            on_time = confirm_at > w["watermark"]
            if on_time:
                if r["status"]:
                    settle_run(st, s, k, mark)
                if not w["run_open"] <= t < w["run_close"]:
                    turn(st, s, k, t, mark)
                r["ts_open"] = lo
                r["ts_close"] = hi
                r["confirm_at"] = confirm_at
                r["session_date"] = date
                r["status"] = 1
        if not on_time:
            if inside or session >= 0:
                slow(st, s, k, session, t, a, b, c, price, size, fl, known)
            continue
        if not fold(r, f, t, a, b, c, price, size, known):
            cfg[STATUS] = OVERFLOW
            return
        if aux.shape[0] > 0:
            fold_aux(run_aux[s * n + k], f, fl, t, a, b, c, price, size)
    w["watermark"] = mark
    if w["next_close"] <= mark:
        settle_stream(st, s, mark)


@entry
def pick(mine, stream, start, rows):
    """Gather rows of this shard from ``start`` on; return how many, and where it stopped.

    Without a branch on whose row it is: that would be mispredicted every other time.
    """
    stop = min(start + rows.shape[0], stream.shape[0])
    m = 0
    for i in range(start, stop):
        rows[m] = i
        m += mine[stream[i]]
    return m, stop


@entry
def apply_rows(st, dirty, mine, rows, stream, ts, price, size, ka, kb, kc, flags, known, start):
    """Apply rows from ``start``; return the row it stopped at, ``cfg[STATUS]`` says why.

    After the last row, pending runs are settled and due bars confirmed; ``n + 1`` is done.
    """
    cfg = st[0]
    streams = st[2]
    n = ts.shape[0]
    alone = cfg[SHARDS] == 1
    cfg[STATUS] = DONE
    m = n - start
    stop = start
    while stop < n:
        first = stop
        if alone:
            stop = n
        else:
            m, stop = pick(mine, stream, first, rows)
        for j in range(m):
            i = first + j if alone else np.int64(rows[j])
            s = np.int64(stream[i])
            full = room(st, s)
            if full != DONE:
                cfg[STATUS] = full
                return i
            if streams[s]["dirty"] == 0:
                streams[s]["dirty"] = 1
                dirty[cfg[N_DIRTY]] = s
                cfg[N_DIRTY] += 1
            fl = np.int64(flags[i])
            tick(st, s, ts[i], ka[i], kb[i], kc[i], price[i], size[i], fl, known[i])
            cfg[APPLIED] += 1
            if cfg[STATUS] == OVERFLOW:
                return i
    while cfg[N_DIRTY] > 0:
        s = np.int64(dirty[cfg[N_DIRTY] - 1])
        full = room(st, s)
        if full != DONE:
            cfg[STATUS] = full
            return n
        settle_stream(st, s, np.int64(I64_MAX))
        streams[s]["dirty"] = 0
        cfg[N_DIRTY] -= 1
        if cfg[STATUS] == OVERFLOW:
            return n
    return n + 1


@entry
def apply_one(st, s, t, a, b, c, price, size, fl, known):
    """Apply one tick, settle it and confirm what is due; return the status."""
    cfg = st[0]
    cfg[STATUS] = room(st, s)
    if cfg[STATUS] != DONE:
        return cfg[STATUS]
    tick(st, s, t, a, b, c, price, size, fl, known)
    cfg[APPLIED] += 1
    settle_stream(st, s, np.int64(I64_MAX))
    return cfg[STATUS]


@entry
def advance_all(st, watermark, known, start):
    """Raise the watermark of every stream and confirm what is due; resumable like `apply_rows`."""
    cfg = st[0]
    streams = st[2]
    cfg[CLOCK_KNOWN] = max(cfg[CLOCK_KNOWN], known)
    cfg[STATUS] = DONE
    for s in range(start, streams.shape[0]):
        full = room(st, s)
        if full != DONE:
            cfg[STATUS] = full
            return s
        streams[s]["watermark"] = max(streams[s]["watermark"], watermark)
        walk(st, s)
        if cfg[STATUS] == OVERFLOW:
            return s
    return streams.shape[0]


@entry
def refold(st, i, ts, price, size, ka, kb, kc, flags, known):
    """Fold rows into slot ``i``, whatever its state, without any revision."""
    cfg, levels, _, slots, aux, _, _, _, _, _, _, _, _, _ = st
    r = slots[i]
    shift = levels[r["level"]]["shift"]
    for row in range(ts.shape[0]):
        f = (flags[row] >> shift) & 0x1F
        a, b, c = ka[row], kb[row], kc[row]
        if not fold(r, f, ts[row], a, b, c, price[row], size[row], known[row]):
            cfg[STATUS] = OVERFLOW
            return
        if aux.shape[0] > 0:
            fold_aux(aux[i], f, flags[row], ts[row], a, b, c, price[row], size[row])
