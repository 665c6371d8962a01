"""From slots to dense columns: which are bars, in which order, what they say."""

import numpy as np

from marketpipe.bars._compile import entry, inlined
from marketpipe.bars._slot_kernel import ends, is_bar
from marketpipe.bars._sums_kernel import LIMB, carry, ratio
from marketpipe.bars.layout import CONFIRMED, I64_MAX, I64_MIN, OPEN

DAY_NS = 86_400_000_000_000
SETTLE_NS = 15 * 60 * 1_000_000_000
"""A session's bars are settled this long after its close."""

# Rows of the arrays that `transcribe` fills.
TS_OPEN, TS_CLOSE, COUNT, RECORDED_AT, KNOWN_AT, N_STAMPS = range(6)
OPENED, HIGH, LOW, CLOSED, VOLUME, NOTIONAL, VWAP, OFFICIAL_OPEN, OFFICIAL_CLOSE, N_WIDE = range(10)
STREAM, LEVEL, SESSION_DATE, STATE, COVERAGE, REVISION, CAUSE, N_SMALL = range(8)
LIVED, HAS_VWAP, HAS_OFFICIAL_OPEN, HAS_OFFICIAL_CLOSE, N_VALID = range(5)

_AHEAD = 32
"""Slots to fetch at a time."""

_MASK = 0xFFFFFFFF
_LIMB_HIGH = LIMB >> 32
_LIMB_LOW = LIMB & _MASK


@entry
def sift(slots, aux, nowhere_zero, derived, kept):
    """Say of each slot whether it is a bar; ``nowhere_zero`` rules levels not ``derived``."""
    for i in range(slots.shape[0]):
        r = slots[i]
        priced, opened, closed = ends(r, aux, i)
        strict = nowhere_zero and not derived[r["level"]]
        kept[i] = is_bar(r, priced, opened, closed, strict)


@entry
def classify(slots, kept, rank, visible, forming, date, group, count, latest, sorted_):
    """Give each slot that is shown its group: rank of the stream, then level; -1 to the others.

    Shown are ``kept`` slots of visible levels and of one session date (I64_MIN: any) that have
    been confirmed, and with ``forming`` the open ones. ``count`` is raised for each group;
    ``sorted_`` becomes False for those whose slots do not come in order of time.
    """
    n_levels = visible.shape[0]
    for i in range(slots.shape[0]):
        r = slots[i]
        group[i] = -1
        if not kept[i] or not visible[r["level"]]:
            continue
        if r["revision"] < 0 and not (forming and r["status"] == OPEN):
            continue
        if date != I64_MIN and date != r["session_date"]:
            continue
        g = rank[r["stream"]] * n_levels + r["level"]
        group[i] = g
        count[g] += 1
        if r["ts_open"] < latest[g]:
            sorted_[g] = False
        latest[g] = r["ts_open"]


@entry
def deal(group, first, at, order):
    """Write each slot's number, counted from ``first``, to the next place of its group."""
    for i in range(group.shape[0]):
        g = group[i]
        if g >= 0:
            order[at[g]] = first + i
            at[g] += 1


@entry
def _fetch(slots, order, first, start):
    """Read a little of each cache line of the next slots, which lie far apart, and forget it.

    The processor waits for many lines at once in this short loop, for few in the long one.
    """
    seen = np.int64(0)
    for j in range(start, min(start + _AHEAD, order.shape[0])):
        i = order[j] - first
        if 0 <= i < slots.shape[0]:
            r = slots[i]
            seen ^= r["ts_open"] ^ r["last_ts"] ^ r["vol_lo"]
    return seen


