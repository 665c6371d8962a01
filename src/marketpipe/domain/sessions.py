"""Sessions: the table that says which bar an instant belongs to.

Three rules place a tick. It must lie in a trading segment: what falls into a lunch break or
outside the session builds no bar of any timeframe. An intraday bar is anchored at the open of
its segment and cut at the segment's close. A bar of d or w runs from the open of its first
session to the close of its last.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from marketpipe.domain import calendars
from marketpipe.domain.batches import I32, I64
from marketpipe.domain.calendars import Calendar, CalendarDay
from marketpipe.domain.overrides import NO_OVERRIDES, Overrides
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS, MAX_TS_NS, NANOS, NULL_I64, format_ns
from marketpipe.errors import CalendarError

REGULAR: Final = "regular"
EXTENDED: Final = "extended"
CONTINUOUS: Final = "continuous"
NY_DAY: Final = "ny_day"
SESSIONS: Final = (REGULAR, EXTENDED, CONTINUOUS, NY_DAY)

ALWAYS_OPEN: Final = "24/7"
AUCTION_NS: Final = 600 * NANOS
"""How long after the close a closing-auction print still belongs to the day bar."""

_MONDAY: Final = 4
"""1970-01-05, the Monday that weeks are counted from, as days since 1970-01-01."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SessionTable:
    """Sessions of one calendar around a range of instants; the arrays are read-only.

    A table holds whole years and one more year of sessions on either side, so that bars of
    many days or weeks are complete for every instant it covers.

    Attributes
    ----------
    calendar : canonical name; as given for ``continuous`` and ``ny_day``, which ignore it
    session : ``regular``, ``extended``, ``continuous`` (no rows: use `continuous_edges`) or
        ``ny_day`` (New York calendar days, weekends too)
    start_ns, end_ns : instants covered, [start, end); others need another table
    seg_open, seg_close : trading segments [open, close) in ns, sorted and disjoint
    seg_session : index of each segment's session in the arrays below
    date : session date as days since 1970-01-01, strictly increasing
    open_ns, close_ns : whole session [open, close), breaks included
    auction_end_ns : closing-auction prints in [close, auction_end) belong to the day bar;
        equal to the close where there is no closing auction
    version : what the rows follow from: library version and digest of the overrides
    """

    calendar: str
    session: str
    start_ns: int
    end_ns: int
    seg_open: I64
    seg_close: I64
    seg_session: I32
    date: I32
    open_ns: I64
    close_ns: I64
    auction_end_ns: I64
    version: str

    def __post_init__(self) -> None:
        for column in (
            *(self.seg_open, self.seg_close, self.seg_session),
            *(self.date, self.open_ns, self.close_ns, self.auction_end_ns),
        ):
            column.setflags(write=False)

    def day_groups(self, timeframe: Timeframe) -> tuple[I64, I64]:
        """Give each session the (ts_open, ts_close) in ns of its bar of this d or w timeframe.

        Sessions of n d share a bar when ``date // n`` agrees, those of n w when the number
        of their week since Monday 1970-01-05 does. Complete for sessions in [start, end).
        """
        first, last = self._group_ends(timeframe)
        return self.open_ns[first], self.close_ns[last]

    def group_dates(self, timeframe: Timeframe) -> I32:
        """Give each session the session date of its bar: that of the bar's first session."""
        first, _ = self._group_ends(timeframe)
        return self.date[first]

    def _group_ends(self, timeframe: Timeframe) -> tuple[I64, I64]:
        origin, length = _group_rule(timeframe)
        group = (self.date.astype(np.int64) - origin) // length
        first = np.searchsorted(group, group, side="left")
        last = np.searchsorted(group, group, side="right") - 1
        return first.astype(np.int64), last.astype(np.int64)


def session_table(
    calendar: str,
    session: str,
    first_ns: int,
    last_ns: int,
    overrides: Overrides | None = None,
) -> SessionTable:
    """Build (or find) the table that covers the UTC years of [first_ns, last_ns], inclusive.

    The row of a date is the same whatever range is asked for. ``24/7`` never closes, so its
    ``regular`` is ``continuous``. ``continuous`` and ``ny_day`` do not look the calendar up.

    Raises
    ------
    CalendarError
        If the calendar or session is unknown, the session is not known for this calendar, or
        an instant lies outside the years that the calendar knows.
    """
    if session not in SESSIONS:
        raise CalendarError(f"session: was '{session}'; expected one of {', '.join(SESSIONS)}")
    if session == CONTINUOUS or (calendar == ALWAYS_OPEN and session == REGULAR):
        return _continuous_table(calendar)
    if first_ns > last_ns:
        raise CalendarError(
            f"session table: first_ns was {first_ns}, after last_ns {last_ns}; swap them"
        )
    first_year, last_year = _year(first_ns), _year(last_ns)
    if session == NY_DAY:
        return _new_york_table(calendar, first_year, last_year)
    known = calendars.find_calendar(calendar)
    if session == EXTENDED:
        calendars.extended_hours(known)
    for ts_ns in (first_ns, last_ns):
        _check_known(known, ts_ns)
    return _exchange_table(known, session, first_year, last_year, overrides or NO_OVERRIDES)


