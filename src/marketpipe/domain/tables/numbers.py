"""Arrow columns of numbers and instants to int64, exact, with a mask for each kind of fault."""

from decimal import Decimal
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64
from marketpipe.domain.units import MAX_NANOS, MAX_TS_NS, NANOS

Mask: TypeAlias = npt.NDArray[np.bool_]
F64: TypeAlias = npt.NDArray[np.float64]
Faults: TypeAlias = list[tuple[Mask, str]]

_DIGITS = 9
# A double tells decimals of up to 15 digits apart, so for these the nearest one is the shortest.
_UNIQUE = 10**15
_UNIT_NS: Final = {"s": NANOS, "ms": 1_000_000, "us": 1_000, "ns": 1}


def read_nanos(column: Any, *, counts_nanos: bool) -> tuple[I64, Faults]:
    """Return prices or sizes in nanos; values at faults and nulls have no meaning.

    Integers count units, or nanos where ``counts_nanos``. A float means the decimal with the
    fewest places that reads back as the same float: what Python prints.
    """
    kind = column.type
    if pa.types.is_decimal(kind):
        values, faults = _decimals(column)
    elif pa.types.is_float64(kind):
        values, faults = _doubles(_plain(column))
    elif pa.types.is_float32(kind):
        values, faults = _singles(_plain(column))
    else:
        values, faults = _integers(column)
        unit = 1 if counts_nanos else NANOS
        limit = MAX_NANOS // unit
        _add(faults, (values > limit) | (values < -limit), "out_of_range")
        values = values * unit
    return values, faults


def read_instants(column: Any, unit_ns: int) -> tuple[I64, Faults]:
    """Return ns since the epoch; ``unit_ns`` is for integers, timestamps know their own."""
    if pa.types.is_timestamp(column.type):
        unit_ns = _UNIT_NS[column.type.unit]
        column = column.view(pa.int64())
    values, faults = _integers(column)
    _add(faults, (values < 0) | (values > MAX_TS_NS // unit_ns), "out_of_range")
    return values * unit_ns, faults


def null_mask(column: Any) -> Mask:
    """Tell which values are absent."""
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _add(faults: Faults, mask: Mask, reason: str) -> None:
    if mask.any():
        faults.append((mask, reason))


def _plain(column: Any) -> npt.NDArray[Any]:
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(0, column.type))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _integers(column: Any) -> tuple[I64, Faults]:
    faults: Faults = []
    plain = _plain(column)
    if plain.dtype == np.uint64:
        _add(faults, plain > np.uint64(MAX_TS_NS), "out_of_range")
    return plain.astype(np.int64), faults


def _decimals(column: Any) -> tuple[I64, Faults]:
    faults: Faults = []
    precision, scale = column.type.precision, column.type.scale
    if not pa.types.is_decimal128(column.type):
        column = column.cast(pa.decimal128(precision, scale))
    if scale > _DIGITS:
        cut = column.cast(pa.decimal128(precision, _DIGITS), safe=False)
        rest = pc.not_equal(cut.cast(column.type), column)
        below = np.asarray(pc.fill_null(rest, False).to_numpy(zero_copy_only=False), np.bool_)
        column, scale = cut, _DIGITS
    else:
        below = np.zeros(0, np.bool_)
    pairs = np.frombuffer(column.buffers()[1], np.int64)
    pairs = pairs[2 * column.offset : 2 * (column.offset + len(column))].reshape(-1, 2)
    values = pairs[:, 0].copy()
    factor = 10 ** (_DIGITS - scale)
    if precision - scale > _DIGITS or scale < 0:
        limit = MAX_NANOS // factor
        wide = pairs[:, 1] != values >> 63
        _add(faults, wide | (values > limit) | (values < -limit), "out_of_range")
    _add(faults, below, "below_resolution")
    return values * factor, faults


def _doubles(plain: F64) -> tuple[I64, Faults]:
    faults: Faults = []
    finite = np.isfinite(plain)
    _add(faults, ~finite, "bad_number")
    near = np.abs(plain) < NANOS
    _add(faults, finite & ~near, "out_of_range")
    if not near.all():
        plain = np.where(near, plain, 0.0)
    nanos = np.rint(plain * NANOS)
    exact = (nanos / NANOS == plain) & (np.abs(nanos) < _UNIQUE)
    values = nanos.astype(np.int64)
    if not exact.all():
        # From 10**6 on, nine places are more than 15 digits.
        large = np.flatnonzero(~exact & (np.abs(plain) >= _UNIQUE / NANOS))
        exact[large] = _mend_large(plain[large], large, values)
        _add(faults, ~exact, "below_resolution")
    return values, faults


def _mend_large(picked: F64, places: I64, values: I64) -> Mask:
    # Most have up to six places after the point, which is 15 digits again.
    micros = np.rint(picked * 1_000_000)
    exact: Mask = micros / 1_000_000 == picked
    exact &= np.abs(micros) < _UNIQUE
    values[places[exact]] = micros[exact].astype(np.int64) * 1_000
    for k in np.flatnonzero(~exact).tolist():
        nanos = Decimal(repr(float(picked[k]))).scaleb(_DIGITS)
        if nanos == int(nanos):
            values[places[k]] = int(nanos)
            exact[k] = True
    return exact


def _singles(plain: npt.NDArray[np.float32]) -> tuple[I64, Faults]:
    faults: Faults = []
    finite = np.isfinite(plain)
    _add(faults, ~finite, "bad_number")
    far = finite & (np.abs(plain) >= np.float32(NANOS))
    _add(faults, far, "out_of_range")
    values = np.zeros(len(plain), np.int64)
    left = np.flatnonzero(finite & ~far)
    wide = plain[left].astype(np.float64)
    for places in range(_DIGITS + 1):
        power = 10**places
        nearest = np.rint(wide * power)
        same = (nearest / power).astype(np.float32) == plain[left]
        values[left[same]] = nearest[same].astype(np.int64) * 10 ** (_DIGITS - places)
        left, wide = left[~same], wide[~same]
    below = np.zeros(len(plain), np.bool_)
    below[left] = True
    _add(faults, below, "below_resolution")
    return values, faults
