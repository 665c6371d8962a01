"""Reads a folder of SQLite files while a writer, here or elsewhere, may append to it."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from marketpipe.domain.records import Kind
from marketpipe.errors import JournalError, NewerVersionError
from marketpipe.journal.base import MAX_RECORDS, Damage, check_range
from marketpipe.journal.block import Block, Tail, of_kind_reversed, stored, unpack
from marketpipe.journal.faults import translated
from marketpipe.journal.segment import Segment, segments
from marketpipe.journal.survey import Survey, intact_at, verified

_AT_ONCE_BYTES: Final = 16 << 20
"""Small blocks are joined up to this size, or to the largest batch that was asked for."""


class _Part(NamedTuple):
    path: Path
    first_offset: int
    end: int
    finished: bool


class SqliteJournalReader:
    """Reads a journal in a folder; implements `JournalReader`. Threads may share it.

    Parameters
    ----------
    folder : the journal's folder, in which a writer has been
    journal_id : name that the journal must have; None takes any

    Raises
    ------
    NewerVersionError
        If a newer version of MarketPipe wrote it.
    JournalError
        If there is no journal there, another one, or its last file cannot be read.
    """

    def __init__(self, folder: Path, journal_id: str | None = None) -> None:
        self._folder = folder
        self._wanted = journal_id
        self._mutex = threading.Lock()
        self._last: Segment | None = None
        if not segments(folder):
            raise JournalError(f"there is no journal in {folder}: its writer makes it")

    @property
    def journal_id(self) -> str:
        """Name of the journal."""
        if self._wanted is None:
            with self._mutex:
                self._wanted = self._current().meta.journal_id
        return self._wanted

    @property
    def first_offset(self) -> int:
        """First offset that is kept; equal to `next_offset` where no record is."""
        return segments(self._folder)[0][0]

    @property
    def next_offset(self) -> int:
        """Offset of the record that will be appended next: one past the last durable one."""
        return self._tail().next_offset

    def _tail(self) -> Tail:
        with self._mutex:
            segment = self._current()
            with translated(segment.path, "read"):
                return segment.tail()

    def _current(self) -> Segment:
        path = segments(self._folder)[-1][1]
        with translated(path, "open"):
            held = self._last
            # A writer that repaired the file has put another in its place.
            if held and held.path == path and held.inode == path.stat().st_ino:
                return held
            self._last = Segment(path, self._wanted)
        if held:
            held.close()
        return self._last

    def last(self, kind: Kind) -> int | None:
        """Return the offset of the last record of a kind; None if none is kept."""
        found = self._tail().last(kind)
        return found if found is not None and found >= self.first_offset else None

    def read(self, offset: int, max_records: int = MAX_RECORDS) -> Iterator[pa.RecordBatch]:
        """Give the records from an offset to what is durable now; see `JournalReader.read`."""
        end = self.next_offset
        listed = segments(self._folder)
        check_range(self.journal_id, offset, (listed[0][0], end), max_records)
        parts = [part for part in _parts(listed, end) if offset < part.end]
        return self._batches(parts, offset, max_records)

    def _batches(
        self, parts: list[_Part], offset: int, max_records: int
    ) -> Iterator[pa.RecordBatch]:
        for part in parts:
            with (
                translated(part.path, "read"),
                closing(Segment(part.path, self._wanted, finished=part.finished)) as segment,
            ):
                start = max(offset, part.first_offset)
                blocks = _groups(verified(segment, start, part.end), max_records)
                for group in blocks:
                    joined = self._joined(group, segment.meta.version, offset)
                    for at in range(0, joined.num_rows, max_records):
                        yield joined.slice(at, max_records)

    def _joined(self, group: list[Block], version: int, offset: int) -> pa.RecordBatch:
        records = pa.concat_batches([unpack(block, version) for block in group])
        batch = stored(records, self.journal_id, group[0].first_offset)
        return batch.slice(max(0, offset - group[0].first_offset))

    def backwards(self, kind: Kind) -> Iterator[pa.RecordBatch]:
        """Give the records of one kind, the latest first; see `JournalReader.backwards`."""
        at = self._tail().last(kind)
        listed = segments(self._folder)
        for first, path in reversed(listed):
            if at is None or at < first:
                continue
            finished = path != listed[-1][1]
            with (
                translated(path, "read"),
                closing(Segment(path, self._wanted, finished=finished)) as segment,
            ):
                while at is not None and at >= first:
                    block = intact_at(segment, at)
                    records = unpack(block, segment.meta.version)
                    yield of_kind_reversed(
                        stored(records, self.journal_id, block.first_offset), kind
                    )
                    # A block tells where the last record of each kind is, as of its end.
                    before = block.first_offset - 1
                    tail = segment.meta.start if before < first else intact_at(segment, before).tail
                    at = tail.last(kind)

    def check(self) -> tuple[Damage, ...]:
        """Read everything and return each range of offsets that cannot be read."""
        listed = segments(self._folder)
        try:
            end: int | None = self.next_offset
        except NewerVersionError:
            raise
        except JournalError:
            end = None
        ends = [*(first for first, _ in listed[1:]), end]
        return tuple(
            damage
            for (first, path), until in zip(listed, ends, strict=True)
            for damage in self._damages(path, first, until, path != listed[-1][1])
        )

    def _damages(self, path: Path, first: int, end: int | None, finished: bool) -> list[Damage]:
        try:
            with closing(Segment(path, self._wanted, finished=finished)) as segment:
                found = Survey(segment).run(first, end)
                return [item for item in found if isinstance(item, Damage)]
        except NewerVersionError:
            raise
        except (sqlite3.Error, OSError, JournalError) as error:
            last = None if end is None else end - 1
            return [Damage(first, last, str(path), f"the file cannot be read ({error})")]

    def close(self) -> None:
        """Let go of files; reading again opens them again."""
        with self._mutex:
            held, self._last = self._last, None
            if held:
                held.close()


def _parts(listed: list[tuple[int, Path]], end: int) -> Iterator[_Part]:
    for (first, path), (following, _) in pairwise([*listed, (end, Path())]):
        if first < end:
            yield _Part(path, first, min(following, end), path != listed[-1][1])


def _groups(blocks: Iterator[Block], max_records: int) -> Iterator[list[Block]]:
    group: list[Block] = []
    count = size = 0
    damaged: JournalError | None = None
    try:
        for block in blocks:
            group.append(block)
            count, size = count + block.records, size + block.raw_bytes
            if count >= max_records or size >= _AT_ONCE_BYTES:
                yield group
                group, count, size = [], 0, 0
    except JournalError as error:
        damaged = error
    if group:
        yield group
    if damaged:
        raise damaged
