"""`recorded`: a market from a recording of frames.

Messages are sent again at the times at which they were received, with the bytes they had. The
history is derived from them: trades once, with what corrections and cancels made of them;
quotes; the bars that were sent, each as last sent. So a recording without bars has none, and a
correction of a trade from before the recording changes nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow.compute as pc
from msgspec import Raw

from marketpipe.domain.records import DATA
from marketpipe.domain.units import MAX_TS_NS
from marketpipe.errors import InputError
from marketpipe.simulator.market import CHANNEL_OF, Event, Kind, Message, Row
from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.values import DECODE_ERRORS, instants
from marketpipe.sources.base import PathOrStream
from marketpipe.sources.framing import Encoding
from marketpipe.sources.numbers.reasons import OK
from marketpipe.sources.recorded import Recording

_Key: TypeAlias = tuple[str, str | None, wire.TradeId | None]

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_values = msgspec.json.Decoder(dict[str, Any]).decode
_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class Element(NamedTuple):
    """A message as it was recorded, in JSON."""

    json: bytes
    ts_ns: int

    def encode(self, encoding: Encoding) -> bytes:
        """Return the bytes as recorded, or the same values in msgpack, ``T`` first."""
        if encoding == "json":
            return self.json
        values = _values(self.json)
        return _msgpack({"T": values.pop("T"), **values, "t": wire.instant(self.ts_ns, encoding)})


@dataclass(slots=True)
class _Version:
    """A record of the history: since when it is there, and from when on it is marked."""

    ts_ns: int
    born: int
    fields: dict[str, Raw]
    died: int = MAX_TS_NS
    mark: str = ""
    is_corrected: bool = False

    def end(self, at_ns: int, mark: str) -> None:
        if self.died == MAX_TS_NS:
            self.died, self.mark = max(at_ns, self.born), mark

    def row(self, known_ns: int) -> Row:
        mark = self.mark if self.died <= known_ns else "corrected" if self.is_corrected else ""
        shown: Mapping[str, Any] = self.fields | {"u": mark} if mark else self.fields
        return Row(self.ts_ns, _json(shown))


class RecordedMarket:
    """A `Market` of a recording's messages, which are kept in memory.

    Frames of the protocol, messages of unknown types and what cannot be read are left out.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._symbols = tuple(dict.fromkeys(event.symbol for event in events))
        self._trades: dict[str, list[_Version]] = {}
        self._quotes: dict[str, list[_Version]] = {}
        self._bars: dict[str, list[_Version]] = {}
        self._days: dict[str, list[_Version]] = {}
        self._read_trades()
        for event in events:
            place = {
                "quotes": self._quotes,
                "bars": self._bars,
                "updatedBars": self._bars,
                "dailyBars": self._days,
            }
            if event.channel in place:
                versions = place[event.channel].setdefault(event.symbol, [])
                versions.append(_version(event))
        for tables in (self._trades, self._quotes, self._bars, self._days):
            for versions in tables.values():
                versions.sort(key=attrgetter("ts_ns"))

    @property
    def kind(self) -> Kind:
        """Crypto if a symbol is a pair."""
        return "crypto" if any("/" in symbol for symbol in self._symbols) else "stocks"

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, in the order of their first message."""
        return self._symbols

    @property
    def start_ns(self) -> int:
        """When the first message was received."""
        return self._events[0].ts_send_ns

    @property
    def end_ns(self) -> int:
        """Just after the last message was received."""
        return self._events[-1].ts_send_ns + 1

    def events(self) -> Iterator[Event]:
        """Yield all messages in order of ``ts_send_ns``; each call begins anew."""
        return iter(self._events)

    def trades(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return trades as the history shows them; see `Market`."""
        return _rows(self._trades.get(symbol, []), start_ns, end_ns, known_ns)

    def quotes(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return quotes as the history shows them."""
        return _rows(self._quotes.get(symbol, []), start_ns, end_ns, known_ns)

    def bars(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the minute bars that were sent by ``known_ns``, each as last sent."""
        return _latest(self._bars.get(symbol, []), start_ns, end_ns, known_ns)

    def days(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of days that were sent by ``known_ns``, each as last sent."""
        return _latest(self._days.get(symbol, []), start_ns, end_ns, known_ns)

    def book(self, symbol: str, known_ns: int) -> Message | None:
        """Return the whole order book as last sent; None before its first snapshot."""
        sides: tuple[dict[Decimal, wire.Level], dict[Decimal, wire.Level]] | None = None
        last_ns = 0
        for event in self._events:
            if event.ts_send_ns > known_ns:
                break
            if event.channel != "orderbooks" or event.symbol != symbol:
                continue
            delta = msgspec.json.decode(event.encode("json"), type=wire.Book)
            sides = ({}, {}) if delta.is_snapshot else sides
            last_ns = event.ts_event_ns
            for side, levels in zip(sides or (), (delta.bids, delta.asks), strict=False):
                _change(side, levels or [])
        if sides is None:
            return None
        bids = [sides[0][price] for price in sorted(sides[0], reverse=True)]
        asks = [sides[1][price] for price in sorted(sides[1])]
        whole = wire.Book(symbol, wire.instant(last_ns), bids, asks, is_snapshot=True)
        return Element(_json(whole), last_ns)

    def _read_trades(self) -> None:
        """Find the trades, each once, and then what became of them, whatever came first."""
        known: dict[_Key, list[_Version]] = {}
        for event in self._events:
            if event.channel == "trades":
                trade = msgspec.json.decode(event.encode("json"), type=wire.Trade)
                alike = known.setdefault((trade.symbol, trade.venue, trade.trade_id), [])
                # Sent twice is one trade; the same id at another time is another one.
                times = [version.ts_ns for version in alike]
                if trade.trade_id is None or event.ts_event_ns not in times:
                    alike.append(_version(event))
                    self._trades.setdefault(event.symbol, []).append(alike[-1])
        for event in self._events:
            if event.channel == "cancelErrors":
                cancel = msgspec.json.decode(event.encode("json"), type=wire.Cancel)
                meant = _meant(known, (cancel.symbol, cancel.venue, cancel.trade_id), event)
                if meant is not None:
                    meant.end(event.ts_send_ns, "canceled")
            elif event.channel == "corrections":
                self._correct(known, event)

    def _correct(self, known: dict[_Key, list[_Version]], event: Event) -> None:
        said = msgspec.json.decode(event.encode("json"), type=wire.Correction)
        meant = _meant(known, (said.symbol, said.venue, said.trade_id), event)
        if meant is None:
            return
        meant.end(event.ts_send_ns, "incorrect")
        facts = _fields(event.encode("json"))
        new = {key: facts["c" + key] for key in "psci" if "c" + key in facts}
        born = max(event.ts_send_ns, meant.born)
        right = _Version(meant.ts_ns, born, meant.fields | new, is_corrected=True)
        known.setdefault((said.symbol, said.venue, said.new_trade_id), []).append(right)
        self._trades[event.symbol].append(right)


def recorded(origin: PathOrStream) -> RecordedMarket:
    """Read a recording: lines of ``<ts_recv ns> <frame>``, plain, gzip or zstd.

    Raises
    ------
    InputError
        If it cannot be read, has no times, or holds no message of the market.
    """
    recording = Recording(origin, source="alpaca")
    events: list[Event] = []
    for batch in recording.records():
        data = batch.filter(pc.equal(batch.column("kind"), DATA))
        times = data.column("ts_recv").cast("int64").to_pylist()
        for payload, ts_recv_ns in zip(data.column("payload").to_pylist(), times, strict=True):
            if not ts_recv_ns:
                raise InputError(
                    f"{origin}: a frame has no time of receipt. A recording has one "
                    "'<ns since the epoch> <frame>' per line"
                )
            event = _event(payload, ts_recv_ns)
            if event is not None:
                events.append(event)
    if not events:
        raise InputError(f"{origin}: no message of a market in it; was this recorded from Alpaca?")
    return RecordedMarket(events)


def _event(payload: bytes, ts_recv_ns: int) -> Event | None:
    try:
        message = wire.decode_json(payload)
    except DECODE_ERRORS:
        return None
    if isinstance(message, (wire.Success, wire.Failure, wire.Subscription)):
        return None
    times, reasons = instants([message.ts], None)
    if reasons[0] != OK:
        return None
    ts_ns = int(times[0])
    channel = CHANNEL_OF[str(message.__struct_config__.tag)]
    return Event(ts_recv_ns, ts_ns, channel, message.symbol, Element(payload, ts_ns))


def _meant(known: dict[_Key, list[_Version]], key: _Key, event: Event) -> _Version | None:
    """Return the last trade of an id up to a message's time; the first if all are later."""
    alike = known.get(key, [])
    before = [version for version in alike if version.ts_ns <= event.ts_event_ns]
    return max(before, key=attrgetter("ts_ns")) if before else next(iter(alike), None)


def _version(event: Event) -> _Version:
    fields = _fields(event.encode("json"))
    shown = {key: value for key, value in fields.items() if key not in ("T", "S")}
    return _Version(event.ts_event_ns, event.ts_send_ns, shown)


def _within(versions: list[_Version], start_ns: int, end_ns: int, known_ns: int) -> list[_Version]:
    time: Callable[[_Version], int] = attrgetter("ts_ns")
    first = bisect_left(versions, start_ns, key=time)
    stop = bisect_right(versions, end_ns, key=time)
    return [version for version in versions[first:stop] if version.born <= known_ns]


def _rows(versions: list[_Version], start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
    return [version.row(known_ns) for version in _within(versions, start_ns, end_ns, known_ns)]


def _latest(versions: list[_Version], start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
    latest = {version.ts_ns: version for version in _within(versions, start_ns, end_ns, known_ns)}
    return [version.row(known_ns) for version in latest.values()]


def _change(side: dict[Decimal, wire.Level], levels: list[wire.Level]) -> None:
    for level in levels:
        price = Decimal(bytes(level.price).decode())
        if Decimal(bytes(level.size).decode()):
            side[price] = level
        else:
            side.pop(price, None)
