"""The default journal: a folder of SQLite files."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa

from marketpipe.domain.closing import Closing
from marketpipe.domain.records import FORMAT_VERSION
from marketpipe.errors import JournalError, UsageError
from marketpipe.journal.base import Damage, Durability, Repair, check_retain
from marketpipe.journal.block import Block, Tail, checked, pack, pieces, stamped
from marketpipe.journal.faults import translated
from marketpipe.journal.lock import WriterLock
from marketpipe.journal.reading import SqliteJournalReader
from marketpipe.journal.recovery import recovered, remove, tidy
from marketpipe.journal.segment import (
    Meta,
    Segment,
    create,
    segment_path,
    segments,
    sync_folder,
)

SEGMENT_BYTES: Final = 256 << 20
BUSY_TIMEOUT_S: Final = 5.0


class SqliteJournal(Closing):
    """The writer of a journal in a folder; implements `Journal`. Threads may share it.

    Parameters
    ----------
    folder : folder of this journal alone; made if it is not there
    journal_id : name of the journal, the same each time
    durability : ``process`` (a kill loses nothing) or ``power`` (nor does a power cut)
    segment_bytes : a new file is begun once the blocks of one take this much; at least 1
    busy_timeout_s : how long to wait for another process that has the database locked

    Raises
    ------
    BusyError
        If the journal already has a writer.
    FullError
        If there is no room to open it.
    NewerVersionError
        If a newer version of MarketPipe wrote it.
    JournalError
        If the folder cannot be used, holds another journal, or its last file cannot be read.
    UsageError
        If an argument is out of range.
    """

    def __init__(
        self,
        folder: Path,
        journal_id: str,
        *,
        durability: Durability = "process",
        segment_bytes: int = SEGMENT_BYTES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        _check_arguments(journal_id, durability, segment_bytes)
        self._folder = folder
        self._journal_id = journal_id
        self._durability: Durability = durability
        self._segment_bytes = segment_bytes
        self._timeout_s = busy_timeout_s
        self._mutex = threading.Lock()
        with translated(folder, "use the folder"):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(folder)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        tidy(self._folder)
        if not segments(self._folder):
            self._create(Tail())
        path = segments(self._folder)[-1][1]
        self._recovery = recovered(path, self._journal_id, self._durability)
        with translated(path, "open"):
            self._segment: Segment | None = self._opened(path)
            self._tail = self._segment.tail()
            self._used_bytes = self._segment.size_bytes()

    def _opened(self, path: Path) -> Segment:
        return Segment(path, self._journal_id, self._durability, self._timeout_s)

    def _create(self, start: Tail) -> Path:
        path = segment_path(self._folder, start.next_offset)
        with translated(path, "make segment"):
            create(path, Meta(FORMAT_VERSION, self._journal_id, start))
        return path

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
        """What was lost of the last segment when this writer opened the journal."""
        return self._recovery.repairs

    @property
    def damages(self) -> tuple[Damage, ...]:
        """What of the last segment was found damaged at the opening, and was left as it is."""
        return self._recovery.damages

    def append(self, records: pa.RecordBatch | pa.Table) -> int:
        """Append records, all or none, in one transaction; see `Journal.append`."""
        batches = checked(records)
        with self._mutex:
            segment = self._current()
            first = self._tail.next_offset
            if not batches:
                return first
            blocks, tail = _packed(batches, self._tail)
            if self._is_over(segment):
                segment = self._rotate(segment)
            with translated(segment.path, "append to"):
                segment.insert(blocks)
            self._tail = tail
            self._used_bytes += sum(len(block.data) for block in blocks)
            return first

    def _current(self) -> Segment:
        if self._segment is None:
            raise JournalError(f"the writer of {self._folder} is closed; open a new one")
        return self._segment

    def _is_over(self, segment: Segment) -> bool:
        return self._used_bytes >= self._segment_bytes or segment.meta.version < FORMAT_VERSION

    def _rotate(self, old: Segment) -> Segment:
        # If this fails half-way the new file is empty, and is made anew at the next append.
        path = self._create(self._tail)
        with translated(path, "open"):
            self._segment = new = self._opened(path)
        self._used_bytes = 0
        old.close()
        return new

    def retain(self, from_offset: int) -> int:
        """Delete whole files that lie wholly below an offset; see `Journal.retain`."""
        with self._mutex:
            self._current()
            check_retain(self._journal_id, from_offset, self._tail.next_offset)
            for (_, path), (end, _) in pairwise(segments(self._folder)):
                if end > from_offset:
                    break
                with translated(path, "delete"):
                    remove(path)
                    sync_folder(self._folder)
            return segments(self._folder)[0][0]

    def reader(self) -> SqliteJournalReader:
        """Return a new reader of this journal; the caller closes it."""
        return SqliteJournalReader(self._folder, self._journal_id)

    def close(self) -> None:
        """Let go of the journal; a second call does nothing, an append after it raises."""
        with self._mutex:
            segment, self._segment = self._segment, None
            if segment is not None:
                segment.close()
            self._lock.close()


def _check_arguments(journal_id: str, durability: str, segment_bytes: int) -> None:
    if not journal_id:
        raise UsageError("journal_id: was '', must be a name, such as 'alpaca'")
    if durability not in ("process", "power"):
        raise UsageError(f"durability: was '{durability}'; valid are process, power")
    if segment_bytes < 1:
        raise UsageError(f"segment_bytes: was '{segment_bytes}', must be at least 1")


def _packed(batches: list[pa.RecordBatch], tail: Tail) -> tuple[list[Block], Tail]:
    blocks = []
    for batch in batches:
        for piece in pieces(stamped(batch, tail.last_ts_recv)):
            blocks.append(pack(piece, tail))
            tail = blocks[-1].tail
    return blocks, tail
