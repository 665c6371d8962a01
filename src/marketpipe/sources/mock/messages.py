"""`CsvMessages`: a tick CSV as a live feed, one line one message."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.records import CLOCK, DATA, NOT_SPLIT
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import CorruptError
from marketpipe.sources.base import PathOrStream, checked_symbols
from marketpipe.sources.csvfile import LineReader, Lines
from marketpipe.sources.framing import WHOLE
from marketpipe.sources.messagefile import MessageFile
from marketpipe.sources.mock.receipt import LOOK_AHEAD, Receipts
from marketpipe.sources.records import records_batch
from marketpipe.sources.seconds import Seconds

_KINDS: Final = (DATA, CLOCK)


class CsvMessages(MessageFile):
    """Lines of a tick CSV as the messages of a feed; a `MessageSource`.

    A message is the line as it is, without the line feed that ends it; a frame holds one. The
    first record is a control record with the header line, from which `CsvParser` learns what
    the columns hold; the last one marks the end. A message's own time is its ``ts_recv_ns``, or
    its event time where there is none; `Receipts` says when it is received, and `Seconds` where
    the clock ticks. Lines keep the order of the file. A line of more than 65,536 bytes is cut
    just past that length, which keeps it bad.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    source, feed : of rows that name none; the record's too
    journal_id : the journal to write to
    symbols : hand out only lines of these, and lines that cannot be read
    conn_id : number of the connection
    batch_lines : lines in a full batch
    final_clock : as in `MessageFile`

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
        super().__init__(
            origin,
            source=source,
            feed=feed,
            journal_id=journal_id,
            conn_id=conn_id,
            final_clock=final_clock,
        )
        self._seconds = Seconds()
        self._receipts = Receipts()
        self._started = 0
        self._frame_seq = 0
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

    def records(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RECORDS, once.

        Raises
        ------
        CorruptError
            The packed bytes end early or do not decode; every complete line before the damage
            has been yielded.
        """
        try:
            for lines, times in self._received():
                if self._frame_seq == 0:
                    self._started = int(times[0])
                    yield self._begin()
                yield self._batch(lines, times)
        finally:
            self.close()
        if self._frame_seq == 0:
            yield self._begin()
        builder = self._builder(self._started, self._frame_seq)
        yield self._ended(builder, self._receipts.latest)

    def _received(self) -> Iterator[tuple[Lines, I64]]:
        """Yield lines with their times of receipt, for which some lines are read ahead."""
        waiting: deque[tuple[Lines, I64]] = deque()
        damage: CorruptError | None = None
        try:
            for lines in self._reader.lines():
                if len(lines.payloads):
                    waiting.append((lines, _own_times(lines)))
                while sum(len(own) for _, own in islice(waiting, 1, None)) >= LOOK_AHEAD:
                    yield self._next(waiting)
        except CorruptError as error:
            damage = error
        while waiting:
            yield self._next(waiting)
        if damage is not None:
            raise damage

    def _next(self, waiting: deque[tuple[Lines, I64]]) -> tuple[Lines, I64]:
        lines, own = waiting.popleft()
        following = [np.empty(0, np.int64), *(times for _, times in waiting)]
        return lines, self._receipts.of(own, np.concatenate(following))

    def _begin(self) -> pa.RecordBatch:
        facts = {
            "event": "connected",
            "format": "csv",
            "header": self._reader.layout.raw.decode(),
            "delimiter": ",",
            "quote": '"',
            "file": self._stream.name,
        }
        builder = self._builder(self._started)
        builder.add_control(facts, self._started)
        return builder.take()

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


def _own_times(lines: Lines) -> I64:
    """Return the time of receipt that each line bears, else of its event; null if unreadable."""
    batch = lines.batch
    own = batch.ts_event
    if batch.ts_recv is not None:
        own = np.where(batch.ts_recv == NULL_I64, own, batch.ts_recv)
    times = np.full(len(lines.payloads), NULL_I64, np.int64)
    times[lines.place] = own
    return times


def _with_empty(payloads: pa.Array, row: I64) -> pa.Array:
    """Take payloads by row, with b"" where the row is -1."""
    if len(row) == len(payloads):
        return payloads
    return payloads.take(pa.array(row, mask=row < 0)).fill_null(b"")
