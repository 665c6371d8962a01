"""Exact sums against Python's integers, compiled and uncompiled."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.bars import _output_kernel as output
from marketpipe.bars import _sums_kernel as sums
from marketpipe.bars.layout import I64_MAX, I64_MIN

LIMB = 10**18
MAX_NANOS = 10**18 - 1

prices = st.one_of(st.integers(-MAX_NANOS, MAX_NANOS), st.integers(-1000, 1000))
sizes = st.one_of(st.integers(0, MAX_NANOS), st.integers(0, 1000))
lows = st.one_of(st.integers(0, LIMB - 1), st.sampled_from([0, 1, LIMB - 1]))
highs = st.one_of(
    st.integers(-sums.HI_MAX, sums.HI_MAX),
    st.integers(-3, 3),
    st.sampled_from([-sums.HI_MAX, sums.HI_MAX]),
)
signed = st.integers(I64_MIN + 1, I64_MAX)


Form: TypeAlias = Callable[[Any], Any]


@pytest.fixture(scope="module", params=["compiled", "plain"])
def form(request: pytest.FixtureRequest) -> Form:
    """Return what picks the compiled function or its Python source."""
    if request.param == "compiled":
        return lambda function: function
    return lambda function: getattr(function, "py_func", function)


def call(function: Any, *values: int) -> Any:
    """Call a kernel the way kernels call each other: with 64-bit integers, overflow an error."""
    with np.errstate(over="raise"):
        return function(*(np.int64(v) for v in values))


def whole(limbs: tuple[int, int]) -> int:
    """Return the integer that two limbs stand for."""
    hi, lo = (int(limb) for limb in limbs)
    assert 0 <= lo < LIMB
    return hi * LIMB + lo


@given(hi=st.integers(-(2**62), 2**62), lo=signed)
def test_carry_any_low_limb_keeps_the_sum(form: Form, hi: int, lo: int) -> None:
    assert whole(call(form(sums.carry), hi, lo)) == hi * LIMB + lo


@given(highs, lows, highs, lows)
def test_plus_two_sums_up_to_the_limit_never_wraps(
    form: Form, hi: int, lo: int, hi2: int, lo2: int
) -> None:
    total = (hi + hi2) * LIMB + lo + lo2
    assert whole(call(form(sums.plus), hi, lo, hi2, lo2)) == total


def test_plus_two_largest_sums_is_beyond_the_limit_and_inside_int64(form: Form) -> None:
    hi, lo = call(form(sums.plus), sums.HI_MAX, LIMB - 1, sums.HI_MAX, LIMB - 1)
    assert sums.HI_MAX < hi <= I64_MAX
    assert lo == LIMB - 2


@given(prices, sizes)
def test_product_price_and_size_is_exact(form: Form, price: int, size: int) -> None:
    assert whole(call(form(sums.product), price, size)) == price * size


@pytest.mark.parametrize("price", [MAX_NANOS, -MAX_NANOS, 2 * MAX_NANOS, -2 * MAX_NANOS])
def test_product_largest_values_is_exact(form: Form, price: int) -> None:
    assert whole(call(form(sums.product), price, MAX_NANOS)) == price * MAX_NANOS


@given(st.integers(0, LIMB - 1), st.data())
def test_times_sum_by_quotient_is_exact(form: Form, q: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, (LIMB * LIMB - 1) // max(q, 1)))
    hi, lo = divmod(min(total, sums.HI_MAX * LIMB), LIMB)
    assert whole(call(form(sums.times), hi, lo, q)) == (hi * LIMB + lo) * q


@given(st.integers(1, sums.HI_MAX * LIMB), st.integers(0, 10**18 - 1), st.data())
def test_ratio_quotient_below_the_limit_rounds_half_to_even(
    form: Form, denominator: int, quotient: int, data: st.DataObject
) -> None:
    rest = data.draw(
        st.one_of(
            st.integers(0, denominator - 1),
            st.sampled_from([0, denominator // 2, (denominator + 1) // 2, denominator - 1]),
        )
    )
    numerator = min(denominator * quotient + rest, sums.HI_MAX * LIMB)
    expected = round(Fraction(numerator, denominator))
    got = call(form(sums.ratio), *divmod(numerator, LIMB), *divmod(denominator, LIMB))
    assert got == expected


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (LIMB + 1, 2, LIMB // 2)],
)
def test_ratio_half_goes_to_the_even_neighbour(
    form: Form, numerator: int, denominator: int, expected: int
) -> None:
    got = call(form(sums.ratio), *divmod(numerator, LIMB), *divmod(denominator, LIMB))
    assert got == expected


@given(st.integers(-1, 1), st.integers(-LIMB, 0))
def test_ratio_without_a_volume_is_undefined(form: Form, hi: int, lo: int) -> None:
    if hi * LIMB + lo <= 0:
        assert call(form(sums.ratio), 1, 0, *divmod(hi * LIMB + lo, LIMB)) == -1


@given(st.integers(0, I64_MAX), lows)
def test_limbs_any_sum_is_its_128_bit_form(form: Form, hi: int, lo: int) -> None:
    low, high = call(form(output.limbs), hi, lo)
    assert (int(high) << 64) + (int(low) % 2**64) == hi * LIMB + lo


@given(signed)
def test_half_even_any_integer_rounds_like_python(form: Form, doubled: int) -> None:
    assert call(form(output.half_even), doubled) == round(Fraction(doubled, 2))
