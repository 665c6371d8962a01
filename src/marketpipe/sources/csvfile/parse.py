"""`CsvParser`: lines of a tick CSV that went through a journal, back to ticks."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import (
    I64,
    Arrival,
    BadRow,
    QuoteBatch,
    StreamKey,
    TradeBatch,
    bad_row,
)
from marketpipe.domain.records import CONTROL, DATA
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import HeaderError
from marketpipe.sources.csvfile import _rows_kernel as rows
from marketpipe.sources.csvfile.header import parse_header
from marketpipe.sources.csvfile.lines import read_lines
from marketpipe.sources.csvfile.names import Names
from marketpipe.sources.csvfile.rows import RowReader
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import arrival_of, int64s

_AnyBatch = TypeVar("_AnyBatch", bound=TradeBatch | QuoteBatch)

_MISSING: Final[Mapping[str, int]] = {"id_hi": -1, "bid_size": NULL_I64, "ask_size": NULL_I64}
"""What stands for a column that only some batches have, where it is not 0."""


class _Feed(NamedTuple):
    """What is known of a connection: its header line, and the source and feed of its rows."""

    header: str
    source: str
    feed: str


class _Control(msgspec.Struct):
    event: str = ""
    format: str = ""
    header: str = ""


_read_control = msgspec.json.Decoder(_Control).decode
_read_state = msgspec.json.Decoder(dict[int, _Feed]).decode


class CsvParser:
    """Reads records whose payloads are lines of a tick CSV; see `MessageParser`.

    The control record of a connection says what the columns hold, so control records must be
    among those given to `parse`. Rows are read by the same compiled reader as files; a row is
    the offset of its record, its place of arrival is that of its message. A row without
    ``ts_recv_ns`` takes the time at which its message was received.

    Parameters
    ----------
    streams, state : of an earlier parser that is to be continued

    Raises
    ------
    ValueError
        If ``state`` is none that `state` gave.
    """

    def __init__(self, streams: tuple[StreamKey, ...] = (), state: bytes = b"") -> None:
        self._names = Names(streams=streams)
        try:
            self._feeds: dict[int, _Feed] = _read_state(state) if state else {}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"state was {state[:80]!r}, not that of a CsvParser") from error
        self._readers: dict[_Feed, tuple[RowReader, int, int]] = {}

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Who was met so far; a batch's ``stream`` is a code into it."""
        return self._names.dictionaries().streams

    def state(self) -> bytes:
        """Return the headers of the connections that are open."""
        return msgspec.json.encode(self._feeds)

    def parse(self, records: pa.RecordBatch) -> Parsed:
        """Parse rows of STORED, in journal order."""
        kinds = records.column("kind")
        conns = int64s(records, "conn_id")
        trades: list[TradeBatch] = []
        quotes: list[QuoteBatch] = []
        bad: list[BadRow] = []
        controls = pc.equal(kinds, CONTROL).to_numpy(zero_copy_only=False)
        # A connection is read from one control record to the next, whoever else is between.
        for begin, end in _runs(controls, conns):
            part = records.slice(begin, end - begin)
            if controls[begin]:
                self._learn(part, int(conns[begin]))
                continue
            lines = part.filter(pc.equal(part.column("kind"), DATA))
            if not len(lines):
                continue
            batch, faults = self._read(lines, int(conns[begin]))
            bad += faults
            if isinstance(batch, TradeBatch):
                trades.append(batch)
            elif batch is not None:
                quotes.append(batch)
        blanks = len(records) and self._blanks(records)
        return Parsed(
            trades=_joined(trades),
            quotes=_joined(quotes),
            bad=tuple(bad),
            unparsed={"blank": blanks} if blanks else {},
        )

    def _blanks(self, records: pa.RecordBatch) -> int:
        is_data = pc.equal(records.column("kind"), DATA)
        lines = records.column("payload").filter(is_data)
        empty = pc.or_(pc.equal(lines, b""), pc.equal(lines, b"\r"))
        return int(pc.sum(empty).as_py() or 0)

    def _learn(self, record: pa.RecordBatch, conn_id: int) -> None:
        try:
            control = _read_control(record.column("payload")[0].as_py())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if control.event == "disconnected":
            self._feeds.pop(conn_id, None)
        elif control.event == "connected" and control.format == "csv":
            source, feed = (record.column(name)[0].as_py() for name in ("source", "feed"))
            self._feeds[conn_id] = _Feed(control.header, source, feed)

    def _read(
        self, lines: pa.RecordBatch, conn_id: int
    ) -> tuple[TradeBatch | QuoteBatch | None, list[BadRow]]:
        payloads: list[bytes] = lines.column("payload").to_pylist()
        offsets = int64s(lines, "offset")
        text = b"\n".join(payloads) + b"\n"
        feed = self._feeds.get(conn_id)
        if feed is None or text.count(b"\n") != len(payloads):
            return self._read_strays(lines, payloads, offsets, feed, conn_id)
        window = np.empty(len(text) + rows.SCRATCH_BYTES, np.uint8)
        window[: len(text)] = np.frombuffer(text, np.uint8)
        try:
            reader = self._reader(feed, len(payloads), len(window))
        except HeaderError:
            return None, _all_bad(payloads, offsets)
        batch = read_lines(reader, window, 0, len(text))
        bad = [row._replace(row=int(offsets[row.row - 1])) for row in batch.bad]
        return (_placed(batch, lines, offsets) if len(batch) else None), bad

    def _read_strays(
        self,
        lines: pa.RecordBatch,
        payloads: list[bytes],
        offsets: I64,
        feed: _Feed | None,
        conn_id: int,
    ) -> tuple[TradeBatch | QuoteBatch | None, list[BadRow]]:
        """Set aside what is no line of a known file: it would be read as several, or as none."""
        fine = np.array([feed is not None and b"\n" not in line for line in payloads], np.bool_)
        strays = np.flatnonzero(~fine)
        bad = _all_bad([payloads[k] for k in strays], offsets[strays])
        if not fine.any():
            return None, bad
        batch, faults = self._read(lines.filter(pa.array(fine)), conn_id)
        return batch, sorted(bad + faults, key=lambda row: row.row)

    def _reader(self, feed: _Feed, count: int, window_bytes: int) -> RowReader:
        reader, room, size = self._readers.get(feed, (None, 0, 0))
        if reader is None or room < count or size < window_bytes:
            room, size = max(room, count), max(size, window_bytes)
            reader = RowReader(
                parse_header(feed.header.encode(), "control record"),
                self._names,
                source=feed.source,
                feed=feed.feed,
                file="journal",
                batch_rows=room + 1,
                window_bytes=size,
            )
            self._readers = {**self._readers, feed: (reader, room, size)}
        return reader


