"""Bars of other timeframes than a minute and a day, by hand."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.simulator.market import Kind, Row
from marketpipe.simulator.rollup import ZONES, Timeframe, rolled


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NANOS


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1Min", (1, "Min")),
        ("59Min", (59, "Min")),
        ("5T", (5, "Min")),
        ("23Hour", (23, "Hour")),
        ("1D", (1, "Day")),
        ("1Week", (1, "Week")),
        ("12Month", (12, "Month")),
        *((text, None) for text in ("", "60Min", "0Min", "24Hour", "2Day", "2Week", "4Month")),
        *((text, None) for text in ("1min", "Day", "1Minute", "1Min ", "-1Min", "1m", "1Year")),
    ],
)
def test_timeframe_is_read_as_the_vendor_spells_it(text: str, read: tuple[int, str] | None) -> None:
    assert Timeframe.read(text) == read


@pytest.mark.parametrize(
    ("text", "kind", "at", "begin"),
    [
        ("5Min", "stocks", "2026-01-05T14:34:59Z", "2026-01-05T14:30:00Z"),
        ("45Min", "stocks", "2026-01-05T14:30:00Z", "2026-01-05T14:00:00Z"),  # 09:00 is 12 x 45
        ("1Hour", "stocks", "2026-01-05T14:30:00Z", "2026-01-05T14:00:00Z"),
        ("4Hour", "stocks", "2026-01-05T14:30:00Z", "2026-01-05T13:00:00Z"),  # 08:00 in New York
        ("4Hour", "crypto", "2026-01-05T14:30:00Z", "2026-01-05T12:00:00Z"),
        ("1Day", "stocks", "2026-01-05T04:59:59Z", "2026-01-04T05:00:00Z"),
        ("1Day", "crypto", "2026-01-05T04:59:59Z", "2026-01-05T00:00:00Z"),
        ("1Week", "stocks", "2026-01-05T04:59:59Z", "2025-12-29T05:00:00Z"),
        ("1Week", "stocks", "2026-03-13T20:00:00Z", "2026-03-09T04:00:00Z"),  # summer time
        ("1Month", "stocks", "2026-03-20T20:00:00Z", "2026-03-01T05:00:00Z"),
        ("3Month", "crypto", "2026-06-30T23:59:59Z", "2026-04-01T00:00:00Z"),
        ("12Month", "stocks", "2026-12-31T23:00:00Z", "2026-01-01T05:00:00Z"),
    ],
)
def test_timeframe_begins_where_the_vendor_lets_it(
    text: str, kind: Kind, at: str, begin: str
) -> None:
    timeframe = Timeframe.read(text)
    assert timeframe is not None
    assert timeframe.begin_ns(ns(at), ZONES[kind]) == ns(begin)


MINUTES: list[dict[str, Any]] = [
    {"t": "14:29", "o": 9, "h": 9, "l": 9, "c": 9, "v": 100, "n": 1, "vw": 9},
    {"t": "14:30", "o": 10, "h": 12.5, "l": 10, "c": 11, "v": 100, "n": 3, "vw": 10.5},
    {"t": "14:31", "o": 11, "h": 11, "l": 8.25, "c": 9, "v": 300, "n": 4, "vw": 9.000001},
    {"t": "14:34", "o": 10, "h": 10, "l": 10, "c": 10, "v": 7, "n": 1, "vw": 0},
    {"t": "14:35", "o": 20, "h": 20, "l": 20, "c": 20, "v": 1, "n": 1, "vw": 20},
    {"t": "14:40", "o": 30, "h": 30, "l": 30, "c": 30, "v": 1, "n": 1, "vw": 30},
]


def view(symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
    found = [(ns(f"2026-01-05T{bar['t']}:00Z"), bar) for bar in MINUTES]
    return [
        Row(at, json.dumps({**bar, "t": format_ns(at)}).encode())
        for at, bar in found
        if start_ns <= at <= end_ns and at + 60 * NANOS <= known_ns
    ]


def five(start: str, end: str, known: str = "2026-01-05T15:00:00Z") -> list[dict[str, Any]]:
    timeframe = Timeframe(5, "Min")
    rows = rolled(view, view, "stocks", timeframe, "AAPL", ns(start), ns(end), ns(known))
    return [json.loads(row.json) for row in rows]


def test_bars_are_rolled_up_with_the_mean_of_the_vwaps_by_volume() -> None:
    whole = {
        "t": "2026-01-05T14:30:00Z", "o": 10, "h": 12.5, "l": 8.25, "c": 10, "v": 407, "n": 8,
        "vw": 9.375001,  # (100 x 10.5 + 300 x 9.000001) / 400 is 9.37500075
    }  # fmt: skip
    assert five("2026-01-05T14:30:00Z", "2026-01-05T14:30:00Z") == [whole]


@pytest.mark.parametrize(
    ("start", "end", "begins"),
    [
        ("14:25", "14:40", ["14:25", "14:30", "14:35", "14:40"]),
        ("14:26", "14:39", ["14:30", "14:35"]),
        ("14:31", "14:34", []),
    ],
)
def test_bars_of_a_range_are_those_that_begin_in_it(
    start: str, end: str, begins: list[str]
) -> None:
    found = five(f"2026-01-05T{start}:00Z", f"2026-01-05T{end}:00Z")
    assert [bar["t"][11:16] for bar in found] == begins


def test_bar_that_is_not_over_shows_its_minutes_so_far() -> None:
    (bar,) = five("2026-01-05T14:30:00Z", "2026-01-05T14:30:00Z", "2026-01-05T14:31:59Z")
    assert (bar["c"], bar["v"], bar["vw"]) == (11, 100, 10.5)
