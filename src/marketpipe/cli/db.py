"""`marketpipe db`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.clock import now_ns
from marketpipe.cli.common import settings

if TYPE_CHECKING:
    from marketpipe.settings import Settings


class Action(StrEnum):
    """What to do with the database."""

    UPGRADE = "upgrade"
    PRUNE = "prune"


def db(
    ctx: typer.Context,
    action: Annotated[
        Action, typer.Argument(help="Bring it to the newest schema, or take old sessions out.")
    ],
    before: Annotated[
        str | None,
        typer.Option(help="prune: sessions before this day; default: store.retention_days ago."),
    ] = None,
    also_last: Annotated[
        bool, typer.Option("--also-last", help="prune: also bars that the lake does not have.")
    ] = False,
) -> None:
    """Look after the serving database.

    Example: marketpipe db prune --before 2026-01-05
    """
    read = settings(ctx)
    if action is Action.UPGRADE:
        _upgrade(read)
    else:
        _prune(read, before, also_last=also_last)


def _upgrade(read: "Settings") -> None:
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.pipelines.storestate import store_state
    from marketpipe.store import Database

    url = folder_of(read).store_url

    async def upgrade() -> str:
        async with await Database.open(url) as database:
            return database.where

    where = asyncio.run(upgrade())
    state = asyncio.run(store_state(url))
    revision = "none" if state is None else state.revision
    print(f"upgraded   {where} has schema {revision}")


def _prune(read: "Settings", before: str | None, *, also_last: bool) -> None:
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.cli.keeping import first_kept
    from marketpipe.pipelines.storeprune import prune_store

    day = first_kept(before, read.store.retention_days, "store.retention_days")
    pruning = prune_store(folder_of(read), day, ts_now_ns=now_ns(), also_last=also_last)
    done = asyncio.run(pruning)
    print(f"pruned     {done.where}: {done.rows:,} rows of sessions before {day}")
    if done.left:
        print(f"left       {done.left:,} rows that a reader of the outbox has not confirmed")
