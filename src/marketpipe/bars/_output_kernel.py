"""Exact arithmetic over whole columns of finished bars."""

import numpy as np
from numba import njit

from marketpipe.bars._sums_kernel import LIMB, carry, ratio

_MASK = 0xFFFFFFFF
_LIMB_HIGH = LIMB >> 32
_LIMB_LOW = LIMB & _MASK


@njit(cache=True, nogil=True)
def vwaps(not_hi, not_lo, vol_hi, vol_lo):
    """Return notional / volume in nanos, rounded half to even; -1 where the volume is 0."""
    out = np.empty(len(not_hi), np.int64)
    for i in range(len(out)):
        nhi, nlo = carry(not_hi[i], not_lo[i])
        dhi, dlo = carry(vol_hi[i], vol_lo[i])
        out[i] = ratio(nhi, nlo, dhi, dlo)
    return out


@njit(cache=True, nogil=True)
def wide(hi, lo):
    """Return ``hi * 10**18 + lo`` (all >= 0) as two's-complement limbs of 64 bits, low first."""
    out = np.empty((len(hi), 2), np.int64)
    for i in range(len(hi)):
        h1 = hi[i] >> 32
        h0 = hi[i] & _MASK
        # four products of 32-bit halves, summed by columns of 32 bits
        p00 = _columns(h0, _LIMB_LOW)
        p01 = _columns(h0, _LIMB_HIGH)
        p10 = _columns(h1, _LIMB_LOW)
        p11 = _columns(h1, _LIMB_HIGH)
        c0 = p00[0] + (lo[i] & _MASK)
        c1 = p00[1] + p01[0] + p10[0] + (lo[i] >> 32) + (c0 >> 32)
        c2 = p01[1] + p10[1] + p11[0] + (c1 >> 32)
        c3 = p11[1] + (c2 >> 32)
        out[i, 0] = _join(c1 & _MASK, c0 & _MASK)
        out[i, 1] = _join(c3 & _MASK, c2 & _MASK)
    return out


@njit(cache=True, nogil=True, inline="always")
def _columns(x, y):
    """Return the low and high 32 bits of ``x * y`` for 0 <= x, y < 2**32, without overflow."""
    y1 = y >> 16
    y0 = y & 0xFFFF
    low = x * y0
    high = x * y1 + (low >> 16)
    return ((high & 0xFFFF) << 16) | (low & 0xFFFF), high >> 16


@njit(cache=True, nogil=True, inline="always")
def _join(high, low):
    """Return the signed 64-bit integer of two 32-bit halves."""
    if high >= 0x80000000:
        high -= 0x100000000
    return high * 0x100000000 + low


@njit(cache=True, nogil=True)
def half_even(doubled):
    """Halve each value, rounding half to even."""
    out = np.empty(len(doubled), np.int64)
    for i in range(len(doubled)):
        q = doubled[i] >> 1
        out[i] = q + (doubled[i] & q & 1)
    return out
