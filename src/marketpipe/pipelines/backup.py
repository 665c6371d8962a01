"""A copy of everything that is kept, as of one consistent point, while pipelines may be running.

The order makes it consistent: first the store, then the lake, at last the journals. A record is
in its journal before anything that came of it is in the lake or the store, and the lake has what
a checkpoint has passed. So the copied journals cover all that was copied before them, and a
pipeline that is started on the copy derives the rest again, to the same bars.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from marketpipe.errors import BusyError, LakeError, StorageError, UsageError
from marketpipe.journal import SqliteJournalReader
from marketpipe.journal.segment import segments
from marketpipe.pipelines.archive import FORMAT, Packing, unpack
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.ownership import batch_lock
from marketpipe.store.urls import parse_url

_LOG: Final = "_delta_log"
_STORE: Final = "marketpipe.db"
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was copied.

    Attributes
    ----------
    journals : first (inclusive) and next offset, by journal
    tables : version, by the table's folder in the lake
    store : whether there was a database
    files, size_bytes : of the backup, unpacked
    """

    journals: dict[str, tuple[int, int]] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    store: bool = False
    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Pinned:
    """One version of a table: its folder below the data folder, its live files, its log."""

    folder: str
    version: int
    files: list[str]


def back_up(folder: DataFolder, output: Path) -> Backup:
    """Copy journals, lake and store to a folder or a ``.tar.zst`` file, which must not exist.

    The output appears whole or not at all.

    Raises
    ------
    UsageError
        If the output exists, there is nothing to copy, or the store is PostgreSQL.
    StorageError
        If something cannot be read, or changed too fast, or a load or rebuild is running.
    """
    _check(folder, output)
    staged = output.with_name(f".{output.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        with batch_lock(folder), _told(output):
            staged.mkdir()
            store = _copy_store(folder, staged)
            _copy_aside(folder, staged)
            pinned, journals = _copy_rest(folder, staged)
            with Packing.open(output, staged) as packing:
                for path in sorted(staged.rglob("*")):
                    if path.is_file():
                        packing.add(path, str(path.relative_to(staged)))
                for table in pinned:
                    for name in table.files:
                        packing.add(folder.root / table.folder / name, f"{table.folder}/{name}")
                tables = {table.folder: table.version for table in pinned}
                packing.finish(_manifest(journals, tables, packing.files))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    sizes = [size for size, _ in packing.files.values()]
    return Backup(
        journals=journals, tables=tables, store=store, files=len(sizes), size_bytes=sum(sizes)
    )


def _check(folder: DataFolder, output: Path) -> None:
    if not parse_url(folder.store_url).is_sqlite:
        raise UsageError(
            "backup: the store is PostgreSQL, which copies itself: run pg_dump first and "
            "backup after it with DATABASE_URL unset, so that the journal covers what was dumped"
        )
    if output.exists():
        raise UsageError(f"output: '{output}' is there already; name another")
    if not output.parent.is_dir():
        raise UsageError(f"output: the folder of '{output}' does not exist; create it first")
    if not folder.journals() and not (folder.root / "lake").is_dir():
        raise UsageError(f"data-dir: '{folder.root}' holds no journal and no lake; name another")


@contextmanager
def _told(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, DeltaError, duckdb.Error) as problem:
        raise StorageError(
            f"backup to '{output}' failed: {problem}; nothing was left there; mend that and try "
            "again"
        ) from problem


def _manifest(
    journals: dict[str, tuple[int, int]],
    tables: dict[str, int],
    files: dict[str, tuple[int, str]],
) -> bytes:
    facts = {
        "format": FORMAT,
        "marketpipe": version("marketpipe"),
        "journals": journals,
        "tables": tables,
        "files": files,
    }
    return json.dumps(facts, indent=1).encode()


# -- store -----------------------------------------------------------------------------------------


def _copy_store(folder: DataFolder, staged: Path) -> bool:
    file = parse_url(folder.store_url).file
    if file is None or not file.is_file():
        return False
    copy_sqlite(file, staged / _STORE)
    return True


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database of one instant, whoever writes to it, into one file without side files."""
    address = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


def _copy_aside(folder: DataFolder, staged: Path) -> None:
    """Copy the bars put aside; one that goes meanwhile costs the copy its checkpoint, no more."""
    aside = folder.root / "aside"
    for path in sorted(aside.rglob("*")) if aside.is_dir() else ():
        target = staged / path.relative_to(folder.root)
        with suppress(FileNotFoundError):
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif not path.name.startswith("."):
                shutil.copy2(path, target)


# -- lake and journals -----------------------------------------------------------------------------


def _copy_rest(
    folder: DataFolder, staged: Path
) -> tuple[list[_Pinned], dict[str, tuple[int, int]]]:
    """Copy the tables' logs and the journals; again if a journal was trimmed in between."""
    for _ in range(_ATTEMPTS):
        for part in ("lake", "journal"):
            shutil.rmtree(staged / part, ignore_errors=True)
        pinned = [_pin(folder, path, staged) for path in _tables(folder)]
        journals = {
            name: _copy_journal(folder, name, staged)
            for name in folder.journals()
            if segments(folder.journal(name))
        }
        if all(
            first == 0 or _raw_reaches(folder, pinned, name) >= first - 1
            for name, (first, _) in journals.items()
        ):
            return pinned, journals
    raise BusyError(
        "backup: journals are trimmed faster than they can be copied; try again when less is "
        "going on"
    )


def _tables(folder: DataFolder) -> list[Path]:
    """Return the folders of all tables; raw is the last, so that it has what the others have."""
    lake = folder.root / "lake"
    found = [path.parent for path in lake.rglob(_LOG)] if lake.is_dir() else []
    return sorted(found, key=lambda path: (path == lake / "raw", path))


def _pin(folder: DataFolder, table: Path, staged: Path) -> _Pinned:
    handle = DeltaTable(str(table))
    at = handle.version()
    where = str(table.relative_to(folder.root))
    log = staged / where / _LOG
    log.mkdir(parents=True)
    for path in sorted((table / _LOG).iterdir()):
        number = path.name.partition(".")[0]
        if path.is_file() and number.isdigit() and int(number) <= at:
            # Old entries of the log are cleaned up now and then; a checkpoint stands for them.
            with suppress(FileNotFoundError):
                shutil.copyfile(path, log / path.name)
    if DeltaTable(str(staged / where)).version() != at:
        raise BusyError(f"backup: the log of {table} changed while it was copied; try again")
    paths = pa.table(handle.get_add_actions(flatten=True))["path"].to_pylist()
    return _Pinned(where, at, sorted(_inside(unquote(path), table) for path in paths))


def _inside(path: str, table: Path) -> str:
    if path.startswith("/") or ":/" in path:
        raise LakeError(f"backup: file '{path}' lies outside of its table {table}; copy it by hand")
    return path


def _copy_journal(folder: DataFolder, name: str, staged: Path) -> tuple[int, int]:
    """Copy a journal's segments; return first (inclusive) and next offset of the copy."""
    source, target = folder.journal(name), staged / "journal" / name
    target.mkdir(parents=True)
    copied: list[Path] = []
    while True:
        listed = [path for _, path in segments(source)]
        # The segment that was the last one may have grown before the next was begun.
        for path in [p for p in listed if p not in copied[:-1]]:
            try:
                copy_sqlite(path, target / path.name)
            except sqlite3.OperationalError:
                if path.exists():
                    raise
        if [path for _, path in segments(source)][-1:] == listed[-1:]:
            break
        copied = listed
    with closing(SqliteJournalReader(target, name)) as reader:
        return reader.first_offset, reader.next_offset


def _raw_reaches(folder: DataFolder, pinned: list[_Pinned], journal_id: str) -> int:
    """Return the last offset of a journal in the pinned raw table, -1 for none."""
    for table in pinned:
        files = [str(folder.root / table.folder / name) for name in table.files]
        if table.folder == "lake/raw" and files:
            with duckdb.connect() as connection:
                found = connection.execute(
                    'SELECT max("offset") FROM read_parquet($files) WHERE journal_id = $journal',
                    {"files": files, "journal": journal_id},
                ).fetchall()
            return -1 if found[0][0] is None else int(found[0][0])
    return -1


# -- back again ------------------------------------------------------------------------------------


def restore(source: Path, folder: DataFolder) -> int:
    """Put a backup back as a data folder, which must be absent or empty; return its files.

    Every file is held against the digest that the backup noted; the folder appears whole or not
    at all.

    Raises
    ------
    UsageError
        If the folder holds something, the database would not be in it, or there is no backup.
    CorruptError
        If the backup is damaged or incomplete.
    NewerVersionError
        If a newer version of MarketPipe wrote it.
    """
    root = folder.root
    if folder.database_url is not None:
        raise UsageError(
            "DATABASE_URL: is set, and a backup's database belongs into the data folder; unset it"
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"data-dir: '{root}' is not empty; name a folder that is, or a new one")
    root.absolute().parent.mkdir(parents=True, exist_ok=True)
    unready = root.absolute().with_name(f".{root.absolute().name}.restoring")
    shutil.rmtree(unready, ignore_errors=True)
    try:
        unready.mkdir()
        files = unpack(source, unready)
        if root.exists():
            root.rmdir()
        unready.rename(root)
    finally:
        shutil.rmtree(unready, ignore_errors=True)
    return files
