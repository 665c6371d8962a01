"""Overrides: what the calendar library gets wrong or does not know yet, from a TOML file.

::

    [[XHKG]]
    date = 2023-09-08
    closed = true
    reason = "black rainstorm warning"

    [[XNYS]]
    date = 2030-07-03
    close = 13:00:00               # or "13:00"; what is not named stays as it was

    [[XTKS]]
    date = 2030-01-05              # an extra session names both open and close
    open = "09:00"
    close = "15:30"
    breaks = [["11:30", "12:30"]]

Times are wall times of the exchange. The close is on the session's date (``"24:00"`` is the
midnight that ends it); an open or a break that would not come before it is on the day before.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from marketpipe.domain.calendars import (
    Calendar,
    CalendarDay,
    calendar_days,
    epoch_day,
    find_calendar,
    from_epoch_day,
    local_ns,
)
from marketpipe.errors import CalendarError

_KEYS: Final = ("date", "closed", "open", "close", "breaks", "reason")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|24:00")


@dataclass(frozen=True, slots=True)
class Overrides:
    """Days that replace those of the library: by calendar, sorted by date, each date once.

    A day without segments is closed.
    """

    days: tuple[tuple[str, tuple[CalendarDay, ...]], ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Overrides":
        """Read a TOML file, see the module's docstring.

        Raises
        ------
        CalendarError
            If it cannot be read, or names an unknown calendar or key, or a time that cannot
            be; the message names file, entry, key and value.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CalendarError(f"{path}: cannot read the overrides: {error}") from error
        return cls.parse(text, origin=str(path))

    @classmethod
    def parse(cls, text: str, *, origin: str = "overrides") -> "Overrides":
        """Read the text of such a file; ``origin`` names it in errors, raised as by `load`."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise CalendarError(f"{origin}: is no valid TOML: {error}") from error
        found: dict[str, dict[int, CalendarDay]] = {}
        for name, entries in tables.items():
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise CalendarError(
                    f"{origin}: '{name}' must be a list of tables, each written [[{name}]]"
                )
            calendar = _find(name, origin)
            days = found.setdefault(calendar.name, {})
            for entry in entries:
                day = _Entry(calendar, entry, f"{origin}: [[{name}]]").resolve()
                if day.date in days:
                    raise CalendarError(
                        f"{origin}: [[{name}]] date: was '{from_epoch_day(day.date)}' twice; "
                        "keep one of the two entries"
                    )
                days[day.date] = day
        return cls(tuple((name, tuple(sorted(found[name].values()))) for name in sorted(found)))

    def apply(
        self, calendar: str, days: Iterable[CalendarDay], first_date: int, last_date: int
    ) -> tuple[CalendarDay, ...]:
        """Replace, add and remove sessions dated ``first_date`` to ``last_date``, inclusive."""
        merged = {day.date: day for day in days}
        merged.update(
            (day.date, day)
            for day in dict(self.days).get(calendar, ())
            if first_date <= day.date <= last_date
        )
        return tuple(merged[day] for day in sorted(merged) if merged[day].segments)

    def version(self, calendar: str) -> str:
        """Name what these overrides do to one calendar, or "" if nothing."""
        days = dict(self.days).get(calendar, ())
        if not days:
            return ""
        text = repr([(day.date, day.segments) for day in days])
        return f" overrides sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


NO_OVERRIDES: Final = Overrides()


def _find(name: str, origin: str) -> Calendar:
    try:
        calendar = find_calendar(name)
    except CalendarError as error:
        raise CalendarError(f"{origin}: {error}") from error
    if calendar.name == "24/7":
        raise CalendarError(f"{origin}: [['{name}']] has no sessions to override; remove it")
    return calendar


class _Entry(NamedTuple):
    """One entry of the file, on its way to the day it describes."""

    calendar: Calendar
    values: dict[str, object]
    where: str

    def resolve(self) -> CalendarDay:
        """Work out the day's segments from the entry and the library's day."""
        day = self._date()
        for key in self.values:
            if key not in _KEYS:
                raise self._error(key, f"is unknown; expected {', '.join(_KEYS)}")
        named = [key for key in ("open", "close", "breaks") if key in self.values]
        closed = self.values.get("closed", False)
        if not isinstance(closed, bool):
            raise self._error("closed", f"was {closed!r}; expected true or false")
        if closed and named:
            raise self._error("closed", f"was true, and yet '{named[0]}' is given; keep one")
        if closed:
            return CalendarDay(epoch_day(day), ())
        if not named:
            raise self._error(
                "date", f"was '{day}' alone; add closed = true, open, close or breaks"
            )
        usual = next(calendar_days(self.calendar, epoch_day(day), epoch_day(day)), None)
        if usual is None and not {"open", "close"} <= self.values.keys():
            raise self._error("date", f"was '{day}', no session by itself; give open and close")
        return CalendarDay(epoch_day(day), self._segments(day, usual))

    def _date(self) -> date:
        day = self.values.get("date")
        if not isinstance(day, date) or isinstance(day, datetime):
            raise self._error("date", f"was {day!r}; expected a date such as 2030-07-03")
        if not self.calendar.first_date <= epoch_day(day) <= self.calendar.last_date:
            raise self._error(
                "date",
                f"was '{day}', but the calendar reaches from "
                f"{from_epoch_day(self.calendar.first_date)} to "
                f"{from_epoch_day(self.calendar.last_date)}",
            )
        return day

    def _segments(self, day: date, usual: CalendarDay | None) -> tuple[tuple[int, int], ...]:
        usual_segments = usual.segments if usual else ()
        closes = (
            self._at("close", self.values["close"], day)
            if "close" in self.values
            else usual_segments[-1][1]
        )
        opens = (
            self._before(closes, "open", self.values["open"], day)
            if "open" in self.values
            else usual_segments[0][0]
        )
        if opens >= closes:
            raise self._error("close", f"was '{self.values['close']}', not after the open")
        if "breaks" in self.values:
            pauses = self._breaks(day, closes)
        else:
            pauses = self._usual_breaks(usual_segments, opens, closes)
        edges = [opens, *(edge for pause in pauses for edge in pause), closes]
        if any(earlier >= later for earlier, later in pairwise(edges)):
            raise self._error("breaks", "do not lie inside the session, in order and apart")
        return tuple(zip(edges[::2], edges[1::2], strict=True))

    def _breaks(self, day: date, closes: int) -> list[tuple[int, int]]:
        pauses = self.values["breaks"]
        if not isinstance(pauses, list) or not all(
            isinstance(pause, list) and len(pause) == 2 for pause in pauses
        ):
            raise self._error("breaks", f'was {pauses!r}; expected pairs: [["12:00", "13:00"]]')
        return [
            (
                self._before(closes, "breaks", start, day),
                self._before(closes, "breaks", end, day),
            )
            for start, end in pauses
        ]

    def _usual_breaks(
        self, segments: tuple[tuple[int, int], ...], opens: int, closes: int
    ) -> list[tuple[int, int]]:
        kept = []
        for (_, start), (end, _) in pairwise(segments):
            if opens < start and end < closes:
                kept.append((start, end))
            elif start < closes and opens < end:
                raise self._error("breaks", "is missing: open or close falls in the usual break")
        return kept

    def _before(self, closes: int, key: str, value: object, day: date) -> int:
        at = self._at(key, value, day)
        return at if at < closes else self._at(key, value, day - timedelta(days=1))

    def _at(self, key: str, value: object, day: date) -> int:
        zone = self.calendar.zone
        wall, days = self._wall(key, value)
        on = day + timedelta(days=days)
        there_and_back = datetime.combine(on, wall, zone).astimezone(UTC).astimezone(zone)
        if there_and_back.replace(tzinfo=None) != datetime.combine(on, wall):
            raise self._error(key, f"was '{value}', a time that {zone} skips on {on}")
        return local_ns(on, wall, zone)

    def _wall(self, key: str, value: object) -> tuple[time, int]:
        if isinstance(value, time):
            return value, 0
        if isinstance(value, str) and _TIME.fullmatch(value):
            return (time(0), 1) if value == "24:00" else (time.fromisoformat(value), 0)
        raise self._error(key, f'was {value!r}; expected a time such as 13:00:00 or "13:00"')

    def _error(self, key: str, problem: str) -> CalendarError:
        day = self.values.get("date")
        at = f" date {day}:" if isinstance(day, date) and key != "date" else ""
        return CalendarError(f"{self.where}{at} '{key}' {problem}")
