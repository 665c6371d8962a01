"""What can still be read of a segment, and what cannot."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from marketpipe.errors import JournalError
from marketpipe.journal.base import MAX_RECORDS, Damage
from marketpipe.journal.block import Block
from marketpipe.journal.faults import translated
from marketpipe.journal.segment import Segment

_WAITS: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
"""Errors that say nothing about the file."""

_FARTHEST: Final = 1 << 62
_MISSING: Final = "records are missing"


class Survey:
    """Gives the intact blocks of a segment in order, and the ranges between them.

    Parameters
    ----------
    segment : opened by the caller

    Attributes
    ----------
    disordered : whether SQLite has come to a page that it could not read
    """

    def __init__(self, segment: Segment) -> None:
        self.disordered = False
        self._segment = segment
        self._reason = _MISSING
        self._claimed = -1

    def run(self, first_offset: int, end: int | None) -> Iterator[Block | Damage]:
        """Give blocks and damages that together cover a range.

        Parameters
        ----------
        first_offset : first offset of a block, or of a range that is damaged
        end : one past the last offset; None for wherever the segment ends: there a damage after
            the last block is found only if the file shows traces of it

        Raises
        ------
        BusyError
            If another process keeps the database locked.
        """
        expected = first_offset
        for block in self._readable(first_offset, end):
            if end is not None and block.first_offset >= end:
                break
            if not self._usable(block, expected):
                continue
            if block.first_offset > expected:
                yield self._damage(expected, block.first_offset - 1)
            yield block
            self._reason, self._claimed = _MISSING, -1
            expected = block.first_offset + block.records
        if end is not None and expected < end:
            yield self._damage(expected, end - 1)
        elif end is None and self._reason != _MISSING:
            yield self._damage(expected, self._claimed if self._claimed >= expected else None)

    def _damage(self, first_offset: int, last_offset: int | None) -> Damage:
        return Damage(first_offset, last_offset, str(self._segment.path), self._reason)

    def _usable(self, block: Block, expected: int) -> bool:
        if block.intact and block.first_offset >= expected:
            return True
        self._reason = f"the checksum of the block at {block.first_offset} does not match"
        if isinstance(block.records, int) and 0 < block.records <= MAX_RECORDS:
            self._claimed = max(self._claimed, block.first_offset + block.records - 1)
        return False

    def _readable(self, first_offset: int, end: int | None) -> Iterator[Block]:
        at: int | None = first_offset
        while at is not None:
            try:
                for block in self._segment.blocks(at):
                    yield block
                    at = block.first_offset + 1
            except sqlite3.DatabaseError as error:
                self._note(error)
                at = self._next_readable(at, _FARTHEST if end is None else end)
            else:
                return

    def _note(self, error: sqlite3.DatabaseError) -> None:
        if getattr(error, "sqlite_errorname", "").startswith(_WAITS):
            with translated(self._segment.path, "read"):
                raise error
        self.disordered = True
        self._reason = f"the database is damaged ({error})"

    def _next_readable(self, at: int, end: int) -> int | None:
        """Return where a block can be found after the one at or past ``at`` could not be read."""
        found = self._found(at)
        if found is not None:
            return found + 1 if found + 1 < end else None
        low, step = at, 1
        while low + step < end and self._found(low + step) is None:
            low, step = low + step, step * 2
        high = min(low + step, end)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._found(middle) is None else (low, middle)
        return self._found(high)

    def _found(self, offset: int) -> int | None:
        try:
            return self._segment.next_of(offset)
        except sqlite3.DatabaseError as error:
            self._note(error)
            return None


def verified(segment: Segment, first_offset: int, end: int) -> Iterator[Block]:
    """Give the blocks from that which holds ``first_offset`` up to ``end`` (exclusive).

    Raises
    ------
    JournalError
        On coming to a range that is damaged; what follows it can be read from its end on.
    BusyError
        If another process keeps the database locked.
    """
    for found in Survey(segment).run(_block_start(segment, first_offset), end):
        if isinstance(found, Damage):
            raise JournalError(f"the journal is damaged: {found}. {way_back(found)}")
        yield found


def intact_at(segment: Segment, offset: int) -> Block:
    """Return the block that holds an offset.

    Raises
    ------
    JournalError
        If it is damaged or missing.
    BusyError
        If another process keeps the database locked.
    """
    try:
        found = segment.block_at(offset)
    except sqlite3.DatabaseError:
        found = None
    if found is None or not found.intact or offset >= found.tail.next_offset:
        # A survey says where the damage begins and ends.
        *_, found = verified(segment, offset, offset + 1)
    return found


def _block_start(segment: Segment, offset: int) -> int:
    try:
        found = segment.first_of(offset)
    except sqlite3.DatabaseError:
        return offset
    # In a damaged file even the order of the keys can be wrong.
    return offset if found is None or found > offset else found


def way_back(damage: Damage) -> str:
    """Return what a user can do about a damage."""
    rest = (
        "" if damage.last_offset is None else f"; from {damage.last_offset + 1} on it is readable"
    )
    return (
        f"Put {Path(damage.file).name} back from a backup, or take these offsets from lake/raw "
        f"if it has them{rest}"
    )
