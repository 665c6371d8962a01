"""Tables with the columns of a tick file, as batches of vendor records."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import (
    I32,
    I64,
    BadRow,
    Batch,
    Dictionaries,
    QuoteBatch,
    StreamKey,
    TickKind,
    TradeBatch,
)
from marketpipe.domain.numbers import REASONS, Numbers, nanos, raw_nanos, times
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.tradeids import text_trade_id
from marketpipe.errors import HeaderError

TIMES: Final = {"ts_event": 1, "ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000, "timestamp": None}
_TEXTS: Final = ("source", "feed", "symbol", "venue", "conditions", "tape", "side")
_NUMBERS: Final = ("price", "size", "bid", "ask", "bid_size", "ask_size")
KNOWN: Final = (*_TEXTS, *TIMES, *_NUMBERS, "price_nanos", "size_nanos", "trade_id", "ts_recv_ns")
_SIDES: Final = {"": 0, "b": 1, "buy": 1, "s": 2, "sell": 2, "-": 0, "n": 0}
_RAW_BYTES: Final = 4096


class TableReader:
    """Reads record batches of one schema, in order; dictionaries only grow.

    Parameters
    ----------
    schema : of the batches
    where : the file or frame, for messages
    symbols : only these; None means all
    default_source, default_feed : names where the table has no such columns

    Raises
    ------
    HeaderError
        If columns are missing, unknown, doubled or contradict each other.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        where: str,
        symbols: frozenset[str] | None = None,
        default_source: str = "file",
        default_feed: str = "",
    ) -> None:
        self.time, self.kind = _check(schema, where)
        self._names = set(schema.names)
        self._symbols = symbols
        self._defaults = {"source": default_source, "feed": default_feed}
        self._codes: dict[str, dict[str, int]] = {name: {"": 0} for name in _TEXTS}
        self._streams: dict[StreamKey, int] = {}
        self.filtered = 0

    def read(self, batch: pa.RecordBatch, first_row: int) -> Batch:
        """Turn one record batch into vendor records.

        Parameters
        ----------
        first_row : 1-based row of its first record
        """
        rows = np.arange(first_row, first_row + len(batch), dtype=np.int64)
        columns = {name: batch.column(name) for name in batch.schema.names}
        stream, keep, bad_symbol = self._stream(columns, len(batch))
        checked = {"ts": times(columns[self.time], self.time, TIMES[self.time])}
        for name in _NUMBERS:
            if name in columns:
                sided = name not in ("price", "size")
                checked[name] = nanos(columns[name], name, optional=sided)
            elif f"{name}_nanos" in columns:
                checked[name] = raw_nanos(columns[f"{name}_nanos"], f"{name}_nanos")
        if "ts_recv_ns" in columns:
            checked["ts_recv"] = times(columns["ts_recv_ns"], "ts_recv_ns", 1, optional=True)
        good = ~bad_symbol
        for numbers in checked.values():
            good &= numbers.reasons == 0
        self.filtered += int((~keep & ~bad_symbol).sum())
        bad = self._bad(batch, rows, checked, bad_symbol, ~good & (keep | bad_symbol))
        good &= keep
        return self._batch(columns, rows, stream, checked, good, bad)

    def _batch(
        self,
        columns: dict[str, pa.Array],
        rows: I64,
        stream: I32,
        checked: dict[str, Numbers],
        good: np.ndarray,
        bad: tuple[BadRow, ...],
    ) -> Batch:
        every = bool(good.all())

        def pick(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(array if every else array[good])

        def number(name: str) -> I64 | None:
            return pick(checked[name].values) if name in checked else None

        texts = {
            n: pick(self._code(n, columns[n]))
            for n in ("venue", "conditions", "tape")
            if n in columns
        }
        dictionaries = Dictionaries(
            streams=tuple(self._streams),
            venues=tuple(self._codes["venue"]),
            conditions=tuple(self._codes["conditions"]),
            tapes=tuple(self._codes["tape"]),
        )
        shared = {
            "dictionaries": dictionaries,
            "stream": pick(stream),
            "row": pick(rows),
            "ts_event": pick(checked["ts"].values),
            "venue": texts.get("venue"),
            "ts_recv": number("ts_recv"),
            "bad": bad,
        }
        if self.kind == "quotes":
            sides = {n: number(n) for n in ("bid", "ask", "bid_size", "ask_size")}
            return QuoteBatch(**shared, **sides)  # type: ignore[arg-type]
        ids = _ids(columns["trade_id"]) if "trade_id" in columns else None
        return TradeBatch(
            **shared,  # type: ignore[arg-type]
            price=pick(checked["price"].values),
            size=pick(checked["size"].values),
            id_hi=None if ids is None else pick(ids[0]),
            id_lo=None if ids is None else pick(ids[1]),
            conditions=texts.get("conditions"),
            tape=texts.get("tape"),
            side=pick(self._sides(columns["side"])) if "side" in columns else None,
        )

    # -- names ---------------------------------------------------------------------------------

    def _code(self, name: str, column: pa.Array) -> I32:
        """Code a text column by the reader's dictionary, which grows; null is ''."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        known = self._codes[name]
        words = encoded.dictionary.cast(pa.string()).to_pylist()
        codes = [known.setdefault(word or "", len(known)) for word in words]
        table = np.array([*codes, 0], np.int32)
        found: I32 = table[np.asarray(pc.fill_null(encoded.indices, len(codes)))]
        return found

    def _stream(self, columns: dict[str, pa.Array], n: int) -> tuple[I32, np.ndarray, np.ndarray]:
        """Return stream codes, which rows are wanted, and which have a symbol that is none."""
        parts = []
        for name in ("source", "feed", "symbol"):
            if name in columns:
                parts.append(self._code(name, columns[name]).astype(np.int64))
            else:
                code = self._codes[name].setdefault(self._defaults[name], len(self._codes[name]))
                parts.append(np.full(n, code, np.int64))
        combined = (parts[0] << 42) | (parts[1] << 21) | parts[2]
        distinct, inverse = _distinct(
            combined, simple="source" not in columns and "feed" not in columns
        )
        texts = [list(self._codes[name]) for name in ("source", "feed", "symbol")]
        mask = (1 << 21) - 1
        codes = np.zeros(len(distinct), np.int32)
        wanted = np.zeros(len(distinct), np.bool_)
        wrong = np.zeros(len(distinct), np.bool_)
        for i, code in enumerate(distinct.tolist()):
            source, feed, symbol = (
                texts[0][code >> 42],
                texts[1][code >> 21 & mask],
                texts[2][code & mask],
            )
            if not is_valid_symbol(symbol):
                wrong[i] = True
                continue
            wanted[i] = self._symbols is None or symbol in self._symbols
            if wanted[i]:
                key = StreamKey(source or self._defaults["source"], feed, symbol)
                codes[i] = self._streams.setdefault(key, len(self._streams))
        return codes[inverse], wanted[inverse], wrong[inverse]

    def _sides(self, column: pa.Array) -> np.ndarray:
        words = self._code("side", column)
        table = np.array([_SIDES.get(w.lower(), 0) for w in self._codes["side"]], np.int8)
        return table[words]

    def _bad(
        self,
        batch: pa.RecordBatch,
        rows: I64,
        checked: dict[str, Numbers],
        bad_symbol: np.ndarray,
        refused: np.ndarray,
    ) -> tuple[BadRow, ...]:
        out = []
        for i in np.flatnonzero(refused):
            field, reason = "symbol", "bad_symbol"
            if not bad_symbol[i]:
                field, reason = next(
                    (self.time if name == "ts" else name, REASONS[numbers.reasons[i]])
                    for name, numbers in checked.items()
                    if numbers.reasons[i]
                )
            raw = repr(batch.slice(i, 1).to_pylist()[0]).encode()
            out.append(BadRow(int(rows[i]), reason, field, raw[:_RAW_BYTES], len(raw)))
        return tuple(out)


def _distinct(combined: I64, *, simple: bool) -> tuple[I64, I64]:
    """Return distinct values and each row's index among them."""
    if not simple or not len(combined):
        values, inverse = np.unique(combined, return_inverse=True)
        return values, inverse
    # only the low bits differ, and they are dense: no sort is needed
    base = combined[0] >> 21 << 21
    low = combined - base
    present = np.zeros(int(low.max()) + 1, np.bool_)
    present[low] = True
    values = np.flatnonzero(present)
    place = np.cumsum(present) - 1
    return values + base, place[low]


def _ids(column: pa.Array) -> tuple[I64, I64]:
    """Split vendor ids into (hi, lo): none, a number, or the digest of a text."""
    n = len(column)
    hi, lo = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if pa.types.is_integer(column.type):
        nulls = np.asarray(column.is_null())
        lo = np.asarray(pc.fill_null(column, pa.scalar(0, column.type))).astype(np.int64)
        hi[nulls] = -1
        for i in np.flatnonzero(lo < 0).tolist():
            hi[i], lo[i] = text_trade_id(str(column[i].as_py()).encode())
        return hi, lo
    for i, text in enumerate(column.cast(pa.string()).to_pylist()):
        if not text:
            hi[i] = -1
        elif text.isascii() and text.isdigit() and str(int(text)) == text and int(text) < 2**63:
            lo[i] = int(text)
        else:
            hi[i], lo[i] = text_trade_id(text.encode())
    return hi, lo


def _check(schema: pa.Schema, where: str) -> tuple[str, TickKind]:
    names = schema.names
    problems = [
        f"column '{n}' appears twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]
    problems += [f"column '{n}' is unknown" for n in names if n not in KNOWN]
    if "symbol" not in names:
        problems.append("column 'symbol' is missing")
    clocks = [n for n in names if n in TIMES]
    if len(clocks) != 1:
        problems.append(f"expected one time column of {', '.join(TIMES)}, found {clocks or 'none'}")
    kind = _kind(names, problems)
    if problems:
        raise HeaderError(f"{where}: these are not the columns of ticks: {'; '.join(problems)}")
    return clocks[0], kind


def _kind(names: Iterable[str], problems: list[str]) -> TickKind:
    present = set(names)
    trades = present & {"price", "size", "price_nanos", "size_nanos"}
    quotes = present & {"bid", "ask"}
    if trades and quotes:
        problems.append("both price, size (trades) and bid, ask (quotes) are there; leave one out")
    elif quotes:
        problems.extend(f"column '{n}' is missing" for n in ("bid", "ask") if n not in present)
        return "quotes"
    for name in ("price", "size"):
        both = {name, f"{name}_nanos"} & present
        if len(both) != 1 and not quotes:
            problems.append(f"expected one of '{name}' and '{name}_nanos', found {len(both)}")
    return "trades"
