"""What faults change in a market: names, and trades taken back that its recipe leaves standing.

The market itself stays as it is; `Amended` shows it as the vendor would show it after that. Its
bars stay as they were: a vendor's bars do not follow what it takes back later.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from marketpipe.domain.units import NANOS
from marketpipe.simulator.faults import Schedule
from marketpipe.simulator.market import Event, Kind, Market, Message, Row
from marketpipe.sources.alpaca import wire
from marketpipe.sources.framing import Encoding

NEW_ID_STEP: Final = 5_000_000_000_000
"""A trade corrected by a fault gets the original's id and this."""
NEW_PRICE_STEP: Final = 10_000_000
"""It costs a cent more, in nanos."""

_KEPT: Final = ("S", "x", "z")
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


class Renamed(NamedTuple):
    """A message under another symbol."""

    message: Message
    old: str
    new: str

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message: ``S`` is its second key, so the first match is the right one."""
        before, after = (
            b'"S":' + msgspec.json.encode(name)
            if encoding == "json"
            else msgspec.msgpack.encode("S") + msgspec.msgpack.encode(name)
            for name in (self.old, self.new)
        )
        return self.message.encode(encoding).replace(before, after, 1)


class TakenBack(NamedTuple):
    """A trade that a fault cancels (`new_nanos` is None) or corrects; sent at ``ts_ns``."""

    trade: Event
    ts_ns: int
    new_nanos: int | None

    @property
    def trade_id(self) -> int:
        """The id of the trade."""
        return int(bytes(_fields(self.trade.encode("json"))["i"]))

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``x`` or ``c``."""
        codec = msgspec.json if encoding == "json" else msgspec.msgpack
        trade = codec.decode(self.trade.encode(encoding), type=dict[str, Raw])
        old = {key: value for key, value in trade.items() if key in _KEPT}
        at = {"t": wire.instant(self.ts_ns, encoding)}
        if self.new_nanos is None:
            cancelled = {"i": trade["i"], "p": trade["p"], "s": trade["s"], "a": "C"}
            return bytes(codec.encode({"T": "x", **old, **cancelled, **at}))
        corrected = {
            "oi": trade["i"],
            "op": trade["p"],
            "os": trade["s"],
            "oc": trade["c"],
            "ci": self.trade_id + NEW_ID_STEP,
            "cp": wire.number(self.new_nanos, encoding),
            "cs": trade["s"],
            "cc": trade["c"],
        }
        return bytes(codec.encode({"T": "c", **old, **corrected, **at}))


_View = Callable[[str, int, int, int], Sequence[Row]]


class Amended:
    """A market as it is after faults.

    Parameters
    ----------
    market : what the vendor would have sent without them
    schedule : where renames are
    prepare : make all messages now and write them in this encoding, so that sending them later
        costs as little as it can
    """

    def __init__(self, market: Market, schedule: Schedule, prepare: Encoding | None = None) -> None:
        self._market: Final = market
        self._prepared: list[Event] | None = None
        if prepare is not None:
            self._prepared = list(market.events())
            for event in self._prepared:
                event.encode(prepare)
        self._schedule: Final = schedule
        self._taken_back: dict[str, dict[int, TakenBack]] = {}

    @property
    def kind(self) -> Kind:
        """What is traded."""
        return self._market.kind

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, new names behind the old ones."""
        symbols = self._market.symbols
        return (*symbols, *(new for old, new, _ in self._schedule.renames() if old in symbols))

    @property
    def start_ns(self) -> int:
        """No event is sent before this."""
        return self._market.start_ns

    @property
    def end_ns(self) -> int:
        """No event is sent at this time or after."""
        return self._market.end_ns

    def events(self) -> Iterator[Event]:
        """Yield the market's own messages, under their old names."""
        return self._market.events() if self._prepared is None else iter(self._prepared)

    def named(self, event: Event) -> Event:
        """Return a message under the name that its symbol has when it is sent."""
        for old, new, at_ns in self._schedule.renames():
            if event.symbol == old and event.ts_send_ns >= at_ns:
                renamed = Renamed(event.message, old, new)
                return Event(event.ts_send_ns, event.ts_event_ns, event.channel, new, renamed)
        return event

    def take_back(self, trade: Event, ts_ns: int, *, correct: bool) -> Event:
        """Cancel or correct a trade that was sent; return the message that says so."""
        new_nanos = None
        if correct:
            found = _fields(trade.encode("json"))
            new_nanos = int(Decimal(bytes(found["p"]).decode()) * NANOS) + NEW_PRICE_STEP
        message = TakenBack(trade, ts_ns, new_nanos)
        self._taken_back.setdefault(trade.symbol, {})[message.trade_id] = message
        channel = "corrections" if correct else "cancelErrors"
        return Event(ts_ns, ts_ns, channel, trade.symbol, message)  # type: ignore[arg-type]

    def trades(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return trades as the history shows them."""
        rows = self._named(self._market.trades, symbol, start_ns, end_ns, known_ns)
        changes = {
            number: change
            for number, change in self._taken_back.get(symbol, {}).items()
            if change.ts_ns <= known_ns and start_ns <= change.trade.ts_event_ns <= end_ns
        }
        return [row for one in rows for row in _shown(one, changes)] if changes else rows

    def quotes(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return quotes as the history shows them."""
        return self._named(self._market.quotes, symbol, start_ns, end_ns, known_ns)

    def bars(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of whole minutes that had ended by ``known_ns``."""
        return self._named(self._market.bars, symbol, start_ns, end_ns, known_ns)

    def days(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of days, so far; a new name has none of the day it came on."""
        return self._named(self._market.days, symbol, start_ns, end_ns, known_ns)

    def book(self, symbol: str, known_ns: int) -> Message | None:
        """Return the whole order book as last sent."""
        known_ns = min(known_ns, self._market.end_ns - 1)
        for old, new, at_ns in self._schedule.renames():
            if symbol == new and known_ns >= at_ns:
                book = self._market.book(old, known_ns)
                return book and Renamed(book, old, new)
        return self._market.book(symbol, known_ns)

    def _named(
        self, view: _View, symbol: str, start_ns: int, end_ns: int, known_ns: int
    ) -> Sequence[Row]:
        """Return what happened under a name, by the times of the events.

        Once the session is over nothing more becomes known, as nothing more is sent.
        """
        known_ns = min(known_ns, self._market.end_ns - 1)
        for old, new, at_ns in self._schedule.renames():
            if symbol == new:
                return view(old, max(start_ns, at_ns), end_ns, known_ns)
            if symbol == old:
                end_ns = min(end_ns, at_ns - 1)
        return view(symbol, start_ns, end_ns, known_ns)


def _shown(row: Row, changes: dict[int, TakenBack]) -> Iterator[Row]:
    """Yield a record with its mark, and the trade that stands instead of it."""
    fields = _fields(row.json)
    change = changes.get(int(bytes(fields["i"])))
    if change is None or "u" in fields:
        yield row
        return
    mark = b'"canceled"' if change.new_nanos is None else b'"incorrect"'
    yield Row(row.ts_event_ns, _write({**fields, "u": Raw(mark)}))
    if change.new_nanos is not None:
        new = {
            **fields,
            "p": wire.number(change.new_nanos),
            "i": Raw(b"%d" % (change.trade_id + NEW_ID_STEP)),
            "u": Raw(b'"corrected"'),
        }
        yield Row(row.ts_event_ns, _write(new))
