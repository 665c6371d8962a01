"""A window over a byte stream that always holds whole lines, or says that one is too long."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.errors import CorruptError, HeaderError
from marketpipe.sources.base import RAW_CUT_BYTES, ByteStream
from marketpipe.sources.csvfile._rows_kernel import MAX_LINE_BYTES, SCRATCH_BYTES
from marketpipe.sources.csvfile.header import Layout, parse_header

BLOCK_BYTES: Final = 1 << 20

U8: TypeAlias = npt.NDArray[np.uint8]

_BOM = b"\xef\xbb\xbf"
_LF = 10
_CR = 13


class LineBlocks:
    """Reads blocks of ``block_bytes`` behind the rest of the last line.

    Attributes
    ----------
    buffer : uint8; bytes before ``end`` are valid, the last `SCRATCH_BYTES` are not input
    final : no bytes follow ``end``; the last line ends with a line feed, added if need be
    """

    def __init__(self, stream: ByteStream, block_bytes: int = BLOCK_BYTES) -> None:
        self._stream = stream
        self._block_bytes = block_bytes
        # The rest of a line that is not too long, a block, and the line feed of the last line.
        self._room = MAX_LINE_BYTES + 1 + block_bytes
        self.buffer: U8 = np.zeros(self._room + 1 + SCRATCH_BYTES, np.uint8)
        self._view = self.buffer.data
        self.end = 0
        self.final = False

    def refill(self, at: int) -> None:
        """Drop what lies before ``at``, move the rest to the front, read a block behind it."""
        rest = self.end - at
        self.buffer[:rest] = self.buffer[at : self.end]
        self.end = rest
        stop = min(rest + self._block_bytes, self._room)
        while self.end < stop:
            try:
                count = self._stream.readinto(self._view[self.end : stop])
            except CorruptError:
                # What came before the damage goes first; the next call meets it again.
                if self.end == rest:
                    raise
                return
            if count == 0:
                self.final = True
                if self.end and self.buffer[self.end - 1] != _LF:
                    self.buffer[self.end] = _LF
                    self.end += 1
                return
            self.end += count

    def find_line(self, at: int) -> int:
        """Return where the line feed of the line that begins at ``at`` is, or -1."""
        hits = np.flatnonzero(self.buffer[at : self.end] == _LF)
        return at + int(hits[0]) if len(hits) else -1

    def is_too_long(self, at: int) -> bool:
        """Tell whether the line that begins at ``at`` and does not end here is too long."""
        return self.end - at > MAX_LINE_BYTES + 1

    def skip_line(self, at: int) -> tuple[bytes, int]:
        """Read past a line that is too long; returns its first bytes and its length.

        The window then begins, at 0, with the next line.
        """
        head = self.text(at, min(self.end, at + RAW_CUT_BYTES))
        size = self.end - at
        last = int(self.buffer[self.end - 1])
        self.refill(self.end)
        while (line_feed := self.find_line(0)) < 0 and not self.final:
            size += self.end
            last = int(self.buffer[self.end - 1])
            self.refill(self.end)
        # Without a line feed the file ended with the last block, and the window is empty.
        stop = max(line_feed, 0)
        if stop:
            last = int(self.buffer[stop - 1])
        size += stop - (last == _CR)
        rest = min(stop + 1, self.end)
        self.buffer[: self.end - rest] = self.buffer[rest : self.end]
        self.end -= rest
        return head, size

    def text(self, begin: int, end: int) -> bytes:
        """Copy a part of the window."""
        return self.buffer[begin:end].tobytes()


def read_header(blocks: LineBlocks, name: str) -> tuple[Layout, int]:
    """Read the header line of a file; return it, and where the first row begins.

    Raises
    ------
    HeaderError
        The file is empty, or the header is not that of a tick file.
    """
    line_feed = -1
    while line_feed < 0 and not blocks.final:
        if blocks.is_too_long(0):
            raise HeaderError(
                f"{name}: the header line is longer than {MAX_LINE_BYTES:,} bytes. Is "
                "this a text file with one row per line?"
            )
        blocks.refill(0)
        line_feed = blocks.find_line(0)
    stop = blocks.end if line_feed < 0 else line_feed
    raw = blocks.text(0, stop).removeprefix(_BOM).removesuffix(b"\r")
    if blocks.final and not blocks.end:
        raise HeaderError(f"{name}: the file is empty; a tick CSV starts with a header line")
    return parse_header(raw, name), min(stop + 1, blocks.end)
