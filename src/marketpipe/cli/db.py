"""`marketpipe db`."""

from enum import StrEnum
from typing import Annotated

import typer

from marketpipe.cli.common import settings


class Action(StrEnum):
    """What to do with the database."""

    UPGRADE = "upgrade"


def db(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="Bring it to the newest schema.")],
) -> None:
    """Look after the serving database.

    Example: marketpipe db upgrade
    """
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.pipelines.storestate import store_state
    from marketpipe.store import Database

    url = folder_of(settings(ctx)).store_url

    async def upgrade() -> str:
        async with await Database.open(url) as database:
            return database.where

    where = asyncio.run(upgrade())
    state = asyncio.run(store_state(url))
    revision = "none" if state is None else state.revision
    print(f"{action.value}d   {where} has schema {revision}")
