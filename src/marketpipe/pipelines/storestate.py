"""How the serving database is, without changing it."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from marketpipe.store.failures import translated
from marketpipe.store.gaps import GapEntry, read_gaps
from marketpipe.store.schema import checkpoints, gaps, head
from marketpipe.store.urls import parse_url

_REVISION: Final = sa.table("alembic_version", sa.column("version_num"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """What is in the serving database.

    Attributes
    ----------
    revision : of its schema; "none" where it has none
    last_seq : of the newest bar ever added
    checkpoints : offset (inclusive) by pipeline and journal
    gaps : the gap ledger, of every feed
    """

    revision: str
    last_seq: int = 0
    checkpoints: dict[tuple[str, str], int]
    gaps: tuple[GapEntry, ...] = ()


async def store_state(url: str) -> StoreState | None:
    """Look at a database as it is; no migration is run. None where its file is not there yet.

    Raises
    ------
    UsageError
        If the URL cannot be used.
    StoreError, BusyError
        If it cannot be reached or read.
    """
    address = parse_url(url)
    if address.is_sqlite and (address.file is None or not address.file.is_file()):
        return None
    engine = create_async_engine(address.url, hide_parameters=True)
    try:
        with translated(address.where):
            async with engine.connect() as connection:
                return await _state(connection)
    finally:
        await engine.dispose()


async def _state(connection: AsyncConnection) -> StoreState:
    names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    if _REVISION.name not in names:
        return StoreState(revision="none", checkpoints={})
    revision = (await connection.execute(sa.select(_REVISION.c.version_num))).scalar_one()
    last_seq = (await connection.execute(sa.select(head.c.last_seq))).scalar_one()
    chosen = sa.select(checkpoints.c.pipeline, checkpoints.c.journal_id, checkpoints.c.offset)
    rows = (await connection.execute(chosen.order_by(*chosen.selected_columns))).all()
    return StoreState(
        revision=str(revision),
        last_seq=int(last_seq),
        checkpoints={(row[0], row[1]): int(row[2]) for row in rows},
        gaps=await read_gaps(connection) if gaps.name in names else (),
    )
