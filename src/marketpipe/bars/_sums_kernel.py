"""Exact 128-bit sums in two int64 limbs, ``hi * 10**18 + lo`` with ``0 <= lo < 10**18``.

A decimal base keeps every step inside int64 (prices and sizes are below 10**18), needs no
unsigned arithmetic, on which compiled and interpreted code disagree, and never wraps.
"""

import numpy as np

from marketpipe.bars._compile import entry, inlined

LIMB = 1_000_000_000_000_000_000
NANO = 1_000_000_000
HI_MAX = 4_000_000_000_000_000_000
"""High limbs beyond this are an overflow: 4e18 whole units in one bar. Two of them still add up
within int64, so a sum is caught before it can wrap."""


@inlined
def carry(hi, lo):
    """Bring ``lo`` back into [0, LIMB)."""
    if 0 <= lo < LIMB:
        return hi, lo
    return hi + lo // LIMB, lo % LIMB


@inlined
def plus(hi, lo, hi2, lo2):
    """Add two sums whose ``lo`` are both in [0, LIMB).

    Without a branch: whether low limbs of notionals carry is a coin toss.
    """
    low = lo + lo2
    over = np.int64(low >= LIMB)
    return hi + hi2 + over, low - over * LIMB


@inlined
def product(x, y):
    """Return ``x * y`` for ``|x| < 2 * 10**18`` nanos and ``0 <= y < 10**18``, as limbs."""
    sign = 1
    if x < 0:
        x = -x
        sign = -1
    xh = x // NANO
    xl = x - xh * NANO
    yh = y // NANO
    yl = y - yh * NANO
    middle = xh * yl + xl * yh
    mh = middle // NANO
    hi = xh * yh + mh
    lo = (middle - mh * NANO) * NANO + xl * yl
    if lo >= LIMB:
        hi += 1
        lo -= LIMB
    if sign < 0:
        borrow = np.int64(lo > 0)
        return -hi - borrow, borrow * LIMB - lo
    return hi, lo


@entry
def times(hi, lo, q):
    """Return ``(hi * LIMB + lo) * q`` for ``0 <= q < 10**18`` and a product below 10**36."""
    phi, plo = product(lo, q)
    return phi + hi * q, plo


@entry
def ratio(nhi, nlo, dhi, dlo):
    """Return ``numerator / denominator``, rounded half to even, or -1 where it is undefined.

    Both are limbs, the numerator >= 0, the denominator > 0, the quotient below 10**18: a
    floating estimate is corrected by exact remainders until it is the floor.
    """
    if dhi < 0 or (dhi == 0 and dlo <= 0) or nhi < 0:
        return -1
    den = float(dhi) * LIMB + float(dlo)
    q = int((float(nhi) * LIMB + float(nlo)) / den)
    while True:
        q = max(q, 0)
        phi, plo = times(dhi, dlo, q)
        rhi, rlo = carry(nhi - phi, nlo - plo)
        if rhi < 0:
            short = int(-((float(rhi) * LIMB) + float(rlo)) / den)
            q -= max(short, 1)
            continue
        if rhi > dhi or (rhi == dhi and rlo >= dlo):
            over = int(((float(rhi) * LIMB) + float(rlo)) / den)
            q += max(over, 1)
            continue
        break
    # 2 * remainder against the denominator
    thi, tlo = carry(rhi * 2, rlo * 2)
    if thi > dhi or (thi == dhi and tlo > dlo):
        return q + 1
    if thi == dhi and tlo == dlo and q % 2 == 1:
        return q + 1
    return q
