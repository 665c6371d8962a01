"""Record batches of ticks, converted column by column."""

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import (
    I32,
    I64,
    BadRow,
    Batch,
    Dictionaries,
    QuoteBatch,
    SourceCounts,
    StreamKey,
    TickKind,
    TradeBatch,
    bad_row,
)
from marketpipe.domain.tables import texts
from marketpipe.domain.tables.columns import TIME_UNIT_NS, find_columns
from marketpipe.domain.tables.numbers import null_mask, read_instants, read_nanos
from marketpipe.domain.tables.rows import Rows, shown
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import InputError

_BAD_PER_BATCH: Final = 16_384
_CODE_COLUMNS: Final = ("venue", "conditions", "tape")


class TableReader:
    """Turns record batches into vendor records; their rows are numbered on from 1.

    Columns are named as in the tick CSV; ``ts_event`` and ``price_nanos``, ``size_nanos`` and
    the like are understood too, and columns that are no part of a tick are not read.

    Parameters
    ----------
    schema : an Arrow schema, of the record batches
    where : the file or table, for messages
    symbols : keep only these; rows of others are counted as filtered, whatever else is in them
    default_source, default_feed : for rows, or tables, that name none

    Raises
    ------
    HeaderError
        A column is missing, doubled, of a type that cannot be read exactly, or excludes another.
    """

    def __init__(
        self,
        schema: Any,
        *,
        where: str,
        symbols: frozenset[str] | None = None,
        default_source: str,
        default_feed: str,
    ) -> None:
        self._where = where
        self._names: list[str] = list(schema.names)
        self._columns = find_columns(schema, where)
        self._codes = {
            "symbol": texts.TextCodes("symbol", names_only=True, wanted=symbols),
            "source": texts.TextCodes("source", names_only=True, absent=default_source),
            "feed": texts.TextCodes("feed", names_only=True, absent=default_feed),
            **{name: texts.TextCodes(name) for name in _CODE_COLUMNS},
        }
        self._streams: dict[tuple[int, int, int], int] = {}
        self._counts = SourceCounts()

    @property
    def kind(self) -> TickKind:
        """Whether the table holds trades or quotes."""
        return self._columns.kind

    @property
    def needed(self) -> list[str]:
        """Names of the columns to read; a record batch may lack the others."""
        return self._columns.read

    @property
    def dictionary(self) -> tuple[str, ...]:
        """Those of the needed columns that are read fastest as dictionaries, and are none yet."""
        return self._columns.dictionary

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the columns that are no part of a tick."""
        return self._columns.ignored

    @property
    def counts(self) -> SourceCounts:
        """What became of the rows read so far."""
        return self._counts

    def accept(self, schema: Any) -> None:
        """Check that record batches of another table can be read on from here.

        Its columns may be in another order, and of any type that can be read.

        Raises
        ------
        InputError
            Its columns have other names, or a type that cannot be read exactly.
        """
        if sorted(schema.names) != sorted(self._names):
            raise InputError(
                f"{self._where}: the columns were {', '.join(schema.names)}; before, they were "
                f"{', '.join(self._names)}. Give tables with the same columns, or read each kind "
                "by itself"
            )
        find_columns(schema, self._where)

    def read(self, record_batch: Any) -> Iterator[Batch]:
        """Yield the rows of a record batch: mostly one batch, more if many rows are bad.

        The rows are counted before the first batch is yielded.

        Raises
        ------
        InputError
            A column has too many distinct texts.
        pyarrow.ArrowException
            The record batch is damaged; none of its rows are counted.
        """
        size = record_batch.num_rows
        if not size:
            return
        columns = {
            name: texts.without_views(record_batch.column(name)) for name in self._columns.read
        }
        rows = Rows(size)
        fields = self._fields(columns, rows)
        first = sum((self._counts.rows, self._counts.bad, self._counts.filtered), 1)
        keep = rows.good()
        if keep is not None:
            fields = {name: column[keep] for name, column in fields.items()}
        numbers = np.arange(first, first + size, dtype=np.int64)
        fields["row"] = numbers if keep is None else numbers[keep]
        fields["stream"] = self._stream_codes(fields)
        bad = rows.bad_places()
        good = len(fields["row"])
        self._counts = SourceCounts(
            rows=self._counts.rows + good,
            bad=self._counts.bad + len(bad),
            filtered=self._counts.filtered + size - good - len(bad),
        )
        # A batch of nothing but bad rows is cut, because each costs much more than a good one.
        cuts = range(0, max(len(bad), 1), _BAD_PER_BATCH)
        for at in cuts:
            told = _bad_rows(columns, bad[at : at + _BAD_PER_BATCH], rows, first)
            last = at == cuts[-1]
            content = fields if last else {name: x[:0] for name, x in fields.items()}
            if told or len(content["row"]):
                yield self._batch(content, told)

    def _fields(self, data: dict[str, Any], rows: Rows) -> dict[str, npt.NDArray[Any]]:
        fields: dict[str, npt.NDArray[Any]] = {}
        columns = self._columns
        fields["symbol"] = self._read_text(data["symbol"], "symbol", rows)
        time = data[columns.time]
        rows.fault(null_mask(time), "missing_value", columns.time)
        fields["ts_event"], faults = read_instants(time, TIME_UNIT_NS[columns.time])
        rows.faults(faults, columns.time)
        for name, column in columns.values.items():
            fields[name] = self._read_value(data[column], column, rows)
        if self.kind == "quotes":
            neither = (fields["bid"] == NULL_I64) & (fields["ask"] == NULL_I64)
            rows.fault(neither, "missing_value", columns.values["bid"])
        for name in columns.texts:
            if name == "side":
                fields["side"] = texts.read_sides(data["side"])
                rows.fault(fields["side"] < 0, "bad_side", "side")
            else:
                fields[name] = self._read_text(data[name], name, rows)
        if columns.ts_recv:
            received = data[columns.ts_recv]
            values, faults = read_instants(received, 1)
            rows.faults(faults, columns.ts_recv)
            fields["ts_recv"] = np.where(null_mask(received), NULL_I64, values)
        if columns.trade_id:
            fields["id_hi"], fields["id_lo"] = texts.read_ids(data[columns.trade_id])
        return fields

    def _read_value(self, data: Any, column: str, rows: Rows) -> I64:
        values, faults = read_nanos(data, counts_nanos=column.endswith("_nanos"))
        if data.null_count:
            absent = null_mask(data)
            if self.kind == "trades":
                rows.fault(absent, "missing_value", column)
            else:
                values[absent] = NULL_I64
                faults = [(mask & ~absent, reason) for mask, reason in faults]
        rows.faults(faults, column)
        return values

    def _read_text(self, data: Any, name: str, rows: Rows) -> I32:
        codes = self._codes[name].read(data)
        if name == "symbol":
            rows.fault(codes == 0, "missing_value", name)
        if len(codes) and int(codes.min()) < 0:
            bad = "bad_symbol" if name == "symbol" else "bad_name"
            rows.fault(codes == texts.BAD_UTF8, "bad_utf8", name)
            rows.fault(codes == texts.BAD_TEXT, bad, name)
            rows.fault(codes == texts.FILTERED, "", name)
        return codes

    def _stream_codes(self, fields: dict[str, npt.NDArray[Any]]) -> I32:
        symbol = fields.pop("symbol")
        source = fields.pop("source", None)
        feed = fields.pop("feed", None)
        if source is None and feed is None:
            # One stream for each symbol: the table has as many entries as there are symbols.
            found = np.zeros(len(self._codes["symbol"].texts), np.int32)
            for code in np.flatnonzero(np.bincount(symbol, minlength=1)).tolist():
                found[code] = self._streams.setdefault((0, 0, code), len(self._streams))
            simple: I32 = found[symbol]
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
        sources, feeds, symbols = (self._codes[name].texts for name in StreamKey._fields)
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
        made: dict[str, Any] = {
            name: np.ascontiguousarray(column) for name, column in fields.items()
        }
        if self.kind == "quotes":
            return QuoteBatch(dictionaries=self._dictionaries(), bad=bad, **made)
        return TradeBatch(dictionaries=self._dictionaries(), bad=bad, **made)


def _bad_rows(columns: dict[str, Any], places: I64, rows: Rows, first: int) -> tuple[BadRow, ...]:
    if not len(places):
        return ()
    picked = {name: shown(column.take(pa.array(places))) for name, column in columns.items()}
    found = []
    for k, place in enumerate(places.tolist()):
        reason, field = rows.judgement(place)
        raw = json.dumps({name: column[k] for name, column in picked.items()})
        found.append(bad_row(first + place, reason, field, raw.encode()))
    return tuple(found)
