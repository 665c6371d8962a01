"""One segment of a journal: a SQLite file of blocks."""

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from marketpipe.domain.records import FORMAT_VERSION
from marketpipe.errors import JournalError, NewerVersionError
from marketpipe.journal.base import Durability
from marketpipe.journal.block import Block, Tail
from marketpipe.journal.faults import translated

WAL: Final = "-wal"
SIDE_FILES: Final = (WAL, "-shm")

PAGE_BYTES: Final = 8192
"""Larger pages write blocks of 1,000 records faster, and single records slower."""

_NAME: Final = re.compile(r"([0-9]{20})\.db")
_SCHEMA: Final = f"""
PRAGMA page_size={PAGE_BYTES};
BEGIN;
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (
    first_offset INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    last_ts_recv INTEGER NOT NULL,
    last_data INTEGER,
    last_control INTEGER,
    last_clock INTEGER,
    crc INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    data BLOB NOT NULL
);
"""
_INSERT: Final = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT * FROM block WHERE first_offset >= ? ORDER BY first_offset"
_TAIL: Final = (
    "SELECT first_offset + records, last_ts_recv, last_data, last_control, last_clock"
    " FROM block ORDER BY first_offset DESC LIMIT 1"
)
_SYNCHRONOUS: Final = {"process": "PRAGMA synchronous=NORMAL", "power": "PRAGMA synchronous=FULL"}
_AT_ONCE_BYTES: Final = 8 << 20
"""Blocks fetched in one transaction: one held longer keeps the write-ahead log growing."""