def bar_edges(
    table: SessionTable, timeframe: Timeframe, ts_ns: int, *, closing_auction: bool = False
) -> tuple[int, int, int] | None:
    """Place one instant, slowly: the reference that compiled code is tested against.

    Parameters
    ----------
    table : must cover ``ts_ns``
    timeframe : any
    ts_ns : ns since the epoch, UTC
    closing_auction : whether it is a print of the primary venue's closing auction, which
        joins the bars of d and w (never an intraday bar) until ``auction_end_ns``

    Returns
    -------
    (ts_open, ts_close, session_date), with ``ts_open <= ts_ns < ts_close`` but for closing
    prints, or None if no bar takes it. The date (days since 1970-01-01) is the session's, or
    that of the first session of a bar that covers several.

    Raises
    ------
    CalendarError
        If the table does not cover ``ts_ns``.
    """
    _check_covered(table, ts_ns)
    if table.session == CONTINUOUS:
        return continuous_edges(timeframe, ts_ns)
    segment = bisect_right(table.seg_open.tolist(), ts_ns) - 1
    if segment < 0:
        return None
    opens, closes = int(table.seg_open[segment]), int(table.seg_close[segment])
    session = int(table.seg_session[segment])
    if ts_ns >= closes:
        after_close = closes == table.close_ns[session] and not timeframe.is_intraday
        if not (closing_auction and after_close and ts_ns < table.auction_end_ns[session]):
            return None
    elif timeframe.is_intraday:
        length = timeframe.duration_ns
        ts_open = opens + (ts_ns - opens) // length * length
        return ts_open, min(ts_open + length, closes), int(table.date[session])
    origin, length = _group_rule(timeframe)
    group = (int(table.date[session]) - origin) // length
    bar = [i for i, day in enumerate(table.date.tolist()) if (day - origin) // length == group]
    return int(table.open_ns[bar[0]]), int(table.close_ns[bar[-1]]), int(table.date[bar[0]])


def continuous_edges(timeframe: Timeframe, ts_ns: int) -> tuple[int, int, int]:
    """Place one instant on a market that never closes.

    Intraday bars count from the UTC epoch, days are UTC days counted from 1970-01-01, weeks
    start on Mondays and are counted from 1970-01-05.

    Returns
    -------
    (ts_open, ts_close, session_date): the UTC date of ``ts_open`` in days since 1970-01-01
    """
    if timeframe.is_intraday:
        origin, length = 0, timeframe.duration_ns
    else:
        origin, length = (days * DAY_NS for days in _group_rule(timeframe))
    ts_open = origin + (ts_ns - origin) // length * length
    return ts_open, ts_open + length, ts_open // DAY_NS


def _group_rule(timeframe: Timeframe) -> tuple[int, int]:
    # Origin and length, in days, of the groups that bars of d and w are made of.
    if timeframe.unit == "w":
        return _MONDAY, 7 * timeframe.n
    if timeframe.unit == "d":
        return 0, timeframe.n
    raise CalendarError(f"timeframe: was '{timeframe}', but only d and w group whole sessions")


def _year(ts_ns: int) -> int:
    lowest, highest = (
        calendars.epoch_day(date(year, 1, 1))
        for year in (calendars.FIRST_YEAR, calendars.LAST_YEAR + 1)
    )
    if not lowest <= ts_ns // DAY_NS < highest:
        raise CalendarError(
            f"session table: instant was {ts_ns} ns, outside of the years "
            f"{calendars.FIRST_YEAR} to {calendars.LAST_YEAR}; is it in another unit?"
        )
    return calendars.from_epoch_day(ts_ns // DAY_NS).year


def _check_known(calendar: Calendar, ts_ns: int) -> None:
    if not calendar.first_date <= ts_ns // DAY_NS <= calendar.last_date:
        raise CalendarError(
            f"calendar '{calendar.name}': instant was {format_ns(ts_ns)}, but its sessions are "
            f"known from {calendars.from_epoch_day(calendar.first_date)} to "
            f"{calendars.from_epoch_day(calendar.last_date)} ({calendars.library_version()}); "
            "leave such ticks out, or use session 'continuous'"
        )


def _check_covered(table: SessionTable, ts_ns: int) -> None:
    if not table.start_ns <= ts_ns < table.end_ns:
        raise CalendarError(
            f"session table: instant was {format_ns(ts_ns)}, but calendar '{table.calendar}' is "
            f"covered from {format_ns(table.start_ns)} to {format_ns(table.end_ns)} (exclusive); "
            "ask session_table for a wider range, or a calendar that reaches as far"
        )


@lru_cache(maxsize=64)
def _continuous_table(calendar: str) -> SessionTable:
    return _table(
        calendar, CONTINUOUS, [], covered=(NULL_I64, MAX_TS_NS), version="UTC without sessions"
    )


@lru_cache(maxsize=64)
def _new_york_table(calendar: str, first_year: int, last_year: int) -> SessionTable:
    return _table(
        calendar,
        NY_DAY,
        calendars.new_york_days(*_with_margin(first_year, last_year)),
        covered=_covered(first_year, last_year),
        version=f"{calendars.NEW_YORK} calendar days",
    )


@lru_cache(maxsize=64)
def _exchange_table(
    calendar: Calendar, session: str, first_year: int, last_year: int, overrides: Overrides
) -> SessionTable:
    first_date, last_date = _with_margin(first_year, last_year)
    usual = calendars.calendar_days(calendar, first_date, last_date)
    days: Iterable[CalendarDay] = overrides.apply(calendar.name, usual, first_date, last_date)
    if session == EXTENDED:
        days = calendars.extended_days(calendar, days)
    return _table(
        calendar.name,
        session,
        days,
        covered=_covered(first_year, last_year, calendar),
        version=calendars.library_version() + overrides.version(calendar.name),
        auction_ns=AUCTION_NS if session == REGULAR and calendar.closing_auction else 0,
    )


def _with_margin(first_year: int, last_year: int) -> tuple[int, int]:
    # A bar of 365 days or 52 weeks reaches less than a year beyond any of its instants.
    return (
        calendars.epoch_day(date(first_year - 1, 1, 1)),
        calendars.epoch_day(date(last_year + 1, 12, 31)),
    )


def _covered(first_year: int, last_year: int, calendar: Calendar | None = None) -> tuple[int, int]:
    first = calendars.epoch_day(date(first_year, 1, 1))
    end = calendars.epoch_day(date(last_year + 1, 1, 1))
    if calendar is not None:
        first, end = max(first, calendar.first_date), min(end, calendar.last_date + 1)
    return first * DAY_NS, end * DAY_NS


def _table(
    calendar: str,
    session: str,
    days: Iterable[CalendarDay],
    *,
    covered: tuple[int, int],
    version: str,
    auction_ns: int = 0,
) -> SessionTable:
    days = list(days)
    for earlier, later in pairwise(days):
        if later.segments[0][0] < earlier.segments[-1][1]:
            raise CalendarError(
                f"calendar '{calendar}', session '{session}': "
                f"{calendars.from_epoch_day(later.date)} opens before the session of "
                f"{calendars.from_epoch_day(earlier.date)} closes; correct the override file"
            )
    segments = [
        (opens, closes, index) for index, day in enumerate(days) for opens, closes in day.segments
    ]
    open_ns = np.array([day.segments[0][0] for day in days], np.int64)
    close_ns = np.array([day.segments[-1][1] for day in days], np.int64)
    # A closing print never reaches into the next session.
    auction_end_ns = close_ns + auction_ns
    auction_end_ns[:-1] = np.minimum(auction_end_ns[:-1], open_ns[1:])
    return SessionTable(
        calendar=calendar,
        session=session,
        start_ns=covered[0],
        end_ns=covered[1],
        seg_open=np.array([opens for opens, _, _ in segments], np.int64),
        seg_close=np.array([closes for _, closes, _ in segments], np.int64),
        seg_session=np.array([index for _, _, index in segments], np.int32),
        date=np.array([day.date for day in days], np.int32),
        open_ns=open_ns,
        close_ns=close_ns,
        auction_end_ns=auction_end_ns,
        version=version,
    )
