"""Which days an exchange trades, and from when to when: the rules behind a session table.

The calendars come from ``exchange_calendars``. It is imported inside the functions that ask
it, because it takes a second and most programs never need it. Calendars are built in fixed
decades, so what a day looks like never depends on the range that was asked for.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from marketpipe.domain.units import DAY_NS, NANOS, NULL_I64
from marketpipe.errors import CalendarError

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
NEW_YORK: Final = "America/New_York"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
# No calendar of the library starts later or ends earlier than this window; it is built only
# to ask the calendar for its zone and bounds.
_PROBE: Final = ("2021-06-01", "2021-12-31")
_NO_CLOSING_AUCTION: Final = frozenset(
    {"24/5", "24/7", "CMES", "IEPA", "XCBF", "XEEE", "XEUR", "us_futures"}
)


class CalendarDay(NamedTuple):
    """One session: its date (days since 1970-01-01) and its trading segments.

    Segments are ``(open_ns, close_ns)``, close exclusive, sorted and disjoint: one, or more
    where there is a break. None at all says that the exchange is closed on that date.
    """

    date: int
    segments: tuple[tuple[int, int], ...]


class Calendar(NamedTuple):
    """What is known of a calendar besides its days; dates are days since 1970-01-01.

    ``first_date`` and ``last_date`` (inclusive) bound the days that are known. None are known
    before 1970: there the library lacks holidays (of XNYS, all of them).
    """

    name: str
    zone: ZoneInfo
    first_date: int
    last_date: int
    closing_auction: bool


class ExtendedHours(NamedTuple):
    """Pre-market opens and post-market closes at these wall times of the exchange.

    After an early close the post-market lasts ``post_ns`` and no longer.
    """

    open: time
    close: time
    post_ns: int


EXTENDED_HOURS: Final[dict[str, ExtendedHours]] = {
    "XNYS": ExtendedHours(time(4), time(20), 4 * 3_600 * NANOS),
}


def epoch_day(day: date) -> int:
    """Days from 1970-01-01 to ``day``."""
    return day.toordinal() - _EPOCH_ORDINAL


def from_epoch_day(day: int) -> date:
    """Give the date that is ``day`` days after 1970-01-01."""
    return date.fromordinal(day + _EPOCH_ORDINAL)


def local_ns(day: date, wall: time, zone: ZoneInfo) -> int:
    """Instant in ns of a wall time; of two in an autumn night, the first."""
    since = datetime.combine(day, wall, zone) - _EPOCH
    return (since.days * 86_400 + since.seconds) * NANOS + since.microseconds * 1_000


def calendar_names() -> tuple[str, ...]:
    """List every calendar that can be named, aliases such as NYSE included."""
    with _library() as library:
        return tuple(library.get_calendar_names())


def library_version() -> str:
    """Name and version of the library that the days come from."""
    return f"exchange_calendars {version('exchange_calendars')}"


@lru_cache(maxsize=128)
def find_calendar(name: str) -> Calendar:
    """Find a calendar by its name (XNYS) or an alias (NYSE).

    Raises
    ------
    CalendarError
        If no calendar has this name, or the library cannot build it.
    """
    names = calendar_names()
    if name not in names:
        near = get_close_matches(name.upper(), names, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise CalendarError(
            f"calendar: was '{name}', which is unknown{hint}; use an exchange's MIC such as XNYS, "
            "or 24/7; marketpipe.domain.calendars.calendar_names() lists all of them"
        )
    with _library() as library:
        canonical = library.resolve_alias(name)
        probe = _build(library, canonical, *_PROBE)
        first, last = probe.bound_min(), probe.bound_max()
        return Calendar(
            name=canonical,
            zone=ZoneInfo(str(probe.tz)),
            first_date=epoch_day(date(FIRST_YEAR, 1, 1) if first is None else first.date()),
            last_date=epoch_day(date(LAST_YEAR, 12, 31) if last is None else last.date()),
            closing_auction=canonical not in _NO_CLOSING_AUCTION,
        )


def calendar_days(calendar: Calendar, first_date: int, last_date: int) -> Iterator[CalendarDay]:
    """Yield the sessions dated from ``first_date`` to ``last_date``, both inclusive, in order.

    Dates outside the calendar's bounds have no sessions.

    Raises
    ------
    CalendarError
        If the library cannot build this part of the calendar.
    """
    first_date = max(first_date, calendar.first_date)
    last_date = min(last_date, calendar.last_date)
    if first_date > last_date:
        return
    decades = from_epoch_day(first_date).year // 10, from_epoch_day(last_date).year // 10
    for decade in range(decades[0], decades[1] + 1):
        for day in _decade(calendar, decade):
            if first_date <= day.date <= last_date:
                yield day


def extended_hours(calendar: Calendar) -> ExtendedHours:
    """Look up the extended hours of a calendar.

    Raises
    ------
    CalendarError
        If none are known.
    """
    hours = EXTENDED_HOURS.get(calendar.name)
    if hours is None:
        raise CalendarError(
            f"session: was 'extended', but calendar '{calendar.name}' has no extended hours here "
            f"(known: {', '.join(EXTENDED_HOURS)}); use session 'regular' or 'continuous'"
        )
    return hours


def extended_days(calendar: Calendar, days: Iterable[CalendarDay]) -> Iterator[CalendarDay]:
    """Widen regular sessions to pre-market and post-market, as one segment without a break.

    Raises as `extended_hours` does.
    """
    hours = extended_hours(calendar)
    for day in days:
        on = from_epoch_day(day.date)
        opens, closes = day.segments[0][0], day.segments[-1][1]
        post = min(closes + hours.post_ns, local_ns(on, hours.close, calendar.zone))
        yield CalendarDay(
            day.date,
            ((min(opens, local_ns(on, hours.open, calendar.zone)), max(closes, post)),),
        )


def new_york_days(first_date: int, last_date: int) -> Iterator[CalendarDay]:
    """Yield New York's calendar days, weekends and holidays too, from midnight to midnight."""
    zone = ZoneInfo(NEW_YORK)
    opens = local_ns(from_epoch_day(first_date), time(0), zone)
    for day in range(first_date, last_date + 1):
        closes = local_ns(from_epoch_day(day) + timedelta(days=1), time(0), zone)
        yield CalendarDay(day, ((opens, closes),))
        opens = closes


