"""`CsvMessages`: a tick CSV as a live feed, one line one message."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64, Batch
from marketpipe.domain.records import CLOCK, DATA, NOT_SPLIT
from marketpipe.domain.units import NANOS, NULL_I64
from marketpipe.errors import CorruptError
from marketpipe.sources.base import (
    ByteStream,
    Closing,
    PathOrStream,
    checked_defaults,
    checked_symbols,
)
from marketpipe.sources.csvfile import LineReader, Lines
from marketpipe.sources.framing import WHOLE
from marketpipe.sources.records import RecordBuilder, records_batch
from marketpipe.sources.seconds import Seconds

_KINDS: Final = (DATA, CLOCK)


class CsvMessages(Closing):
    """Lines of a tick CSV as the messages of a feed; a `MessageSource`.

    A message is the line as it is, without the line feed that ends it; a frame holds one. The
    first record is a control record with the header line, from which `CsvParser` learns what
    the columns hold; the last one marks the end. A message is received at its ``ts_recv_ns``,
    or at its event time where there is none, or at the latest time before it if that is later
    or its own cannot be read. `Seconds` says where the clock ticks. Lines keep the order of the
    file. A line of more than 65,536 bytes is cut just past that length, which keeps it bad.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    source, feed : of rows that name none; the record's too
    journal_id : the journal to write to
    symbols : hand out only lines of these, and lines that cannot be read
    conn_id : number of the connection
    batch_lines : lines in a full batch
    final_clock : end with a tick of the clock one second after the last line

    Raises
    ------
    HeaderError, InputError, UsageError
        As `marketpipe.sources.csvfile.CsvSource`.
    """

    def __init__(
        self,
        origin: PathOrStream,
        *,
        source: str = "file",
        feed: str = "",
        journal_id: str = "mock",
        symbols: frozenset[str] | None = None,
        conn_id: int = 0,
        batch_lines: int = 10_000,
        final_clock: bool = False,
    ) -> None:
        checked_defaults(source, feed)
        self._source = source
        self._feed = feed
        self._journal_id = journal_id
        self._conn_id = conn_id
        self._final_clock = final_clock
        self._seconds = Seconds()
        self._latest: int | None = None
        self._started = 0
        self._frame_seq = 0
        self._stream = ByteStream(origin)
        try:
            self._reader = LineReader(
                self._stream,
                source=source,
                feed=feed,
                symbols=checked_symbols(symbols),
                batch_lines=batch_lines,
            )
        except BaseException:
            self._stream.close()
            raise

    @property
    def source(self) -> str:
        """What stands for the vendor."""
        return self._source

    @property
    def journal_id(self) -> str:
        """The journal that the records belong to."""
        return self._journal_id

    def close(self) -> None:
        """Close the file, unless it was handed in open."""
        self._stream.close()

    def records(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RECORDS, once.

        Raises
        ------
        CorruptError
            The packed bytes end early or do not decode; every complete line before the damage
            has been yielded.
        """
        damage: CorruptError | None = None
        try:
            lines = self._reader.lines()
            while damage is None:
                try:
                    piece = next(lines, None)
                except CorruptError as error:
                    damage = error
                    break
                if piece is None:
                    break
                if len(piece.payloads):
                    yield from self._batches(piece)
        finally:
            self.close()
        if damage is not None:
            raise damage
        if self._latest is None:
            yield self._begin()
        yield self._end()

    def _batches(self, lines: Lines) -> Iterator[pa.RecordBatch]:
        times = self._received(lines)
        if self._frame_seq == 0:
            self._started = int(times[0])
            yield self._begin()
        yield self._batch(lines, times)

    def _begin(self) -> pa.RecordBatch:
        facts = {
            "event": "connected",
            "format": "csv",
            "header": self._reader.layout.raw.decode(),
            "delimiter": ",",
            "quote": '"',
            "file": self._stream.name,
        }
        builder = self._builder()
        builder.add_control(facts, self._started)
        return builder.take()

    def _end(self) -> pa.RecordBatch:
        builder = self._builder()
        latest = self._latest or 0
        builder.add_control({"event": "disconnected"}, latest)
        if self._final_clock:
            builder.add_clock(latest + NANOS)
        return builder.take()

    def _builder(self) -> RecordBuilder:
        return RecordBuilder(
            source=self._source,
            feed=self._feed,
            stream=self._stream.name,
            conn_id=self._conn_id,
            conn_started_ns=self._started,
            next_frame=self._frame_seq,
        )

    def _received(self, lines: Lines) -> I64:
        """Return times of receipt: own ones where they can be read, and never stepping back."""
        times = np.full(len(lines.payloads), NULL_I64, np.int64)
        times[lines.place] = _own_times(lines.batch)
        if self._latest is None:
            readable = times[times != NULL_I64]
            self._latest = int(readable[0]) if len(readable) else 0
        times[0] = max(int(times[0]), self._latest)
        times = np.maximum.accumulate(times)
        self._latest = int(times[-1])
        return times

    def _batch(self, lines: Lines, times: I64) -> pa.RecordBatch:
        count = len(times)
        places, stamps = self._seconds.ticks(times)
        symbols = [key.symbol for key in lines.batch.dictionaries.streams]
        symbol = np.full(count, len(symbols), np.int64)
        symbol[lines.place] = lines.batch.stream
        frames = self._frame_seq + np.arange(count, dtype=np.int64)
        self._frame_seq += count

        def among(column: Any, ticks: Any) -> Any:
            return np.insert(column, places, ticks)

        is_tick = among(np.zeros(count, np.int8), 1)
        row = among(np.arange(count), -1)
        return records_batch(
            count + len(places),
            {
                "kind": pa.array(_KINDS).take(pa.array(is_tick)),
                "source": self._source,
                "feed": self._feed,
                "stream": self._stream.name,
                "symbol": pa.array([*symbols, ""]).take(pa.array(among(symbol, len(symbols)))),
                "conn_id": self._conn_id,
                "conn_started_ns": self._started,
                "frame_seq": among(frames, frames[places]),
                "msg_index": np.where(is_tick, NOT_SPLIT, 0).astype(np.int32),
                "frame_len": among(lines.sizes, 0).astype(np.int32),
                "ts_recv": among(times, stamps),
                "payload": _with_empty(lines.payloads, row),
                "envelope": WHOLE,
            },
        )


def _own_times(batch: Batch) -> I64:
    if batch.ts_recv is None:
        return batch.ts_event
    own: I64 = np.where(batch.ts_recv == NULL_I64, batch.ts_event, batch.ts_recv)
    return own


def _with_empty(payloads: pa.Array, row: I64) -> pa.Array:
    """Take payloads by row, with b"" where the row is -1."""
    if len(row) == len(payloads):
        return payloads
    return payloads.take(pa.array(row, mask=row < 0)).fill_null(b"")
