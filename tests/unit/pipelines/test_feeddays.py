"""The days of a feed that a time touches; hours of New York worked out by hand."""

from datetime import UTC, datetime

import pytest

from marketpipe.domain.units import NANOS
from marketpipe.pipelines.feeddays import new_york_days, utc_days


def ns(words: str) -> int:
    """Return an instant of UTC, such as ``2026-01-05T09:00``."""
    return int(datetime.fromisoformat(words).replace(tzinfo=UTC).timestamp()) * NANOS


def new_york(start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    return [(day.start_ns, day.end_ns) for day in new_york_days(start_ns, end_ns)]


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        # New York is UTC-5 in winter, UTC-4 from 2026-03-08 02:00 to 2026-11-01 02:00.
        ("2026-01-05T09:00", "2026-01-06T01:00"),
        ("2026-03-07T09:00", "2026-03-08T01:00"),
        ("2026-03-08T08:00", "2026-03-09T00:00"),
        ("2026-07-01T08:00", "2026-07-02T00:00"),
        ("2026-10-31T08:00", "2026-11-01T00:00"),
        ("2026-11-01T09:00", "2026-11-02T01:00"),
    ],
)
def test_day_of_new_york_takes_its_first_instant_and_not_its_end(opens: str, closes: str) -> None:
    day = (ns(opens), ns(closes))
    assert new_york(*day) == [day]
    assert new_york(day[0] - 1, day[0] + 1) == [day]
    assert new_york(day[1] - 1, day[1] + 1) == [day]
    assert new_york(day[0] - 1, day[0]) == []
    assert new_york(day[1], day[1] + 1) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-06T01:00", "2026-01-06T09:00"),
        # the night is an hour shorter, or longer, when the clocks change
        ("2026-03-08T01:00", "2026-03-08T08:00"),
        ("2026-11-01T00:00", "2026-11-01T09:00"),
    ],
)
def test_night_of_new_york_is_of_no_day(start: str, end: str) -> None:
    assert new_york(ns(start), ns(end)) == []


def test_time_over_a_weekend_touches_every_day_in_order() -> None:
    found = new_york(ns("2026-03-07T00:30"), ns("2026-03-09T08:01"))
    assert found == [
        (ns("2026-03-06T09:00"), ns("2026-03-07T01:00")),
        (ns("2026-03-07T09:00"), ns("2026-03-08T01:00")),
        (ns("2026-03-08T08:00"), ns("2026-03-09T00:00")),
        (ns("2026-03-09T08:00"), ns("2026-03-10T00:00")),
    ]


def test_day_of_utc_takes_its_midnight_and_not_the_next() -> None:
    first, second, third = (ns(f"2026-03-0{day}T00:00") for day in (7, 8, 9))
    assert utc_days(first, second) == [(first, second)]
    assert utc_days(second - 1, second) == [(first, second)]
    assert utc_days(second, second + 1) == [(second, third)]
    assert utc_days(second - 1, second + 1) == [(first, second), (second, third)]
    assert utc_days(first, first) == []
