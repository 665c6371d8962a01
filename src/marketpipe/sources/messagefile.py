"""`MessageFile`: what files have in common that are replayed as feeds."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from marketpipe.domain.closing import Closing
from marketpipe.domain.units import NANOS
from marketpipe.sources.base import ByteStream, PathOrStream, checked_defaults
from marketpipe.sources.records import RecordBuilder


class MessageFile(Closing):
    """A file as one connection of a feed; the base of a `marketpipe.sources.base.MessageSource`.

    Parameters
    ----------
    origin : a path, ``-`` for standard input, or a binary stream
    source, feed : what stands for the vendor
    journal_id : the journal to write to
    conn_id : number of the connection
    symbol_of : names the symbol of one message, "" where it has none
    final_clock : end with a tick of the clock one second after the last message; where no time
        was known, of the time 0

    Raises
    ------
    InputError
        The file cannot be opened.
    UsageError
        ``source`` or ``feed`` is malformed.
    """

    def __init__(
        self,
        origin: PathOrStream,
        *,
        source: str,
        feed: str,
        journal_id: str,
        conn_id: int,
        symbol_of: Callable[[Any], str] | None = None,
        final_clock: bool,
    ) -> None:
        checked_defaults(source, feed)
        self._source = source
        self._feed = feed
        self._journal_id = journal_id
        self._conn_id = conn_id
        self._symbol_of = symbol_of
        self._final_clock = final_clock
        self._stream = ByteStream(origin)

    @property
    def source(self) -> str:
        """The vendor, or what stands for one."""
        return self._source

    @property
    def journal_id(self) -> str:
        """The journal that the records belong to."""
        return self._journal_id

    def close(self) -> None:
        """Close the file, unless it was handed in open."""
        self._stream.close()

    def _builder(self, started_ns: int, next_frame: int = 0) -> RecordBuilder:
        return RecordBuilder(
            source=self._source,
            feed=self._feed,
            stream=self._stream.name,
            conn_id=self._conn_id,
            conn_started_ns=started_ns,
            symbol_of=self._symbol_of,
            next_frame=next_frame,
        )

    def _ended(self, builder: RecordBuilder, latest: int | None) -> pa.RecordBatch:
        """Return the last batch; ``latest`` is when the last message was received, if known."""
        builder.add_control({"event": "disconnected"}, latest or 0)
        if self._final_clock:
            builder.add_clock(latest + NANOS if latest else 0)
        return builder.take()
