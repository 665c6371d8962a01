"""Memory layout of the bar engine: one record per bar, one per run, one per stream and level.

A *slot* is a bar's state, an element of the commutative monoid: first and last trade with
their order keys, extremes, exact sums. A *run* is the same record holding only what arrived
since the run began; it is merged into its slot, and into the run of the next timeframe, when
the interval changes. An *aux* record rides beside a slot where a rule set needs more: the
first-only slot, the sums left out of vwap, official prices.
"""

from typing import Final

import numpy as np

from marketpipe.domain.units import NULL_I64

I64_MAX: Final = int(np.iinfo(np.int64).max)
I64_MIN: Final = NULL_I64

_KEYED = ("ts", "a", "b", "c")


def _point(name: str, price: str) -> list[tuple[str, str]]:
    return [*((f"{name}_{part}", "<i8") for part in _KEYED), (price, "<i8")]


SLOT: Final = np.dtype(
    [
        ("ts_open", "<i8"),
        ("ts_close", "<i8"),
        ("confirm_at", "<i8"),
        *_point("first", "open"),
        *_point("last", "close"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("vol_hi", "<i8"),
        ("vol_lo", "<i8"),
        ("not_hi", "<i8"),
        ("not_lo", "<i8"),
        ("count", "<i8"),
        ("known_at", "<i8"),
        ("prev", "<i4"),
        ("next_open", "<i4"),
        ("stream", "<i4"),
        ("session_date", "<i4"),
        ("revision", "<i4"),
        ("level", "<i2"),
        ("status", "<i1"),
        ("cause", "<i1"),
    ]
)
"""A bar's state. Instants in ns, prices in nanos, sums as ``hi * 10**18 + lo``.

``confirm_at`` is the watermark that confirms it (``ts_close``; for day bars the end of the
closing auction); ``revision`` -1 until the first one is out; ``prev`` the slot before it in
time, ``next_open`` the next unconfirmed one of its stream, -1 for none.
"""

AUX: Final = np.dtype(
    [
        *_point("half", "half_px"),
        ("xvol_hi", "<i8"),
        ("xvol_lo", "<i8"),
        ("xnot_hi", "<i8"),
        ("xnot_lo", "<i8"),
        *_point("oo", "official_open"),
        *_point("oc", "official_close"),
    ]
)
"""``half``: the first first-only trade; ``xvol``, ``xnot``: sums in volume but not in vwap."""

LEVEL: Final = np.dtype(
    [
        ("kind", "<i8"),
        ("length", "<i8"),
        ("shift", "<i8"),
        ("feed", "<i8"),
        ("root", "<i8"),
        ("derived", "<i8"),
        ("visible", "<i8"),
    ]
)
"""A timeframe. ``length``: ns, or the index of its day groups; ``feed``: the level whose runs
(or, if ``derived``, whose emitted bars) build it, -1 for ticks; ``root``: the level at the
foot of its tree; ``shift``: which byte of the flags rules it."""

INTRADAY: Final = 0
DAYS: Final = 1
WEEKS: Final = 2

STREAM: Final = np.dtype(
    [
        ("watermark", "<i8"),
        ("next_close", "<i8"),
        ("open_head", "<i8"),
        ("n_open", "<i8"),
        ("dirty", "<i8"),
        ("run_open", "<i8"),
        ("run_close", "<i8"),
    ]
)
"""A stream. ``next_close``: of its open slots, ns; ``open_head``, ``n_open``: their list;
[``run_open``, ``run_close``): what the intervals of its pending runs have in common, those that
take ticks aside: while a tick lies in it, only the latter can change interval."""

# Positions in the configuration and counter array. ROOTS_END: past the last level that takes
# ticks; DERIVED: whether any level is built from emitted bars.
(
    N_SLOTS,
    N_OUT,
    MODE,
    GRACE,
    EMIT,
    HINT,
    INDEXED,
    OUTSIDE,
    LATE,
    ALL_NON_ZERO,
    HAS_TABLE,
    CLOCK_KNOWN,
    STATUS,
    N_DIRTY,
    APPLIED,
    SHARD,
    SHARDS,
    ROOTS_END,
    DERIVED,
    CFG_SIZE,
) = range(20)

EVENT_TIME: Final = 0
"""Each stream's largest ts_event is its watermark."""
RECEIPT_TIME: Final = 1
"""Each stream's largest known_at, less the grace, is its watermark."""
CLOCK: Final = 2
"""Only `advance` moves the watermark."""

_LINE = 64
"""Bytes of a cache line, of which a slot fills three."""

DONE, GROW_SLOTS, GROW_OUT, OVERFLOW = range(4)

OPEN: Final = 0
CONFIRMED: Final = 1

FIRST, LATE_CAUSE, CANCEL, CORRECTION, BACKFILL, RULE, REBUILD = range(7)


def empty_slots(n: int) -> np.ndarray:
    """Return ``n`` slots, uninitialised (the kernel clears each one it takes), on cache lines."""
    room = np.empty(n * SLOT.itemsize + _LINE, np.uint8)
    skip = -room.ctypes.data % _LINE
    return room[skip : skip + n * SLOT.itemsize].view(SLOT)


def blank(slots: np.ndarray) -> np.ndarray:
    """Set slots to the neutral element of the monoid, in place, and return them."""
    slots[:] = np.zeros((), SLOT)
    for name in ("first_ts", "first_a", "first_b", "first_c", "low"):
        slots[name] = I64_MAX
    for name in ("last_ts", "last_a", "last_b", "last_c", "high", "known_at"):
        slots[name] = I64_MIN
    slots["prev"] = slots["next_open"] = slots["revision"] = -1
    return slots


def blank_aux(aux: np.ndarray) -> np.ndarray:
    """Set aux records to their neutral element, in place, and return them."""
    aux[:] = np.zeros((), AUX)
    for name in ("half", "oo"):
        for part in _KEYED:
            aux[f"{name}_{part}"] = I64_MAX
    for part in _KEYED:
        aux[f"oc_{part}"] = I64_MIN
    return aux