@lru_cache(maxsize=256)
def _decade(calendar: Calendar, decade: int) -> tuple[CalendarDay, ...]:
    first = max(epoch_day(date(decade * 10, 1, 1)), calendar.first_date)
    last = min(epoch_day(date(decade * 10 + 9, 12, 31)), calendar.last_date)
    with _library() as library:
        built = _build(
            library,
            calendar.name,
            from_epoch_day(first).isoformat(),
            from_epoch_day(last).isoformat(),
        )
        columns = zip(
            (built.sessions_nanos // DAY_NS).tolist(),
            built.opens_nanos.tolist(),
            built.break_starts_nanos.tolist(),
            built.break_ends_nanos.tolist(),
            built.closes_nanos.tolist(),
            strict=True,
        )
        return tuple(
            CalendarDay(
                day,
                ((opens, closes),) if pause == NULL_I64 else ((opens, pause), (resume, closes)),
            )
            for day, opens, pause, resume, closes in columns
        )


def _build(library: Any, name: str, first: str, last: str) -> Any:
    # The library's own defaults for start and end follow today's date; ours never do.
    try:
        return library.get_calendar(name, start=first, end=last)
    except (ValueError, NotImplementedError) as error:
        raise CalendarError(
            f"calendar: was '{name}', which {library_version()} cannot build for {first} to "
            f"{last}: {str(error)[:200]}; use another calendar, or another version of the library"
        ) from error


@contextmanager
def _library() -> Iterator[Any]:
    # The library trips over deprecations of newer pandas versions; that is not for our users.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        import exchange_calendars

        yield exchange_calendars
