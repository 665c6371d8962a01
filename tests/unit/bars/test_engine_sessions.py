"""Where a trade belongs: sessions of exchanges, their edges in UTC, and closing auctions.

Hours of exchanges are typed by hand from their published schedules.
"""

from datetime import date

import pytest

from barkit import Print, bars, build, life, ns, ohlc, ticks
from marketpipe.bars import BarEngine
from marketpipe.domain.ticks import CLOSING_AUCTION, OFFICIAL_CLOSE, OFFICIAL_OPEN, PLAIN

CLOSING = PLAIN | CLOSING_AUCTION


def edges(prints: list[Print], timeframe: str, calendar: str, session: str) -> list[str]:
    """Return the bars' edges as ``HH:MM-HH:MM`` in UTC."""
    engine = build(prints, [timeframe], calendar=calendar, session=session)
    return [f"{clock(b.ts_open)}-{clock(b.ts_close)}" for b in bars(engine.bars())]


def clock(ts_ns: int) -> str:
    minutes = ts_ns // 60_000_000_000 % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def at(day: str, *times: str) -> list[Print]:
    return [Print(f"{day}T{time}:00Z", "10") for time in times]


def test_engine_tick_outside_the_session_is_counted_and_builds_no_bar() -> None:
    engine = build(
        at("2024-01-02", "14:29", "14:30", "20:59", "21:00", "23:00"),
        ["1m", "1d"],
        calendar="XNYS",
    )
    assert engine.counts["outside_session"] == 3
    assert [clock(b.ts_open) for b in bars(engine.bars(), "1m")] == ["14:30", "20:59"]
    (day,) = bars(engine.bars(), "1d")
    assert (clock(day.ts_open), clock(day.ts_close), day.trade_count) == ("14:30", "21:00", 2)


def test_engine_no_bar_ends_before_it_starts() -> None:
    prints = at("2024-01-02", *(f"{h:02d}:{m:02d}" for h in range(24) for m in (0, 29, 30, 59)))
    for calendar, session in (("XNYS", "regular"), ("XNYS", "extended"), ("24/7", "continuous")):
        engine = build(prints, ["7m", "1h", "1d"], calendar=calendar, session=session)
        found = bars(engine.bars())
        assert found
        assert all(b.ts_open < b.ts_close for b in found)


@pytest.mark.parametrize(
    ("day", "open_utc", "close_utc"),
    [
        ("2024-03-08", "14:30", "21:00"),  # Friday before clocks go forward: UTC-5
        ("2024-03-11", "13:30", "20:00"),  # Monday after: UTC-4
        ("2024-11-01", "13:30", "20:00"),  # Friday before clocks go back
        ("2024-11-04", "14:30", "21:00"),  # Monday after
    ],
)
def test_engine_xnys_day_follows_daylight_saving(day: str, open_utc: str, close_utc: str) -> None:
    prints = at(day, "13:30", "14:30", "19:59", "20:59")
    assert edges(prints, "1d", "XNYS", "regular") == [f"{open_utc}-{close_utc}"]


@pytest.mark.parametrize("day", ["2024-07-03", "2024-11-29"])
def test_engine_xnys_half_day_ends_at_one(day: str) -> None:
    # 13:00 New York is 17:00 UTC in July and 18:00 UTC in November
    close = 17 if day == "2024-07-03" else 18
    prints = at(day, "14:31", f"{close - 1}:45", f"{close}:00", f"{close + 1}:00")
    engine = build(prints, ["1h", "1d"], calendar="XNYS")
    assert engine.counts["outside_session"] == 2
    (day_bar,) = bars(engine.bars(), "1d")
    assert clock(day_bar.ts_close) == f"{close}:00"
    # hours are anchored at 09:30: the last one, from 12:30, is cut at 13:00
    last = bars(engine.bars(), "1h")[-1]
    assert (clock(last.ts_open), clock(last.ts_close)) == (f"{close - 1}:30", f"{close}:00")


