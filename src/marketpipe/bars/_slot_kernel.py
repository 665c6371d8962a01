"""The monoid: fold a tick into a state, merge two states. Order never matters."""

import numpy as np

from marketpipe.bars._compile import entry, inlined
from marketpipe.bars._sums_kernel import HI_MAX, plus, product
from marketpipe.bars.layout import I64_MAX, I64_MIN
from marketpipe.domain.ticks import (
    FIRST_ONLY,
    HIGH_LOW,
    LAST,
    OFFICIAL_CLOSE,
    OFFICIAL_OPEN,
    VOLUME,
    VWAP,
)


@inlined
def less(t, a, b, c, t2, a2, b2, c2):
    """Compare two order keys."""
    if t != t2:
        return t < t2
    if a != a2:
        return a < a2
    if b != b2:
        return b < b2
    return c < c2


@inlined
def clear(r):
    """Make a record the neutral element; its interval and links are the caller's."""
    r["first_ts"] = I64_MAX
    r["first_a"] = I64_MAX
    r["first_b"] = I64_MAX
    r["first_c"] = I64_MAX
    r["open"] = 0
    r["last_ts"] = I64_MIN
    r["last_a"] = I64_MIN
    r["last_b"] = I64_MIN
    r["last_c"] = I64_MIN
    r["close"] = 0
    r["high"] = I64_MIN
    r["low"] = I64_MAX
    r["vol_hi"] = 0
    r["vol_lo"] = 0
    r["not_hi"] = 0
    r["not_lo"] = 0
    r["count"] = 0
    r["known_at"] = I64_MIN


@inlined
def copy(d, s):
    """Write record ``s`` over ``d``. Field by field: a whole record is moved byte by byte."""
    d["ts_open"] = s["ts_open"]
    d["ts_close"] = s["ts_close"]
    d["confirm_at"] = s["confirm_at"]
    d["first_ts"] = s["first_ts"]
    d["first_a"] = s["first_a"]
    d["first_b"] = s["first_b"]
    d["first_c"] = s["first_c"]
    d["open"] = s["open"]
    d["last_ts"] = s["last_ts"]
    d["last_a"] = s["last_a"]
    d["last_b"] = s["last_b"]
    d["last_c"] = s["last_c"]
    d["close"] = s["close"]
    d["high"] = s["high"]
    d["low"] = s["low"]
    d["vol_hi"] = s["vol_hi"]
    d["vol_lo"] = s["vol_lo"]
    d["not_hi"] = s["not_hi"]
    d["not_lo"] = s["not_lo"]
    d["count"] = s["count"]
    d["known_at"] = s["known_at"]
    d["prev"] = s["prev"]
    d["next_open"] = s["next_open"]
    d["stream"] = s["stream"]
    d["session_date"] = s["session_date"]
    d["revision"] = s["revision"]
    d["level"] = s["level"]
    d["status"] = s["status"]
    d["cause"] = s["cause"]


@entry
def clear_aux(x):
    """Make an aux record the neutral element."""
    x["half_ts"] = I64_MAX
    x["half_a"] = I64_MAX
    x["half_b"] = I64_MAX
    x["half_c"] = I64_MAX
    x["half_px"] = 0
    x["xvol_hi"] = 0
    x["xvol_lo"] = 0
    x["xnot_hi"] = 0
    x["xnot_lo"] = 0
    x["oo_ts"] = I64_MAX
    x["oo_a"] = I64_MAX
    x["oo_b"] = I64_MAX
    x["oo_c"] = I64_MAX
    x["official_open"] = 0
    x["oc_ts"] = I64_MIN
    x["oc_a"] = I64_MIN
    x["oc_b"] = I64_MIN
    x["oc_c"] = I64_MIN
    x["official_close"] = 0


@inlined
def fold(r, f, t, a, b, c, price, size, known):
    """Add one tick to a record. Returns False, with nothing written, on overflow."""
    if f & VOLUME:
        if size != 0:
            hi, lo = product(price, size)
            nhi, nlo = plus(r["not_hi"], r["not_lo"], hi, lo)
            if nhi > HI_MAX or nhi < -HI_MAX:
                return False
            r["not_hi"] = nhi
            r["not_lo"] = nlo
            r["vol_hi"], r["vol_lo"] = plus(r["vol_hi"], r["vol_lo"], np.int64(0), size)
        r["count"] += 1
    if f & LAST:
        if less(t, a, b, c, r["first_ts"], r["first_a"], r["first_b"], r["first_c"]):
            r["first_ts"] = t
            r["first_a"] = a
            r["first_b"] = b
            r["first_c"] = c
            r["open"] = price
        if less(r["last_ts"], r["last_a"], r["last_b"], r["last_c"], t, a, b, c):
            r["last_ts"] = t
            r["last_a"] = a
            r["last_b"] = b
            r["last_c"] = c
            r["close"] = price
    if f & HIGH_LOW:
        r["high"] = max(r["high"], price)
        r["low"] = min(r["low"], price)
    r["known_at"] = max(r["known_at"], known)
    return True


