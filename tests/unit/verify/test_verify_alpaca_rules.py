"""The second reading of Alpaca's rule table: each line of the vendor's page, on small files."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from marketpipe.verify import Recomputed, recompute

Run = Callable[..., Recomputed]
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
T0 = 1_767_623_400 * SECOND
"""2026-01-05T14:30:00Z, 09:30 in New York."""
HEADER = "symbol,ts_ns,price,size,conditions,tape"

ALL, VOLUME, NONE, PRICES = ("yes", 1, 1), ("no", 0, 1), ("no", 0, 0), ("yes", 1, 0)
FIRST = ("first", 1, 1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Recompute under alpaca-v1 from rows (ns, price, size, conditions, tape)."""

    def recomputed(rows: list[tuple[Any, ...]], *timeframes: str) -> Recomputed:
        path = tmp_path / "ticks.csv"
        lines = [f"A,{ts},{price},{size},{cond},{tape}" for ts, price, size, cond, tape in rows]
        path.write_text("\n".join([HEADER, *lines]))
        return recompute(path, timeframes or ("1m",), rules="alpaca-v1")

    return recomputed


def effect(found: Recomputed) -> tuple[str, int, int]:
    """Say what the trade of 20 did to a bar of trades of 10 before and 10 after it."""
    bar = found.bars.to_pylist()[0]
    last = "yes" if bar["close"] == 20 else "no"
    return last, int(bar["high"] == 20), int(bar["volume"] == 201)


@pytest.mark.parametrize(
    ("code", "tape", "minute", "day"),
    [
        *((code, "A", ALL, ALL) for code in ("", "F", "K", "L", "O", "X", "5", "6")),
        *((code, "C", ALL, ALL) for code in ("", "F", "K", "L", "O", "X", "5", "6")),
        *((code, "C", ALL, ALL) for code in ("@", "A", "B", "D", "Y")),
        ("@", "O", ALL, ALL),
        *(("E", tape, ALL, ALL) for tape in "AB"),
        *(("T", tape, ALL, VOLUME) for tape in "ABC"),
        *(("B", tape, VOLUME, VOLUME) for tape in "AB"),
        *((code, "A", VOLUME, VOLUME) for code in ("C", "H", "I", "N", "R", "U", "V", "7")),
        *(("W", tape, VOLUME, VOLUME) for tape in "CO"),
        *((code, "C", VOLUME, ("no", 1, 1)) for code in ("G", "P", "Z", "4")),
        *((code, "B", NONE, NONE) for code in ("M", "Q")),
        ("9", "A", NONE, PRICES),
        ("B", "", VOLUME, VOLUME),  # tape unknown: the stricter of its two lines
        ("@ I", "C", VOLUME, VOLUME),  # several: the strictest of each component
        ("9 I", "C", NONE, ("no", 0, 0)),
        ("J", "C", NONE, NONE),  # not in the table
    ],
)  # fmt: skip
def test_alpaca_condition_sets_what_the_vendor_says(
    run: Run, code: str, tape: str, minute: tuple[str, int, int], day: tuple[str, int, int]
) -> None:
    rows = [(T0, 10, 200, "", tape), (T0 + 1, 20, 1, code, tape)]
    assert effect(run(rows, "1m")) == minute
    assert effect(run(rows, "1d")) == day


@pytest.mark.parametrize("code", ["P", "Z", "4", "G"])
def test_alpaca_first_only_condition_opens_the_day_if_it_is_first(run: Run, code: str) -> None:
    first, later = (T0, 20, 1, code, "C"), (T0 + 1, 10, 1, "", "C")
    bar = run([first, later], "1d").bars.to_pylist()[0]
    assert (bar["open"], bar["close"], bar["volume"]) == (20, 10, 2)
    bar = run([first], "1d").bars.to_pylist()[0]
    assert (bar["open"], bar["close"]) == (20, 20)
    bar = run([later, (T0 + 2, 20, 1, code, "C")], "1d").bars.to_pylist()[0]
    assert (bar["open"], bar["high"], bar["close"]) == (10, 20, 10)