@pytest.mark.parametrize("day", ["2024-07-04", "2024-12-25", "2024-01-06"])
def test_engine_xnys_holiday_or_weekend_has_no_bar(day: str) -> None:
    engine = build(at(day, "15:00", "18:00"), ["1m", "1d"], calendar="XNYS")
    assert len(engine.bars()) == 0
    assert engine.counts["outside_session"] == 2


def test_engine_hours_are_anchored_at_the_open_with_a_short_last_one() -> None:
    prints = at("2024-01-02", *(f"{h}:45" for h in range(14, 21)))
    assert edges(prints, "1h", "XNYS", "regular") == [
        *("14:30-15:30", "15:30-16:30", "16:30-17:30", "17:30-18:30"),
        *("18:30-19:30", "19:30-20:30", "20:30-21:00"),
    ]


def test_engine_four_hours_are_anchored_at_the_open() -> None:
    prints = at("2024-01-02", "14:30", "18:29", "18:30", "20:59")
    assert edges(prints, "4h", "XNYS", "regular") == ["14:30-18:30", "18:30-21:00"]


def test_engine_seven_minutes_are_anchored_at_the_open_with_a_short_last_bar() -> None:
    # 390 minutes are 55 times seven and 5 more: the last bar starts 385 minutes after the open
    prints = at("2024-01-02", "14:30", "14:36", "14:37", "20:54", "20:55", "20:59")
    assert edges(prints, "7m", "XNYS", "regular") == [
        *("14:30-14:37", "14:37-14:44", "20:48-20:55", "20:55-21:00"),
    ]


def test_engine_extended_hours_run_from_four_to_eight() -> None:
    prints = at("2024-01-02", "08:59", "09:00", "14:29", "14:30") + at(
        "2024-01-03", "00:59", "01:00"
    )
    engine = build(prints, ["1h", "1d"], calendar="XNYS", session="extended")
    assert engine.counts["outside_session"] == 2
    hours = bars(engine.bars(), "1h")
    assert [clock(b.ts_open) for b in hours] == ["09:00", "14:00", "00:00"]
    (day,) = bars(engine.bars(), "1d")
    assert (day.ts_open, day.ts_close) == (
        ns("2024-01-02T09:00:00Z"),
        ns("2024-01-03T01:00:00Z"),
    )
    assert {b.session_date for b in bars(engine.bars())} == {date(2024, 1, 2).toordinal() - 719_163}


def test_engine_extended_half_day_ends_at_five() -> None:
    # 17:00 New York on 2024-07-03 is 21:00 UTC
    prints = at("2024-07-03", "20:59", "21:00")
    engine = build(prints, ["1d"], calendar="XNYS", session="extended")
    (day,) = bars(engine.bars())
    assert (day.trade_count, clock(day.ts_close)) == (1, "21:00")


def test_engine_tokyo_restarts_after_lunch_and_spans_no_break() -> None:
    # 09:00-11:30, 12:30-15:00 in Tokyo (UTC+9), before the longer hours of November 2024
    prints = at("2024-06-03", "00:00", "02:29", "02:30", "03:15", "03:30", "05:59")
    assert edges(prints, "1h", "XTKS", "regular") == [
        *("00:00-01:00", "02:00-02:30", "03:30-04:30", "05:30-06:00"),
    ]
    engine = build(prints, ["1d"], calendar="XTKS")
    assert engine.counts["outside_session"] == 2
    (day,) = bars(engine.bars())
    assert (clock(day.ts_open), clock(day.ts_close), day.trade_count) == ("00:00", "06:00", 4)


def test_engine_tokyo_closes_half_an_hour_later_from_november_2024() -> None:
    prints = at("2024-11-05", "03:30", "06:29", "06:30")
    assert edges(prints, "4h", "XTKS", "regular") == ["03:30-06:30"]


