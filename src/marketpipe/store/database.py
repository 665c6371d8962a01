"""The connection to the serving database: opening, migrating, reading and writing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from marketpipe.domain.closing import AsyncClosing
from marketpipe.errors import BusyError, StoreError
from marketpipe.store.failures import translated
from marketpipe.store.migrate import upgrade
from marketpipe.store.urls import Address, parse_url

BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for another process before it gives up."""

_PAUSE_S: Final = 0.05
_WRITES: Final = "marketpipe_writes"
_WRITER_LOCK: Final = 0x6D61726B6574  # the bytes of "market": any number all versions agree on


class Database(AsyncClosing):
    """One SQL database, SQLite or PostgreSQL, with the newest schema.

    Writes are serialized, within a process and between processes, so that the order of commits
    is one order; reads never wait for them. Make one with `open`.
    """

    def __init__(self, engine: AsyncEngine, address: Address, busy_timeout_s: float) -> None:
        self._engine = engine
        self._address = address
        self._busy_timeout_s = busy_timeout_s
        self._one_writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Self:
        """Connect, make the file and its folder if need be, and migrate to the newest schema.

        Parameters
        ----------
        url : ``sqlite:///path``, ``sqlite://`` (in memory), ``postgresql://user:pw@host/name``
        busy_timeout_s : how long a write waits for another process

        Raises
        ------
        UsageError
            If the URL cannot be used, or its driver is not installed.
        StoreError
            If the database cannot be reached, opened or written.
        BusyError
            If another process holds it longer than the timeout.
        NewerVersionError
            If a later version of MarketPipe made its schema.
        """
        address = parse_url(url)
        now = asyncio.get_running_loop().time
        until = now() + busy_timeout_s
        while True:
            database = cls(_engine(address, busy_timeout_s), address, busy_timeout_s)
            try:
                async with database.writing() as connection:
                    await connection.run_sync(lambda sync: upgrade(sync, where=address.where))
            except BaseException as error:
                await database.close()
                # Two that make one new file WAL at once are refused without any waiting.
                if not isinstance(error, BusyError) or now() >= until:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return database

    @property
    def where(self) -> str:
        """Names the database for people: a file, or host, port and name; never a password."""
        return self._address.where

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite, else PostgreSQL."""
        return self._address.is_sqlite

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection to read from; in SQLite all statements see one instant."""
        with translated(self.where):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection inside the one write transaction; it commits at the end, or not at all.

        Raises
        ------
        BusyError
            If another process writes longer than the timeout.
        FullError
            If the disk is full.
        StoreError
            If the database fails otherwise.
        """
        with translated(self.where):
            async with self._one_writer, self._engine.connect() as connection:
                await connection.execution_options(**{_WRITES: True})
                async with connection.begin():
                    if not self.is_sqlite:
                        await self._exclude_writers(connection)
                    yield connection

    async def _exclude_writers(self, connection: AsyncConnection) -> None:
        wait_ms = int(self._busy_timeout_s * 1000)
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait_ms}")
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER_LOCK)))

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()

    def __repr__(self) -> str:
        return f"Database({self.where})"


def _engine(address: Address, busy_timeout_s: float) -> AsyncEngine:
    if not address.is_sqlite:
        return create_async_engine(address.url, pool_pre_ping=True, hide_parameters=True)
    options: dict[str, Any] = {"poolclass": AsyncAdaptedQueuePool, "hide_parameters": True}
    if address.file is None:
        # A database in memory lives as long as its only connection.
        options |= {"pool_size": 1, "max_overflow": 0}
    else:
        _check_file(address)
    engine = create_async_engine(address.url, connect_args={"timeout": busy_timeout_s}, **options)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _check_file(address: Address) -> None:
    file = address.file
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"store: the folder of {address.where} cannot be made ({error.strerror}); name a "
            "file in a folder that can be written"
        ) from error
    if not file.exists():
        return
    try:
        # Tried here, because a driver that cannot open it leaves a thread behind for a moment.
        file.open("rb").close()
    except OSError as error:
        raise StoreError(
            f"store: {address.where} cannot be opened ({error.strerror}); name a file that can "
            "be read and written"
        ) from error


def _prepare_sqlite(driver_connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: it would begin them as readers, and a
    # reader that turns writer fails at once when another process wrote in between.
    driver_connection.isolation_level = None
    try:
        cursor = driver_connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:
        # The pool would drop it without waiting for its thread, which then outlives the loop.
        driver_connection.close()
        raise


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
