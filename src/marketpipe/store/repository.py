"""Bars in the serving database, and the outbox that they are at the same time."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, NamedTuple, Self

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from marketpipe.domain.cancelling import finished
from marketpipe.domain.closing import AsyncClosing
from marketpipe.errors import StoreError, UsageError
from marketpipe.store.database import BUSY_TIMEOUT_S, Database
from marketpipe.store.query import BarQuery, Series
from marketpipe.store.retention import prune, sessions
from marketpipe.store.rows import bars_table, check, outbox_table
from marketpipe.store.schema import head, outbox_readers
from marketpipe.store.selecting import (
    Select,
    narrowed,
    select_bars,
    select_newest,
    select_outbox,
    select_series,
    select_series_by_id,
)
from marketpipe.store.writing import BarWriter

EPOCH: Final = date(1970, 1, 1)


class Version(NamedTuple):
    """Changes whenever a bar of the series asked for is added, by whichever process."""

    series: int
    last_seq: int


class BarRepository(AsyncClosing):
    """Every revision of every bar, in SQLite or PostgreSQL; rows are added and never changed.

    A cancelled call ends what it began first, so a cancelled `add` has added all or nothing.

    Attributes
    ----------
    database : the connection; the checkpoints and findings of the same database use it as well
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    async def open(cls, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Self:
        """Open a database by its URL and migrate it; see `Database.open`."""
        return cls(await Database.open(url, busy_timeout_s=busy_timeout_s))

    @finished
    async def add(self, bars: pa.Table) -> int:
        """Add the revisions that are not there yet; return how many those were.

        Parameters
        ----------
        bars : schema `BARS`; confirmed or settled, in the order in which they shall be published

        One transaction: all or nothing. New rows get the next ``seq`` in the order of the
        table, without holes; what is there already, pruned rows included, is left as it is, so
        any repeat in any cut changes nothing.

        Raises
        ------
        InputError
            If the table does not fit the schema, or holds forming bars.
        NondeterminismError
            If a revision is there with other content in any column; nothing is written.
        StoreError, BusyError, FullError
            If the database fails; nothing is written.
        """
        table = check(bars)
        if not len(table):
            return 0
        async with self.database.writing() as connection:
            return await BarWriter(connection, sqlite=self._sqlite).add(table)

    @finished
    async def bars(self, query: BarQuery) -> pa.Table:
        """Return the bars that a query asks for; schema `BARS`.

        Sessions before `floor` may be incomplete; `TieredBarStore` completes them.
        """
        async with self.database.reading() as connection:
            names = await self._series(connection, query)
            if not names:
                return bars_table([], {})
            statement = select_bars(query, list(names), sqlite=self._sqlite)
            rows = (await connection.execute(statement)).all()
        return bars_table(rows, names)

    @finished
    async def latest(self, query: BarQuery, n: int = 1) -> pa.Table:
        """Return the newest ``n`` bars of each series asked for, in time order; schema `BARS`.

        ``limit``, ``newest_first`` and ``history`` of the query play no part.

        Raises
        ------
        UsageError
            If ``n`` is below 1, or the query asks for a history.
        """
        check_newest(query, n)
        async with self.database.reading() as connection:
            names = await self._series(connection, query)
            if not names:
                return bars_table([], {})
            statement = select_newest(query, list(names), n, sqlite=self._sqlite)
            rows = (await connection.execute(statement)).all()
        return bars_table(rows, names)

    @finished
    async def series(self, query: BarQuery) -> tuple[Series, ...]:
        """Return the series there are among those asked for, sorted; times play no part."""
        async with self.database.reading() as connection:
            return tuple(sorted((await self._series(connection, query)).values()))

    @finished
    async def version(self, query: BarQuery) -> Version:
        """Return what changes whenever a bar of the series asked for is added."""
        chosen = narrowed(select_series(query.symbols, sqlite=self._sqlite), query).subquery()
        statement = sa.select(sa.func.count(), sa.func.max(chosen.c.last_seq)).select_from(chosen)
        async with self.database.reading() as connection:
            count, last_seq = (await connection.execute(statement)).one()
        return Version(count, last_seq or 0)

    @finished
    async def floor(self) -> date | None:
        """Return the day before which sessions may be incomplete here; None: none is."""
        async with self.database.reading() as connection:
            days = (await connection.execute(sa.select(head.c.floor))).scalar()
        return None if days is None else EPOCH + timedelta(days=days)

    @finished
    async def outbox(self, after_seq: int, limit: int = 1000) -> pa.Table:
        """Return the next rows after ``after_seq`` (exclusive) in order; schema `OUTBOX`.

        Raises
        ------
        UsageError
            If ``limit`` is below 1.
        StoreError
            If retention took rows after ``after_seq``, so that the answer would have a hole.
        """
        if limit < 1:
            raise UsageError(f"limit: was '{limit}'; valid is 1 or more")
        async with self.database.reading() as connection:
            rows = (await connection.execute(select_outbox(after_seq, limit))).all()
            # Asked after the rows were read: what was pruned in between shows as well.
            pruned_seq = (await connection.execute(sa.select(head.c.pruned_seq))).scalar_one()
            ids = {row[2] for row in rows}
            names = await self._named(connection, select_series_by_id(ids, sqlite=self._sqlite))
        if after_seq < pruned_seq:
            raise StoreError(
                f"store: outbox: after_seq was '{after_seq}', and retention took rows up to seq "
                f"{pruned_seq}; read the bars themselves and go on from {pruned_seq} or later. "
                "A reader that confirms its position is waited for"
            )
        return outbox_table(rows, names)

    @finished
    async def last_seq(self) -> int:
        """Return the ``seq`` of the newest row ever added; 0 if there is none."""
        async with self.database.reading() as connection:
            return int((await connection.execute(sa.select(head.c.last_seq))).scalar_one())

    @finished
    async def confirm(self, reader: str, seq: int) -> None:
        """Declare how far a reader of the outbox has come; retention keeps what comes after.

        A position never steps back: of two, the higher stays.
        """
        mine = outbox_readers.c.name == reader
        async with self.database.writing() as connection:
            old = (await connection.execute(sa.select(outbox_readers.c.seq).where(mine))).scalar()
            if old is None:
                await connection.execute(sa.insert(outbox_readers).values(name=reader, seq=seq))
            elif old < seq:
                await connection.execute(sa.update(outbox_readers).where(mine).values(seq=seq))

    @finished
    async def forget(self, reader: str) -> None:
        """Remove a reader of the outbox, so that retention no longer waits for it."""
        async with self.database.writing() as connection:
            await connection.execute(
                sa.delete(outbox_readers).where(outbox_readers.c.name == reader)
            )

    @finished
    async def readers(self) -> Mapping[str, int]:
        """Return the readers of the outbox and their positions, by name."""
        statement = sa.select(outbox_readers).order_by(outbox_readers.c.name)
        async with self.database.reading() as connection:
            return {row[0]: row[1] for row in (await connection.execute(statement)).all()}

    @finished
    async def sessions(self, before: date) -> Mapping[date, int]:
        """Return how many rows there are by session date, of those before a day (exclusive)."""
        found = await sessions(self.database, (before - EPOCH).days)
        return {EPOCH + timedelta(days=day): rows for day, rows in found.items()}

    async def prune(self, before: date) -> int:
        """Take the rows of sessions before a day (exclusive); return how many.

        Rows that a declared reader of the outbox has not confirmed stay. What is taken is still
        known: adding it again changes nothing. `floor` rises to ``before``, also where there is
        nothing to take: reads before it need the lake from then on.
        """
        return await prune(self.database, (before - EPOCH).days)

    async def close(self) -> None:
        """Give all connections back."""
        await self.database.close()

    async def _series(self, connection: AsyncConnection, query: BarQuery) -> dict[int, Series]:
        statement = narrowed(select_series(query.symbols, sqlite=self._sqlite), query)
        return await self._named(connection, statement)

    async def _named(self, connection: AsyncConnection, statement: Select) -> dict[int, Series]:
        rows = (await connection.execute(statement)).all()
        return {row[0]: Series(*row[2:]) for row in rows}

    @property
    def _sqlite(self) -> bool:
        return self.database.is_sqlite


def check_newest(query: BarQuery, n: int) -> None:
    """Refuse what ``latest`` cannot answer with a `UsageError`."""
    if n < 1:
        raise UsageError(f"n: was '{n}'; valid is 1 or more")
    if query.history:
        raise UsageError("history: was 'True'; latest returns one revision of a bar: use bars")
