"""Retention of the serving database: old sessions leave it once the lake has them."""

import asyncio
from datetime import date, timedelta
from typing import Final, NamedTuple

from marketpipe.domain.units import DAY_NS
from marketpipe.errors import BusyError, UsageError
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.dropped import floor_of
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.mend import KEY, rows_in_store
from marketpipe.pipelines.ownership import batch_lock
from marketpipe.pipelines.restate import frame
from marketpipe.store import BarRepository

_EPOCH: Final = date(1970, 1, 1)


class Pruned(NamedTuple):
    """What a prune came to.

    Attributes
    ----------
    rows : that were taken
    left : that stay, because a reader of the outbox has not confirmed them
    where : names the database
    """

    rows: int
    left: int
    where: str


async def prune_store(
    folder: DataFolder, before: date, *, ts_now_ns: int, also_last: bool = False
) -> Pruned:
    """Take the rows of sessions before a day (exclusive) out of the database.

    Only what the lake has is taken, so reads through `marketpipe.store.TieredBarStore` answer as
    before. Feeds may run. Doing it again changes nothing.

    Parameters
    ----------
    ts_now_ns : the time, ns since the epoch
    also_last : also take rows that the lake does not have: they are gone

    Raises
    ------
    UsageError
        If the day is after today or before 1970, or days of those bars were dropped of the lake.
    BusyError
        If the lake lacks rows, or a load, rebuild or backup is running; nothing was taken.
    """
    today = _EPOCH + timedelta(days=ts_now_ns // DAY_NS)
    if not _EPOCH < before <= today:
        raise UsageError(
            f"before: was '{before}'; valid is a day after {_EPOCH} and up to {today}, which is "
            "today: what is yet to come cannot be old"
        )
    with batch_lock(folder):
        async with await BarRepository.open(folder.store_url) as store:
            dates = await store.sessions(before)
            if not dates:
                return Pruned(0, 0, store.database.where)
            if not also_last:
                await _refuse_last(folder, store, list(dates))
            rows = await store.prune(before)
            left = sum((await store.sessions(before)).values())
            return Pruned(rows, left, store.database.where)


async def _refuse_last(folder: DataFolder, store: BarRepository, dates: list[date]) -> None:
    """Refuse to take the last copy of a row."""
    bars = await asyncio.to_thread(LakeTable.open, folder.lake, "bars")
    for each in dates:
        number = (each - _EPOCH).days
        floor = floor_of(bars)
        if floor is not None and number < floor:
            raise UsageError(
                f"table bars: days before {_EPOCH + timedelta(days=floor)} were dropped of it, so "
                f"the database is the last that has bars of {each}; say --also-last to lose them"
            )
        days = Days(number, number)
        mine = (await rows_in_store(store, days, None)).select(KEY)
        theirs = frame(await asyncio.to_thread(read_rows, bars, days)).select(KEY)
        lacking = len(mine.join(theirs, on=KEY, how="anti", nulls_equal=True))
        if lacking:
            raise BusyError(
                f"table bars: lacks {lacking} rows of {each} that the database has; a running feed "
                "appends them within lake.flush_seconds, a load or rebuild that broke off when it "
                "is run again; then prune again, or say --also-last to lose them"
            )