def test_alpaca_lone_odd_lot_gives_no_bar_and_no_longer_bar(run: Run) -> None:
    rows = [(T0, 10, 5, "I", "C"), (T0 + HOUR, 11, 100, "", "C"), (T0 + HOUR, 99, 7, "I", "C")]
    found = run(rows, "1m", "1h").bars.to_pylist()
    assert [(b["timeframe"], b["volume"], b["trade_count"]) for b in found] == [
        ("1m", 107, 2),
        ("1h", 107, 2),
    ]


def test_alpaca_vwap_counts_trades_that_allow_high_low_and_volume(run: Run) -> None:
    rows = [(T0, 10, 3, "", "C"), (T0, 11, 1, "", "C"), (T0, 99, 7, "I", "C")]
    bar = run(rows).bars.to_pylist()[0]
    # (10*3 + 11*1) / 4; the odd lot adds to volume and notional alone
    assert (bar["vwap"], bar["volume"]) == (Decimal("10.25"), 11)
    assert bar["notional"] == 30 + 11 + 693


def test_alpaca_bar_without_volume_is_not_emitted(run: Run) -> None:
    assert len(run([(T0, 10, 0, "", "C")]).bars) == 0


def test_alpaca_longer_bars_come_from_emitted_minutes(run: Run) -> None:
    rows = [
        (T0, 3, 1, "", "C"),
        (T0 + 1, 1, 2, "", "C"),  # 5/3 = 1.666666667 in this minute
        (T0 + MINUTE, 4, 1, "", "C"),
        (T0 + 2 * MINUTE, 90, 1, "I", "C"),  # no bar: left out of the five minutes
        (T0 + 4 * MINUTE, 2, 1, "", "C"),
    ]
    bar = run(rows, "5m").bars.to_pylist()[0]
    assert (bar["ts_open"], bar["ts_close"]) == (T0, T0 + 5 * MINUTE)
    assert [bar[name] for name in ("open", "high", "low", "close")] == [3, 4, 1, 2]
    assert (bar["volume"], bar["notional"], bar["trade_count"]) == (5, 11, 4)
    # (3 * 1.666666667 + 4 + 2) / 5 = 11.000000001 / 5, to nine places
    assert bar["vwap"] == Decimal("2.2")
    assert run(rows[:2], "5m").bars["vwap"].to_pylist() == [Decimal("1.666666667")]


def test_alpaca_minute_without_vwap_weighs_nothing_in_the_mean(run: Run) -> None:
    # the second minute has prices of a trade of size 0 and volume of an odd lot, so no vwap
    odd = [(T0 + MINUTE, 9, 0, "", "C"), (T0 + MINUTE, 9, 5, "I", "C")]
    found = run([(T0, 7, 2, "", "C"), *odd], "1m", "5m").bars.to_pylist()
    assert [b["vwap"] for b in found] == [7, None, 7]
    assert found[2]["volume"] == 7


def test_alpaca_days_are_those_of_new_york_across_daylight_saving(run: Run) -> None:
    # 2026-03-08: clocks go forward, the day has 23 hours (05:00Z to 04:00Z)
    day = 1_772_946_000 * SECOND
    rows = [(day - 1, 1, 1, "", "C"), (day, 2, 1, "", "C"), (day + 23 * HOUR, 3, 1, "", "C")]
    bars = run(rows, "1d").bars.to_pylist()
    assert [((b["ts_open"] - day) // HOUR, (b["ts_close"] - day) // HOUR) for b in bars] == [
        (-24, 0),
        (0, 23),
        (23, 47),
    ]


def test_alpaca_weeks_run_from_monday_to_monday_in_new_york(run: Run) -> None:
    monday = 1_767_589_200 * SECOND  # 2026-01-05T05:00:00Z
    rows = [(monday - 1, 1, 1, "", "C"), (monday, 2, 1, "", "C"), (T0 + 96 * HOUR, 5, 1, "", "C")]
    bars = run(rows, "1w").bars.to_pylist()
    assert [b["ts_open"] for b in bars] == [monday - 168 * HOUR, monday]
    assert [b["trade_count"] for b in bars] == [1, 2]


def test_alpaca_hours_are_clock_hours(run: Run) -> None:
    bar = run([(T0, 10, 1, "", "C")], "1h").bars.to_pylist()[0]
    assert (bar["ts_open"], bar["ts_close"]) == (T0 - 30 * MINUTE, T0 + 30 * MINUTE)
