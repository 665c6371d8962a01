"""Lines of a tick CSV as they are, beside what they say."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64, Batch
from marketpipe.sources.base import ByteStream
from marketpipe.sources.csvfile import _rows_kernel as rows
from marketpipe.sources.csvfile.blocks import LineBlocks, read_header
from marketpipe.sources.csvfile.header import Layout
from marketpipe.sources.csvfile.names import Names
from marketpipe.sources.csvfile.rows import U8, RowReader

_LF = 10


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file.

    Attributes
    ----------
    payloads : binary, the lines without their line feeds
    sizes : int64, their lengths in the file
    batch : what could be read, ``row`` and that of its bad rows counted from 1 within `lines`
    place : int64, the line (from 0) of each row of ``batch``
    """

    payloads: pa.Array
    sizes: I64
    batch: Batch
    place: I64


class LineReader:
    """Reads a file in pieces of ``batch_lines`` lines, or of what a block holds.

    Parameters
    ----------
    stream : the file, which the caller closes
    source, feed : for rows that name none
    symbols : leave out readable lines of others
    batch_lines : lines in a full piece

    Raises
    ------
    HeaderError
        As `read_header`.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        source: str,
        feed: str,
        symbols: frozenset[str] | None,
        batch_lines: int,
    ) -> None:
        self._blocks = blocks = LineBlocks(stream)
        self._batch_lines = batch_lines
        self._keep_all = symbols is None
        self.layout: Layout
        self.layout, self._first = read_header(blocks, stream.name)
        self._reader = RowReader(
            self.layout,
            Names(symbols),
            source=source,
            feed=feed,
            file=stream.name,
            batch_rows=batch_lines + 1,
            window_bytes=len(blocks.buffer),
            keep_all=self._keep_all,
        )

    def lines(self) -> Iterator[Lines]:
        """Yield all lines behind the header, once; raises `CorruptError` where they end early."""
        blocks, at = self._blocks, self._first
        while True:
            hits = np.flatnonzero(blocks.buffer[at : blocks.end] == _LF) + at
            for k in range(0, len(hits), self._batch_lines):
                ends = hits[k : k + self._batch_lines]
                yield self._piece(at, ends)
                at = int(ends[-1]) + 1
            if blocks.final:
                return
            if blocks.is_too_long(at):
                yield self._too_long(at)
            else:
                blocks.refill(at)
            at = 0

    def _piece(self, at: int, ends: I64) -> Lines:
        window = self._blocks.buffer
        stop = int(ends[-1]) + 1
        block = window[at:stop]
        begins = np.concatenate(([at], ends[:-1] + 1))
        payloads = _binary(block[block != _LF].tobytes(), ends - begins)
        batch = read_lines(self._reader, window, at, stop)
        return self._kept(Lines(payloads, ends - begins, batch, batch.row - 1))

    def _kept(self, lines: Lines) -> Lines:
        if self._keep_all:
            return lines
        bad = np.array([row.row - 1 for row in lines.batch.bad], np.int64)
        kept = np.union1d(lines.place, bad)
        place = np.searchsorted(kept, lines.place)
        return Lines(lines.payloads.take(pa.array(kept)), lines.sizes[kept], lines.batch, place)

    def _too_long(self, at: int) -> Lines:
        # Two bytes too many: one might be the carriage return of the line's end.
        head = self._blocks.text(at, at + rows.MAX_LINE_BYTES + 2)
        _, size = self._blocks.skip_line(at)
        window = np.frombuffer(head + b"\n" + bytes(rows.SCRATCH_BYTES), np.uint8).copy()
        batch = read_lines(self._reader, window, 0, len(head) + 1)
        return Lines(pa.array([head], pa.binary()), np.array([size]), batch, batch.row - 1)


def read_lines(reader: RowReader, window: U8, at: int, stop: int) -> Batch:
    """Read the whole lines from ``at`` to ``stop``, which must fit one batch; rows from 1."""
    reader.state[rows.LINE] = 0
    reader.index(window, at, stop)
    while reader.parse(window) != rows.NEED_BYTES:
        # The kernel came back to have bad rows or names taken, and goes on.
        continue
    return reader.take()


def _binary(data: bytes, sizes: I64) -> pa.Array:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(sizes), buffers)
