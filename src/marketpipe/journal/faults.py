"""Errors of SQLite and of the file system as ours."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from marketpipe.errors import BusyError, FullError, JournalError, StorageError

_ROOM_BYTES: Final = 1 << 18
"""With less room than this a failed write is blamed on it: SQLite needs 32 KiB for its index of
the write-ahead log alone, and reports its lack as an I/O error."""

_BLAMED_ON_ROOM: Final = ("SQLITE_IOERR", "SQLITE_CANTOPEN")

_REMEDIES: Final = (
    (("ENOENT",), "retain() may have deleted it meanwhile: read from first_offset on"),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), "the file is damaged; check() lists what is lost"),
    (
        ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"),
        "the file must exist, and its folder must be writable: mend its permissions or its mount",
    ),
)


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Raise what SQLite and the file system raise within as one of our errors.

    Parameters
    ----------
    path : file or folder that is worked on
    doing : what is done, for the message: "append to"

    Raises
    ------
    BusyError, FullError, JournalError
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _ours(error, path, doing) from error


def _ours(error: sqlite3.Error | OSError, path: Path, doing: str) -> StorageError:
    name = code(error)
    if _is_full(name, path):
        return FullError(
            f"cannot {doing} {path}: the disk is full ({error}). Nothing was half-written: make "
            "room, or retain() from a later offset, and do it again"
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BusyError(
            f"cannot {doing} {path}: another process keeps the database locked ({error}); "
            "end that process, or its transaction, and do it again"
        )
    for names, remedy in _REMEDIES:
        if name.startswith(names):
            return JournalError(f"cannot {doing} {path}: {error}; {remedy}")
    return JournalError(f"cannot {doing} {path}: {error} ({name})")


def code(error: sqlite3.Error | OSError) -> str:
    """Return the name of the error: ``SQLITE_FULL``, ``ENOSPC``."""
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0, "OSError")
    return getattr(error, "sqlite_errorname", type(error).__name__)


def _is_full(name: str, path: Path) -> bool:
    if name in ("SQLITE_FULL", "ENOSPC", "EDQUOT"):
        return True
    return name.startswith(_BLAMED_ON_ROOM) and _room_bytes(path) < _ROOM_BYTES


def _room_bytes(path: Path) -> int:
    try:
        room = os.statvfs(path if path.is_dir() else path.parent)
    except OSError:  # no such folder: then room is not what is lacking
        return _ROOM_BYTES
    return room.f_bavail * room.f_frsize
