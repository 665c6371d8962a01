"""A journal in memory, for tests and for runs that keep nothing."""

import threading
from bisect import bisect_right
from collections.abc import Iterator

import pyarrow as pa

from marketpipe.domain.closing import Closing
from marketpipe.domain.records import Kind
from marketpipe.errors import JournalError
from marketpipe.journal.base import MAX_RECORDS, Damage, Repair, check_range, check_retain
from marketpipe.journal.block import (
    Tail,
    advanced,
    checked,
    of_kind_reversed,
    stamped,
    stored,
)


class MemoryJournal(Closing):
    """The writer of a journal in memory; implements `Journal`. Threads may share it.

    Parameters
    ----------
    journal_id : name of the journal
    """

    def __init__(self, journal_id: str) -> None:
        self._journal_id = journal_id
        self._mutex = threading.Lock()
        self._firsts: list[int] = []
        self._batches: list[pa.RecordBatch] = []
        self._tail = Tail()
        self._closed = False

    @property
    def journal_id(self) -> str:
        """Name of the journal."""
        return self._journal_id

    @property
    def next_offset(self) -> int:
        """Offset that the next record will get; 0 in a new journal."""
        return self._tail.next_offset

    @property
    def last_ts_recv(self) -> int | None:
        """Latest time of receipt stamped so far, ns since the epoch; None in a new journal."""
        return self._tail.last_ts_recv

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """Nothing: memory needs no repair."""
        return ()

    def append(self, records: pa.RecordBatch | pa.Table) -> int:
        """Append records, all or none; see `Journal.append`."""
        batches = checked(records)
        with self._mutex:
            if self._closed:
                raise JournalError(f"the writer of journal '{self._journal_id}' is closed")
            first = self._tail.next_offset
            for batch in batches:
                self._add(stamped(batch, self._tail.last_ts_recv))
            return first

    def _add(self, batch: pa.RecordBatch) -> None:
        self._firsts.append(self._tail.next_offset)
        self._batches.append(stored(batch, self._journal_id, self._tail.next_offset))
        self._tail = advanced(self._tail, batch)

    def retain(self, from_offset: int) -> int:
        """Drop batches that lie wholly below an offset; see `Journal.retain`."""
        with self._mutex:
            check_retain(self._journal_id, from_offset, self._tail.next_offset)
            kept = min(bisect_right(self._firsts, from_offset), len(self._firsts)) - 1
            if kept > 0:
                del self._firsts[:kept], self._batches[:kept]
            return self._first()

    def _first(self) -> int:
        return self._firsts[0] if self._firsts else self._tail.next_offset

    def reader(self) -> "MemoryJournalReader":
        """Return a new reader of this journal."""
        return MemoryJournalReader(self)

    def first_offset(self) -> int:
        """Return the first offset that is kept."""
        with self._mutex:
            return self._first()

    def last(self, kind: Kind) -> int | None:
        """Return the offset of the last record of a kind; None if none is kept."""
        with self._mutex:
            found = self._tail.last(kind)
            return found if found is not None and found >= self._first() else None

    def kept(self, offset: int, max_records: int) -> list[pa.RecordBatch]:
        """Return the batches from that which holds an offset on.

        Raises
        ------
        JournalError, UsageError
            As `JournalReader.read` does.
        """
        with self._mutex:
            span = (self._first(), self._tail.next_offset)
            check_range(self._journal_id, offset, span, max_records)
            return self._batches[max(0, bisect_right(self._firsts, offset) - 1) :]

    def close(self) -> None:
        """Refuse further appends; readers go on."""
        self._closed = True


class MemoryJournalReader:
    """Reads a journal in memory; implements `JournalReader`.

    Parameters
    ----------
    journal : the journal to read, open or closed
    """

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal

    @property
    def journal_id(self) -> str:
        """Name of the journal."""
        return self._journal.journal_id

    @property
    def first_offset(self) -> int:
        """First offset that is kept; equal to `next_offset` where no record is."""
        return self._journal.first_offset()

    @property
    def next_offset(self) -> int:
        """Offset of the record that will be appended next."""
        return self._journal.next_offset

    def read(self, offset: int, max_records: int = MAX_RECORDS) -> Iterator[pa.RecordBatch]:
        """Give the records from an offset to the last one now; see `JournalReader.read`."""
        return _sliced(self._journal.kept(offset, max_records), offset, max_records)

    def last(self, kind: Kind) -> int | None:
        """Return the offset of the last record of a kind; None if none is kept."""
        return self._journal.last(kind)

    def backwards(self, kind: Kind) -> Iterator[pa.RecordBatch]:
        """Give the records of one kind, the latest first; see `JournalReader.backwards`."""
        for batch in reversed(self._journal.kept(self.first_offset, MAX_RECORDS)):
            found = of_kind_reversed(batch, kind)
            if len(found):
                yield found

    def check(self) -> tuple[Damage, ...]:
        """Nothing: memory is not checked."""
        return ()

    def close(self) -> None:
        """Do nothing: there is no file."""


def _sliced(
    batches: list[pa.RecordBatch], offset: int, max_records: int
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        first = batch.column("offset")[0].as_py()
        rest = batch.slice(max(0, offset - first))
        for at in range(0, rest.num_rows, max_records):
            yield rest.slice(at, max_records)
