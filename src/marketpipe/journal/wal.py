"""Finds out whether a write-ahead log held more than SQLite took from it.

SQLite takes what checks out and forgets the rest without a word. A torn end is what a crash leaves
of an append that nobody was told of; whole commits beyond it are a loss to be reported.

Source: "WAL-mode File Format", sqlite.org.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from marketpipe.journal.segment import PAGE_BYTES

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682
"""The lowest bit says in which byte order checksums are computed: 1 big-endian."""


class WalCommits(NamedTuple):
    """Commits that a write-ahead log appears to hold.

    Attributes
    ----------
    header_intact : whether the log's header has its checksum
    last_frame : number of the last frame, from 1, that ends a commit of the log's last use;
        0 if there is none
    """

    header_intact: bool
    last_frame: int

    def beyond(self, taken: int) -> bool:
        """Return whether there is a commit beyond the frames that SQLite took."""
        return self.last_frame > taken


def wal_commits(path: Path) -> WalCommits:
    """Read the headers of a write-ahead log; a log that is not there has no commit."""
    if not path.exists():
        return WalCommits(True, 0)
    with path.open("rb") as log:
        header = log.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return WalCommits(True, 0)
        fields = _HEADER.unpack(header)
        intact = _is_intact(header)
        last = 0
        salts: tuple[int, ...] | None = fields[4:6] if intact else None
        for number, (_, pages, *marks) in enumerate(_frames(log, _page_bytes(fields[2])), 1):
            # Frames with other salts were left by an earlier use, and are in the database.
            salts = salts or tuple(marks[:2])
            if pages and tuple(marks[:2]) == salts:
                last = number
        return WalCommits(intact, last)


def _is_intact(header: bytes) -> bool:
    magic = int.from_bytes(header[:4], "big")
    if magic & ~1 != _MAGIC:
        return False
    words = struct.unpack(">6I" if magic & 1 else "<6I", header[:24])
    one = two = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return (one, two) == _HEADER.unpack(header)[6:8]


def _page_bytes(said: int) -> int:
    return said if 512 <= said <= 65536 and said & (said - 1) == 0 else PAGE_BYTES


def _frames(log: BinaryIO, page_bytes: int) -> Iterator[tuple[int, ...]]:
    at = _HEADER.size
    while True:
        log.seek(at)
        frame = log.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            return
        yield _FRAME.unpack(frame)
        at += _FRAME.size + page_bytes
