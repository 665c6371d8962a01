"""DBN files, decoded in chunks by Databento's own library, converted column by column."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import (
    BadRow,
    Batch,
    Dictionaries,
    QuoteBatch,
    StreamKey,
    TickKind,
    TradeBatch,
)
from marketpipe.domain.closing import Closing
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import CorruptError, InputError, UsageError
from marketpipe.sources.base import (
    BATCH_ROWS,
    ByteStream,
    PathOrStream,
    SourceCounts,
    bad_row,
    checked_defaults,
    checked_symbols,
)
from marketpipe.sources.dbn import records as rec
from marketpipe.sources.dbn.mapping import SymbolMap

_KINDS: Final[dict[str, TickKind]] = {
    "trades": "trades",
    "tbbo": "trades",
    "mbp-1": "quotes",
    "bbo-1s": "quotes",
    "bbo-1m": "quotes",
}
_CHUNK_BYTES: Final = 1 << 20
_BAD_PER_BATCH: Final = 16_384


class DbnSource(Closing):
    """Trades or top-of-book quotes from a DBN file, plain or zstd.

    The schemas ``trades`` and ``tbbo`` give trades, ``mbp-1``, ``bbo-1s`` and ``bbo-1m`` quotes.
    The feed is the dataset, such as ``EQUS.MINI``, the venue the number of the publisher. Use it
    in a ``with`` statement, or call `close`, if `batches` may not be read to its end.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    symbols : keep only these; rows of others are counted as filtered, whatever else is in them
    default_source : name of the source, which the file does not say
    default_feed : name of the feed, where it is not to be the dataset
    time : ``event`` takes ``ts_event``; ``recv`` takes ``ts_recv``, by which Databento builds
        its own bars. ``bbo`` schemas are sampled, so they always take ``ts_recv``
    batch_rows : rows after which a batch is handed out

    Raises
    ------
    InputError
        The file cannot be opened, or holds no ticks but something else.
    CorruptError
        It is not a DBN file, or a damaged one.
    UsageError
        The extra is not installed, or an argument is malformed.
    """

    def __init__(
        self,
        origin: PathOrStream,
        *,
        symbols: frozenset[str] | None = None,
        default_source: str = "databento",
        default_feed: str = "",
        time: Literal["event", "recv"] = "event",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._wanted = checked_symbols(symbols)
        checked_defaults(default_source, default_feed)
        if time not in ("event", "recv"):
            raise UsageError(f"time: was '{time}'; valid are event and recv")
        self._dbn = _library()
        self._batch_rows = batch_rows
        self._decoder = self._dbn.DBNDecoder()
        self._buffer = bytearray(_CHUNK_BYTES)
        self._row = 0
        self._counts = [0, 0, 0]
        self._stream = ByteStream(origin)
        try:
            metadata, self._first = self._read_metadata()
            self._schema = _checked_schema(metadata, self._stream.name)
        except BaseException:
            self._stream.close()
            raise
        sampled = self._schema.startswith("bbo")
        self._time = "ts_recv" if sampled or time == "recv" else "ts_event"
        self._names = (default_source, default_feed or str(metadata.dataset))
        self._map = SymbolMap(metadata)
        self._streams: dict[str, int] = {}
        self._venues: dict[int, int] = {}

    @property
    def kind(self) -> TickKind:
        """Whether the file holds trades or quotes."""
        return _KINDS[self._schema]

    def describe(self) -> str:
        """Say in one line what is read."""
        return (
            f"{self.kind} from {self._stream.name} ({self._stream.packing} DBN: {self._names[1]} "
            f"{self._schema}, time is {self._time})"
        )

    def progress(self) -> tuple[int, int | None]:
        """Return (bytes read, bytes in all or None where unknown), as stored, compressed."""
        return self._stream.done_bytes, self._stream.total_bytes

    def counts(self) -> SourceCounts:
        """Return what became of the records of the batches that are out."""
        rows, bad, filtered = self._counts
        return SourceCounts(rows=rows, bad=bad, filtered=filtered)

    def close(self) -> None:
        """Close the file, unless it was handed in open."""
        self._stream.close()

    def batches(self) -> Iterator[Batch]:
        """Yield the records in file order, once.

        Raises
        ------
        CorruptError
            The bytes end early or do not decode; every whole record before that has been yielded.
        """
        parts: list[dict[str, npt.NDArray[Any]]] = []
        bad: list[BadRow] = []
        damage: CorruptError | None = None
        found: list[Any] | None = self._first
        try:
            while found is not None:
                if found:
                    parts.append(self._convert(found, bad))
                if sum(len(p["row"]) for p in parts) >= self._batch_rows or (
                    len(bad) >= _BAD_PER_BATCH
                ):
                    yield self._batch(parts, bad)
                    parts, bad = [], []
                try:
                    found = self._decode()
                except CorruptError as error:
                    damage = error
                    break
            if bad or any(len(part["row"]) for part in parts):
                yield self._batch(parts, bad)
        finally:
            self.close()
        if damage is not None:
            raise CorruptError(
                f"{damage}. {self._counts[0]:,} rows before it were read"
            ) from damage

    def _read_metadata(self) -> tuple[Any, list[Any]]:
        found: list[Any] | None = []
        while found is not None:
            if found:
                return found[0], found[1:]
            found = self._decode()
        raise CorruptError(
            f"{self._stream.name}: is not a DBN file: it is empty, or ends within its metadata"
        )

    def _decode(self) -> list[Any] | None:
        # Records of the next chunk; None is the end of the file.
        count = self._stream.readinto(memoryview(self._buffer))
        try:
            if count:
                return list(self._decoder.write_and_decode(bytes(self._buffer[:count])))
            rest = len(self._decoder.buffer())
        except BaseException as error:
            # On some malformed records the library panics, which is no Exception.
            if not isinstance(error, self._dbn.DBNError) and not _is_panic(error):
                raise
            raise CorruptError(
                f"{self._stream.name}: is not a whole DBN file: {error}. Fetch it again"
            ) from error
        if rest:
            raise CorruptError(
                f"{self._stream.name}: the DBN data ends early, {rest} bytes into a record or the "
                "metadata. Fetch it again"
            )
        return None

    def _convert(self, found: list[Any], bad: list[BadRow]) -> dict[str, npt.NDArray[Any]]:
        names = ("TradeMsg",) if self._schema == "trades" else ("MBP1Msg", "BBOMsg")
        types = tuple(getattr(self._dbn, name) for name in names)
        numbers = np.arange(self._row + 1, self._row + len(found) + 1, dtype=np.int64)
        self._row += len(found)
        fit = np.array([isinstance(record, types) for record in found])
        if not fit.all():
            # A gateway may put its own messages between the records.
            for k in np.flatnonzero(~fit).tolist():
                kind = type(found[k]).__name__
                bad.append(bad_row(int(numbers[k]), "bad_record", kind, bytes(found[k])))
            found = [record for record, fits in zip(found, fit.tolist(), strict=True) if fits]
            numbers = numbers[fit]
        return self._columns(found, numbers, bad)

    def _columns(
        self, found: list[Any], numbers: npt.NDArray[np.int64], bad: list[BadRow]
    ) -> dict[str, npt.NDArray[Any]]:
        layout = rec.TRADE if self._schema == "trades" else rec.TOP
        data = rec.as_array(found, layout) if found else np.zeros(0, layout)
        faults: rec.Faults = []
        stream, skip = self._stream_codes(data, faults)
        fields: dict[str, npt.NDArray[Any]] = {
            "row": numbers,
            "stream": stream,
            "ts_event": rec.instants(data[self._time], self._time, faults),
            "ts_recv": rec.optional_instants(data["ts_recv"]),
            "venue": self._venue_codes(data["publisher_id"]),
        }
        if self.kind == "trades":
            fields["price"] = rec.prices(data["price"], "price", faults, optional=False)
            fields["size"] = rec.sizes(data["size"], "size", faults)
            fields["side"] = rec.sides(data["side"])
        else:
            for name in ("bid", "ask"):
                price = rec.prices(data[name], name, faults, optional=True)
                size = rec.sizes(data[f"{name}_size"], f"{name}_size", faults)
                fields[name] = price
                fields[f"{name}_size"] = np.where(price == NULL_I64, NULL_I64, size)
            neither = (fields["bid"] == NULL_I64) & (fields["ask"] == NULL_I64)
            faults.append((neither, "missing_value", "bid"))
        good = ~skip
        for mask, reason, name in faults:
            bad.extend(
                bad_row(int(numbers[k]), reason, name, bytes(found[k]))
                for k in np.flatnonzero(mask & good).tolist()
            )
            good &= ~mask
        self._counts[2] += int(skip.sum())
        return {name: column[good] for name, column in fields.items()}

    def _stream_codes(
        self, data: npt.NDArray[Any], faults: rec.Faults
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        instrument = data["instrument_id"].astype(np.int64)
        symbols, back = self._map.symbols(instrument, rec.optional_instants(data["ts_recv"]))
        codes = np.zeros(len(symbols), np.int32)
        for k, symbol in enumerate(symbols):
            if not is_valid_symbol(symbol):
                codes[k] = -1
            elif self._wanted is not None and symbol not in self._wanted:
                codes[k] = -2
            else:
                codes[k] = self._streams.setdefault(symbol, len(self._streams))
        stream = codes[back]
        faults.append((stream == -1, "bad_symbol", "instrument_id"))
        return stream, stream == -2

    def _venue_codes(self, publisher: npt.NDArray[np.uint16]) -> npt.NDArray[np.int32]:
        codes = np.zeros(1 << 16, np.int32)
        for number in np.unique(publisher).tolist():
            codes[number] = self._venues.setdefault(number, len(self._venues) + 1)
        return codes[publisher]

    def _batch(self, parts: list[dict[str, npt.NDArray[Any]]], bad: list[BadRow]) -> Batch:
        columns: dict[str, Any] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        bad.sort()
        self._counts[0] += len(columns["row"])
        self._counts[1] += len(bad)
        dictionaries = Dictionaries(
            streams=tuple(StreamKey(*self._names, symbol) for symbol in self._streams),
            venues=("", *map(str, self._venues)),
        )
        if self.kind == "quotes":
            return QuoteBatch(dictionaries=dictionaries, bad=tuple(bad), **columns)
        return TradeBatch(dictionaries=dictionaries, bad=tuple(bad), **columns)


def _checked_schema(metadata: Any, name: str) -> str:
    schema = str(metadata.schema) if metadata.schema is not None else "mixed"
    if schema not in _KINDS:
        raise InputError(
            f"{name}: the schema '{schema}' is not ticks; valid are {', '.join(_KINDS)}. Download "
            "one of these, or split a live recording"
        )
    return schema


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def _library() -> ModuleType:
    try:
        import databento_dbn
    except ImportError as error:
        raise UsageError(
            "reading DBN files needs an extra that is not installed: pip install 'marketpipe[dbn]'"
        ) from error
    library: ModuleType = databento_dbn
    return library
