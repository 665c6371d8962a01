"""Bars under ``alpaca-v1``: emission, roll-up from bars, New York days, late trades, by hand.

Source: Alpaca, market data FAQ, "How are bars aggregated?".
"""

import pyarrow as pa
import pytest

from barkit import HOUR, MINUTE, SECOND, alpaca, bars, build, full, life, nanos, ns, ohlc, ticks
from marketpipe.bars import BarEngine


@pytest.mark.parametrize(
    ("code", "minute_low", "day_low"),
    [
        ("@", "1", "1"),
        ("4", "10", "1"),
        ("I", "10", "10"),
        ("M", "10", "10"),
        ("9", "10", "1"),
        ("T", "1", "10"),
    ],
)
def test_alpaca_low_follows_the_same_table_as_high(
    code: str, minute_low: str, day_low: str
) -> None:
    at = "2024-01-02T15:00:0{}Z"
    engine = build(
        [
            alpaca(at.format(1), "10", "2"),
            alpaca(at.format(2), "1", "7", code),
            alpaca(at.format(3), "20", "4"),
        ],
        ["1m", "1d"],
        rule_set="alpaca-v1",
    )
    assert [ohlc(b) for b in bars(engine.bars())] == [
        f"10 20 {minute_low} 20",
        f"10 20 {day_low} 20",
    ]


def test_alpaca_second_half_eligible_print_does_not_open_the_day() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "30", "1", "4"),
            alpaca("2024-01-02T15:00:02Z", "40", "1", "P"),
        ],
        ["1d"],
        rule_set="alpaca-v1",
    )
    # the first sets open and, as nothing else does, close; the second only high
    assert [full(b) for b in bars(engine.bars())] == ["30 40 30 30 2 2 35"]


def test_alpaca_half_eligible_print_that_comes_late_but_first_takes_the_open() -> None:
    engine = BarEngine(["1d"], rule_set="alpaca-v1")
    engine.apply(ticks([alpaca("2024-01-02T15:00:05Z", "10", "2")]))
    engine.apply(ticks([alpaca("2024-01-02T15:00:01Z", "30", "2", "4")]))
    engine.flush()
    assert [full(b) for b in bars(engine.bars())] == ["30 30 10 10 4 2 20"]


def test_alpaca_lone_odd_lot_gives_no_bar_and_no_event() -> None:
    engine = BarEngine(["1m", "1h", "1d"], rule_set="alpaca-v1")
    engine.apply(ticks([alpaca("2024-01-02T15:00:01Z", "10", "5", "@ I")]))
    assert len(engine.forming()) == 0
    assert len(engine.flush()) == 0
    assert len(engine.bars()) == 0


def test_alpaca_bar_with_prices_and_no_volume_is_not_emitted() -> None:
    engine = build([alpaca("2024-01-02T15:00:01Z", "10", "0")], ["1m"], rule_set="alpaca-v1")
    assert len(engine.bars()) == 0


def test_alpaca_vwap_may_lie_outside_of_what_odd_lots_would_give() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "100"),
            alpaca("2024-01-02T15:00:02Z", "99", "99", "@ I"),
        ],
        ["1m"],
        rule_set="alpaca-v1",
    )
    assert [full(b) for b in bars(engine.bars())] == ["10 10 10 10 199 2 10"]


def test_alpaca_hours_are_rolled_up_from_emitted_minutes_alone() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "100"),
            alpaca("2024-01-02T15:01:01Z", "90", "30", "@ I"),  # its minute is no bar
            alpaca("2024-01-02T15:02:01Z", "12", "50"),
        ],
        ["5m", "1h"],
        rule_set="alpaca-v1",
    )
    # (10 * 100 + 12 * 50) / 150 = 10.666…
    assert [full(b) for b in bars(engine.bars())] == ["10 12 10 12 150 2 10.666666667"] * 2


def test_alpaca_vwap_of_the_hour_weighs_minutes_by_their_whole_volume() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "100"),
            alpaca("2024-01-02T15:00:02Z", "30", "50", "@ I"),
            alpaca("2024-01-02T15:01:01Z", "20", "100"),
        ],
        ["1m", "1h"],
        rule_set="alpaca-v1",
    )
    # minutes: 10 of volume 150 and 20 of volume 100; hour: (1500 + 2000) / 250 = 14. The
    # trades that vwap admits would give (1000 + 2000) / 200 = 15.
    assert [full(b) for b in bars(engine.bars(), "1h")] == ["10 20 10 20 250 3 14"]


