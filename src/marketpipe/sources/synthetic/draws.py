"""Repeatable numbers: the n-th draw of a lane is a pure function of (seed, lane, n).

SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) over a
counter, in wrapping 64-bit integers, so the bytes depend on no library's choice of stream.
Where a fraction is needed it is a float64 built by operations that IEEE 754 rounds exactly.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64

U64 = npt.NDArray[np.uint64]

SLOTS: Final = 1 << 16
_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_TIME_KNOTS: Final = 1024


def _mix_one(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def draw(seed: int, lane: int, start: int, count: int) -> U64:
    """Draws ``start`` to ``start + count`` (exclusive) of one lane, uniform over 64 bits."""
    key = _mix_one((_mix_one(seed) + (lane + 1) * _GAMMA) & _MASK)
    base = np.uint64((key + (start + 1) * _GAMMA) & _MASK)
    x = np.arange(count, dtype=np.uint64)
    x *= np.uint64(_GAMMA)
    x += base
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return x


def bits(values: U64, low: int, width: int) -> U64:
    """``width`` bits of each value from bit ``low`` up."""
    return (values >> np.uint64(low)) & np.uint64((1 << width) - 1)


def zipf_slots(count: int, exponent: int) -> npt.NDArray[np.uint16]:
    """Table of 65,536 symbol numbers; the k-th fills about its Zipf share, at least one slot."""
    weights = [2**60 // (k + 1) ** exponent for k in range(count)]
    spare = SLOTS - count
    running, edges = 0, []
    total = sum(weights)
    for k, weight in enumerate(weights):
        running += weight
        edges.append(k + 1 + running * spare // total)
    bounds = np.array([0, *edges], np.int64)
    return np.repeat(np.arange(count, dtype=np.uint16), bounds[1:] - bounds[:-1])


def size_slots(width: int) -> I64:
    """Table of 2**width round-lot counts: mostly 1, a tail that falls as the inverse square."""
    ranks = np.arange(1, (1 << width) + 1, dtype=np.int64)
    return np.maximum((1 << width) // (2 * ranks), 1)


@lru_cache(maxsize=64)
def time_knots(u_shape: int, length_ns: int) -> npt.NDArray[np.float64]:
    """Offsets in ns at which 0/1024, 1/1024, … of a session's trades are done.

    The density is ``1 + u_shape * (2x - 1)**2`` over the session's length, inverted by integer
    bisection, so the table is exact.
    """
    ns = length_ns

    def done(offset: int) -> int:
        return 6 * offset * ns * ns + u_shape * ((2 * offset - ns) ** 3 + ns**3)

    whole, knots, low = done(ns), [0], 0
    for k in range(1, _TIME_KNOTS):
        target, high = whole * k, ns
        while low < high:
            middle = (low + high) // 2
            if done(middle) * _TIME_KNOTS < target:
                low = middle + 1
            else:
                high = middle
        knots.append(low)
    table = np.array([*knots, ns], np.float64)
    table.setflags(write=False)
    return table


def warp(quantiles: npt.NDArray[np.float64], knots: npt.NDArray[np.float64]) -> I64:
    """Offsets in ns, below the session's length, of quantiles in [0, 1)."""
    place = quantiles * _TIME_KNOTS
    index = place.astype(np.int64)
    np.minimum(index, _TIME_KNOTS - 1, out=index)
    place -= index
    offsets = np.take(knots, index)
    offsets += place * np.take(np.diff(knots), index)
    return np.minimum(offsets.astype(np.int64), int(knots[-1]) - 1)


def pick(hashes: U64, count: int) -> I64:
    """Choose the ``count`` rows with the smallest draws, of at most 2**16; ascending indices."""
    if not count:
        return np.empty(0, np.int64)
    keys = (hashes & np.uint64(_MASK - (SLOTS - 1))) | np.arange(len(hashes), dtype=np.uint64)
    keys.sort()
    rows = (keys[:count] & np.uint64(SLOTS - 1)).astype(np.int64)
    rows.sort()
    return rows