@entry
def transcribe(
    slots,
    aux,
    order,
    first,
    halve,
    day,
    strict,
    dates,
    closes,
    watermarks,
    stamps,
    wide,
    small,
    valid,
):
    """Write what slots say to the columns, row ``j`` from slot ``order[j] - first``.

    Rows of other slots are left alone. ``halve``: prices are sums of bid and ask; ``day``: which
    levels are of whole days; ``strict``: in which a bar is nowhere zero; ``dates`` and
    ``closes``: the sessions, none on the grid of UTC.
    ``wide`` may end before OFFICIAL_OPEN, then these prices are left out. What is returned says
    nothing: it keeps the compiler from dropping `_fetch`.
    """
    session = 0
    fetched = np.int64(0)
    for j in range(order.shape[0]):
        if j % _AHEAD == 0:
            fetched ^= _fetch(slots, order, first, j)
        i = order[j] - first
        if i < 0 or i >= slots.shape[0]:
            continue
        r = slots[i]
        priced, opened, closed = ends(r, aux, i)
        high = r["high"]
        low = r["low"]
        lived = is_bar(r, priced, opened, closed, strict[r["level"]])
        if halve:
            opened = half_even(opened)
            high = half_even(high)
            low = half_even(low)
            closed = half_even(closed)
        _put(wide, OPENED, j, opened)
        _put(wide, HIGH, j, high)
        _put(wide, LOW, j, low)
        _put(wide, CLOSED, j, closed)
        wide[VOLUME, j, 0], wide[VOLUME, j, 1] = limbs(r["vol_hi"], r["vol_lo"])
        wide[NOTIONAL, j, 0], wide[NOTIONAL, j, 1] = limbs(r["not_hi"], r["not_lo"])
        nhi, nlo, dhi, dlo = r["not_hi"], r["not_lo"], r["vol_hi"], r["vol_lo"]
        if aux.shape[0] > 0:
            x = aux[i]
            nhi, nlo = carry(nhi - x["xnot_hi"], nlo - x["xnot_lo"])
            dhi, dlo = carry(dhi - x["xvol_hi"], dlo - x["xvol_lo"])
        if wide.shape[0] > OFFICIAL_OPEN:
            has_open = has_close = False
            official_open = official_close = np.int64(0)
            if aux.shape[0] > 0:
                x = aux[i]
                has_open = day[r["level"]] and x["oo_ts"] != I64_MAX
                has_close = day[r["level"]] and x["oc_ts"] != I64_MIN
                official_open = x["official_open"]
                official_close = x["official_close"]
            _put(wide, OFFICIAL_OPEN, j, official_open)
            _put(wide, OFFICIAL_CLOSE, j, official_close)
            valid[HAS_OFFICIAL_OPEN, j] = has_open
            valid[HAS_OFFICIAL_CLOSE, j] = has_close
        vwap = ratio(nhi, nlo, dhi, dlo)
        _put(wide, VWAP, j, vwap)
        valid[LIVED, j] = lived
        valid[HAS_VWAP, j] = lived and vwap >= 0
        stamps[TS_OPEN, j] = r["ts_open"]
        stamps[TS_CLOSE, j] = r["ts_close"]
        stamps[COUNT, j] = r["count"] if lived else 0
        known = r["known_at"]
        stamps[RECORDED_AT, j] = known
        stamps[KNOWN_AT, j] = r["confirm_at"] if known == I64_MIN else known
        date = np.int64(r["session_date"])
        end = (date + 1) * DAY_NS
        if dates.shape[0] > 0:
            if dates[session] != date:
                session = _position(dates, date)
            end = closes[session]
        state = 0
        if r["status"] == CONFIRMED:
            state = 2 if watermarks[r["stream"]] >= end + SETTLE_NS else 1
        small[STREAM, j] = r["stream"]
        small[LEVEL, j] = r["level"]
        small[SESSION_DATE, j] = date
        small[STATE, j] = state
        small[COVERAGE, j] = 0 if lived else 1
        small[REVISION, j] = max(r["revision"], 0)
        small[CAUSE, j] = r["cause"]
    return fetched


@entry
def _position(dates, date):
    """Return where an ascending array holds a date that is in it."""
    lo = 0
    hi = dates.shape[0] - 1
    while lo < hi:
        mid = (lo + hi) // 2
        if dates[mid] < date:
            lo = mid + 1
        else:
            hi = mid
    return lo


@entry
def measure(codes, lengths, offsets):
    """Fill the offsets of a column of texts; ``lengths`` are by code."""
    at = 0
    offsets[0] = 0
    for i in range(codes.shape[0]):
        at += lengths[codes[i]]
        offsets[i + 1] = at


@entry
def spell(codes, starts, lengths, letters, out):
    """Write the texts of ``codes`` one after the other; theirs are ``letters[starts:]``."""
    at = 0
    for i in range(codes.shape[0]):
        c = codes[i]
        for k in range(lengths[c]):
            out[at + k] = letters[starts[c] + k]
        at += lengths[c]


@inlined
def _put(wide, row, j, value):
    """Write a signed 64-bit integer as one of 128 bits."""
    wide[row, j, 0] = value
    wide[row, j, 1] = value >> 63


@entry
def limbs(hi, lo):
    """Return ``hi * 10**18 + lo`` (all >= 0) as two's-complement limbs of 64 bits, low first."""
    if hi == 0:
        return lo, 0 * lo
    h1 = hi >> 32
    h0 = hi & _MASK
    # four products of 32-bit halves, summed by columns of 32 bits
    p00l, p00h = _columns(h0, _LIMB_LOW)
    p01l, p01h = _columns(h0, _LIMB_HIGH)
    p10l, p10h = _columns(h1, _LIMB_LOW)
    p11l, p11h = _columns(h1, _LIMB_HIGH)
    c0 = p00l + (lo & _MASK)
    c1 = p00h + p01l + p10l + (lo >> 32) + (c0 >> 32)
    c2 = p01h + p10h + p11l + (c1 >> 32)
    c3 = p11h + (c2 >> 32)
    return _join(c1 & _MASK, c0 & _MASK), _join(c3 & _MASK, c2 & _MASK)


@inlined
def _columns(x, y):
    """Return the low and high 32 bits of ``x * y`` for 0 <= x, y < 2**32, without overflow."""
    y1 = y >> 16
    y0 = y & 0xFFFF
    low = x * y0
    high = x * y1 + (low >> 16)
    return ((high & 0xFFFF) << 16) | (low & 0xFFFF), high >> 16


@inlined
def _join(high, low):
    """Return the signed 64-bit integer of two 32-bit halves."""
    if high >= 0x80000000:
        high -= 0x100000000
    return high * 0x100000000 + low


@inlined
def half_even(doubled):
    """Halve a value, rounding half to even."""
    q = doubled >> 1
    return q + (doubled & q & 1)