def test_alpaca_vwap_of_the_hour_is_the_mean_of_rounded_minutes() -> None:
    minute = [("1", "1"), ("2", "2")]  # 5 / 3 = 1.666666667, rounded up
    prints = [
        alpaca(f"2024-01-02T15:0{m}:01Z", price, size) for m in (0, 1) for price, size in minute
    ]
    prints.append(alpaca("2024-01-02T15:02:01Z", "0.000000005", "2"))
    engine = build(prints, ["1h"], rule_set="alpaca-v1")
    # (2 * 3 * 1.666666667 + 2 * 0.000000005) / 8 = 10.000000012 / 8 = 1.2500000015, half to
    # even 1.250000002; the trades themselves would give 10.00000001 / 8 = 1.250000001
    assert [full(b).split()[-1] for b in bars(engine.bars())] == ["1.250000002"]


def test_alpaca_minute_without_vwap_is_left_out_of_the_hours() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "0"),
            alpaca("2024-01-02T15:00:02Z", "11", "10", "@ I"),
            alpaca("2024-01-02T15:01:01Z", "12", "10"),
        ],
        ["1m", "1h"],
        rule_set="alpaca-v1",
    )
    assert [full(b) for b in bars(engine.bars())] == [
        "10 10 10 10 10 2 -",
        "12 12 12 12 10 1 12",
        "10 12 10 12 20 3 12",
    ]


@pytest.mark.parametrize(
    ("code", "minute", "day"),
    [
        ("T", "10 100 10 20 13 3 61.538461538", "10 20 10 20 13 3 16.666666667"),
        ("9", "10 20 10 20 6 2 16.666666667", "10 100 10 20 6 2 16.666666667"),
    ],
)
def test_alpaca_day_is_not_the_roll_up_of_its_minutes(code: str, minute: str, day: str) -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "2"),
            alpaca("2024-01-02T15:00:02Z", "100", "7", code),
            alpaca("2024-01-02T15:00:03Z", "20", "4"),
        ],
        ["1m", "1h", "1d"],
        rule_set="alpaca-v1",
    )
    found = {b.timeframe: full(b) for b in bars(engine.bars())}
    assert found == {"1m": minute, "1h": minute, "1d": day}


def test_alpaca_weeks_are_rolled_up_from_days() -> None:
    engine = build(
        [
            alpaca("2024-01-02T15:00:01Z", "10", "100"),
            alpaca("2024-01-02T15:00:02Z", "50", "10", "T"),  # in the day's volume only
            alpaca("2024-01-03T15:00:01Z", "20", "90"),
        ],
        ["1w"],
        rule_set="alpaca-v1",
    )
    # days: 10 of volume 110, 20 of volume 90; (1100 + 1800) / 200 = 14.5
    assert [full(b) for b in bars(engine.bars())] == ["10 20 10 20 200 3 14.5"]


@pytest.mark.parametrize(
    ("last", "first", "hours"),
    [
        ("2024-01-03T04:59:59Z", "2024-01-03T05:00:00Z", 24),  # UTC-5
        ("2024-07-03T03:59:59Z", "2024-07-03T04:00:00Z", 24),  # UTC-4
        ("2024-03-10T04:59:59Z", "2024-03-10T05:00:00Z", 23),  # clocks go forward
        ("2024-11-03T03:59:59Z", "2024-11-03T04:00:00Z", 25),  # clocks go back
    ],
)
def test_alpaca_days_are_new_york_calendar_days(last: str, first: str, hours: int) -> None:
    engine = build(
        [alpaca(last, "10", "1"), alpaca(first, "20", "1")], ["1d"], rule_set="alpaca-v1"
    )
    before, after = bars(engine.bars())
    assert (ohlc(before), ohlc(after)) == ("10 10 10 10", "20 20 20 20")
    assert before.ts_close == after.ts_open == ns(first)
    assert after.ts_close - after.ts_open == hours * HOUR
    assert engine.counts["outside_session"] == 0


