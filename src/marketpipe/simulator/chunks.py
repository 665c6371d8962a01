"""Five minutes of a generated market: prints, what became of them, and quotes, as columns.

A chunk is a pure function of the recipe and its number, so that any part of a long market can
be drawn again instead of being kept. Times of trades come from `marketpipe.sources.synthetic`.
No two prints of a symbol bear the same instant: which of them a vendor puts first is documented
nowhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64
from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.simulator.market import Event
from marketpipe.simulator.messages import Cancelled, Corrected, Print, TopOfBook
from marketpipe.simulator.recipe import CHUNK_NS, Recipe
from marketpipe.sources.synthetic import SyntheticConfig
from marketpipe.sources.synthetic.draws import bits, draw, zipf_slots
from marketpipe.sources.synthetic.generate import arrivals

Columns: TypeAlias = dict[str, I64]

NEVER: Final = MAX_TS_NS
"""When a print ends that is never corrected or cancelled."""

_SEED, _JITTER, _CODES, _FATE, _FATE_DELAY, _QUOTE, _QUOTE_SIZE, _HALT = range(100, 108)
_EDGE_NS: Final = NANOS // 1000
_HASHES: Final = 1 << 32
_MARKS: Final = (None, "incorrect", "canceled")
_SIDES: Final = ("B", "S", "-")


@dataclass(frozen=True, slots=True)
class Tape:
    """All versions of the prints of a chunk, by symbol, time and sending.

    Attributes
    ----------
    columns : ``symbol ts_event born died price size id venue code side corrected mark``;
        ``born`` is when a version was sent, ``died`` when it was corrected or cancelled, and
        ``mark`` which of the two
    edges : symbol ``k`` has the rows ``edges[k]`` to ``edges[k + 1]`` (exclusive)
    """

    columns: Columns
    edges: I64

    def of(self, symbol: int) -> slice:
        """Return the rows of a symbol."""
        return slice(int(self.edges[symbol]), int(self.edges[symbol + 1]))


class Chunk:
    """One drawn chunk.

    Attributes
    ----------
    number : the chunk begins at ``number * CHUNK_NS``
    tape : prints and their corrected versions
    quotes : ``symbol ts_event born bid bid_size ask ask_size bid_venue ask_venue``, ordered as
        the tape is; ``quote_edges`` are as its edges
    fates : corrections and cancels, in order of sending
    halts : instants of halt and resumption, by symbol
    """

    def __init__(self, recipe: Recipe, number: int) -> None:
        self.recipe = recipe
        self.number = number
        self.begin_ns = number * CHUNK_NS
        seed = int(draw(recipe.seed, _SEED, number, 1)[0])
        self.anchors = recipe.anchors(number)
        self.halts = self._halts(seed)
        prints = self._prints(seed)
        self.quotes, self.quote_edges = self._quotes(seed, prints)
        self.fates: list[Event] = []
        self.tape = self._fated(seed, prints)

    @property
    def rows(self) -> int:
        """Rows of the columns, for those who count what they keep."""
        return len(self.tape.columns["born"]) + len(self.quotes["born"])

    def prints_at(self, rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, Print]]:
        """Yield rows of the tape as messages, each with when it was sent."""
        columns = _take(self.tape.columns, rows)
        return zip(columns["born"].tolist(), _prints(self.recipe, columns), strict=True)

    def marks_at(self, rows: npt.NDArray[np.intp], known_ns: int) -> list[str | None]:
        """Return the marks that the history gives rows of the tape at ``known_ns``."""
        columns = _take(self.tape.columns, rows)
        ended = np.where(columns["died"] <= known_ns, columns["mark"], 0)
        return [
            _MARKS[mark] if mark else "corrected" if corrected else None
            for mark, corrected in zip(ended.tolist(), columns["corrected"].tolist(), strict=True)
        ]

    def quotes_of(self, symbol: int) -> slice:
        """Return the rows of a symbol's quotes."""
        return slice(int(self.quote_edges[symbol]), int(self.quote_edges[symbol + 1]))

    def quotes_at(self, rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, TopOfBook]]:
        """Yield rows of the quotes as messages, each with when it was sent."""
        recipe = self.recipe
        lists = {name: column.tolist() for name, column in _take(self.quotes, rows).items()}
        places, count = lists["symbol"], len(rows)
        numbers = [lists[name] for name in ("ts_event", "bid", "bid_size", "ask", "ask_size")]
        marks: tuple[Sequence[str | None], ...] = ([None] * count,) * 3
        if recipe.kind == "stocks":
            marks = (
                [recipe.venues[k] for k in lists["bid_venue"]],
                [recipe.venues[k] for k in lists["ask_venue"]],
                [recipe.tape(k) for k in places],
            )
        quotes = map(TopOfBook, [recipe.symbols[k] for k in places], *numbers, *marks)
        return zip(lists["born"], quotes, strict=True)

    def _halts(self, seed: int) -> dict[int, tuple[int, int]]:
        recipe = self.recipe
        if recipe.kind == "crypto" or not recipe.halt_share:
            return {}
        hashes = bits(draw(seed, _HALT, 0, len(recipe.symbols)), 0, 32)
        halted = np.flatnonzero(hashes < np.uint64(round(recipe.halt_share * _HASHES)))
        quarter = CHUNK_NS // 4
        span = (self.begin_ns + quarter, self.begin_ns + 3 * quarter)
        return {int(k): span for k in halted}

    def _prints(self, seed: int) -> Columns:
        recipe = self.recipe
        count = recipe.count(recipe.trades_per_second, self.number)
        columns = self._arrived(seed, count) if count else _none(_DRAWN)
        columns = _take(columns, np.lexsort((columns["ts_event"], columns["symbol"])))
        symbol, count = columns["symbol"], len(columns["symbol"])
        edges = _edges(symbol, len(recipe.symbols))
        ts = columns["ts_event"]
        self._bridge(columns, edges)
        jitter = bits(draw(seed, _JITTER, 0, count), 0, 32).astype(np.int64)
        delay = columns.pop("ts_recv") - ts
        for k in range(len(recipe.symbols)):
            steps = np.arange(edges[k + 1] - edges[k])
            mine = slice(int(edges[k]), int(edges[k + 1]))
            ts[mine] = np.maximum.accumulate(ts[mine] - steps) + steps
        columns["born"] = ts + delay + (jitter * (recipe.latency_ns // 2 + 1) >> 32)
        columns["died"] = np.full(count, NEVER, np.int64)
        columns["corrected"] = np.zeros(count, np.int64)
        columns["mark"] = np.zeros(count, np.int64)
        hashes = draw(seed, _CODES, 0, count)
        columns["side"] = bits(hashes, 40, 16).astype(np.int64) * 20 // 65536 % 10 // 4
        columns["venue"] = columns["venue"] - 1
        columns["code"] = recipe.codes(self.begin_ns, symbol, columns["size"], hashes)
        bases = recipe.id_bases()[columns["venue"]]
        columns["id"] += bases + recipe.first_id(self.number)
        if recipe.kind == "crypto":
            fraction = bits(hashes, 0, 23).astype(np.int64)
            columns["size"] = columns["size"] // 100 + fraction
        keep = (ts >= recipe.start_ns) & (ts < recipe.end_ns - recipe.tail_ns)
        for k, (halt_ns, resume_ns) in self.halts.items():
            keep &= (symbol != k) | (ts < halt_ns) | (ts >= resume_ns)
        return _take(columns, np.flatnonzero(keep))

    def _arrived(self, seed: int, count: int) -> Columns:
        recipe = self.recipe
        config = SyntheticConfig(
            symbols=recipe.symbols,
            # No print is so near the end that keeping instants apart could push it out.
            sessions=((self.begin_ns, self.begin_ns + CHUNK_NS - _EDGE_NS),),
            trades=count,
            seed=seed,
            tick_nanos=recipe.tick_nanos,
            start_nanos=tuple(int(price) for price in self.anchors),
            u_shape=0,
            late_share=recipe.late_share,
            late_max_ns=recipe.late_max_ns,
            latency_ns=recipe.latency_ns,
            venues=recipe.venues,
        )
        parts = list(arrivals(config))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _bridge(self, columns: Columns, edges: I64) -> None:
        """Bend each symbol's walk so that it ends where the next chunk's begins."""
        tick, ahead = self.recipe.tick_nanos, self.recipe.anchors(self.number + 1)
        for k in np.flatnonzero(np.diff(edges)):
            mine = slice(int(edges[k]), int(edges[k + 1]))
            price = columns["price"][mine]
            missing = (int(ahead[k]) - int(price[-1])) // tick
            done = (columns["ts_event"][mine] - self.begin_ns) // (CHUNK_NS // 1000)
            np.maximum(price + missing * done // 1000 * tick, tick, out=price)

    def _quotes(self, seed: int, prints: Columns) -> tuple[Columns, I64]:
        recipe = self.recipe
        count = recipe.count(recipe.quotes_per_second, self.number)
        hashes = draw(seed, _QUOTE, 0, count)
        sizes = draw(seed, _QUOTE_SIZE, 0, count)
        symbol = zipf_slots(len(recipe.symbols), 1)[bits(hashes, 0, 16)].astype(np.int64)
        span = CHUNK_NS >> 8
        ts = (bits(hashes, 16, 32).astype(np.int64) * span >> 24) + self.begin_ns
        ts += bits(sizes, 0, 8).astype(np.int64)
        order = np.lexsort((ts, symbol))
        symbol, ts, hashes, sizes = symbol[order], ts[order], hashes[order], sizes[order]
        price = self._last_prices(prints, symbol, ts)
        tick, venues = recipe.tick_nanos, np.uint64(len(recipe.venues))
        away = bits(hashes, 48, 2).astype(np.int64) * tick
        unit = 100 * NANOS if recipe.kind == "stocks" else NANOS // 1000
        jitter = bits(sizes, 32, 16).astype(np.int64)
        columns = {
            "symbol": symbol,
            "ts_event": ts,
            "born": ts + recipe.latency_ns + (jitter * (recipe.latency_ns // 2) >> 16),
            "bid": np.maximum(price - tick - away, tick),
            "bid_size": (bits(sizes, 8, 10).astype(np.int64) + 1) * unit,
            "ask": price + tick + bits(hashes, 50, 2).astype(np.int64) * tick,
            "ask_size": (bits(sizes, 18, 10).astype(np.int64) + 1) * unit,
            "bid_venue": (bits(hashes, 52, 6) * venues >> np.uint64(6)).astype(np.int64),
            "ask_venue": (bits(hashes, 58, 6) * venues >> np.uint64(6)).astype(np.int64),
        }
        keep = (ts >= recipe.start_ns) & (ts < recipe.end_ns - recipe.tail_ns)
        columns = _take(columns, np.flatnonzero(keep))
        return columns, _edges(columns["symbol"], len(recipe.symbols))

    def _last_prices(self, prints: Columns, symbol: I64, ts: I64) -> I64:
        """Return the price of the print before each instant; the anchor's before the first."""
        prices = self.anchors[symbol]
        edges = _edges(prints["symbol"], len(self.recipe.symbols))
        places = _edges(symbol, len(self.recipe.symbols))
        for k in np.flatnonzero(np.diff(edges)):
            mine = slice(int(edges[k]), int(edges[k + 1]))
            wanted = slice(int(places[k]), int(places[k + 1]))
            before = np.searchsorted(prints["ts_event"][mine], ts[wanted]) - 1
            found = prints["price"][mine][np.maximum(before, 0)]
            prices[wanted] = np.where(before < 0, prices[wanted], found)
        return prices

    def _fated(self, seed: int, prints: Columns) -> Tape:
        """Correct and cancel some prints; the versions that replace them join the tape."""
        recipe, count = self.recipe, len(prints["born"])
        cancels = round(recipe.cancel_share * _HASHES)
        either = cancels + round(recipe.correction_share * _HASHES)
        hashes = draw(seed, _FATE, 0, count)
        luck = bits(hashes, 0, 32)
        drawn = recipe.count(recipe.trades_per_second, self.number)
        new = _Versions(recipe, prints, recipe.first_id(self.number) + drawn + 1)
        for row in np.flatnonzero(luck < np.uint64(either)).tolist():
            draws = draw(seed, _FATE_DELAY, 3 * row, 3).tolist()
            if luck[row] < cancels:
                new.cancel(row, draws[0])
                continue
            again = new.correct(row, draws[0])
            # Of corrections a quarter is corrected again, and a quarter cancelled.
            if draws[1] % 4 == 0:
                new.correct(again, draws[2])
            elif draws[1] % 4 == 1:
                new.cancel(again, draws[2])
        self.fates = sorted(new.events, key=lambda event: event.ts_send_ns)
        columns = new.joined()
        order = np.lexsort((columns["born"], columns["ts_event"], columns["symbol"]))
        columns = _take(columns, order)
        return Tape(columns, _edges(columns["symbol"], len(recipe.symbols)))


class _Versions:
    """Prints and what became of them; the new versions of prints have rows behind all prints."""

    def __init__(self, recipe: Recipe, prints: Columns, next_id: int) -> None:
        self._recipe = recipe
        self._prints = prints
        self._next_id = next_id
        self._count = len(prints["born"])
        self._new: list[dict[str, int]] = []
        self.events: list[Event] = []

    def cancel(self, row: int, luck: int) -> None:
        """Take a version back."""
        sent_ns = self._end(row, luck, 2)
        said_ns = sent_ns - self._recipe.latency_ns
        old = self._print(row)
        message = Cancelled(said_ns, old, "CE"[luck >> 20 & 1])
        self.events.append(Event(sent_ns, said_ns, "cancelErrors", old.symbol, message))

    def correct(self, row: int, luck: int) -> int:
        """Replace a version; return the row of the new one."""
        recipe = self._recipe
        old_row = self._row(row)
        sent_ns = self._end(row, luck, 1)
        steps = (luck >> 21 & 7) - 3
        price = max(old_row["price"] + steps * recipe.tick_nanos, recipe.tick_nanos)
        more = (luck >> 24 & 1) * 100 * NANOS
        new = old_row | {
            "born": sent_ns,
            "died": NEVER,
            "mark": 0,
            "corrected": 1,
            "price": price,
            "size": old_row["size"] + more,
            "id": recipe.id_bases()[old_row["venue"]].item() + self._next_id,
        }
        self._next_id += 1
        self._new.append(new)
        old, said_ns = self._print(row), sent_ns - recipe.latency_ns
        fresh = self._count + len(self._new) - 1
        message = Corrected(said_ns, old, self._print(fresh))
        self.events.append(Event(sent_ns, said_ns, "corrections", old.symbol, message))
        return fresh

    def joined(self) -> Columns:
        """Return all versions."""
        return {
            name: np.concatenate((column, np.array([new[name] for new in self._new], np.int64)))
            for name, column in self._prints.items()
        }

    def _end(self, row: int, luck: int, mark: int) -> int:
        wait = NANOS + (luck >> 32) * (self._recipe.fate_max_ns - NANOS) // _HASHES
        sent_ns = self._row(row)["born"] + wait
        if row < self._count:
            self._prints["died"][row] = sent_ns
            self._prints["mark"][row] = mark
        else:
            self._new[row - self._count] |= {"died": sent_ns, "mark": mark}
        return sent_ns

    def _row(self, row: int) -> dict[str, int]:
        if row >= self._count:
            return self._new[row - self._count]
        return {name: int(column[row]) for name, column in self._prints.items()}

    def _print(self, row: int) -> Print:
        columns = {name: np.array([value]) for name, value in self._row(row).items()}
        return next(_prints(self._recipe, columns))


_DRAWN: Final = ("symbol", "ts_event", "price", "size", "id", "venue", "ts_recv")


def _prints(recipe: Recipe, columns: Columns) -> Iterator[Print]:
    lists = {name: column.tolist() for name, column in columns.items()}
    symbols = [recipe.symbols[k] for k in lists["symbol"]]
    traded = [recipe.code_table[k] for k in lists["code"]]
    venues: Sequence[str | None] = [None] * len(symbols)
    sides: Sequence[str | None] = venues
    if recipe.kind == "crypto":
        sides = [_SIDES[k] for k in lists["side"]]
    else:
        venues = [recipe.venues[k] for k in lists["venue"]]
    return map(
        Print,
        symbols,
        *(lists[name] for name in ("ts_event", "price", "size", "id")),
        venues,
        [conditions for conditions, _ in traded],
        [tape for _, tape in traded],
        sides,
    )


def _edges(symbol: npt.NDArray[np.int64], symbols: int) -> I64:
    return np.searchsorted(symbol, np.arange(symbols + 1)).astype(np.int64)


def _take(columns: Columns, rows: npt.NDArray[np.intp]) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _none(names: tuple[str, ...]) -> Columns:
    return {name: np.empty(0, np.int64) for name in names}
