"""Taking old sessions out of the database, and knowing them again."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from marketpipe.domain.cancelling import finished
from marketpipe.store.database import Database
from marketpipe.store.digests import content_digest
from marketpipe.store.keyed import number_set
from marketpipe.store.schema import CONTENT, bars, head, outbox_readers, pruned

_CHUNK: Final = 5_000
_TS_OPEN: Final = CONTENT.index("ts_open") + 1
_REVISION: Final = CONTENT.index("revision") + 1


async def sessions(database: Database, before: int) -> dict[int, int]:
    """Return how many rows there are by session date, of those before a day (exclusive).

    Days count from 1970-01-01.
    """
    dates = sa.select(bars.c.session_date, sa.func.count()).where(bars.c.session_date < before)
    statement = dates.group_by(bars.c.session_date).order_by(bars.c.session_date)
    async with database.reading() as connection:
        return {row[0]: row[1] for row in (await connection.execute(statement)).all()}


async def prune(database: Database, before: int) -> int:
    """Take rows of sessions before a day (exclusive; days since 1970-01-01); return how many.

    The floor rises first. Rows go in transactions of their own, so that writers need not wait
    long; an interrupted run is finished by the next.
    """
    await _begin(database, before)
    taken, after = 0, 0
    while True:
        count, after = await _step(database, before, after)
        if not count:
            return taken
        taken += count


@finished
async def _begin(database: Database, before: int) -> None:
    async with database.writing() as connection:
        await _raise_floor(connection, before)


@finished
async def _step(database: Database, before: int, after: int) -> tuple[int, int]:
    """Take the next rows after a ``seq``; return how many, and the last one's ``seq``."""
    async with database.writing() as connection:
        rows = await _next_rows(connection, before, after)
        if not rows:
            return 0, after
        await _take(connection, rows, sqlite=database.is_sqlite)
    return len(rows), rows[-1][0]


async def _raise_floor(connection: AsyncConnection, before: int) -> None:
    higher = sa.or_(head.c.floor.is_(None), head.c.floor < before)
    await connection.execute(sa.update(head).where(higher).values(floor=before))


async def _next_rows(connection: AsyncConnection, before: int, after: int) -> list[tuple[Any, ...]]:
    slowest = (await connection.execute(sa.select(sa.func.min(outbox_readers.c.seq)))).scalar()
    columns = [bars.c[name] for name in ("seq", *CONTENT)]
    statement = sa.select(*columns).where(bars.c.session_date < before, bars.c.seq > after)
    if slowest is not None:
        statement = statement.where(bars.c.seq <= slowest)
    rows = await connection.execute(statement.order_by(bars.c.seq).limit(_CHUNK))
    return [tuple(row) for row in rows.all()]


async def _take(connection: AsyncConnection, rows: list[tuple[Any, ...]], *, sqlite: bool) -> None:
    remains = [
        {
            "series_id": row[1],
            "ts_open": row[_TS_OPEN],
            "revision": row[_REVISION],
            "digest": content_digest(row[1:]),
        }
        for row in rows
    ]
    await connection.execute(sa.insert(pruned), remains)
    taken = number_set([row[0] for row in rows], sqlite=sqlite)
    await connection.execute(sa.delete(bars).where(bars.c.seq.in_(taken)))
    newest = rows[-1][0]
    await connection.execute(
        sa.update(head).where(head.c.pruned_seq < newest).values(pruned_seq=newest)
    )
