"""Parquet files of ticks, read a batch at a time, converted column by column."""

import json
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe.domain.batches import (
    I64,
    BadRow,
    Batch,
    Dictionaries,
    QuoteBatch,
    StreamKey,
    TickKind,
    TradeBatch,
)
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import CorruptError, InputError
from marketpipe.sources.base import (
    BATCH_ROWS,
    SourceCounts,
    bad_row,
    checked_defaults,
    checked_symbols,
)
from marketpipe.sources.parquet import texts
from marketpipe.sources.parquet.columns import TIME_UNIT_NS, Columns, find_columns
from marketpipe.sources.parquet.numbers import Faults, Mask, null_mask, read_instants, read_nanos

_BAD_PER_BATCH: Final = 16_384
_CODE_COLUMNS = ("venue", "conditions", "tape")


class ParquetSource:
    """Trades or quotes from a Parquet file.

    Columns are named as in the tick CSV; ``ts_event`` and ``price_nanos``, ``size_nanos`` and
    the like are understood too, and columns that are no part of a tick are not read. The schema
    is read at once. Use it in a ``with`` statement, or call `close`, if `batches` may not be
    read to its end.

    Parameters
    ----------
    path : of a regular file
    symbols : keep only these; rows of others are counted as filtered, whatever else is in them
    default_source, default_feed : for rows, or files, that name none
    batch_rows : rows in a full batch

    Raises
    ------
    HeaderError
        A column is missing, doubled, of a type that cannot be read exactly, or excludes another.
    CorruptError
        It is not a Parquet file, or a damaged one.
    InputError
        It cannot be opened.
    UsageError
        ``symbols``, ``default_source`` or ``default_feed`` is malformed.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        symbols: frozenset[str] | None = None,
        default_source: str = "file",
        default_feed: str = "",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        symbols = checked_symbols(symbols)
        checked_defaults(default_source, default_feed)
        self._name = fspath(path)
        self._defaults = (default_source, default_feed)
        self._batch_rows = batch_rows
        self._codes = {
            "symbol": texts.TextCodes("symbol", names_only=True, wanted=symbols),
            "source": texts.TextCodes("source", names_only=True),
            "feed": texts.TextCodes("feed", names_only=True),
            **{name: texts.TextCodes(name) for name in _CODE_COLUMNS},
        }
        self._streams: dict[tuple[int, int, int], int] = {}
        self._counts = [0, 0, 0]
        self._done_rows = 0
        self._file, self._columns = self._open()

    def _open(self) -> tuple[Any, Columns]:
        if self._name == "-":
            raise InputError(
                "Parquet cannot be read from standard input, because its index is at the end; "
                "write it to a file first"
            )
        try:
            self._total_bytes = Path(self._name).stat().st_size
            with pq.ParquetFile(self._name) as plain:
                columns = find_columns(plain.schema_arrow, self._name)
                metadata = plain.metadata
            self._total_rows: int = metadata.num_rows
            file = pq.ParquetFile(
                self._name, metadata=metadata, read_dictionary=list(columns.dictionary)
            )
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._error(error) from error
        return file, columns

    def _error(self, error: Exception) -> InputError:
        if isinstance(error, OSError) and error.errno is not None:
            return InputError(f"{self._name}: cannot be opened: {error.strerror or error}")
        if Path(self._name).is_dir():
            return InputError(f"{self._name}: is a folder; name one Parquet file")
        return CorruptError(
            f"{self._name}: is not a whole Parquet file: {error}. Write or fetch it again; a CSV "
            f"is read with --csv. {self._done_rows:,} rows before the damage were read"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def kind(self) -> TickKind:
        """Whether the file holds trades or quotes."""
        return self._columns.kind

    def describe(self) -> str:
        """Say in one line what is read, and what is not."""
        ignored = ", ".join(self._columns.ignored)
        tail = f"; not read: {ignored}" if ignored else ""
        return f"{self.kind} from {self._name} (Parquet: {', '.join(self._columns.read)}{tail})"

    def progress(self) -> tuple[int, int | None]:
        """Return (bytes done, by the share of rows, bytes in all)."""
        done = self._total_bytes * self._done_rows // max(self._total_rows, 1)
        return (done if self._total_rows else self._total_bytes), self._total_bytes

    def counts(self) -> SourceCounts:
        """Return what became of the rows of the batches that are out."""
        rows, bad, filtered = self._counts
        return SourceCounts(rows=rows, bad=bad, filtered=filtered)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in file order, once.

        Raises
        ------
        CorruptError
            The file is damaged; the batches before the damage have been yielded.
        """
        try:
            parts = self._parts()
            while True:
                try:
                    part = next(parts, None)
                    if part is None:
                        return
                    rows = _Rows(part.num_rows)
                    fields = self._read(part, rows)
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    raise self._error(error) from error
                yield from self._cut(part, fields, rows)
        finally:
            self.close()

    def _parts(self) -> Iterator[Any]:
        """Yield record batches, one row group in memory at a time."""
        for group in range(self._file.num_row_groups):
            yield from self._file.iter_batches(
                batch_size=self._batch_rows,
                row_groups=[group],
                columns=self._columns.read,
                use_threads=False,
            )

    def _cut(
        self, part: Any, fields: dict[str, npt.NDArray[Any]], rows: "_Rows"
    ) -> Iterator[Batch]:
        first = self._done_rows + 1
        self._done_rows += part.num_rows
        keep = rows.good()
        if keep is not None:
            fields = {name: column[keep] for name, column in fields.items()}
        numbers = np.arange(first, first + part.num_rows, dtype=np.int64)
        fields["row"] = numbers if keep is None else numbers[keep]
        fields["stream"] = self._stream_codes(fields)
        bad = rows.bad_places()
        self._counts[0] += len(fields["row"])
        self._counts[1] += len(bad)
        self._counts[2] += part.num_rows - len(fields["row"]) - len(bad)
        # A batch of nothing but bad rows is cut, because each costs much more than a good one.
        cuts = range(0, max(len(bad), 1), _BAD_PER_BATCH)
        for at in cuts:
            last = at == cuts[-1]
            shown = self._bad_rows(part, bad[at : at + _BAD_PER_BATCH], rows, first)
            content = fields if last else {name: x[:0] for name, x in fields.items()}
            if shown or len(content["row"]):
                yield self._batch(content, shown)

    def _read(self, part: Any, rows: "_Rows") -> dict[str, npt.NDArray[Any]]:
        fields: dict[str, npt.NDArray[Any]] = {}
        columns = self._columns
        self._read_text(part, "symbol", rows, fields)
        time = part.column(columns.time)
        rows.fault(null_mask(time), "missing_value", columns.time)
        fields["ts_event"], faults = read_instants(time, TIME_UNIT_NS[columns.time])
        rows.faults(faults, columns.time)
        for name, column in columns.values.items():
            self._read_value(part.column(column), name, column, rows, fields)
        if self.kind == "quotes":
            neither = (fields["bid"] == NULL_I64) & (fields["ask"] == NULL_I64)
            rows.fault(neither, "missing_value", columns.values["bid"])
        for name in columns.texts:
            if name == "side":
                fields["side"] = texts.read_sides(part.column("side"))
                rows.fault(fields["side"] < 0, "bad_side", "side")
            else:
                self._read_text(part, name, rows, fields)
        if columns.ts_recv:
            received = part.column(columns.ts_recv)
            values, faults = read_instants(received, 1)
            rows.faults(faults, columns.ts_recv)
            fields["ts_recv"] = np.where(null_mask(received), NULL_I64, values)
        if columns.trade_id:
            fields["id_hi"], fields["id_lo"] = texts.read_ids(part.column(columns.trade_id))
        return fields

    def _read_value(
        self, data: Any, name: str, column: str, rows: "_Rows", fields: dict[str, I64]
    ) -> None:
        values, faults = read_nanos(data, counts_nanos=column.endswith("_nanos"))
        if data.null_count:
            absent = null_mask(data)
            if self.kind == "trades":
                rows.fault(absent, "missing_value", column)
            else:
                values[absent] = NULL_I64
                faults = [(mask & ~absent, reason) for mask, reason in faults]
        rows.faults(faults, column)
        fields[name] = values

    def _read_text(
        self, part: Any, name: str, rows: "_Rows", fields: dict[str, npt.NDArray[Any]]
    ) -> None:
        codes = self._codes[name].read(part.column(name))
        fields[name] = codes
        if name == "symbol":
            rows.fault(codes == 0, "missing_value", name)
        if len(codes) and int(codes.min()) < 0:
            bad = "bad_symbol" if name == "symbol" else "bad_name"
            rows.fault(codes == texts.BAD_UTF8, "bad_utf8", name)
            rows.fault(codes == texts.BAD_TEXT, bad, name)
            rows.fault(codes == texts.FILTERED, "", name)

    def _stream_codes(self, fields: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int32]:
        symbol = fields.pop("symbol")
        source = fields.pop("source", None)
        feed = fields.pop("feed", None)
        if source is None and feed is None:
            # One stream for each symbol: the table has as many entries as there are symbols.
            found = np.zeros(len(self._codes["symbol"].texts), np.int32)
            for code in np.flatnonzero(np.bincount(symbol, minlength=1)).tolist():
                found[code] = self._streams.setdefault((0, 0, code), len(self._streams))
            simple: npt.NDArray[np.int32] = found[symbol]
            return simple
        none = np.zeros(len(symbol), np.int32)
        keys = np.stack(
            [none if source is None else source, none if feed is None else feed, symbol]
        )
        distinct, back = np.unique(keys, axis=1, return_inverse=True)
        codes = np.array(
            [
                self._streams.setdefault((key[0], key[1], key[2]), len(self._streams))
                for key in distinct.T.tolist()
            ],
            np.int32,
        )
        return codes[back.reshape(-1)]

    def _dictionaries(self) -> Dictionaries:
        sources = [self._defaults[0], *self._codes["source"].texts[1:]]
        feeds = [self._defaults[1], *self._codes["feed"].texts[1:]]
        symbols = self._codes["symbol"].texts
        venues, conditions, tapes = (tuple(self._codes[name].texts) for name in _CODE_COLUMNS)
        return Dictionaries(
            streams=tuple(
                StreamKey(sources[source], feeds[feed], symbols[symbol])
                for source, feed, symbol in self._streams
            ),
            venues=venues,
            conditions=conditions,
            tapes=tapes,
        )

    def _batch(self, fields: dict[str, Any], bad: tuple[BadRow, ...]) -> Batch:
        made = {name: np.ascontiguousarray(column) for name, column in fields.items()}
        if self.kind == "quotes":
            return QuoteBatch(dictionaries=self._dictionaries(), bad=bad, **made)
        return TradeBatch(dictionaries=self._dictionaries(), bad=bad, **made)

    def _bad_rows(
        self, part: Any, places: npt.NDArray[np.int64], rows: "_Rows", first: int
    ) -> tuple[BadRow, ...]:
        if not len(places):
            return ()
        picked = part.take(pa.array(places))
        columns = {name: _shown(picked.column(name)) for name in self._columns.read}
        found = []
        for k, place in enumerate(places.tolist()):
            reason, field = rows.judgement(place)
            raw = json.dumps({name: column[k] for name, column in columns.items()})
            found.append(bad_row(first + place, reason, field, raw.encode()))
        return tuple(found)