def _runs(controls: Any, conns: I64) -> list[tuple[int, int]]:
    """Cut at control records, each a run of its own, and where the connection changes."""
    if not len(conns):
        return []
    cuts = np.ones(len(conns), np.bool_)
    cuts[1:] = controls[1:] | controls[:-1] | (conns[1:] != conns[:-1])
    begins = np.flatnonzero(cuts).tolist()
    return list(zip(begins, [*begins[1:], len(conns)], strict=True))


def _all_bad(payloads: list[bytes], offsets: I64) -> list[BadRow]:
    rows_of = zip(offsets.tolist(), payloads, strict=True)
    return [bad_row(offset, "bad_record", "", payload) for offset, payload in rows_of]


def _placed(batch: _AnyBatch, lines: pa.RecordBatch, offsets: I64) -> _AnyBatch:
    place = batch.row - 1
    received = int64s(lines, "ts_recv")[place]
    if batch.ts_recv is not None:
        received = np.where(batch.ts_recv == NULL_I64, received, batch.ts_recv)
    arrival = Arrival(*(column[place] for column in arrival_of(lines)))
    return _replaced(batch, row=offsets[place], ts_recv=received, arrival=arrival, bad=())


def _replaced(batch: _AnyBatch, **changes: Any) -> _AnyBatch:
    kept = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return type(batch)(**{**kept, **changes})


def _joined(batches: list[_AnyBatch]) -> _AnyBatch | None:
    """Join batches of one parser, the last of which has the fullest dictionaries."""
    if len(batches) < 2:
        return batches[0] if batches else None
    columns = {}
    for field in fields(batches[0]):
        parts = [getattr(batch, field.name) for batch in batches]
        if field.name not in ("dictionaries", "arrival", "bad") and any(
            part is not None for part in parts
        ):
            columns[field.name] = _column(field.name, parts, [len(batch) for batch in batches])
    arrivals = [batch.arrival for batch in batches if batch.arrival is not None]
    arrival = Arrival(*(np.concatenate(parts) for parts in zip(*arrivals, strict=True)))
    return _replaced(batches[-1], **columns, arrival=arrival)


def _column(name: str, parts: list[Any], sizes: list[int]) -> Any:
    kind = next(part.dtype for part in parts if part is not None)
    return np.concatenate(
        [
            np.full(size, _MISSING.get(name, 0), kind) if part is None else part
            for part, size in zip(parts, sizes, strict=True)
        ]
    )
