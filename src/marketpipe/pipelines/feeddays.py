"""The days of a feed: what is looked over once more, after the last of its trades."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from marketpipe.domain.units import NANOS

_NEW_YORK = ZoneInfo("America/New_York")
_OPENS, _CLOSES = time(4), time(20)


class Span(NamedTuple):
    """``[start_ns, end_ns)``, ns since the epoch, UTC."""

    start_ns: int
    end_ns: int


DaysOf = Callable[[int, int], list[Span]]
"""Returns the days of a feed that a time ``[start_ns, end_ns)`` touches, in order."""


def utc_days(start_ns: int, end_ns: int) -> list[Span]:
    """Return days of a market that never closes: from midnight to midnight, UTC."""
    return _touched(start_ns, end_ns, _utc_day)


def new_york_days(start_ns: int, end_ns: int) -> list[Span]:
    """Return days of US equities: 04:00 to 20:00 in New York, weekends and holidays included."""
    return _touched(start_ns, end_ns, _new_york_day)


def _touched(start_ns: int, end_ns: int, day_of: Callable[[date], Span]) -> list[Span]:
    # One more on each side: a day of New York is not one of UTC.
    at = _utc_date(start_ns) - timedelta(days=1)
    last = _utc_date(end_ns) + timedelta(days=1)
    found = []
    while at <= last:
        span = day_of(at)
        if span.start_ns < end_ns and start_ns < span.end_ns:
            found.append(span)
        at += timedelta(days=1)
    return found


def _utc_date(ts_ns: int) -> date:
    return datetime.fromtimestamp(ts_ns // NANOS, UTC).date()


def _utc_day(day: date) -> Span:
    begins = int(datetime.combine(day, time(), UTC).timestamp())
    return Span(begins * NANOS, (begins + 86_400) * NANOS)


def _new_york_day(day: date) -> Span:
    edges = (datetime.combine(day, at, _NEW_YORK) for at in (_OPENS, _CLOSES))
    return Span(*(int(edge.timestamp()) * NANOS for edge in edges))