def test_engine_hong_kong_restarts_after_lunch() -> None:
    # 09:30-12:00, 13:00-16:00 in Hong Kong (UTC+8)
    prints = at("2024-06-03", "01:30", "03:59", "04:00", "04:59", "05:00", "07:59", "08:00")
    assert edges(prints, "4h", "XHKG", "regular") == ["01:30-04:00", "05:00-08:00"]
    assert edges(prints, "1h", "XHKG", "regular") == [
        *("01:30-02:30", "03:30-04:00", "05:00-06:00", "07:00-08:00"),
    ]


def test_engine_market_that_never_closes_has_utc_days_and_monday_weeks() -> None:
    # 2024-01-07 is a Sunday
    prints = [
        *at("2024-01-07", "23:59"),
        *at("2024-01-08", "00:00"),
        *at("2024-01-14", "23:59"),
        *at("2024-01-15", "00:00"),
    ]
    engine = build(prints, ["4h", "1d", "1w"])
    weeks = bars(engine.bars(), "1w")
    assert [(b.ts_open, b.trade_count) for b in weeks] == [
        (ns("2024-01-01T00:00:00Z"), 1),
        (ns("2024-01-08T00:00:00Z"), 2),
        (ns("2024-01-15T00:00:00Z"), 1),
    ]
    assert [clock(b.ts_open) for b in bars(engine.bars(), "4h")] == ["20:00", "00:00"] * 2
    assert all(b.ts_open % 86_400_000_000_000 == 0 for b in bars(engine.bars(), "1d"))


def test_engine_week_of_an_exchange_runs_from_its_first_open_to_its_last_close() -> None:
    # Monday 2024-07-01 to Friday 2024-07-05, with a half day and a holiday inside
    prints = [*at("2024-07-02", "15:00"), *at("2024-07-05", "15:00"), *at("2024-07-08", "15:00")]
    first, second = bars(build(prints, ["1w"], calendar="XNYS").bars())
    assert (first.ts_open, first.ts_close) == (
        ns("2024-07-01T13:30:00Z"),
        ns("2024-07-05T20:00:00Z"),
    )
    assert (first.trade_count, second.trade_count) == (2, 1)


def test_engine_closing_print_after_the_close_joins_the_day_and_no_minute() -> None:
    prints = [
        Print("2024-01-02T20:59:59Z", "10"),
        Print("2024-01-02T21:00:00.3Z", "11", "5000", flags=CLOSING),
        Print("2024-01-02T21:09:59.999999999Z", "12", "7", flags=CLOSING),
    ]
    engine = build(prints, ["1m", "1h", "1d"], calendar="XNYS")
    assert engine.counts["outside_session"] == 0
    assert [ohlc(b) for b in bars(engine.bars(), "1m")] == ["10 10 10 10"]
    assert [ohlc(b) for b in bars(engine.bars(), "1h")] == ["10 10 10 10"]
    (day,) = bars(engine.bars(), "1d")
    assert (ohlc(day), day.trade_count) == ("10 12 10 12", 3)
    assert clock(day.ts_close) == "21:00"


@pytest.mark.parametrize(
    ("time", "flags"),
    [("21:10:00", CLOSING), ("21:00:01", PLAIN), ("21:10:00", PLAIN | OFFICIAL_CLOSE)],
)
def test_engine_print_after_the_close_that_is_no_closing_print_is_outside(
    time: str, flags: int
) -> None:
    prints = [Print("2024-01-02T20:59:59Z", "10"), Print(f"2024-01-02T{time}Z", "11", flags=flags)]
    engine = build(prints, ["1d"], calendar="XNYS")
    assert engine.counts["outside_session"] == 1
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 10 10 10"]


def test_engine_closing_print_of_a_half_day_joins_its_day() -> None:
    prints = [
        Print("2024-07-03T16:59:00Z", "10"),
        Print("2024-07-03T17:00:10Z", "11", flags=CLOSING),
        Print("2024-07-03T20:00:10Z", "12", flags=CLOSING),
    ]
    engine = build(prints, ["1d"], calendar="XNYS")
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 11 10 11"]
    assert engine.counts["outside_session"] == 1