def test_alpaca_hours_are_clock_hours_of_all_of_the_day() -> None:
    engine = build(
        [alpaca(f"2024-01-06T{t}:10Z", "10", "1") for t in ("09:00", "14:29", "14:30", "21:05")],
        ["1h"],
        rule_set="alpaca-v1",
    )  # a Saturday: the vendor's grid knows no sessions
    assert [b.ts_open // MINUTE % 1440 for b in bars(engine.bars())] == [9 * 60, 14 * 60, 21 * 60]


def test_alpaca_late_trade_that_revises_a_minute_revises_its_hour() -> None:
    engine = BarEngine(["1m", "5m", "1h"], rule_set="alpaca-v1")
    engine.apply(
        ticks(
            [
                alpaca("2024-01-02T15:00:01Z", "10", "100"),
                alpaca("2024-01-02T16:30:01Z", "11", "100"),
            ]
        )
    )
    events = engine.apply(ticks([alpaca("2024-01-02T15:00:02Z", "12", "100")]))
    assert life(events) == [
        ("revised", "1m", 1, "late", "10 12 10 12"),
        ("revised", "5m", 1, "late", "10 12 10 12"),
        ("revised", "1h", 1, "late", "10 12 10 12"),
    ]
    assert [full(e.bar) for e in events] == ["10 12 10 12 200 2 11"] * 3


def test_alpaca_late_odd_lot_revises_volume_alone() -> None:
    engine = BarEngine(["1m", "1h"], rule_set="alpaca-v1")
    engine.apply(
        ticks(
            [
                alpaca("2024-01-02T15:00:01Z", "10", "100"),
                alpaca("2024-01-02T16:30:01Z", "11", "100"),
            ]
        )
    )
    events = engine.apply(ticks([alpaca("2024-01-02T15:00:02Z", "12", "5", "@ I")]))
    assert [full(e.bar) for e in events] == ["10 10 10 10 105 2 10"] * 2


def test_alpaca_late_print_that_may_set_nothing_is_no_revision() -> None:
    engine = BarEngine(["1m", "1h"], rule_set="alpaca-v1")
    engine.apply(
        ticks(
            [
                alpaca("2024-01-02T15:00:01Z", "10", "100"),
                alpaca("2024-01-02T16:30:01Z", "11", "100"),
            ]
        )
    )
    assert len(engine.apply(ticks([alpaca("2024-01-02T15:00:02Z", "12", "5", "M")]))) == 0


def test_alpaca_late_trade_makes_a_bar_of_an_odd_lots_minute_and_of_its_hour() -> None:
    engine = BarEngine(["1m", "1h"], rule_set="alpaca-v1")
    engine.apply(
        ticks(
            [
                alpaca("2024-01-02T15:00:01Z", "9", "5", "@ I"),
                alpaca("2024-01-02T16:30:01Z", "11", "1"),
            ]
        )
    )
    events = engine.apply(ticks([alpaca("2024-01-02T15:00:02Z", "12", "5")]))
    assert life(events) == [
        ("confirmed", "1m", 0, "late", "12 12 12 12"),
        ("confirmed", "1h", 0, "late", "12 12 12 12"),
    ]
    assert [full(e.bar) for e in events] == ["12 12 12 12 10 2 12"] * 2


def test_alpaca_official_prices_come_from_the_primary_venues_prints() -> None:
    engine = build(
        [
            alpaca("2024-01-02T14:30:01Z", "10", "100", "@ O"),
            alpaca("2024-01-02T14:30:01.1Z", "10.5", "100", "@ Q"),
            alpaca("2024-01-02T21:00:00.1Z", "12", "100", "@ 6"),
            alpaca("2024-01-02T21:00:00.2Z", "12.5", "100", "@ M"),
        ],
        ["1d"],
        rule_set="alpaca-v1",
    )
    (day,) = bars(engine.bars())
    assert full(day) == "10 12 10 12 200 2 11"
    assert (day.official_open, day.official_close) == (nanos("10.5"), nanos("12.5"))


def test_alpaca_any_order_of_arrival_gives_the_same_bars() -> None:
    codes = ["", "I", "T", "4", "P", "9", "M", "B", "@ I", "Z"]
    prints = [
        alpaca(
            f"2024-01-02T15:{i // 4:02d}:{i % 4 * 13:02d}Z",
            str(10 + i * 7 % 23),
            str(i % 6),
            codes[i % 10],
            "A",
        )
        for i in range(120)
    ]
    prints = [p._replace(key=(0, 0, i)) for i, p in enumerate(prints)]
    expected = build(prints, ["1m", "5m", "1h", "1d", "1w"], rule_set="alpaca-v1").bars()
    for step in (7, 11, 119):
        shuffled = [prints[i * step % 120] for i in range(120)]
        assert len({p.key for p in shuffled}) == 120
        engine = BarEngine(["1m", "5m", "1h", "1d", "1w"], rule_set="alpaca-v1")
        for lo in range(0, 120, 17):
            engine.apply(ticks(shuffled[lo : lo + 17]))
        engine.flush()
        assert facts(engine.bars()) == facts(expected)


def facts(table: pa.Table) -> pa.Table:
    """Leave out what depends on the order of arrival: the history."""
    return table.drop(["revision", "cause", "known_at"])


def test_alpaca_many_open_minutes_confirmed_at_once_fit() -> None:
    timeframes = ["1m", "2m", "3m", "5m", "10m", "15m", "30m", "1h", "2h", "4h"]
    engine = BarEngine(timeframes, rule_set="alpaca-v1", watermark="clock")
    start = ns("2024-01-02T15:00:01Z")
    for i in range(1500):
        engine.apply_trade("AAA", start + i * 5 * HOUR, 10 * SECOND, SECOND)
    closed = engine.advance(start + 1500 * 5 * HOUR)
    assert len(closed) == len(engine.bars()) == 1500 * len(timeframes)
