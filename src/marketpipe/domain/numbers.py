"""Arrow columns of numbers and times as int64 nanos and nanoseconds: exactly, or not at all."""

from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64
from marketpipe.domain.units import MAX_NANOS, NANOS, NULL_I64
from marketpipe.errors import HeaderError

Codes = npt.NDArray[np.int8]

REASONS: Final = (
    "",
    "missing_value",
    "bad_number",
    "below_resolution",
    "out_of_range",
    "bad_timestamp",
)
_MISSING, _BAD, _BELOW, _OUT, _TIME = range(1, 6)
_UNIT_NS: Final = {"s": NANOS, "ms": 1_000_000, "us": 1_000, "ns": 1}
_FLOAT_EXACT: Final = 9_000_000.0
"""Below this, a double within half an ulp of a count of 1e-9 belongs to no other count."""


class Numbers(NamedTuple):
    """Values, and per row the index of a reason in `REASONS` (0: the value is good)."""

    values: I64
    reasons: Codes


def nanos(column: pa.Array, name: str, *, optional: bool = False) -> Numbers:
    """Turn prices or sizes into nanos.

    Integers and decimals are units; a float stands for the shortest decimal that reads back as
    it. Under ``optional`` a null is NULL_I64 and no reason.

    Raises
    ------
    HeaderError
        If the column is of another type.
    """
    reasons = np.zeros(len(column), np.int8)
    nulls = np.asarray(column.is_null())
    if not optional:
        reasons[nulls] = _MISSING
    kind = column.type
    if pa.types.is_decimal(kind):
        values = _from_decimals(column, reasons)
    elif pa.types.is_integer(kind):
        plain = pc.fill_null(column, pa.scalar(0, kind))
        wide = np.asarray(plain)
        fits = (wide <= MAX_NANOS // NANOS) & (wide >= -(MAX_NANOS // NANOS))
        reasons[~fits & ~nulls] = _OUT
        values = np.where(fits, wide, 0).astype(np.int64) * NANOS
    elif pa.types.is_floating(kind):
        values = _from_floats(column, nulls, reasons)
    else:
        raise HeaderError(
            f"column '{name}' has the type {kind}; expected a decimal, an integer or a float. "
            "Cast it first, a text for instance to decimal128(18, 9)"
        )
    return Numbers(np.where(nulls, NULL_I64, values) if nulls.any() else values, reasons)


def raw_nanos(column: pa.Array, name: str) -> Numbers:
    """Take int64 nanos as they are; HeaderError for another type."""
    if not pa.types.is_integer(column.type):
        raise HeaderError(f"column '{name}' has the type {column.type}; expected int64 nanos")
    nulls = np.asarray(column.is_null())
    values = np.asarray(pc.fill_null(column, pa.scalar(0, column.type))).astype(np.int64)
    reasons = np.zeros(len(column), np.int8)
    reasons[np.abs(values) > MAX_NANOS] = _OUT
    reasons[nulls] = _MISSING
    return Numbers(values, reasons)


def _from_decimals(column: pa.Array, reasons: Codes) -> I64:
    scale = column.type.scale
    if not 0 <= scale <= 9 or not pa.types.is_decimal128(column.type):
        return _slowly(column, reasons)
    data = column.buffers()[1]
    limbs = np.frombuffer(data, np.int64).reshape(-1, 2)[
        column.offset : column.offset + len(column)
    ]
    low, high = limbs[:, 0], limbs[:, 1]
    factor = 10 ** (9 - scale)
    fits = (high == low >> 63) & (low <= MAX_NANOS // factor) & (low >= -(MAX_NANOS // factor))
    good = fits | np.asarray(column.is_null())
    reasons[~good] = _OUT
    values: I64 = (low if good.all() else np.where(fits, low, 0)) * factor
    return values


def _from_floats(column: pa.Array, nulls: npt.NDArray[np.bool_], reasons: Codes) -> I64:
    single = column.type != pa.float64()
    x = np.asarray(pc.fill_null(column, pa.scalar(0.0, column.type)))
    odd = ~np.isfinite(x)
    reasons[odd & ~nulls] = _BAD
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(np.where(odd, 0, x).astype(np.float64) * NANOS)
    small = np.abs(scaled) < _FLOAT_EXACT * NANOS
    counts = np.where(small, scaled, 0).astype(np.int64)
    sure = small & (counts / NANOS == x) & ~single
    unsure = np.flatnonzero(~sure & ~odd & ~nulls)
    if len(unsure):
        texts = pa.array([Decimal(str(v)) for v in x[unsure]])
        told = np.zeros(len(unsure), np.int8)
        counts[unsure] = _slowly(texts, told)
        reasons[unsure] = told
    return counts


def _slowly(column: pa.Array, reasons: Codes) -> I64:
    """Convert one value after the other: rare types, odd floats."""
    values = np.zeros(len(column), np.int64)
    for i, value in enumerate(column.to_pylist()):
        if value is None:
            continue
        numerator, denominator = value.as_integer_ratio()
        count, rest = divmod(numerator * NANOS, denominator)
        if abs(value) * NANOS > MAX_NANOS:
            reasons[i] = _OUT
        elif rest:
            reasons[i] = _BELOW
        else:
            values[i] = count
    return values


def times(column: pa.Array, name: str, unit_ns: int | None, *, optional: bool = False) -> Numbers:
    """Turn instants into ns since the epoch.

    Parameters
    ----------
    unit_ns : ns that an integer counts; None for Arrow timestamps alone
    optional : a null is NULL_I64 and no reason

    Raises
    ------
    HeaderError
        If the column is no time, or has no zone.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise HeaderError(
                f"column '{name}' has times without a zone; give it one, such as UTC "
                "(pyarrow: cast to timestamp('ns', tz='UTC'), Polars: dt.replace_time_zone('UTC'))"
            )
        unit_ns, column = _UNIT_NS[kind.unit], column.cast(pa.int64())
    elif not pa.types.is_integer(kind) or unit_ns is None:
        raise HeaderError(
            f"column '{name}' has the type {kind}; expected integers (ts_ns, ts_us, ts_ms), or "
            "timestamps with a zone"
        )
    nulls = np.asarray(column.is_null())
    counts = np.asarray(pc.fill_null(column, pa.scalar(0, column.type)))
    limit = (2**63 - 1) // unit_ns
    fits = (counts >= 0) & (counts <= limit)
    reasons = np.zeros(len(counts), np.int8)
    reasons[~fits] = _OUT
    values = np.where(fits, counts, 0).astype(np.int64) * unit_ns
    if optional:
        return Numbers(np.where(nulls, NULL_I64, values), reasons)
    reasons[nulls] = _MISSING
    return Numbers(values, reasons)
