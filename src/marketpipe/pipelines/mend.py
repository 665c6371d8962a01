"""Store and lake hold the same bars; where a crash or a loss left one behind, this mends it."""

import hashlib
from collections.abc import Collection
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from marketpipe.domain.units import DAY_NS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.dropped import floor_of
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.restate import IDENTITY, arrow, frame
from marketpipe.store import BarQuery, BarRepository

KEY: Final = (*IDENTITY, "revision")
"""What tells one revision of a bar from all others."""


class Mended(NamedTuple):
    """Revisions that were given to the store and to the lake."""

    to_store: int
    to_lake: int


async def mend_bars(
    store: BarRepository, bars: LakeTable, days: Days, symbols: Collection[str] | None
) -> Mended:
    """Give the store and the lake each what only the other has.

    Nobody else may write bars meanwhile. Doing it again changes nothing.

    Parameters
    ----------
    bars : table ``bars`` of the lake
    days : session dates to look at; those that were dropped of the lake are let be
    symbols : None for all
    """
    days = Days(max(days.first, floor_of(bars) or 0), days.last)
    if days.first > days.last:
        return Mended(0, 0)
    in_lake = frame(read_rows(bars, days, symbols))
    in_store = await rows_in_store(store, days, symbols)
    lost = in_lake.join(in_store.select(KEY), on=KEY, how="anti", nulls_equal=True)
    left = in_store.join(in_lake.select(KEY), on=KEY, how="anti", nulls_equal=True)
    to_store = await store.add(arrow(lost.sort("known_at", "ts_close", *KEY)))
    rows = arrow(left.sort(KEY))
    if len(rows):
        named = hashlib.sha256(repr(left.select(KEY).sort(KEY).rows()).encode()).hexdigest()
        offsets = np.zeros(len(rows), np.int64)
        bars.append(rows, app_id=f"mend/{named[:32]}", through=0, offsets=offsets)
    return Mended(to_store, len(rows))


async def rows_in_store(
    store: BarRepository, days: Days, symbols: Collection[str] | None
) -> pl.DataFrame:
    """Return every revision that the store has of some session dates.

    Parameters
    ----------
    symbols : None for all
    """
    rows = await store.bars(
        BarQuery(
            symbols=None if symbols is None else tuple(sorted(symbols)),
            start=max((days.first - 1) * DAY_NS, 0),
            end=(days.last + 2) * DAY_NS,
            history=True,
        )
    )
    of_days = pl.col("session_date").cast(pl.Int32).is_between(days.first, days.last)
    return frame(rows).filter(of_days)
