"""The lake as the last tier: the sessions that the database's retention took."""

import asyncio
from datetime import date
from typing import Protocol

import pyarrow as pa

from marketpipe.domain.units import DAY_NS
from marketpipe.store.query import BarQuery, Series
from marketpipe.store.repository import EPOCH


class LakeBars(Protocol):
    """What the tiers need of a lake: every revision of every bar that was ever added.

    Both methods may block; they are called in threads.
    """

    def bars(self, query: BarQuery) -> pa.Table:
        """Return what `BarRepository.bars` would if nothing were ever pruned; schema `BARS`."""
        ...

    def series(self, query: BarQuery) -> tuple[Series, ...]:
        """Return the series there are among those asked for; times play no part."""
        ...


class LakeTier:
    """Asks the lake for no more than what the database may lack."""

    def __init__(self, lake: LakeBars) -> None:
        self._lake = lake
        self._series: dict[str, list[Series]] | None = None

    async def bars(self, query: BarQuery, floor: date) -> pa.Table:
        """Return the lake's answer, as far as it is about sessions before ``floor``."""
        end = first_complete(floor)
        bounded = query.with_end(end if query.end is None else min(query.end, end))
        return await asyncio.to_thread(self._lake.bars, bounded)

    async def series(self, query: BarQuery) -> list[Series]:
        """Return the series asked for that the lake had when it was first asked.

        Later ones are in the database: they come through it, and it never forgets a series.
        """
        if self._series is None:
            known: dict[str, list[Series]] = {}
            for each in await asyncio.to_thread(self._lake.series, BarQuery()):
                known.setdefault(each.symbol, []).append(each)
            self._series = known
        symbols = self._series if query.symbols is None else query.symbols
        found = [each for symbol in symbols for each in self._series.get(symbol, ())]
        return [each for each in found if query.admits(each)]


def first_complete(floor: date) -> int:
    """Return the instant from which on no bar is of a session before ``floor``.

    A day after its midnight in UTC: sessions may run past midnight, none by a day.
    """
    return ((floor - EPOCH).days + 1) * DAY_NS
