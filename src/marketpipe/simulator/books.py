"""Order books of a generated crypto market: a snapshot each five minutes, deltas between them."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from marketpipe.simulator.chunks import Chunk
from marketpipe.simulator.market import Event
from marketpipe.simulator.messages import BookLevels
from marketpipe.simulator.recipe import CHUNK_NS, Recipe

_DEPTH: Final = 10
_DEPTH_SIZE: Final = 250_000_007
_GAP_TICKS: Final = 5
_QUOTES_PER_DELTA: Final = 4


class BookWalk:
    """One symbol's book through a chunk.

    It begins with levels around the chunk's first price; every fourth quote then moves its top.
    A delta that would be sent after the next chunk's snapshot is not sent at all.

    Attributes
    ----------
    rows : the chunk's quotes that change the book, in order of sending
    """

    def __init__(self, recipe: Recipe, chunk: Chunk, place: int) -> None:
        self._chunk = chunk
        self._symbol = recipe.symbols[place]
        self._ts_ns = max(chunk.begin_ns, recipe.start_ns)
        price, tick = int(chunk.anchors[place]), recipe.tick_nanos
        self._tick = tick
        levels = range(1, _DEPTH + 1)
        self._bids = {price - k * tick: k * _DEPTH_SIZE for k in levels if price > k * tick}
        self._asks = {price + k * tick: k * _DEPTH_SIZE for k in levels}
        mine = chunk.quotes_of(place)
        born = chunk.quotes["born"][mine]
        order = np.argsort(born, kind="stable")
        order = order[born[order] < chunk.begin_ns + CHUNK_NS]
        self.rows: list[int] = (order[::_QUOTES_PER_DELTA] + mine.start).tolist()

    def snapshot(self) -> BookLevels:
        """Return the whole book, best prices first."""
        bids = tuple(sorted(self._bids.items(), reverse=True))
        asks = tuple(sorted(self._asks.items()))
        return BookLevels(self._symbol, self._ts_ns, bids, asks, is_snapshot=True)

    def step(self, row: int) -> BookLevels:
        """Let a quote be the top of the book; return what changed."""
        names = ("ts_event", "bid", "bid_size", "ask", "ask_size")
        ts, bid, bid_size, ask, ask_size = (int(self._chunk.quotes[name][row]) for name in names)
        self._ts_ns = max(ts, self._ts_ns)
        bids = self._change(self._bids, bid, bid_size, sign=1)
        asks = self._change(self._asks, ask, ask_size, sign=-1)
        return BookLevels(self._symbol, self._ts_ns, bids, asks, is_snapshot=False)

    def _change(
        self, side: dict[int, int], price: int, size: int, *, sign: int
    ) -> tuple[tuple[int, int], ...]:
        """Make a price the best of its side, with as many levels behind it as before."""
        gone = [level for level in side if sign * level > sign * price]
        new = {price: size}
        kept = sorted({price, *side} - set(gone), key=lambda level: -sign * level)
        gone += kept[_DEPTH:]
        behind = kept[-1] - sign * _GAP_TICKS * self._tick
        if len(kept) < _DEPTH and behind > 0:
            new[behind] = _DEPTH * _DEPTH_SIZE
        for level in gone:
            del side[level]
        side |= new
        return (*new.items(), *((level, 0) for level in sorted(gone)))


def book_events(recipe: Recipe, chunk: Chunk, place: int) -> Iterator[Event]:
    """Yield what is sent of one symbol's book, the snapshot first."""
    walk = BookWalk(recipe, chunk, place)
    first = walk.snapshot()
    yield Event(first.ts_ns, first.ts_ns, "orderbooks", first.symbol, first)
    for row in walk.rows:
        delta = walk.step(row)
        sent_ns = int(chunk.quotes["born"][row])
        yield Event(sent_ns, delta.ts_ns, "orderbooks", delta.symbol, delta)
