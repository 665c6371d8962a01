"""The common trade message, read by a compiled scanner: columns without an object per message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import (
    I8,
    I32,
    I64,
    MAX_TEXTS,
    Arrival,
    Dictionaries,
    TradeBatch,
)
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.sources.alpaca import _scan_kernel as kernel
from marketpipe.sources.alpaca._packed_kernel import scan_packed
from marketpipe.sources.alpaca.codes import Streams, TextCodes
from marketpipe.sources.records import arrival_of, int64s

_TEXTS: Final = 1 << 15
_ARENA_BYTES: Final = 1 << 20
_UNMET: Final = -2


@dataclass(slots=True)
class Scanned:
    """What the scanner read of records.

    Attributes
    ----------
    usual : by row, whether the other columns hold a trade, read whole
    ts, price, size, trade_id : int64 by row
    side : int8 by row
    texts : int32, numbers of symbol, venue, tape, conditions: a row of the array each
    """

    usual: npt.NDArray[np.bool_]
    ts: I64
    price: I64
    size: I64
    trade_id: I64
    side: I8
    texts: npt.NDArray[np.int32]


class Scanner:
    """Reads usual trades; texts get numbers that stay the same for its life."""

    def __init__(self) -> None:
        self._words = kernel.new_words(_TEXTS, _ARENA_BYTES)

    def scan(self, payloads: pa.BinaryArray) -> Scanned:
        """Read payloads without nulls."""
        n = len(payloads)
        _, offsets, data = payloads.buffers()
        ends = np.frombuffer(offsets, np.int32)[payloads.offset : payloads.offset + n + 1]
        buf = np.frombuffer(data if data is not None and data.size else b"\0", np.uint8)
        found = Scanned(
            usual=np.empty(n, np.bool_),
            ts=np.empty(n, np.int64),
            price=np.empty(n, np.int64),
            size=np.empty(n, np.int64),
            trade_id=np.empty(n, np.int64),
            side=np.empty(n, np.int8),
            texts=np.empty((4, n), np.int32),
        )
        columns = (
            buf, ends, found.usual, found.ts, found.price, found.size, found.trade_id,
            found.side, found.texts, *self._words,
        )  # fmt: skip
        kernel.scan(*columns)
        if not found.usual.all():
            scan_packed(*columns)
        return found

    def text(self, number: int) -> bytes:
        """Return the text of a number."""
        begin, end = self._words.entries[number]
        return bytes(self._words.arena[begin:end])


class Meanings:
    """Numbers of texts to codes of one dictionary.

    Parameters
    ----------
    text_of : the text of a number
    """

    def __init__(self, text_of: Callable[[int], bytes]) -> None:
        self._text_of = text_of
        self._codes = np.full(_TEXTS, _UNMET, np.int32)

    def unmet(self, numbers: npt.NDArray[np.int32]) -> list[tuple[int, int, bytes]]:
        """Return (first place, number, text) of each number without a code, by place."""
        places = np.flatnonzero(self._codes[numbers] == _UNMET)
        if not len(places):
            return []
        new, first = np.unique(numbers[places], return_index=True)
        pairs = sorted(zip(places[first].tolist(), new.tolist(), strict=True))
        return [(place, number, self._text_of(number)) for place, number in pairs]

    def learn(self, number: int, code: int) -> None:
        """Give a number its code, for good."""
        self._codes[number] = code

    def of(self, numbers: npt.NDArray[np.int32]) -> I32:
        """Return the codes of numbers that all have one."""
        return self._codes[numbers]


class Met(NamedTuple):
    """A stream, and the offset of the record in which it was met."""

    offset: int
    source: str
    feed: str
    symbol: str


@dataclass(slots=True)
class Quick:
    """The usual trades among some records.

    Attributes
    ----------
    usual : which records these are
    new_streams : those without a code so far, in journal order; they must get theirs before
        `trades` is called
    """

    usual: npt.NDArray[np.bool_]
    new_streams: list[Met]
    _records: pa.RecordBatch
    _scanned: Scanned
    _known: Mapping[str, int]
    _meanings: "tuple[Meanings, ...]"

    def trades(self, dictionaries: Dictionaries) -> TradeBatch | None:
        """Return them as a batch, in journal order."""
        rows = np.flatnonzero(self.usual)
        if not len(rows):
            return None
        symbols, venues, tapes, conditions = self._meanings
        found = self._scanned
        for _, number, text in symbols.unmet(found.texts[0, rows]):
            symbols.learn(number, self._known[text.decode("ascii")])
        return TradeBatch(
            dictionaries=dictionaries,
            stream=symbols.of(found.texts[0, rows]),
            row=int64s(self._records, "offset")[rows],
            ts_event=found.ts[rows],
            price=found.price[rows],
            size=found.size[rows],
            id_hi=np.zeros(len(rows), np.int64),
            id_lo=found.trade_id[rows],
            venue=venues.of(found.texts[1, rows]),
            conditions=conditions.of(found.texts[3, rows]),
            tape=tapes.of(found.texts[2, rows]),
            side=found.side[rows],
            ts_recv=int64s(self._records, "ts_recv")[rows],
            arrival=Arrival(*(column[rows] for column in arrival_of(self._records))),
        )


class QuickTrades:
    """Reads the usual trades of records of one feed.

    Parameters
    ----------
    venues, tapes, conditions : the parser's dictionaries, which it shares
    """

    def __init__(self, venues: TextCodes, tapes: TextCodes, conditions: TextCodes) -> None:
        self._scanner = Scanner()
        self._texts: list[tuple[Meanings, TextCodes, Callable[[bytes], str | bytes]]] = [
            (Meanings(self._scanner.text), venues, _plain),
            (Meanings(self._scanner.text), tapes, _plain),
            (Meanings(self._scanner.text), conditions, bytes),
        ]
        self._symbols: dict[tuple[str, str], Meanings] = {}

    def read(
        self, records: pa.RecordBatch, is_data: pa.BooleanArray, streams: Streams
    ) -> Quick | None:
        """Scan data records; None where they are of several feeds, or none is usual."""
        feed = _only_feed(records)
        if feed is None:
            return None
        found = self._scanner.scan(records.column("payload"))
        found.usual &= np.asarray(is_data)
        symbols = self._symbols.setdefault(feed, Meanings(self._scanner.text))
        known = streams.of(*feed)
        room = len(streams.keys) + len(records) <= MAX_TEXTS
        new = self._learn(found, symbols, known, room=room)
        if not found.usual.any():
            return None
        offsets = records.column("offset")
        met = [Met(offsets[place].as_py(), *feed, symbol) for place, symbol in new]
        meanings = (symbols, *(meaning for meaning, _, _ in self._texts))
        return Quick(found.usual, met, records, found, known, meanings)

    def _learn(
        self, found: Scanned, symbols: Meanings, known: Mapping[str, int], *, room: bool
    ) -> list[tuple[int, str]]:
        """Resolve new texts, take rows of unfit ones back; return new symbols by first row."""
        for number, (meaning, codes, key_of) in enumerate(self._texts, start=1):
            rows = np.flatnonzero(found.usual)
            for _, text_number, text in meaning.unmet(found.texts[number, rows]):
                code = codes[key_of(text)]
                if code < 0:
                    found.usual[rows[found.texts[number, rows] == text_number]] = False
                else:
                    meaning.learn(text_number, code)
        rows = np.flatnonzero(found.usual)
        new = []
        for place, text_number, text in symbols.unmet(found.texts[0, rows]):
            symbol = text.decode("ascii")
            if symbol in known:
                symbols.learn(text_number, known[symbol])
            elif room and is_valid_symbol(symbol):
                new.append((int(rows[place]), symbol))
            else:
                found.usual[rows[found.texts[0, rows] == text_number]] = False
        return new


def joined(quick: TradeBatch | None, other: TradeBatch | None) -> TradeBatch | None:
    """Join two batches of the same dictionaries by row."""
    if quick is None or other is None:
        return other if quick is None else quick
    order = np.argsort(np.concatenate([quick.row, other.row]), kind="stable")
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(quick, field.name), getattr(other, field.name)])[order]
        for field in fields(TradeBatch)
        if field.name not in ("dictionaries", "arrival", "bad")
    }
    if quick.arrival is not None and other.arrival is not None:
        pairs = zip(quick.arrival, other.arrival, strict=True)
        columns["arrival"] = Arrival(*(np.concatenate(pair)[order] for pair in pairs))
    return TradeBatch(dictionaries=other.dictionaries, **columns)


def _only_feed(records: pa.RecordBatch) -> tuple[str, str] | None:
    names = []
    for name in ("source", "feed"):
        low, high = pc.min_max(records.column(name)).values()
        if low != high or not low.is_valid:
            return None
        names.append(low.as_py())
    return names[0], names[1]


def _plain(text: bytes) -> str:
    return text.decode("ascii")
