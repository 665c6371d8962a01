"""`Recording`: lines of ``<ts_recv ns> <frame>`` as a feed."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa

from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.errors import InputError
from marketpipe.sources.base import ByteStream, Closing, PathOrStream, checked_defaults
from marketpipe.sources.records import RecordBuilder
from marketpipe.sources.seconds import Seconds

MAX_FRAME_BYTES: Final = 1 << 24
"""A longer line is no recording."""

_READ_BYTES: Final = 1 << 18


class Recording(Closing):
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
    final_clock : end with a tick of the clock one second after the last frame

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
        checked_defaults(source, feed)
        self._source = source
        self._feed = feed
        self._journal_id = journal_id or source
        self._conn_id = conn_id
        self._symbol_of = symbol_of
        self._batch_records = batch_records
        self._final_clock = final_clock
        self._stream = ByteStream(origin)

    @property
    def source(self) -> str:
        """The recorded vendor."""
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
            builder.add_control({"event": "disconnected"}, latest)
            if self._final_clock:
                builder.add_clock(latest + NANOS)
            yield builder.take()

    def _begin(self, started_ns: int) -> RecordBuilder:
        builder = RecordBuilder(
            source=self._source,
            feed=self._feed,
            stream=self._stream.name,
            conn_id=self._conn_id,
            conn_started_ns=started_ns,
            symbol_of=self._symbol_of,
        )
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
