"""Roll-up of finished bars: equal to direct bars, by hand and as a law, or refused."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barkit import SECOND, Print, alpaca, bars, build, full, ns, ohlc
from marketpipe.bars import BarEngine, roll_up
from marketpipe.domain.schemas import BARS
from marketpipe.domain.ticks import CLOSING_AUCTION, OFFICIAL_CLOSE, OFFICIAL_OPEN, PLAIN
from marketpipe.domain.units import MAX_NANOS
from marketpipe.errors import BarOverflowError, CalendarError, InputError, TimeframeError

HISTORY = ("revision", "cause")


def only(table: pa.Table, timeframe: str) -> pa.Table:
    return table.filter(pc.equal(table["timeframe"], timeframe))


def test_rollup_takes_first_open_last_close_extremes_and_sums() -> None:
    minutes = build(
        [
            Print("2024-01-02T15:00:10Z", "10", "1"),
            Print("2024-01-02T15:02:10Z", "13", "2"),
            Print("2024-01-02T15:02:20Z", "8", "1"),
            Print("2024-01-02T15:04:59Z", "9", "0"),
            Print("2024-01-02T15:05:00Z", "99", "1"),
        ]
    ).bars()
    first, second = bars(roll_up(minutes, "5m"))
    # (10 * 1 + 13 * 2 + 8 * 1) / 4 = 11
    assert full(first) == "10 13 8 9 4 4 11"
    assert (first.ts_open, first.ts_close) == (
        ns("2024-01-02T15:00:00Z"),
        ns("2024-01-02T15:05:00Z"),
    )
    assert full(second) == "99 99 99 99 1 1 99"


def test_rollup_vwap_is_rounded_half_to_even_and_empty_without_volume() -> None:
    minutes = build(
        [
            Print("2024-01-02T15:00:10Z", "1", "1"),
            Print("2024-01-02T15:01:10Z", "1.000000001", "1"),  # the mean is 1.0000000005
            Print("2024-01-02T15:05:10Z", "1.000000001", "1"),
            Print("2024-01-02T15:06:10Z", "1.000000002", "1"),  # the mean is 1.0000000015
            Print("2024-01-02T15:10:10Z", "7", "0"),
        ]
    ).bars()
    assert [full(b).split()[-1] for b in bars(roll_up(minutes, "5m"))] == ["1", "1.000000002", "-"]


def test_rollup_order_of_rows_does_not_matter() -> None:
    minutes = build([Print(f"2024-01-02T15:{m:02d}:10Z", str(m + 1)) for m in range(60)]).bars()
    backwards = minutes.take(pa.array(range(len(minutes) - 1, -1, -1)))
    assert roll_up(backwards, "15m") == roll_up(minutes, "15m")


def test_rollup_series_in_one_table_are_kept_apart() -> None:
    prints = [
        Print("2024-01-02T15:00:10Z", "10", symbol="BBB"),
        Print("2024-01-02T15:00:10Z", "20"),
        Print("2024-01-02T15:01:10Z", "11", symbol="BBB"),
    ]
    trades = build(prints).bars()
    bids = build(prints, price_type="bid").bars()
    rolled = bars(roll_up(pa.concat_tables([trades, bids]), "1h"))
    assert [(b.symbol, b.price_type, full(b)) for b in rolled] == [
        ("AAA", "bid", "20 20 20 20 - 1 -"),
        ("AAA", "trade", "20 20 20 20 100 1 20"),
        ("BBB", "bid", "10 11 10 11 - 2 -"),
        ("BBB", "trade", "10 11 10 11 200 2 10.5"),
    ]


def test_rollup_of_nothing_is_nothing() -> None:
    assert roll_up(BARS.empty_table(), "1h") == BARS.empty_table()


def test_rollup_void_bars_add_nothing() -> None:
    minutes = build([Print("2024-01-02T15:00:10Z", "10")]).bars()
    columns = {
        name: pa.nulls(1, minutes.schema.field(name).type)
        for name in ("open", "high", "low", "close")
    }
    void = minutes
    for name, empty in columns.items():
        void = void.set_column(void.schema.get_field_index(name), BARS.field(name), empty)
    assert len(roll_up(void, "1h")) == 0


def test_rollup_sums_beyond_64_bits_are_exact() -> None:
    biggest = "999999999.999999999"
    minutes = build([Print(f"2024-01-02T15:0{m}:10Z", biggest, biggest) for m in range(4)]).bars()
    (hour,) = bars(roll_up(minutes, "1h"))
    assert (hour.volume, hour.notional) == (4 * MAX_NANOS, 4 * MAX_NANOS**2)
    assert hour.vwap == MAX_NANOS


def test_rollup_sum_that_no_longer_fits_is_an_error() -> None:
    """A notional of 38 digits holds 99 of the largest trades; here are 104."""
    biggest = "999999999.999999999"
    minutes = build(
        [Print(f"2024-01-02T15:{m:02d}:10Z", biggest, biggest) for m in range(26) for _ in range(4)]
    ).bars()
    with pytest.raises(BarOverflowError, match="does not fit"):
        roll_up(minutes, "1h")


def test_rollup_state_is_the_least_settled_of_its_bars() -> None:
    engine = build([Print("2024-01-02T15:00:10Z", "10")])
    forming = BarEngine(["1m"])
    forming.apply_trade("AAA", ns("2024-01-02T15:00:10Z"), SECOND, SECOND)
    assert [b.state for b in bars(roll_up(engine.bars(), "1h"))] == ["settled"]
    assert [b.state for b in bars(roll_up(forming.bars(forming=True), "1h"))] == ["forming"]


def test_rollup_on_an_exchange_is_anchored_at_the_open_and_cut_at_the_close() -> None:
    prints = [
        *(Print(f"2024-01-02T{t}:10Z", p) for t, p in (("14:30", "1"), ("15:29", "2"))),
        *(Print(f"2024-01-02T{t}:10Z", p) for t, p in (("15:30", "3"), ("20:59", "4"))),
    ]
    engine = build(prints, ["1m", "1h", "1d", "1w"], calendar="XNYS")
    minutes = only(engine.bars(), "1m")
    for timeframe in ("1h", "1d"):
        rolled = roll_up(minutes, timeframe, calendar="XNYS")
        direct = only(engine.bars(), timeframe)
        assert [(b.ts_open, b.ts_close, full(b)) for b in bars(rolled)] == [
            (b.ts_open, b.ts_close, full(b)) for b in bars(direct)
        ]
    days = only(engine.bars(), "1d")
    assert roll_up(days, "1w", calendar="XNYS") == only(engine.bars(), "1w")


def test_rollup_of_minutes_lacks_what_only_the_day_bar_has() -> None:
    """Closing-auction prints and official prices are in no minute: the day is built from ticks."""
    prints = [
        Print("2024-01-02T14:30:10Z", "10", flags=PLAIN | OFFICIAL_OPEN),
        Print("2024-01-02T21:00:10Z", "12", flags=PLAIN | CLOSING_AUCTION | OFFICIAL_CLOSE),
    ]
    engine = build(prints, ["1m", "1d", "1w"], calendar="XNYS")
    (day,) = bars(roll_up(only(engine.bars(), "1m"), "1d", calendar="XNYS"))
    assert (ohlc(day), day.official_open, day.official_close) == ("10 10 10 10", None, None)
    (week,) = bars(roll_up(only(engine.bars(), "1d"), "1w", calendar="XNYS"))
    assert (ohlc(week), week.official_open, week.official_close) == (
        "10 12 10 12",
        10 * SECOND,
        12 * SECOND,
    )


def test_rollup_under_other_rules_weighs_the_vwaps_of_the_bars() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:10Z", "10", "100"),
            alpaca("2024-01-02T15:00:20Z", "30", "50", "@ I"),  # in volume, not in vwap
            alpaca("2024-01-02T15:01:10Z", "20", "100"),
        ],
        ["1m", "1h"],
        rule_set="alpaca-v1",
    )
    (hour,) = bars(roll_up(only(engine.bars(), "1m"), "1h"))
    # (10 * 150 + 20 * 100) / 250 = 14
    assert full(hour) == "10 20 10 20 250 3 14"
    assert full(hour) == full(bars(engine.bars(), "1h")[0])


def test_rollup_under_new_york_days_follows_daylight_saving() -> None:
    engine = build(
        [
            alpaca(f"2024-03-{d}Z", "10", "1")
            for d in ("10T04:59:00", "10T05:00:00", "11T03:59:00", "11T04:00:00")
        ],
        ["1m", "1d"],
        rule_set="alpaca-v1",
    )
    rolled = bars(roll_up(only(engine.bars(), "1m"), "1d"))
    # 2024-03-10 in New York: from 05:00Z (UTC-5) to 04:00Z (UTC-4), 23 hours
    assert [(b.ts_open, b.ts_close, b.trade_count) for b in rolled][1] == (
        ns("2024-03-10T05:00:00Z"),
        ns("2024-03-11T04:00:00Z"),
        2,
    )


MINUTES = build([Print("2024-01-02T15:00:10Z", "10")], ["1m"]).bars()
SEVENS = build([Print("2024-01-02T15:00:10Z", "10")], ["7m"]).bars()
DAYS = build([Print("2024-01-02T15:00:10Z", "10")], ["1d"]).bars()
REGULAR = build([Print("2024-01-02T15:00:10Z", "10")], ["1m"], calendar="XNYS").bars()


@pytest.mark.parametrize(
    ("table", "timeframe", "settings", "error", "words"),
    [
        (MINUTES, "1m", {}, TimeframeError, "was '1m', not coarser than the bars' '1m'"),
        (MINUTES, "30s", {}, TimeframeError, "was '30s', not coarser"),
        (MINUTES, "7x", {}, TimeframeError, "was '7x'"),
        (SEVENS, "1h", {}, TimeframeError, "a bar of 1h is no whole number of bars of 7m"),
        (SEVENS, "1d", {}, TimeframeError, "a day of UTC is no whole number of bars of 7m"),
        (DAYS, "24h", {}, TimeframeError, "not coarser"),
        (pa.concat_tables([MINUTES, DAYS]), "1w", {}, TimeframeError, "timeframes were 1d, 1m"),
        (REGULAR, "1h", {}, CalendarError, "name the calendar that they were built on"),
        (MINUTES, "1h", {"calendar": "NOPE", "session": "regular"}, CalendarError, "was 'NOPE'"),
        (pa.concat_tables([MINUTES, REGULAR]), "1h", {}, CalendarError, "on several grids"),
        (MINUTES.drop(["open"]), "1h", {}, InputError, "expected those of the schema BARS"),
        (pa.concat_tables([MINUTES] * 2), "1h", {}, InputError, "one bar appears twice"),
        (REGULAR, "1h", {"calendar": "XTKS"}, InputError, "start outside the sessions"),
    ],
)
def test_rollup_that_cannot_be_exact_is_refused_with_the_reason(
    table: pa.Table,
    timeframe: str,
    settings: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        roll_up(table, timeframe, **settings)


def test_rollup_bars_of_another_grid_are_refused() -> None:
    hours = build([Print("2024-01-02T15:10:10Z", "10")], ["1h"]).bars()
    with pytest.raises(InputError, match="is none of 1h on calendar 'XNYS', session 'regular'"):
        roll_up(hours, "2h", calendar="XNYS", session="regular")


def test_rollup_day_of_a_session_takes_bars_that_do_not_divide_it() -> None:
    prints = [Print(f"2024-01-02T{t}:10Z", "10") for t in ("14:30", "20:58")]
    engine = build(prints, ["7m", "1d"], calendar="XNYS")
    rolled = roll_up(only(engine.bars(), "7m"), "1d", calendar="XNYS")
    assert [full(b) for b in bars(rolled)] == [full(b) for b in bars(engine.bars(), "1d")]


START = ns("2024-03-08T14:25:00Z")  # the Friday before clocks change in New York


@st.composite
def trades(draw: st.DrawFn) -> list[tuple[str, int, int, int]]:
    """Trades of two symbols, in one minute or over weeks, sizes from nothing to everything."""
    spread = draw(st.sampled_from([5, 400, 40_000, 1_500_000]))
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["AAA", "BTC/USD"]),
                st.integers(0, spread).map(lambda s: START + s * SECOND),
                st.one_of(st.integers(1, 9), st.integers(1, MAX_NANOS)),
                st.one_of(st.integers(0, 9), st.integers(0, MAX_NANOS)),
            ),
            min_size=1,
            max_size=60,
        ).filter(lambda found: sum(p * s for _, _, p, s in found) < 4 * 10**36)
    )


def columns_of(table: pa.Table, left_out: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in table.to_pylist()
    ]


@given(
    trades(),
    st.sampled_from([("24/7", None), ("XNYS", None), ("XNYS", "extended"), ("XHKG", None)]),
    st.sampled_from(
        [("1m", "1h"), ("1m", "1d"), ("1s", "1h"), ("1s", "1d"), ("1m", "4h"), ("1d", "1w")]
    ),
)
def test_rollup_of_finished_bars_equals_direct_bars(
    found: list[tuple[str, int, int, int]],
    grid: tuple[str, str | None],
    timeframes: tuple[str, str],
) -> None:
    calendar, session = grid
    fine, coarse = timeframes
    engine = BarEngine([fine, coarse], calendar=calendar, session=session)
    for symbol, ts, price, size in found:
        engine.apply_trade(symbol, ts, price, size)
    engine.flush()
    rolled = roll_up(only(engine.bars(), fine), coarse, calendar=calendar)
    direct = only(engine.bars(), coarse)
    assert columns_of(rolled, HISTORY) == columns_of(direct, HISTORY)
