"""`generate`: a market drawn from a recipe."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from marketpipe.domain.batches import I64
from marketpipe.domain.units import DAY_NS
from marketpipe.simulator.barstream import BarStream
from marketpipe.simulator.books import BookWalk, book_events
from marketpipe.simulator.chunks import Chunk
from marketpipe.simulator.market import Channel, Event, Kind, Message, Row, Rows
from marketpipe.simulator.messages import (
    Bands,
    BarContent,
    BarMessage,
    Halted,
    Print,
    TopOfBook,
)
from marketpipe.simulator.recipe import CHUNK_NS, MINUTE_NS, Recipe, in_session, ny_midnight
from marketpipe.simulator.vendorbars import Effects, Span, Tally, quoted_bar

_KEPT_ROWS: Final = 1_500_000
_MADE_AT_ONCE: Final = 4096
_TRADE, _QUOTE, _EXTRA = range(3)
_CTA_CODES: Final = (("2", "Trading Halt"), ("3", "Resume"))
_UTP_CODES: Final = (("H", "Trading Halt"), ("T", "Trading Resumption"))


class GeneratedMarket:
    """A `Market` that is a function of its recipe alone.

    Chunks are drawn when they are looked at; a bounded number of rows is kept.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._effects = Effects(recipe.code_table)
        self._chunks: dict[int, Chunk] = {}
        self._places = {symbol: k for k, symbol in enumerate(recipe.symbols)}

    @property
    def kind(self) -> Kind:
        """What is traded."""
        return self.recipe.kind

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, in the order of the recipe."""
        return self.recipe.symbols

    @property
    def start_ns(self) -> int:
        """The recipe's start."""
        return self.recipe.start_ns

    @property
    def end_ns(self) -> int:
        """The recipe's end."""
        return self.recipe.end_ns

    def events(self) -> Iterator[Event]:
        """Yield all messages in order of ``ts_send_ns``; each call begins anew."""
        bars = BarStream(self)
        # What a chunk says may be sent long after it.
        boxes: list[_Outbox] = []
        for number in self.recipe.chunk_numbers:
            stop_ns = min((number + 1) * CHUNK_NS, self.end_ns)
            boxes.append(_Outbox(self.recipe, self.chunk(number)))
            yield from _in_order(boxes, stop_ns, bars.until(stop_ns))
            boxes = [box for box in boxes if not box.is_empty]

    def trades(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return trades as the history shows them; see `Market`."""
        parts = []
        for number, place in self._looked_at(symbol, start_ns, end_ns):
            tape = self.chunk(number).tape
            rows = _shown(tape.columns, tape.of(place), start_ns, end_ns, known_ns)
            parts.append((number, rows))

        def write(number: int, rows: I64) -> list[Row]:
            chunk = self.chunk(number)
            marks = chunk.marks_at(rows, known_ns)
            pairs = zip(chunk.prints_at(rows), marks, strict=True)
            return [Row(version.ts_ns, version.row(mark)) for (_, version), mark in pairs]

        return Rows(parts, write)

    def quotes(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return quotes as the history shows them."""
        parts = []
        for number, place in self._looked_at(symbol, start_ns, end_ns):
            chunk = self.chunk(number)
            mine = chunk.quotes_of(place)
            parts.append((number, _shown(chunk.quotes, mine, start_ns, end_ns, known_ns)))

        def write(number: int, rows: I64) -> list[Row]:
            return [
                Row(quote.ts_ns, quote.row()) for _, quote in self.chunk(number).quotes_at(rows)
            ]

        return Rows(parts, write)

    def bars(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of whole minutes that had ended by ``known_ns``, as revised by then."""
        if symbol not in self._places:
            return ()
        place = self._places[symbol]
        first = max(-(-start_ns // MINUTE_NS), self.start_ns // MINUTE_NS)
        last = min(end_ns, known_ns - MINUTE_NS, self.end_ns - 1) // MINUTE_NS
        minutes = np.arange(first, last + 1) * MINUTE_NS
        made = [(int(ts), self.minute(place, int(ts), known_ns)) for ts in minutes]
        return [
            Row(ts, BarMessage("b", symbol, ts, bar, self.kind).row())
            for ts, bar in made
            if bar is not None
        ]

    def days(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of days, of the trades of minutes that had ended by ``known_ns``."""
        rows: list[Row] = []
        if symbol not in self._places:
            return rows
        stop_ns = min(known_ns, self.end_ns) // MINUTE_NS * MINUTE_NS
        day_ns = self.day_of(max(start_ns, self.start_ns))
        while day_ns <= min(end_ns, stop_ns):
            after_ns = self.day_of(day_ns + 3 * DAY_NS // 2)
            ends = (day_ns, min(after_ns, stop_ns) - 1)
            bar = self._day(self._places[symbol], *ends, known_ns) if day_ns >= start_ns else None
            if bar is not None:
                rows.append(Row(day_ns, BarMessage("d", symbol, day_ns, bar, self.kind).row()))
            day_ns = after_ns
        return rows

    def day_of(self, ts_ns: int) -> int:
        """Return when the day begins that an instant lies in."""
        return ny_midnight(ts_ns) if self.kind == "stocks" else ts_ns // DAY_NS * DAY_NS

    def book(self, symbol: str, known_ns: int) -> Message | None:
        """Return the whole order book as last sent; None for stocks and before the start."""
        place = self._places.get(symbol)
        if self.kind != "crypto" or place is None or known_ns < self.start_ns:
            return None
        known_ns = min(known_ns, self.end_ns - 1)
        chunk = self.chunk(known_ns // CHUNK_NS)
        walk = BookWalk(self.recipe, chunk, place)
        for row in walk.rows:
            if chunk.quotes["born"][row] > known_ns:
                break
            walk.step(row)
        return walk.snapshot()

    def chunk(self, number: int) -> Chunk:
        """Return a chunk, drawn anew if it is not kept."""
        chunk = self._chunks.pop(number, None) or Chunk(self.recipe, number)
        self._chunks[number] = chunk
        spare = sum(one.rows for one in self._chunks.values()) - _KEPT_ROWS
        for old in list(self._chunks):
            if spare <= 0 or old == number:
                break
            spare -= self._chunks.pop(old).rows
        return chunk

    def tally(self, place: int, ts_ns: int, known_ns: int, span: Span) -> Tally:
        """Count a minute's trades by the table of bars of minutes or days, as known then."""
        return self._tally(place, ts_ns, ts_ns + MINUTE_NS - 1, known_ns, span)

    def minute(self, place: int, ts_ns: int, known_ns: int) -> BarContent | None:
        """Return the bar of the minute that begins at ``ts_ns``, as known then, if there is one.

        Quotes are the vendor's own where it makes bars of them, and known at their instant.
        """
        tally = self.tally(place, ts_ns, known_ns, "minute")
        if self.kind == "stocks" or tally.count:
            return tally.bar()
        chunk = self.chunk(ts_ns // CHUNK_NS)
        mine = chunk.quotes_of(place)
        ends = np.searchsorted(chunk.quotes["ts_event"][mine], [ts_ns, ts_ns + MINUTE_NS])
        rows = slice(mine.start + int(ends[0]), mine.start + int(ends[1]))
        return quoted_bar(chunk.quotes["bid"][rows], chunk.quotes["ask"][rows])

    def touched(self, since_ns: int, until_ns: int, *, late_only: bool) -> set[tuple[int, int]]:
        """Return (minute, symbol) of prints of ended minutes that came, or went, in (since, until].

        ``late_only`` leaves out what was corrected and cancelled.
        """
        found: set[tuple[int, int]] = set()
        first = max(
            (since_ns - self.recipe.horizon_ns) // CHUNK_NS, self.recipe.chunk_numbers.start
        )
        for number in range(first, until_ns // CHUNK_NS + 1):
            columns = self.chunk(number).tape.columns
            minutes = columns["ts_event"] // MINUTE_NS * MINUTE_NS
            born = columns["born"]
            hit = (born > since_ns) & (born <= until_ns) & (minutes + MINUTE_NS <= until_ns)
            if late_only:
                hit &= (born > minutes + MINUTE_NS) & (columns["corrected"] == 0)
            else:
                hit |= (columns["died"] > since_ns) & (columns["died"] <= until_ns)
            found.update(zip(minutes[hit].tolist(), columns["symbol"][hit].tolist(), strict=True))
        return found

    def _day(self, place: int, start_ns: int, end_ns: int, known_ns: int) -> BarContent | None:
        """Return the bar of a day, of its trades in ``[start_ns, end_ns]``."""
        total = Tally()
        for number, _ in self._looked_at(self.symbols[place], start_ns, end_ns):
            first_ns = max(start_ns, number * CHUNK_NS)
            last_ns = min(end_ns, (number + 1) * CHUNK_NS - 1)
            total = total.plus(self._tally(place, first_ns, last_ns, known_ns, "day"))
        return total.bar()

    def _tally(self, place: int, start_ns: int, end_ns: int, known_ns: int, span: Span) -> Tally:
        """Count trades of one chunk that were sent by then, and not corrected or cancelled."""
        tape = self.chunk(start_ns // CHUNK_NS).tape
        rows = _shown(tape.columns, tape.of(place), start_ns, end_ns, known_ns)
        rows = rows[tape.columns["died"][rows] > known_ns]
        price, size, code = (tape.columns[name][rows] for name in ("price", "size", "code"))
        return self._effects.tally(span, price, size, code)

    def _looked_at(self, symbol: str, start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
        numbers, place = self.recipe.chunk_numbers, self._places.get(symbol)
        if place is None or start_ns > end_ns:
            return
        first = max(start_ns // CHUNK_NS, numbers.start)
        for number in range(first, min(end_ns // CHUNK_NS + 1, numbers.stop)):
            yield number, place


class _Outbox:
    """What a chunk sends, in order."""

    def __init__(self, recipe: Recipe, chunk: Chunk) -> None:
        self._chunk = chunk
        tape, quotes = chunk.tape.columns, chunk.quotes
        self._prints = np.flatnonzero(tape["corrected"] == 0)
        self._extras = [*chunk.fates, *_others(recipe, chunk)]
        sent = (
            tape["born"][self._prints],
            quotes["born"],
            np.array([event.ts_send_ns for event in self._extras], np.int64),
        )
        kinds = np.repeat(np.arange(3), [len(times) for times in sent])
        places = np.concatenate([np.arange(len(times)) for times in sent])
        times = np.concatenate(sent)
        order = np.argsort(times, kind="stable")
        self._times, self._kinds, self._rows = times[order], kinds[order], places[order]
        self._next = self._made = 0

    @property
    def is_empty(self) -> bool:
        """Whether all has been sent."""
        return self._next == len(self._times)

    def until(self, stop_ns: int) -> I64:
        """Let what is sent before ``stop_ns`` go; return when each is sent. `take` makes it."""
        stop = int(np.searchsorted(self._times, stop_ns))
        times = self._times[self._next : stop]
        self._next = stop
        return times

    def take(self, count: int) -> list[Event]:
        """Make the next events of what `until` let go."""
        places = slice(self._made, self._made + count)
        self._made += count
        kinds, rows = self._kinds[places], self._rows[places]
        made: list[Iterator[Event]] = [
            self._sent(self._chunk.prints_at(self._prints[rows[kinds == _TRADE]]), "trades"),
            self._sent(self._chunk.quotes_at(rows[kinds == _QUOTE]), "quotes"),
            iter([self._extras[row] for row in rows[kinds == _EXTRA].tolist()]),
        ]
        return [next(made[kind]) for kind in kinds.tolist()]

    @staticmethod
    def _sent(pairs: Iterable[tuple[int, Print | TopOfBook]], channel: Channel) -> Iterator[Event]:
        for born, said in pairs:
            yield Event(born, said.ts_ns, channel, said.symbol, said)


def generate(
    symbols: Iterable[str], kind: Kind, start_ns: int, end_ns: int, seed: int = 1, **recipe: Any
) -> GeneratedMarket:
    """Draw a market; see `Recipe` for what else can be given.

    Raises
    ------
    UsageError
        If a value is outside its range.
    """
    return GeneratedMarket(
        Recipe(
            symbols=tuple(symbols), kind=kind, start_ns=start_ns, end_ns=end_ns, seed=seed, **recipe
        )
    )


def _shown(columns: dict[str, I64], mine: slice, start_ns: int, end_ns: int, known_ns: int) -> I64:
    """Return a symbol's rows of ``[start_ns, end_ns]`` that were sent by ``known_ns``."""
    ts = columns["ts_event"][mine]
    first = int(np.searchsorted(ts, start_ns)) + mine.start
    stop = int(np.searchsorted(ts, end_ns, side="right")) + mine.start
    rows = np.arange(first, stop)
    return rows[columns["born"][rows] <= known_ns]


def _in_order(boxes: list[_Outbox], stop_ns: int, extra: list[Event]) -> Iterator[Event]:
    """Merge what chunks and bars send before ``stop_ns``; ties go by the chunk, bars last."""
    times = [box.until(stop_ns) for box in boxes]
    times.append(np.array([event.ts_send_ns for event in extra], np.int64))
    owner = np.repeat(np.arange(len(times)), [len(column) for column in times])
    owner = owner[np.argsort(np.concatenate(times), kind="stable")]
    bars = iter(extra)
    for begin in range(0, len(owner), _MADE_AT_ONCE):
        owners = owner[begin : begin + _MADE_AT_ONCE]
        counts = np.bincount(owners, minlength=len(times)).tolist()
        made = [iter(box.take(count)) for box, count in zip(boxes, counts, strict=False)]
        made.append(bars)
        for k in owners.tolist():
            yield next(made[k])


def _others(recipe: Recipe, chunk: Chunk) -> Iterator[Event]:
    """Yield halts, bands and books."""
    begin_ns = max(chunk.begin_ns, recipe.start_ns)
    if recipe.kind == "crypto":
        for place in range(len(recipe.symbols)):
            yield from book_events(recipe, chunk, place)
        return
    for place, symbol in enumerate(recipe.symbols):
        tape = recipe.tape(place)
        if begin_ns == chunk.begin_ns and in_session(begin_ns):
            price = int(chunk.anchors[place])
            width = price // 20 // recipe.tick_nanos * recipe.tick_nanos
            bands = Bands(symbol, begin_ns, price + width, price - width, tape)
            yield Event(begin_ns + recipe.latency_ns, begin_ns, "lulds", symbol, bands)
        codes = _UTP_CODES if tape == "C" else _CTA_CODES
        for at_ns, (code, text) in zip(chunk.halts.get(place, ()), codes, strict=False):
            if recipe.start_ns <= at_ns < recipe.end_ns:
                reason = ("LUDP", "Volatility Trading Pause")
                status = Halted(symbol, at_ns, code, text, *reason, tape)
                yield Event(at_ns + recipe.latency_ns, at_ns, "statuses", symbol, status)
