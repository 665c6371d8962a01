"""`AlpacaParser`: journal records of Alpaca's stream to typed records. No I/O, no clock."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import (
    I8,
    I32,
    I64,
    Arrival,
    Dictionaries,
    QuoteBatch,
    StreamKey,
    TradeBatch,
)
from marketpipe.domain.records import DATA
from marketpipe.domain.tradeids import text_trade_id
from marketpipe.domain.units import NULL_I64
from marketpipe.sources.alpaca import tables, wire
from marketpipe.sources.alpaca.codes import Streams, TextCodes, int32s
from marketpipe.sources.alpaca.decode import decode_all, unreadable
from marketpipe.sources.alpaca.groups import Group, strings
from marketpipe.sources.alpaca.history import decode_mixed, fault_of, is_history
from marketpipe.sources.alpaca.quick import Met, QuickTrades, joined
from marketpipe.sources.alpaca.values import condition_text
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import arrival_of

_TABLES: Final[Mapping[type, tuple[str, Callable[[Group], pa.Table]]]] = {
    wire.Book: ("book", tables.books),
    wire.Status: ("statuses", tables.statuses),
    wire.Luld: ("statuses", tables.lulds),
    wire.Bar: ("vendor_bars", tables.bars("bar", "1m")),
    wire.UpdatedBar: ("vendor_bars", tables.bars("updated", "1m")),
    wire.DailyBar: ("vendor_bars", tables.bars("daily", "1d")),
    wire.Correction: ("corrections", tables.corrections),
    wire.Cancel: ("corrections", tables.cancels),
}
_CONTROLS: Final = {
    wire.Success: "success",
    wire.Failure: "error",
    wire.Subscription: "subscription",
}
_SIDES: Final = {None: 0, "": 0, "-": 0, "B": 1, "S": 2}


class AlpacaParser:
    """Reads what Alpaca's stock and crypto streams send, JSON or msgpack; see `MessageParser`.

    Records whose ``stream`` begins with ``rest/`` are elements of pages of history; the same trade
    reads alike, however it came.

    Prices and sizes are exact: JSON numbers are read as text, and a float of msgpack stands for
    its shortest decimal. A trade id that is a whole number of int64 is kept as such.

    Parameters
    ----------
    streams : those of an earlier parser whose codes are to stay what they were
    state : ignored; this parser knows nothing else
    """

    def __init__(self, streams: tuple[StreamKey, ...] = (), state: bytes = b"") -> None:
        del state
        self._streams = Streams(streams)
        self._venues = TextCodes()
        self._tapes = TextCodes()
        self._conditions = TextCodes(condition_text)
        self._quick = QuickTrades(self._venues, self._tapes, self._conditions)

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Who was met so far; a batch's ``stream`` is a code into it."""
        return self._streams.keys

    def state(self) -> bytes:
        """Return b"": the streams are all that is learnt."""
        return b""

    def parse(self, records: pa.RecordBatch) -> Parsed:
        """Parse rows of STORED, in journal order; records other than data are passed over."""
        is_data = pc.equal(records.column("kind"), DATA)
        past = is_history(records)
        live = is_data if past is None else pc.and_not(is_data, past)
        quick = self._quick.read(records, live, self._streams)
        if quick is not None:
            is_data = pc.and_not(is_data, pa.array(quick.usual))
        data = records if pc.all(is_data).as_py() else records.filter(is_data)
        payloads: list[bytes] = data.column("payload").to_pylist()
        if past is None:
            messages, packed = decode_all(payloads)
        else:
            messages, packed = decode_mixed(data, payloads, np.asarray(past.filter(is_data)))
        places = _by_type(messages)
        unparsed: Counter[str] = Counter()
        bad = unreadable(data, payloads, places.pop(type(None), []), unparsed, fault_of)
        groups = {kind: _group(data, messages, packed, at) for kind, at in places.items()}
        self._meet(groups, [] if quick is None else quick.new_streams)
        for kind, name in _CONTROLS.items():
            if kind in groups:
                unparsed[name] += len(groups.pop(kind).messages)
        trades = self._trades(groups[wire.Trade]) if wire.Trade in groups else None
        quotes, details = self._quotes(groups[wire.Quote]) if wire.Quote in groups else (None, None)
        if quick is not None:
            trades = joined(quick.trades(self._dictionaries()), trades)
        made = _make_tables(groups)
        for group in groups.values():
            bad += group.bad
        return Parsed(
            trades=trades,
            quotes=quotes,
            quote_details=details,
            tables=made,
            bad=tuple(sorted(bad, key=lambda row: row.row)),
            unparsed=dict(sorted(unparsed.items())),
        )

    def _trades(self, group: Group) -> TradeBatch | None:
        stream = self._stream_codes(group)
        ts = group.instants("ts", "t")
        price = group.decimals("price", "p")
        size = group.decimals("size", "s")
        id_hi, id_lo = _identities(group.of("trade_id"))
        conditions = self._texts(group, self._conditions, map(bytes, group.of("conditions")), "c")
        venue = self._texts(group, self._venues, group.of("venue"), "x")
        tape = self._texts(group, self._tapes, group.of("tape"), "z")
        side = _sides(group)
        if not group.good.any():
            return None
        return TradeBatch(
            dictionaries=self._dictionaries(),
            stream=group.take(stream),
            row=group.int64s("offset"),
            ts_event=group.take(ts),
            price=group.take(price),
            size=group.take(size),
            id_hi=group.take(id_hi),
            id_lo=group.take(id_lo),
            venue=group.take(venue),
            conditions=group.take(conditions),
            tape=group.take(tape),
            side=group.take(side),
            ts_recv=group.int64s("ts_recv"),
            arrival=_arrival(group),
        )

    def _quotes(self, group: Group) -> tuple[QuoteBatch | None, pa.Table | None]:
        stream = self._stream_codes(group)
        ts = group.instants("ts", "t")
        bid = group.decimals("bid", "bp", optional=True)
        ask = group.decimals("ask", "ap", optional=True)
        group.refuse_where((bid == NULL_I64) & (ask == NULL_I64), "missing_value", "bp")
        bid_size = group.decimals("bid_size", "bs", optional=True)
        ask_size = group.decimals("ask_size", "as", optional=True)
        details = self._quote_details(group)
        if not group.good.any():
            return None, None
        batch = QuoteBatch(
            dictionaries=self._dictionaries(),
            stream=group.take(stream),
            row=group.int64s("offset"),
            ts_event=group.take(ts),
            bid=group.take(bid),
            ask=group.take(ask),
            bid_size=group.take(bid_size),
            ask_size=group.take(ask_size),
            ts_recv=group.int64s("ts_recv"),
            arrival=_arrival(group),
        )
        return batch, details

    def _quote_details(self, group: Group) -> pa.Table:
        keys = {
            "bid_venue": (self._venues, group.of("bid_venue"), "bx"),
            "ask_venue": (self._venues, group.of("ask_venue"), "ax"),
            "conditions": (self._conditions, map(bytes, group.of("conditions")), "c"),
            "tape": (self._tapes, group.of("tape"), "z"),
        }
        coded = {name: self._texts(group, *of) for name, of in keys.items()}
        return pa.table(
            {
                name: strings(keys[name][0].texts).take(pa.array(group.take(column)))
                for name, column in coded.items()
            }
        )

    def _meet(self, groups: Mapping[type, Group], quick: list[Met]) -> None:
        """Give new streams their codes in journal order, whatever the cut into batches."""
        parts = [groups[kind] for kind in (wire.Trade, wire.Quote) if kind in groups]
        if len(parts) < 2 and not quick:
            return
        new = sorted(
            [
                *quick,
                *(
                    Met(offset, source, feed, symbol)
                    for group in parts
                    for (source, feed), places in group.feeds().items()
                    for offset, symbol in _unknown(group, places, self._streams.of(source, feed))
                ),
            ]
        )
        for _, source, feed, symbol in new:
            self._streams.of(source, feed)[symbol]

    def _stream_codes(self, group: Group) -> I32:
        symbols = group.of("symbol")
        codes = np.empty(len(symbols), np.int32)
        for (source, feed), places in group.feeds().items():
            known = self._streams.of(source, feed)
            if len(places) == len(symbols):
                codes = int32s(map(known.__getitem__, symbols), len(symbols))
            else:
                found = (known[symbols[place]] for place in places)
                codes[places] = int32s(found, len(places))
        group.refuse_where(codes < 0, "bad_symbol", "S")
        return codes

    def _texts(self, group: Group, codes: TextCodes, keys: Any, wire_key: str) -> I32:
        column = int32s(map(codes.__getitem__, keys), len(group.messages))
        group.refuse_where(column < 0, "bad_text", wire_key)
        return column

    def _dictionaries(self) -> Dictionaries:
        return Dictionaries(
            streams=self.streams,
            venues=self._venues.texts,
            conditions=self._conditions.texts,
            tapes=self._tapes.texts,
        )


