"""What every journal can do: an ordered, durable log of records."""

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias

import pyarrow as pa

from marketpipe.domain.records import Kind
from marketpipe.errors import JournalError, UsageError

Durability: TypeAlias = Literal["process", "power"]
"""``process``: what was acknowledged survives a kill; ``power``: the loss of power too."""

MAX_RECORDS: Final = 65_536
"""Largest batch that a reader gives unless told otherwise, and largest block of a file."""


class Damage(NamedTuple):
    """A range of offsets that can no longer be read.

    Attributes
    ----------
    first_offset, last_offset : both inclusive; ``last_offset`` is None where only the end of the
        file limits the range
    file : path of the damaged file
    reason : what was found there
    """

    first_offset: int
    last_offset: int | None
    file: str
    reason: str

    def __str__(self) -> str:
        last = "the end" if self.last_offset is None else str(self.last_offset)
        return f"offsets {self.first_offset} to {last} of {self.file}: {self.reason}"


class Repair(NamedTuple):
    """What a writer lost of its last segment when it opened it and put it in order.

    Attributes
    ----------
    first_offset : first offset that was lost; at the end of the journal the next append takes it
    last_offset : last offset that was lost, inclusive; None where nothing says how many there were
    file : path of the repaired file
    kept_as : path of the damaged file as it was found; None where nothing was left to keep
    reason : what was found
    """

    first_offset: int
    last_offset: int | None
    file: str
    kept_as: str | None
    reason: str

    def __str__(self) -> str:
        lost = Damage(self.first_offset, self.last_offset, self.file, self.reason)
        return (
            str(lost) if self.kept_as is None else f"{lost}; the file as it was is {self.kept_as}"
        )


class JournalReader(Protocol):
    """Reads a journal, in any thread or process, while a writer may be appending to it."""

    @property
    def journal_id(self) -> str:
        """Name of the journal."""
        ...

    @property
    def first_offset(self) -> int:
        """First offset that is kept; equal to `next_offset` where no record is."""
        ...

    @property
    def next_offset(self) -> int:
        """Offset of the record that will be appended next: one past the last durable one."""
        ...

    def read(self, offset: int, max_records: int = MAX_RECORDS) -> Iterator[pa.RecordBatch]:
        """Give the records from an offset (inclusive) to what was durable at the call.

        Parameters
        ----------
        offset : where to begin; `next_offset` gives nothing
        max_records : size of the largest batch, at least 1

        Returns
        -------
        iterator of record batches of the schema `marketpipe.domain.records:STORED`, not empty, in
        order of offset, without holes

        Raises
        ------
        JournalError
            At the call, if ``offset`` lies outside what the journal holds; from the iterator, when
            it comes to records that are damaged (all before them were given).
        UsageError
            At the call, if ``max_records`` is below 1.
        """
        ...

    def last(self, kind: Kind) -> int | None:
        """Return the offset of the last record of a kind; None if none is kept."""
        ...

    def backwards(self, kind: Kind) -> Iterator[pa.RecordBatch]:
        """Give the records of one kind that are durable at the call, the latest first.

        Only what holds such a record is read, and what lies right before it: where they are few,
        that takes no longer however many others there are.

        Returns
        -------
        iterator of record batches of the schema `marketpipe.domain.records:STORED`, not empty, in
        falling order of offset

        Raises
        ------
        JournalError
            From the iterator, when it comes to records that are damaged.
        """
        ...

    def check(self) -> tuple[Damage, ...]:
        """Read everything and return each range of offsets that cannot be read."""
        ...

    def close(self) -> None:
        """Let go of files; reading again opens them again."""
        ...


class Journal(Protocol):
    """Writes a journal; there is at most one writer per journal."""

    @property
    def journal_id(self) -> str:
        """Name of the journal."""
        ...

    @property
    def next_offset(self) -> int:
        """Offset that the next record will get; 0 in a new journal."""
        ...

    @property
    def last_ts_recv(self) -> int | None:
        """Latest time of receipt stamped so far, ns since the epoch; None in a new journal."""
        ...

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """What was cut off when this writer opened the journal."""
        ...

    def append(self, records: pa.RecordBatch | pa.Table) -> int:
        """Append records, all or none; they are durable on return.

        ``ts_recv`` is stored as the largest of the journal's last one, those before it in
        ``records``, and its own, so that it never steps back.

        Parameters
        ----------
        records : of the schema `marketpipe.domain.records:RECORDS`; may be empty

        Returns
        -------
        offset of the first record; the next free offset if there is none

        Raises
        ------
        JournalError
            If the schema or a value is not one of a record, or writing failed.
        FullError
            If there is no room; nothing was written, and appending works again once there is.
        BusyError
            If another process keeps the database locked.
        """
        ...

    def retain(self, from_offset: int) -> int:
        """Delete what lies wholly below an offset, in whole segments, never the current one.

        Returns
        -------
        the first offset that is kept; at most ``from_offset``

        Raises
        ------
        JournalError
            If ``from_offset`` is past the next offset, or a file cannot be deleted.
        """
        ...

    def reader(self) -> JournalReader:
        """Return a new reader of this journal; the caller closes it."""
        ...

    def close(self) -> None:
        """Let go of the journal; a second call does nothing, an append after it raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def check_range(journal_id: str, offset: int, span: tuple[int, int], max_records: int) -> None:
    """Raise what `JournalReader.read` raises at the call.

    Parameters
    ----------
    journal_id, offset, max_records : of the call
    span : first offset (inclusive) and next offset (exclusive) of what the journal holds
    """
    if max_records < 1:
        raise UsageError(f"max_records: was '{max_records}', must be at least 1")
    first, end = span
    if not first <= offset <= end:
        what = "were deleted; lake/raw has them" if offset < first else "were never written"
        raise JournalError(
            f"read: offset was '{offset}'; journal '{journal_id}' holds {first} (inclusive) to "
            f"{end} (exclusive): offsets {'below' if offset < first else 'from there on'} {what}"
        )


def check_retain(journal_id: str, from_offset: int, next_offset: int) -> None:
    """Raise what `Journal.retain` raises for an offset that is not there yet."""
    if from_offset > next_offset:
        raise JournalError(
            f"retain: from_offset was '{from_offset}', must be at most {next_offset}, the next "
            f"offset of journal '{journal_id}'"
        )