class _Rows:
    """What is wrong with the rows of a batch: the first fault of each counts."""

    def __init__(self, size: int) -> None:
        self._judged: npt.NDArray[np.int16] | None = None
        self._size = size
        # The reason "" is the filter's: such a row is neither good nor bad.
        self._names: list[tuple[str, str]] = [("ok", "")]

    def fault(self, mask: Mask, reason: str, field: str) -> None:
        if not mask.any():
            return
        if self._judged is None:
            self._judged = np.zeros(self._size, np.int16)
        self._judged[mask & (self._judged == 0)] = len(self._names)
        self._names.append((reason, field))

    def faults(self, faults: Faults, field: str) -> None:
        for mask, reason in faults:
            self.fault(mask, reason, field)

    def good(self) -> Mask | None:
        return None if self._judged is None else self._judged == 0

    def bad_places(self) -> npt.NDArray[np.int64]:
        if self._judged is None:
            return np.zeros(0, np.int64)
        bad = np.array([reason not in ("ok", "") for reason, _ in self._names])
        return np.flatnonzero(bad[self._judged])

    def judgement(self, place: int) -> tuple[str, str]:
        return ("ok", "") if self._judged is None else self._names[self._judged[place]]


def _shown(column: Any) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    if not pa.types.is_floating(column.type) and not pa.types.is_decimal(column.type):
        found = column.cast(pa.string()).cast(pa.binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "replace") for text in found]
    return [None if value is None else str(value) for value in column.to_pylist()]