@entry
def fold_aux(x, f, official, t, a, b, c, price, size):
    """Add to an aux record what one tick says beyond its slot."""
    if f & FIRST_ONLY and less(t, a, b, c, x["half_ts"], x["half_a"], x["half_b"], x["half_c"]):
        x["half_ts"] = t
        x["half_a"] = a
        x["half_b"] = b
        x["half_c"] = c
        x["half_px"] = price
    if f & VOLUME and not f & VWAP:
        hi, lo = product(price, size)
        x["xnot_hi"], x["xnot_lo"] = plus(x["xnot_hi"], x["xnot_lo"], hi, lo)
        x["xvol_hi"], x["xvol_lo"] = plus(x["xvol_hi"], x["xvol_lo"], np.int64(0), size)
    if official & OFFICIAL_OPEN and less(t, a, b, c, x["oo_ts"], x["oo_a"], x["oo_b"], x["oo_c"]):
        x["oo_ts"] = t
        x["oo_a"] = a
        x["oo_b"] = b
        x["oo_c"] = c
        x["official_open"] = price
    if official & OFFICIAL_CLOSE and less(x["oc_ts"], x["oc_a"], x["oc_b"], x["oc_c"], t, a, b, c):
        x["oc_ts"] = t
        x["oc_a"] = a
        x["oc_b"] = b
        x["oc_c"] = c
        x["official_close"] = price


@inlined
def merge(d, s):
    """Merge record ``s`` into ``d``. Returns False, with nothing written, on overflow."""
    nhi, nlo = plus(d["not_hi"], d["not_lo"], s["not_hi"], s["not_lo"])
    if nhi > HI_MAX or nhi < -HI_MAX:
        return False
    d["not_hi"] = nhi
    d["not_lo"] = nlo
    d["vol_hi"], d["vol_lo"] = plus(d["vol_hi"], d["vol_lo"], s["vol_hi"], s["vol_lo"])
    d["count"] += s["count"]
    if less(
        s["first_ts"], s["first_a"], s["first_b"], s["first_c"],
        d["first_ts"], d["first_a"], d["first_b"], d["first_c"],
    ):  # fmt: skip
        d["first_ts"] = s["first_ts"]
        d["first_a"] = s["first_a"]
        d["first_b"] = s["first_b"]
        d["first_c"] = s["first_c"]
        d["open"] = s["open"]
    if less(
        d["last_ts"], d["last_a"], d["last_b"], d["last_c"],
        s["last_ts"], s["last_a"], s["last_b"], s["last_c"],
    ):  # fmt: skip
        d["last_ts"] = s["last_ts"]
        d["last_a"] = s["last_a"]
        d["last_b"] = s["last_b"]
        d["last_c"] = s["last_c"]
        d["close"] = s["close"]
    d["high"] = max(d["high"], s["high"])
    d["low"] = min(d["low"], s["low"])
    d["known_at"] = max(d["known_at"], s["known_at"])
    return True


@inlined
def ends(r, aux, i):
    """Return (priced, open, close) of slot ``i``, record ``r``, its first-only trade included."""
    opened = r["open"]
    closed = r["close"]
    priced = r["first_ts"] != I64_MAX
    if aux.shape[0] > 0:
        x = aux[i]
        if x["half_ts"] != I64_MAX:
            if not priced:
                opened = x["half_px"]
                closed = x["half_px"]
            elif less(
                x["half_ts"], x["half_a"], x["half_b"], x["half_c"],
                r["first_ts"], r["first_a"], r["first_b"], r["first_c"],
            ):  # fmt: skip
                opened = x["half_px"]
            priced = True
    return priced, opened, closed


@inlined
def is_bar(r, priced, opened, closed, nowhere_zero):
    """Say whether a slot with these ends is a bar: priced, and where it must be, nowhere zero."""
    if not priced or r["high"] == I64_MIN:
        return False
    if not nowhere_zero:
        return True
    return (
        opened != 0
        and closed != 0
        and r["high"] != 0
        and r["low"] != 0
        and (r["vol_hi"] != 0 or r["vol_lo"] != 0)
    )


@entry
def merge_aux(d, s):
    """Merge aux record ``s`` into ``d``."""
    if less(
        s["half_ts"], s["half_a"], s["half_b"], s["half_c"],
        d["half_ts"], d["half_a"], d["half_b"], d["half_c"],
    ):  # fmt: skip
        d["half_ts"] = s["half_ts"]
        d["half_a"] = s["half_a"]
        d["half_b"] = s["half_b"]
        d["half_c"] = s["half_c"]
        d["half_px"] = s["half_px"]
    d["xvol_hi"], d["xvol_lo"] = plus(d["xvol_hi"], d["xvol_lo"], s["xvol_hi"], s["xvol_lo"])
    d["xnot_hi"], d["xnot_lo"] = plus(d["xnot_hi"], d["xnot_lo"], s["xnot_hi"], s["xnot_lo"])
    if less(
        s["oo_ts"], s["oo_a"], s["oo_b"], s["oo_c"], d["oo_ts"], d["oo_a"], d["oo_b"], d["oo_c"]
    ):
        d["oo_ts"] = s["oo_ts"]
        d["oo_a"] = s["oo_a"]
        d["oo_b"] = s["oo_b"]
        d["oo_c"] = s["oo_c"]
        d["official_open"] = s["official_open"]
    if less(
        d["oc_ts"], d["oc_a"], d["oc_b"], d["oc_c"], s["oc_ts"], s["oc_a"], s["oc_b"], s["oc_c"]
    ):
        d["oc_ts"] = s["oc_ts"]
        d["oc_a"] = s["oc_a"]
        d["oc_b"] = s["oc_b"]
        d["oc_c"] = s["oc_c"]
        d["official_close"] = s["official_close"]
