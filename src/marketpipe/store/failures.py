"""Errors of databases and drivers become errors of ours; none shows a password."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from marketpipe.errors import BusyError, FullError, StorageError, StoreError

_BUSY_STATES: Final = ("55P03", "40P01", "40001")
_FULL_STATES: Final = ("53100",)
_REMEDIES: Final = (
    ("SQLITE_READONLY", "it is read-only; make the file and its folder writable"),
    ("SQLITE_CANTOPEN", "it cannot be opened; check that the folder exists and is writable"),
    ("SQLITE_CORRUPT", "its pages are damaged; restore a backup, or rebuild it from the lake"),
    ("SQLITE_NOTADB", "it is no SQLite database; name another file"),
    ("28", "the user or the password was refused; check DATABASE_URL"),
    ("3D000", "the server has no such database; create it, or check DATABASE_URL"),
    ("25006", "the server is read-only; name the primary"),
)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what the database raises inside into `StoreError`, `BusyError` or `FullError`.

    Parameters
    ----------
    where : names the database in messages
    """
    try:
        yield
    except Exception as error:
        if not _is_foreign(error):
            raise
        raise _ours(error, where) from None


def _is_foreign(error: Exception) -> bool:
    if isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError)):
        return True
    return type(error).__module__.partition(".")[0] == "asyncpg"


def _ours(error: Exception, where: str) -> StorageError:
    cause = getattr(error, "orig", None) or error
    code = _code(cause)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or code in _BUSY_STATES:
        return BusyError(
            f"store: {where} is locked by another process, which held it longer than the "
            "timeout; end that process, or try again"
        )
    if isinstance(error, PoolTimeoutError):
        return BusyError(f"store: all connections to {where} are in use; try again")
    if code == "SQLITE_FULL" or code in _FULL_STATES:
        return FullError(
            f"store: the disk of {where} is full; nothing of this write was kept. Make room "
            "and try again"
        )
    for prefix, remedy in _REMEDIES:
        if code.startswith(prefix):
            return StoreError(f"store: {where}: {remedy} ({_words(cause)})")
    if isinstance(cause, OSError) or (isinstance(error, DBAPIError) and code.startswith("08")):
        return StoreError(
            f"store: {where} cannot be reached ({_words(cause)}); check that the server runs "
            "and that DATABASE_URL names it"
        )
    return StoreError(f"store: {where} failed: {_words(cause)}")


def _code(cause: object) -> str:
    """Return SQLite's error name or PostgreSQL's SQLSTATE; empty if it has neither."""
    return str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or "")


def _words(cause: object) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__
