"""`Recording`: lines of ``<ts_recv ns> <frame>`` as a feed."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa

from marketpipe.domain.units import MAX_TS_NS
from marketpipe.errors import InputError
from marketpipe.sources.base import PathOrStream
from marketpipe.sources.messagefile import MessageFile
from marketpipe.sources.records import RecordBuilder
from marketpipe.sources.seconds import Seconds

MAX_FRAME_BYTES: Final = 1 << 24
"""A longer line is no recording."""

_READ_BYTES: Final = 1 << 18


class Recording(MessageFile):
    """Frames of a recorded feed, plain, gzip or zstd; a `MessageSource`.

    A line is the time of receipt in ns since the epoch (UTC), a blank, and the frame as text.
    Where times step back, the latest so far stands. A line without a time is handed on whole,
    as a frame of that time, so that it ends in quarantine and not nowhere. The first record is
    a control record of the connection, the last one of its end; `Seconds` says where the clock
    ticks.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    source, feed : what the recorded feed was
    journal_id : the journal to write to; by default named as the source
    conn_id : number of the connection
    symbol_of : names the symbol of one message, "" where it has none
    batch_records : a batch is handed out when it has so many
    final_clock : as in `MessageFile`

    Raises
    ------
    InputError
        The file cannot be opened.
    UsageError
        ``source``, ``feed`` or ``journal_id`` is malformed.
    """

    def __init__(
        self,
        origin: PathOrStream,
        *,
        source: str,
        feed: str = "",
        journal_id: str = "",
        conn_id: int = 0,
        symbol_of: Callable[[Any], str] | None = None,
        batch_records: int = 10_000,
        final_clock: bool = False,
    ) -> None:
        super().__init__(
            origin,
            source=source,
            feed=feed,
            journal_id=journal_id or source,
            conn_id=conn_id,
            symbol_of=symbol_of,
            final_clock=final_clock,
        )
        self._batch_records = batch_records

    def records(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RECORDS, once.

        Raises
        ------
        InputError
            A line is longer than `MAX_FRAME_BYTES`, or the packed bytes are damaged; all that
            came before has been yielded.
        """
        builder: RecordBuilder | None = None
        seconds = Seconds()
        latest = 0
        try:
            for line in self._lines():
                ts, frame = _read(line)
                latest = max(latest, ts)
                if builder is None:
                    builder = self._begin(latest)
                tick = seconds.due(latest)
                if tick is not None:
                    builder.add_clock(tick)
                builder.add_frame(frame, latest)
                if len(builder) >= self._batch_records:
                    yield builder.take()
        except InputError:
            if builder is not None and len(builder):
                yield builder.take()
            raise
        finally:
            self.close()
        if builder is not None:
            yield self._ended(builder, latest or None)

    def _begin(self, started_ns: int) -> RecordBuilder:
        builder = self._builder(started_ns)
        builder.add_control({"event": "connected", "recording": self._stream.name}, started_ns)
        return builder

    def _lines(self) -> Iterator[bytes]:
        block = bytearray(_READ_BYTES)
        rest = b""
        while count := self._stream.readinto(memoryview(block)):
            *lines, rest = (rest + block[:count]).split(b"\n")
            yield from lines
            if len(rest) > MAX_FRAME_BYTES:
                raise InputError(
                    f"{self._stream.name}: a line is longer than {MAX_FRAME_BYTES:,} bytes. Is "
                    "this a recording, one '<ns> <frame>' per line?"
                )
        if rest:
            yield rest


def _read(line: bytes) -> tuple[int, bytes]:
    stamp, blank, frame = line.partition(b" ")
    if blank and len(stamp) < 20 and stamp.isdigit() and int(stamp) <= MAX_TS_NS:
        return int(stamp), frame
    return 0, line
