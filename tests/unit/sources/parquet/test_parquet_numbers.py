"""Arrow columns of every numeric type to exact nanos, against decimal arithmetic."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketpipe.domain.tables.numbers import read_instants, read_nanos
from marketpipe.domain.units import MAX_NANOS


def judged(column: Any, *, counts_nanos: bool = False) -> list[int | str]:
    """Return the value or the first fault of each row."""
    values, faults = read_nanos(column, counts_nanos=counts_nanos)
    found: list[int | str] = list(values.tolist())
    for mask, reason in reversed(faults):
        for k in np.flatnonzero(mask).tolist():
            found[k] = reason
    return found


def expected(value: Decimal) -> int | str:
    if not value.is_finite():
        return "bad_number"
    if abs(value) >= Decimal(10) ** 9:
        return "out_of_range"
    nanos = value.scaleb(9)
    return int(nanos) if nanos == int(nanos) else "below_resolution"


doubles = st.one_of(
    st.floats(),
    st.decimals(-(10**10), 10**10, places=9, allow_nan=False).map(float),
    st.decimals(-(10**6), 10**6, places=10, allow_nan=False).map(float),
    st.decimals(-(10**9), 10**9, places=6, allow_nan=False).map(float),
    st.integers(-(10**10), 10**10).map(float),
)


@given(st.lists(doubles, min_size=1, max_size=30))
@example([189.37, 0.1 + 0.2, 1e300, 5e-324, 1e-9, 1e-10, -0.0, 999999999.0, 1e9])
@example([123456789.123456789, 1000000.000000001, 999999.999999999, 8999999.1234567])
@example([999999999.9999999, 4503599.627370497])
def test_double_means_its_shortest_decimal(values: list[float]) -> None:
    column = pa.array(values, pa.float64())
    assert judged(column) == [expected(Decimal(repr(value))) for value in values]


@given(
    st.lists(
        st.one_of(
            st.floats(-(2**24), 2**24, width=32),
            st.decimals(-(10**5), 10**5, places=4, allow_nan=False).map(np.float32),
        ),
        min_size=1,
        max_size=30,
    )
)
@example([float("nan"), float("inf"), 1e30])
@example([189.37, 1e-9, 1e-10, 0.1])
def test_single_means_its_shortest_decimal(values: list[float]) -> None:
    singles = np.array(values, np.float32)
    texts = [np.format_float_positional(single, unique=True) for single in singles]
    assert judged(pa.array(singles)) == [expected(Decimal(text)) for text in texts]


def test_single_of_large_integers_is_the_integer_it_holds() -> None:
    assert judged(pa.array([123456792.0], pa.float32())) == [123_456_792 * 10**9]


@given(
    st.integers(0, 30).flatmap(
        lambda scale: st.tuples(
            st.just(scale), st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1)
        )
    )
)
@example((18, [189_370_000_000_000_000_000, 1, 10**9, -(10**9), 10**27]))
@example((9, [MAX_NANOS, MAX_NANOS + 1, -MAX_NANOS, -MAX_NANOS - 1, 2**64 + 5]))
@example((0, [999_999_999, 10**9, 2**63, 2**64]))
def test_decimal_of_any_scale_is_exact(case: tuple[int, list[int]]) -> None:
    scale, counts = case
    values = [Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale)) for n in counts]
    column = pa.array(values, pa.decimal128(38, scale))
    assert judged(column) == [within_resolution(n, scale) for n in counts]
    assert judged(pa.concat_arrays([column, column])[1:]) == judged(column)[1:] + judged(column)


def within_resolution(count: int, scale: int) -> int | str:
    whole, rest = divmod(abs(count) * 10**9, 10**scale)
    if whole > MAX_NANOS:
        return "out_of_range"
    if rest:
        return "below_resolution"
    sign = 1 if count >= 0 else -1
    return sign * int(whole)


@pytest.mark.parametrize("kind", ["decimal32", "decimal64", "decimal128"])
def test_decimal_of_any_width_is_exact(kind: str) -> None:
    column = pa.array([Decimal("-1.25"), None, Decimal("37.5")], getattr(pa, kind)(9, 3))
    found = judged(column)
    assert (found[0], found[2]) == (-1_250_000_000, 37_500_000_000)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8()])
def test_integer_counts_units(kind: Any) -> None:
    assert judged(pa.array([0, 7, 127], kind)) == [0, 7 * 10**9, 127 * 10**9]


def test_integer_past_the_range_is_out_of_range() -> None:
    most = [999_999_999, 10**9, -(10**9), -(2**63), 2**63 - 1]
    outs = ["out_of_range"] * 4
    assert judged(pa.array(most, pa.int64())) == [MAX_NANOS // 10**9 * 10**9, *outs]
    assert judged(pa.array([2**64 - 1, 1], pa.uint64())) == ["out_of_range", 10**9]


def test_integer_of_nanos_is_taken_as_it_is() -> None:
    column = pa.array([MAX_NANOS, -MAX_NANOS, MAX_NANOS + 1, -(2**63)], pa.int64())
    assert judged(column, counts_nanos=True) == [MAX_NANOS, -MAX_NANOS] + ["out_of_range"] * 2


@pytest.mark.parametrize(("unit", "ns"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_timestamp_of_any_unit_is_exact(unit: str, ns: int) -> None:
    last = (2**63 - 1) // ns
    counts = [0, 1_767_623_400, last, -1] + ([last + 1] if ns > 1 else [])
    column = pa.array(counts, pa.int64()).cast(pa.timestamp(unit, "America/New_York"))
    values, faults = read_instants(column, 1)
    assert values[:3].tolist() == [0, 1_767_623_400 * ns, last * ns]
    ((mask, reason),) = faults
    assert (mask.tolist(), reason) == ([False] * 3 + [True] * (len(counts) - 3), "out_of_range")
