"""Exactness: rounding by hand-worked cases, sums beyond 64 bits, and the refusal to wrap."""

from decimal import Decimal
from fractions import Fraction

import pytest

from barkit import Print, bars, build, full, nanos, ns, ohlc, text, ticks
from marketpipe.bars import BarEngine
from marketpipe.domain.units import MAX_NANOS
from marketpipe.errors import BarOverflowError, InputError

AT = "2024-01-02T15:00:10Z"
BIGGEST = "999999999.999999999"


@pytest.mark.parametrize(
    ("prints", "vwap"),
    [
        # (1 * 10 + 2 * 20) / 3 = 50 / 3 = 16.6666…
        ([("10", "1"), ("20", "2")], "16.666666667"),
        # (1 + 1.000000001) / 2 = 1.0000000005: half, and 1.000000000 is even
        ([("1", "1"), ("1.000000001", "1")], "1"),
        # (1.000000001 + 1.000000002) / 2 = 1.0000000015: half, and …02 is even
        ([("1.000000001", "1"), ("1.000000002", "1")], "1.000000002"),
        # a hair above the half: (1 * 2 + 1.000000001 * 2.000000001) / 4.000000001
        ([("1", "2"), ("1.000000001", "2.000000001")], "1.000000001"),
        # a size of one nano-unit: (5 * 1e-9) / 1e-9
        ([("5", "0.000000001")], "5"),
        # (3 * 1 + 4 * 3) / 4 = 3.75
        ([("3", "1"), ("4", "3")], "3.75"),
    ],
)
def test_engine_vwap_is_rounded_half_to_even(prints: list[tuple[str, str]], vwap: str) -> None:
    (bar,) = bars(build([Print(AT, price, size) for price, size in prints]).bars())
    assert text(bar.vwap) == vwap


@pytest.mark.parametrize(
    ("total", "mid"),
    [
        # bid + ask in units of 1e-9, and half of it to the even neighbour
        (3, "0.000000002"),
        (5, "0.000000002"),
        (7, "0.000000004"),
        (4, "0.000000002"),
        (2 * MAX_NANOS, BIGGEST),
        (2 * MAX_NANOS - 1, "1000000000"),
    ],
)
def test_engine_mid_is_half_of_bid_plus_ask_to_even(total: int, mid: str) -> None:
    if mid == "1000000000":
        mid = "999999999.999999998"  # …998.5 nanos lie between …998 (even) and …999
    engine = BarEngine(["1m"], price_type="mid")
    engine.apply(ticks([Print(AT, str(Decimal(total).scaleb(-9)), "0")]))
    engine.flush()
    (bar,) = bars(engine.bars())
    assert ohlc(bar) == " ".join([mid] * 4)
    assert (bar.volume, bar.notional, bar.vwap, bar.trade_count) == (None, None, None, 1)


def test_engine_quote_bars_carry_counts_and_no_volume() -> None:
    engine = BarEngine(["1m"], price_type="bid")
    engine.apply(ticks([Print(AT, "10", "0"), Print(AT, "9", "0"), Print(AT, "11", "0")]))
    engine.flush()
    (bar,) = bars(engine.bars())
    assert full(bar) == "10 11 9 11 - 3 -"


def test_engine_sums_beyond_64_bits_are_exact() -> None:
    prints = [Print(AT, BIGGEST, BIGGEST), Print(AT, "0.000000001", "0.000000001")] * 4
    (bar,) = bars(build(prints).bars())
    big, tiny = nanos(BIGGEST), 1
    assert bar.volume == 4 * (big + tiny)
    assert bar.notional == 4 * (big * big + tiny)
    assert bar.vwap == round(Fraction(big * big + tiny, big + tiny))


def notional_of(minutes: int, count: int) -> int | None:
    """Notional of an hour of the largest trades, ``count`` in each minute; None if refused."""
    engine = BarEngine(["1m", "1h"])
    try:
        for minute in range(minutes):
            at = f"2024-01-02T15:{minute:02d}:10Z"
            engine.apply(ticks([Print(at, BIGGEST, BIGGEST)] * count))
        engine.flush()
    except BarOverflowError:
        return None
    (hour,) = bars(engine.bars(), "1h")
    return hour.notional


@pytest.mark.parametrize(("minutes", "count"), [(1, 4), (2, 2), (4, 1)])
def test_engine_sum_of_four_of_the_largest_trades_fits(minutes: int, count: int) -> None:
    assert notional_of(minutes, count) == 4 * nanos(BIGGEST) ** 2


@pytest.mark.parametrize("count", [5, 8, 9, 10, 11, 13, 19, 40])
def test_engine_sum_too_large_is_exact_or_an_error_and_never_wraps(count: int) -> None:
    assert notional_of(1, count) in (None, count * nanos(BIGGEST) ** 2)


@pytest.mark.parametrize("count", [2, 4, 6, 9])
def test_engine_sum_too_large_by_merging_minutes_is_exact_or_an_error(count: int) -> None:
    assert notional_of(4, count) in (None, 4 * count * nanos(BIGGEST) ** 2)


def test_engine_sum_too_large_is_an_error_that_says_so() -> None:
    engine = BarEngine(["1h"])
    with pytest.raises(BarOverflowError, match=r"sum of price × size no longer fits"):
        engine.apply(ticks([Print(AT, BIGGEST, BIGGEST)] * 40))


def test_engine_sum_too_large_is_an_error_for_single_trades_too() -> None:
    engine = BarEngine(["1h"])

    def many() -> None:
        for _ in range(40):
            engine.apply_trade("AAA", ns(AT), MAX_NANOS, MAX_NANOS)

    with pytest.raises(BarOverflowError, match="no longer fits"):
        many()


@pytest.mark.parametrize(
    ("ts_event", "price", "size"),
    [
        (0, 0, 1),
        (0, -1, 1),
        (0, MAX_NANOS + 1, 1),
        (0, 1, -1),
        (0, 1, MAX_NANOS + 1),
        (-1, 1, 1),
        (2**63, 1, 1),
    ],
)
def test_engine_single_trade_out_of_bounds_is_refused_with_its_values(
    ts_event: int, price: int, size: int
) -> None:
    engine = BarEngine(["1m"])
    with pytest.raises(InputError, match=f"were {price}, {size}, {ts_event}"):
        engine.apply_trade("AAA", ts_event, price, size)
    assert len(engine.flush()) == 0


@pytest.mark.parametrize("symbol", ["", "../../x", "A B", "A" * 33])
def test_engine_single_trade_of_an_invalid_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(InputError, match="symbol: was"):
        BarEngine(["1m"]).apply_trade(symbol, 0, 1, 1)


def test_engine_nanoseconds_survive() -> None:
    engine = BarEngine(["1s"])
    engine.apply_trade("AAA", 1_704_207_610_123_456_789, 1, 1)
    engine.apply_trade("AAA", 1_704_207_610_123_456_788, 2, 1)
    engine.flush()
    (bar,) = bars(engine.bars())
    assert (bar.open, bar.close) == (2, 1)
