"""One truth over three tiers: cache, database, lake."""

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from datetime import date
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.store.cache import BarCache
from marketpipe.store.laketier import LakeBars, LakeTier, first_complete
from marketpipe.store.merging import in_order, is_cut, merged
from marketpipe.store.query import SERIES, BarQuery, Series
from marketpipe.store.repository import BarRepository, check_newest

_Load: TypeAlias = Callable[[], Awaitable[pa.Table]]


class TieredBarStore:
    """Reads through a cache and the database to the lake; writes to the database.

    What was just added is what the next read returns, in any process: every read first asks the
    database for the version of its series (one short query) and uses a cached answer of that
    very version only. Sessions that the database's retention took come from the lake; where the
    two overlap, a revision counts once.

    Parameters
    ----------
    repository : the database
    cache : None makes one of the default size
    lake : None where there is none; reads then end at the database's floor
    """

    def __init__(
        self,
        repository: BarRepository,
        *,
        cache: BarCache | None = None,
        lake: LakeBars | None = None,
    ) -> None:
        self.repository = repository
        self.cache = BarCache() if cache is None else cache
        self._lake = None if lake is None else LakeTier(lake)

    async def add(self, bars: pa.Table) -> int:
        """Add bars to the database, which outdates cached answers; see `BarRepository.add`."""
        return await self.repository.add(bars)

    async def bars(self, query: BarQuery) -> pa.Table:
        """Return the bars that a query asks for; schema `BARS`.

        Raises
        ------
        StorageError
            If the database or the lake fails; never an empty answer in its place.
        """
        return await self._cached(("bars", query), query, lambda: self._bars(query))

    async def latest(self, query: BarQuery, n: int = 1) -> pa.Table:
        """Return the newest ``n`` bars of each series asked for, in time order; schema `BARS`.

        ``limit`` and ``newest_first`` of the query play no part.

        Raises
        ------
        UsageError
            If ``n`` is below 1, or the query asks for a history.
        StorageError
            If the database or the lake fails; never an empty answer in its place.
        """
        check_newest(query, n)
        return await self._cached(("latest", n, query), query, lambda: self._latest(query, n))

    async def series(self, query: BarQuery) -> tuple[Series, ...]:
        """Return the series there are among those asked for, sorted; times play no part."""
        found = set(await self.repository.series(query))
        if self._lake is not None and await self.repository.floor() is not None:
            found |= set(await self._lake.series(query))
        return tuple(sorted(found))

    async def _cached(self, key: Hashable, query: BarQuery, load: _Load) -> pa.Table:
        version = await self.repository.version(query)
        return await self.cache.get(key, version, load)

    async def _bars(self, query: BarQuery) -> pa.Table:
        rows = await self.repository.bars(query)
        # The floor is asked for after the rows: if retention ran in between, the lake is asked
        # for more than it need be, never for less.
        floor = await self.repository.floor()
        if self._lake is None or floor is None or _is_complete(rows, query, floor):
            return rows
        return await self._through(self._lake, query)

    async def _through(self, lake: LakeTier, query: BarQuery) -> pa.Table:
        """Merge database and lake; ask for more rows until the query's limit is reached."""
        limit = query.limit
        while True:
            wide = replace(query, voids=True, limit=limit)
            parts = [await self.repository.bars(wide)]
            floor = await self.repository.floor()
            if floor is not None:
                parts.append(await lake.bars(wide, floor))
            answer = merged(parts, query, limit)
            if limit is None or len(answer) == query.limit:
                return answer
            if not any(is_cut(part, limit) for part in parts):
                return answer
            limit *= 2

    async def _latest(self, query: BarQuery, n: int) -> pa.Table:
        query = replace(query, limit=None, newest_first=False)
        rows = await self.repository.latest(query, n)
        floor = await self.repository.floor()
        if self._lake is None or floor is None or _starts_complete(query, floor):
            return rows
        full = _full(rows, n, first_complete(floor))
        lacking = [each for each in await self.series(query) if each not in full]
        if not lacking:
            return rows
        parts = [rows.filter(pa.array([name in full for name in _names(rows)], pa.bool_()))]
        for each in lacking:
            newest = replace(query.of_series(each), newest_first=True, limit=n)
            parts.append(await self._through(self._lake, newest))
        return in_order(pa.concat_tables(parts), query)


def _is_complete(rows: pa.Table, query: BarQuery, floor: date) -> bool:
    """Whether the database's answer cannot lack anything, though it was pruned."""
    if _starts_complete(query, floor):
        return True
    if not (query.newest_first and is_cut(rows, query.limit)):
        return False
    oldest: int = pc.min(rows["ts_open"]).as_py()
    return oldest >= first_complete(floor)


def _starts_complete(query: BarQuery, floor: date) -> bool:
    return query.start is not None and query.start >= first_complete(floor)


def _full(rows: pa.Table, n: int, complete_ns: int) -> set[Series]:
    """Return the series of which there are ``n`` bars, all from ``complete_ns`` on."""
    recent = rows.filter(pc.greater_equal(rows["ts_open"], complete_ns))
    return {name for name, count in Counter(_names(recent)).items() if count == n}


def _names(rows: pa.Table) -> list[Series]:
    columns = (rows[name].to_pylist() for name in SERIES)
    return [Series(*row) for row in zip(*columns, strict=True)]
