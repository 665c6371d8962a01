"""Quotes as a stream sends them and as pages of its vendor's history have them, as records."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

import pyarrow as pa

from livekit import OPEN_NS, Message, encode
from marketpipe.domain.units import NANOS, format_ns
from marketpipe.pipelines.quotehistory import IDENTITY
from marketpipe.sources.alpaca.pages import add_page, stream_of
from marketpipe.sources.records import RecordBuilder


def quote(number: int, *, symbol: str = "AAPL", at_ns: int | None = None, size: int = 1) -> Message:
    """Make a quote message, number n three seconds after number n - 1."""
    ts_ns = OPEN_NS + number * 3 * NANOS if at_ns is None else at_ns
    return {
        "T": "q", "S": symbol, "t": format_ns(ts_ns), "c": ["R"], "z": "C",
        "bx": "V", "bp": Decimal(100 + number), "bs": size,
        "ax": "Q", "ap": Decimal(101 + 2 * number), "as": 2,
    }  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page of history; ``follows``: on the one before, of the same request."""

    quotes: tuple[Message, ...]
    follows: bool = False


CLOCK = None
Event: TypeAlias = "Message | Page | None"
"""A streamed message, a page, or a tick of the clock."""


@dataclass
class _Feed:
    """Turns events into records, a second after one another."""

    now_ns: int
    live: RecordBuilder = field(init=False)
    pages: RecordBuilder = field(init=False)
    parts: list[pa.RecordBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = self._builder("trades", 1)
        self.live.add_control({"event": "connected"}, self.now_ns)

    def _builder(self, stream: str, conn_id: int) -> RecordBuilder:
        return RecordBuilder(
            source="alpaca", feed="sip", stream=stream, conn_id=conn_id, conn_started_ns=self.now_ns
        )

    def take(self, event: Event) -> None:
        self.now_ns += NANOS
        if isinstance(event, Page):
            self.parts.append(self.live.take())
            if not event.follows:
                self.pages = self._builder(stream_of("quotes"), 0)
            add_page(self.pages, _body(event.quotes), self.now_ns)
            self.parts.append(self.pages.take())
        elif event is None:
            self.live.add_clock(self.now_ns)
        else:
            self.live.add_frame(f"[{encode(event)}]".encode(), self.now_ns)


def _body(quotes: Sequence[Message]) -> bytes:
    by_symbol: dict[str, list[Message]] = {}
    for one in quotes:
        row = {key: value for key, value in one.items() if key not in "TS"}
        by_symbol.setdefault(one["S"], []).append(row)
    return json.dumps({"quotes": by_symbol, "next_page_token": None}, default=float).encode()


def arriving(events: Sequence[Event], start_ns: int = OPEN_NS + 600 * NANOS) -> pa.Table:
    """Return events as records, and a tick of the clock behind them."""
    feed = _Feed(start_ns)
    for event in (*events, CLOCK):
        feed.take(event)
    return pa.Table.from_batches([*feed.parts, feed.live.take()])


def contents(quotes: pa.Table | None) -> list[tuple[object, ...]]:
    """Return what canonical quotes say, sorted."""
    if quotes is None:
        return []
    return sorted(tuple(map(str, row.values())) for row in quotes.select(IDENTITY).to_pylist())
