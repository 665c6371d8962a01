"""When the simulated vendor sends its bars.

- A minute's bar goes out right after the minute, with the prints that were sent by its end.
- Just after each half-minute, a minute goes out again if a print of it was sent late since the
  half-minute before, and changed it.
- A day's bar so far goes out after every minute; for stocks from 09:30 in New York on.

Not documented, and so decided here: prints that come later than the first half-minute are shown
at the next one; a correction or cancel alone sends no bar (the history shows it at once); a
stock's day is New York's, with prints before the open, and that of crypto is UTC's.
"""

from collections.abc import Iterator
from typing import Final, Protocol

from marketpipe.simulator.market import Channel, Event, Kind
from marketpipe.simulator.messages import BarContent, BarMessage
from marketpipe.simulator.recipe import MINUTE_NS, Recipe, ny_minutes
from marketpipe.simulator.vendorbars import Span, Tally

SENT_AFTER_NS: Final = 50_000_000
"""How long after a minute or half-minute its bars are sent."""

_HALF_NS: Final = MINUTE_NS // 2
_OPEN_MINUTES: Final = 9 * 60 + 30
_CHANNELS: Final[dict[str, Channel]] = {"b": "bars", "u": "updatedBars", "d": "dailyBars"}


class Counted(Protocol):
    """What bars are counted from; see `marketpipe.simulator.generate.GeneratedMarket`."""

    recipe: Recipe

    def tally(self, place: int, ts_ns: int, known_ns: int, span: Span) -> Tally:
        """Count a minute's trades."""
        ...

    def minute(self, place: int, ts_ns: int, known_ns: int) -> BarContent | None:
        """Return a minute's bar."""
        ...

    def day_of(self, ts_ns: int) -> int:
        """Return when a day begins."""
        ...

    def touched(self, since_ns: int, until_ns: int, *, late_only: bool) -> set[tuple[int, int]]:
        """Return the minutes and symbols that changed."""
        ...


class BarStream:
    """The bars of a market, in order of sending."""

    def __init__(self, market: Counted) -> None:
        recipe = market.recipe
        self._market = market
        self._kind: Kind = recipe.kind
        self._symbols = recipe.symbols
        self._first_ns = recipe.start_ns // MINUTE_NS * MINUTE_NS
        self._next_ns = self._first_ns + MINUTE_NS
        self._days = [_Day() for _ in recipe.symbols]

    def until(self, stop_ns: int) -> list[Event]:
        """Take what is sent before ``stop_ns``."""
        events: list[Event] = []
        while self._next_ns + SENT_AFTER_NS < stop_ns:
            make = self._whole if self._next_ns % MINUTE_NS == 0 else self._half
            events += make(self._next_ns)
            self._next_ns += _HALF_NS
        return events

    def _whole(self, mark_ns: int) -> Iterator[Event]:
        ts_ns = mark_ns - MINUTE_NS
        for place in range(len(self._symbols)):
            yield from self._event("b", place, ts_ns, mark_ns, self._at(place, ts_ns, mark_ns))
        yield from self._daily(mark_ns)

    def _half(self, mark_ns: int) -> Iterator[Event]:
        before_ns = mark_ns - MINUTE_NS
        for ts_ns, place in sorted(self._market.touched(before_ns, mark_ns, late_only=True)):
            bar = self._at(place, ts_ns, mark_ns)
            if bar != self._at(place, ts_ns, max(ts_ns + MINUTE_NS, before_ns)):
                yield from self._event("u", place, ts_ns, mark_ns, bar)

    def _daily(self, mark_ns: int) -> Iterator[Event]:
        market, last_ns = self._market, mark_ns - MINUTE_NS
        is_stock = self._kind == "stocks"
        day_ns = market.day_of(last_ns)
        for ts_ns, place in market.touched(mark_ns - MINUTE_NS, mark_ns, late_only=False):
            if ts_ns >= day_ns:
                tally = market.tally(place, ts_ns, mark_ns, "day")
                self._days[place].put(day_ns, ts_ns, tally)
        if is_stock and ny_minutes(last_ns) < _OPEN_MINUTES:
            return
        settled_ns = mark_ns - market.recipe.horizon_ns - MINUTE_NS
        for place, day in enumerate(self._days):
            bar = day.tally(day_ns, settled_ns).bar()
            yield from self._event("d", place, day_ns, mark_ns, bar)

    def _at(self, place: int, ts_ns: int, known_ns: int) -> BarContent | None:
        return self._market.minute(place, ts_ns, known_ns)

    def _event(
        self, tag: str, place: int, ts_ns: int, mark_ns: int, bar: BarContent | None
    ) -> Iterator[Event]:
        if bar is not None:
            symbol = self._symbols[place]
            message = BarMessage(tag, symbol, ts_ns, bar, self._kind)
            yield Event(mark_ns + SENT_AFTER_NS, ts_ns, _CHANNELS[tag], symbol, message)


class _Day:
    """The minutes of a symbol's day: those that can still change, and the sum of the others."""

    def __init__(self) -> None:
        self._day_ns = -1
        self._settled = Tally()
        self._minutes: dict[int, Tally] = {}

    def put(self, day_ns: int, ts_ns: int, tally: Tally) -> None:
        """Set what the minute that begins at ``ts_ns`` counts."""
        self._begin(day_ns)
        self._minutes[ts_ns] = tally

    def tally(self, day_ns: int, settled_ns: int) -> Tally:
        """Count the day; minutes before ``settled_ns`` do not change any more."""
        self._begin(day_ns)
        total = self._settled
        for ts_ns in sorted(self._minutes):
            total = total.plus(self._minutes[ts_ns])
            if ts_ns < settled_ns:
                self._settled = total
                del self._minutes[ts_ns]
        return total

    def _begin(self, day_ns: int) -> None:
        if self._day_ns != day_ns:
            self._day_ns, self._settled, self._minutes = day_ns, Tally(), {}