def _unknown(group: Group, places: list[int], known: Mapping[str, int]) -> list[tuple[int, str]]:
    """Return the offsets of messages whose symbol is new, and the symbols."""
    symbols = group.of("symbol")
    if all(map(known.__contains__, symbols)):
        return []
    offsets = group.records.column("offset").to_pylist()
    return [(offsets[k], symbols[k]) for k in places if symbols[k] not in known]


def _by_type(messages: list[wire.Message | None]) -> dict[type, list[int]]:
    """Return the places of the messages of each type."""
    if len(set(map(type, messages))) == 1:
        return {type(messages[0]): list(range(len(messages)))}
    places: dict[type, list[int]] = {}
    for place, message in enumerate(messages):
        places.setdefault(type(message), []).append(place)
    return places


def _group(
    data: pa.RecordBatch,
    messages: list[Any],
    packed: list[bool] | None,
    places: list[int],
) -> Group:
    if len(places) == len(messages):
        return Group(data, messages, packed)
    return Group(
        data.take(pa.array(places, pa.int64())),
        [messages[place] for place in places],
        None if packed is None else [packed[place] for place in places],
    )


def _make_tables(groups: Mapping[type, Group]) -> dict[str, pa.Table]:
    parts: dict[str, list[pa.Table]] = {}
    for message, (kind, read) in _TABLES.items():
        if message in groups and len(made := read(groups[message])):
            parts.setdefault(kind, []).append(made)
    return {
        kind: (pa.concat_tables(found).sort_by("offset") if len(found) > 1 else found[0])
        for kind, found in parts.items()
    }


def _identities(ids: list[wire.TradeId | None]) -> tuple[I64, I64]:
    if set(map(type, ids)) == {int}:
        try:
            numbers = np.fromiter(ids, np.int64, len(ids))
        except OverflowError:
            numbers = np.full(len(ids), -1, np.int64)
        if numbers.min() >= 0:
            return np.zeros(len(ids), np.int64), numbers
    pairs = np.array([_identity(trade_id) for trade_id in ids], np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _identity(trade_id: wire.TradeId | None) -> tuple[int, int]:
    if trade_id is None or trade_id == "":
        return -1, 0
    text = str(trade_id)
    # As the CSV reader has it: plain digits without leading zeros are a number.
    if text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) < 20:
        number = int(text)
        if number < 1 << 63:
            return 0, number
    return text_trade_id(text.encode())


def _sides(group: Group) -> I8:
    words = group.of("taker_side")
    if words.count(None) == len(words):
        return np.zeros(len(words), np.int8)
    sides = np.array([_SIDES.get(word, -1) for word in words], np.int8)
    group.refuse_where(sides < 0, "bad_side", "tks")
    return sides


def _arrival(group: Group) -> Arrival:
    return Arrival(*map(group.take, arrival_of(group.records)))