def test_engine_closing_print_joins_weeks_as_well() -> None:
    prints = [
        Print("2024-07-05T19:59:00Z", "10"),
        Print("2024-07-05T20:00:10Z", "11", flags=CLOSING),
    ]
    engine = build(prints, ["1d", "1w"], calendar="XNYS")
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 11 10 11"] * 2


def test_engine_day_bar_is_confirmed_only_after_the_closing_auction() -> None:
    engine = BarEngine(["1m", "1d"], calendar="XNYS", watermark="clock")
    engine.apply(ticks([Print("2024-01-02T20:59:59Z", "10")]))
    minute = engine.advance(ns("2024-01-02T21:00:00Z"))
    assert [tf for _, tf, *_ in life(minute)] == ["1m"]
    assert len(engine.advance(ns("2024-01-02T21:09:59Z"))) == 0
    assert len(engine.apply(ticks([Print("2024-01-02T21:00:01Z", "11", flags=CLOSING)]))) == 0
    assert life(engine.advance(ns("2024-01-02T21:10:00Z"))) == [
        ("confirmed", "1d", 0, "first", "10 11 10 11")
    ]


def test_engine_closing_print_that_comes_late_revises_the_day_alone() -> None:
    engine = BarEngine(["1m", "1d"], calendar="XNYS")
    engine.apply(ticks([Print("2024-01-02T20:59:59Z", "10"), Print("2024-01-02T21:30:00Z", "99")]))
    late = engine.apply(ticks([Print("2024-01-02T21:00:01Z", "11", flags=CLOSING)]))
    assert life(late) == [("revised", "1d", 1, "late", "10 11 10 11")]


def test_engine_closing_print_alone_makes_the_day() -> None:
    engine = build(
        [Print("2024-01-02T21:00:01Z", "11", flags=CLOSING)], ["1m", "1d"], calendar="XNYS"
    )
    assert [(b.timeframe, ohlc(b)) for b in bars(engine.bars())] == [("1d", "11 11 11 11")]


def test_engine_official_prices_are_columns_of_day_bars_alone() -> None:
    prints = [
        Print("2024-01-02T14:30:01Z", "10", flags=PLAIN | OFFICIAL_OPEN),
        Print("2024-01-02T14:30:02Z", "11", flags=PLAIN | OFFICIAL_OPEN),
        Print("2024-01-02T20:59:58Z", "14"),
        Print("2024-01-02T20:59:59Z", "13", flags=PLAIN | OFFICIAL_CLOSE),
    ]
    engine = build(prints, ["1m", "1d"], calendar="XNYS")
    (day,) = bars(engine.bars(), "1d")
    assert (day.official_open, day.official_close) == (10 * 10**9, 13 * 10**9)
    assert {(b.official_open, b.official_close) for b in bars(engine.bars(), "1m")} == {
        (None, None)
    }


def test_engine_day_without_official_prints_leaves_them_empty() -> None:
    (day,) = bars(build(at("2024-01-02", "15:00"), ["1d"], calendar="XNYS").bars())
    assert (day.official_open, day.official_close) == (None, None)


def test_engine_official_close_after_the_close_fills_its_column_and_is_no_trade() -> None:
    prints = [
        Print("2024-01-02T20:59:58Z", "14"),
        Print("2024-01-02T21:00:02Z", "13", flags=PLAIN | OFFICIAL_CLOSE),
        Print("2024-01-02T21:10:00Z", "12", flags=PLAIN | OFFICIAL_CLOSE),
    ]
    engine = build(prints, ["1m", "1d"], calendar="XNYS")
    (day,) = bars(engine.bars(), "1d")
    assert (ohlc(day), day.trade_count, day.official_close) == ("14 14 14 14", 1, 13 * 10**9)
    assert len(bars(engine.bars(), "1m")) == 1
    assert engine.counts["outside_session"] == 1