class Meta(NamedTuple):
    """What a segment says of itself.

    Attributes
    ----------
    version : format of its blocks
    journal_id : journal it belongs to
    start : where the journal ended when the segment was begun; its first offset is
        ``start.next_offset``
    """

    version: int
    journal_id: str
    start: Tail


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the first offset and the path of each segment of a folder, in order.

    Raises
    ------
    JournalError
        If the folder cannot be listed.
    """
    with translated(folder, "list the journal in"):
        names = sorted(path.name for path in folder.iterdir())
    found = ((_NAME.fullmatch(name), name) for name in names)
    return [(int(match[1]), folder / name) for match, name in found if match]


def segment_path(folder: Path, first_offset: int) -> Path:
    """Return the path of the segment that begins at an offset."""
    return folder / f"{first_offset:020d}.db"


def create(path: Path, meta: Meta) -> None:
    """Make an empty segment, whole or not at all."""
    publish(draft(path, meta, ()), path)


def draft(path: Path, meta: Meta, blocks: Iterable[Block]) -> Path:
    """Write a segment of blocks that follow ``meta.start`` under another name; return its path."""
    drafted = path.with_name(path.name + ".new")
    drafted.unlink(missing_ok=True)
    with closing(sqlite3.connect(drafted, isolation_level=None)) as base:
        base.executescript(_SCHEMA)
        base.executemany("INSERT INTO meta VALUES (?, ?)", _rows_of(meta))
        base.executemany(_INSERT, blocks)
        base.execute("COMMIT")
        base.execute("PRAGMA journal_mode=WAL")
    return drafted


def publish(drafted: Path, path: Path) -> None:
    """Give a drafted segment its name, durably."""
    drafted.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renamed and deleted names durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _rows_of(meta: Meta) -> list[tuple[str, int | str | None]]:
    start = meta.start._asdict()
    return [("format", meta.version), ("journal_id", meta.journal_id), *start.items()]


class Segment:
    """A connection to a segment, for one thread at a time.

    Methods let SQLite's errors out: `marketpipe.journal.faults:translated` is the callers'.

    Parameters
    ----------
    path : an existing segment
    journal_id : journal that it must belong to; None takes any
    durability : to write, the durability of a commit; None opens it to read
    timeout_s : how long to wait for another process's lock
    finished : whether a later segment follows, so that no one writes to this one any more

    Raises
    ------
    NewerVersionError
        If a newer version of MarketPipe wrote it.
    JournalError
        If it belongs to another journal, or says nothing of itself.
    """

    def __init__(
        self,
        path: Path,
        journal_id: str | None,
        durability: Durability | None = None,
        timeout_s: float = 5.0,
        finished: bool = False,
    ) -> None:
        self.path = path
        self.inode = path.stat().st_ino
        mode = "rw" if durability else _reading_mode(path, finished)
        self._base = _connected(path, mode, timeout_s)
        try:
            if durability:
                self._base.execute(_SYNCHRONOUS[durability])
            else:
                # Lets a file that ends early be read as far as it goes.
                self._base.execute("PRAGMA writable_schema=ON")
            self.meta = self._read_meta()
            self._check_meta(journal_id)
        except BaseException:
            self._base.close()
            raise

    def _read_meta(self) -> Meta:
        rows = dict(self._base.execute("SELECT key, value FROM meta").fetchall())
        version = rows.get("format")
        if not isinstance(version, int):
            raise JournalError(f"{self.path} is no segment of a journal: 'format' was '{version}'")
        if version > FORMAT_VERSION:
            raise NewerVersionError(
                f"{self.path}: format was '{version}', and this version of MarketPipe reads up to "
                f"{FORMAT_VERSION}: use the version that wrote it, or a newer one"
            )
        start = Tail(*(rows[name] for name in Tail._fields))
        return Meta(version, rows["journal_id"], start)

    def _check_meta(self, journal_id: str | None) -> None:
        if journal_id not in (None, self.meta.journal_id):
            raise JournalError(
                f"{self.path} belongs to another journal: journal_id was "
                f"'{self.meta.journal_id}', must be '{journal_id}'; give each journal a folder of "
                "its own"
            )
        if segment_path(self.path.parent, self.meta.start.next_offset) != self.path:
            raise JournalError(
                f"{self.path} was renamed: it begins at offset {self.meta.start.next_offset}; "
                "give it back its name"
            )

    def close(self) -> None:
        """Close the connection."""
        self._base.close()

    def tail(self) -> Tail:
        """Return where the journal ends if this is its last segment."""
        row = self._base.execute(_TAIL).fetchone()
        return Tail(*row) if row else self.meta.start

    def size_bytes(self) -> int:
        """Return the size of all blocks."""
        query = "SELECT coalesce(sum(length(data)), 0) FROM block"
        return int(self._base.execute(query).fetchone()[0])

    def insert(self, blocks: Iterable[Block]) -> None:
        """Append blocks in one transaction."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._base.executemany(_INSERT, blocks)
            self._base.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    def checkpoint(self) -> int:
        """Move the write-ahead log into the file; return the number of its valid frames."""
        return int(self._base.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])

    def first_of(self, offset: int) -> int | None:
        """Return the first offset of the last block that begins at or below an offset."""
        query = "SELECT max(first_offset) FROM block WHERE first_offset <= ?"
        found: int | None = self._base.execute(query, (offset,)).fetchone()[0]
        return found

    def next_of(self, offset: int) -> int | None:
        """Return the first offset of the first block that begins at or above an offset."""
        query = "SELECT min(first_offset) FROM block WHERE first_offset >= ?"
        found: int | None = self._base.execute(query, (offset,)).fetchone()[0]
        return found

    def block_at(self, offset: int) -> Block | None:
        """Return the last block that begins at or below an offset, as it stands."""
        query = _SELECT.replace(">=", "<=") + " DESC LIMIT 1"
        row = self._base.execute(query, (offset,)).fetchone()
        return Block(*row) if row else None

    def blocks(self, first_offset: int) -> Iterator[Block]:
        """Give blocks from an offset on, as they stand; an error comes after those before it."""
        while True:
            some, error = self._some(first_offset)
            yield from some
            if error:
                raise error
            if not some:
                return
            first_offset = some[-1].first_offset + 1

    def _some(self, first_offset: int) -> tuple[list[Block], sqlite3.DatabaseError | None]:
        found: list[Block] = []
        size = 0
        with closing(self._base.cursor()) as cursor:
            try:
                for row in cursor.execute(_SELECT, (first_offset,)):
                    block = Block(*row)
                    if block.first_offset < first_offset:
                        return found, sqlite3.DatabaseError("blocks are out of order")
                    found.append(block)
                    first_offset = block.first_offset + 1
                    size += len(block.data) if isinstance(block.data, bytes) else 0
                    if size >= _AT_ONCE_BYTES:
                        break
            except sqlite3.DatabaseError as error:
                return found, error
        return found, None


def _connected(path: Path, mode: str, timeout_s: float) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(
        uri, timeout=timeout_s, isolation_level=None, check_same_thread=False, uri=True
    )


def _reading_mode(path: Path, finished: bool) -> str:
    # Sharing takes a file beside the segment, for which a full or a read-only disk has no room.
    log = path.with_name(path.name + WAL)
    alone = (finished or not os.access(path.parent, os.W_OK)) and not log.exists()
    return "ro&immutable=1" if alone else "ro"
