"""The cache: limits, counts, versions, and one load for tasks that ask at once."""

import asyncio
from collections.abc import Awaitable, Callable

import pyarrow as pa
import pytest

from marketpipe.errors import StoreError, UsageError
from marketpipe.store import BarCache, CacheCounts
from storekit import bar, table


def answer(rows: int) -> Callable[[], Awaitable[pa.Table]]:
    async def load() -> pa.Table:
        return table([bar(m) for m in range(rows)])

    return load


def test_cache_least_recently_used_goes_first() -> None:
    async def work() -> None:
        cache = BarCache(max_entries=2)
        for key in ("a", "b", "a", "c", "a", "b"):
            await cache.get(key, 1, answer(1))
        # a and b are loaded, a is hit, c drives out b, a is hit, b is loaded again
        assert cache.counts == CacheCounts(hits=2, misses=4)
        assert len(cache) == 2

    asyncio.run(work())


def test_cache_holds_at_most_so_many_bars() -> None:
    async def work() -> None:
        cache = BarCache(max_bars=10)
        for key, rows in (("a", 4), ("b", 4), ("c", 4), ("big", 11)):
            assert len(await cache.get(key, 1, answer(rows))) == rows
        assert cache.bars == 8
        await cache.get("b", 1, answer(0))
        assert cache.counts == CacheCounts(hits=1, misses=4)
        cache.clear()
        assert (len(cache), cache.bars) == (0, 0)

    asyncio.run(work())


def test_cache_other_version_is_loaded_again() -> None:
    async def work() -> None:
        cache = BarCache()
        assert len(await cache.get("a", 1, answer(1))) == 1
        assert len(await cache.get("a", 2, answer(2))) == 2
        assert len(await cache.get("a", 2, answer(9))) == 2
        assert cache.bars == 2

    asyncio.run(work())


def test_cache_tasks_asking_at_once_share_one_load() -> None:
    async def work() -> None:
        cache = BarCache()
        loads = 0
        ready = asyncio.Event()

        async def load() -> pa.Table:
            nonlocal loads
            loads += 1
            await ready.wait()
            return table([bar(0)])

        tasks = [asyncio.create_task(cache.get("a", 1, load)) for _ in range(100)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        ready.set()
        found = await asyncio.gather(*tasks[1:])
        assert loads == 1
        assert all(len(each) == 1 for each in found)
        assert tasks[0].cancelled()
        assert cache.counts == CacheCounts(hits=99, misses=1)

    asyncio.run(work())


def test_cache_failed_load_is_seen_by_all_and_not_kept() -> None:
    async def work() -> None:
        cache = BarCache()

        async def fail() -> pa.Table:
            await asyncio.sleep(0)
            raise StoreError("gone")

        tasks = [asyncio.create_task(cache.get("a", 1, fail)) for _ in range(3)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(each) for each in found] == ["gone"] * 3
        assert len(await cache.get("a", 1, answer(1))) == 1

    asyncio.run(work())


@pytest.mark.parametrize("limit", ["max_entries", "max_bars"])
def test_cache_limit_below_one_is_refused(limit: str) -> None:
    with pytest.raises(UsageError, match=f"{limit}: was '0'"):
        BarCache(**{limit: 0})
