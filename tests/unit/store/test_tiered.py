"""Three tiers, one truth: the seam of database and lake, and writes of other processes."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.errors import LakeError
from marketpipe.store import BarQuery, BarRepository, CacheCounts, Series, TieredBarStore
from storekit import DAY, FIRST_DAY, MINUTE, OPEN, Row, bar, rows_of, table, void


class RepositoryLake:
    """A lake for tests: a second database, which nobody prunes; it counts what it is asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.asked: list[BarQuery] = []

    def bars(self, query: BarQuery) -> pa.Table:
        self.asked.append(query)
        return self._run(lambda repository: repository.bars(query))

    def series(self, query: BarQuery) -> tuple[Series, ...]:
        found: tuple[Series, ...] = self._run(lambda repository: repository.series(query))
        return found

    def add(self, rows: list[Row]) -> None:
        self._run(lambda repository: repository.add(table(rows)))

    def _run(self, work: Callable[[BarRepository], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            async with await BarRepository.open(self._url) as repository:
                return await work(repository)

        return asyncio.run(whole())


def at(day: int, minute: int = 0, revision: int = 0, **other: Any) -> Row:
    """Make a bar of the session ``day`` days after the first."""
    make = void if other.pop("gone", False) else bar
    row = make(minute, revision, **other)
    times = {name: row[name] + day * DAY for name in ("ts_open", "ts_close")}
    return row | times | {"session_date": FIRST_DAY + timedelta(days=day)}


def with_lake(path: Path, rows: list[Row]) -> RepositoryLake:
    lake = RepositoryLake(f"sqlite:///{path / 'lake.db'}")
    lake.add(rows)
    return lake


async def opened(path: Path, rows: list[Row], lake: RepositoryLake | None) -> TieredBarStore:
    store = TieredBarStore(await BarRepository.open(f"sqlite:///{path / 'a.db'}"), lake=lake)
    await store.add(table(rows))
    return store


@st.composite
def sessions(draw: st.DrawFn) -> list[Row]:
    """Draw bars of two series over five days, with revisions, some void."""
    rows = []
    for feed in ("iex", "sip"):
        for day, minute in sorted(draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 3))))):
            for revision in range(draw(st.integers(1, 3))):
                gone = revision > 0 and draw(st.booleans())
                rows.append(at(day, minute, revision, feed=feed, gone=gone))
    return draw(st.permutations(rows))


QUERIES = st.builds(
    BarQuery,
    symbols=st.just(("AAA",)),
    feed=st.sampled_from([None, "iex"]),
    start=st.one_of(st.none(), st.integers(0, 5).map(lambda d: OPEN + d * DAY + MINUTE)),
    end=st.one_of(st.none(), st.just(OPEN + 7 * DAY)),
    as_of=st.one_of(st.none(), st.integers(0, 5).map(lambda m: OPEN + m * MINUTE + 1_400)),
    history=st.booleans(),
    voids=st.booleans(),
    limit=st.one_of(st.none(), st.integers(1, 12)),
    newest_first=st.booleans(),
)


@settings(max_examples=12)
@given(data=st.data(), rows=sessions(), before=st.integers(1, 5))
def test_tiers_answer_as_if_nothing_had_been_pruned(
    data: st.DataObject, rows: list[Row], before: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tiers")
    late = data.draw(st.integers(0, min(5, len(rows))))  # the lake has not got the last ones yet
    queries = data.draw(st.lists(QUERIES, min_size=4, max_size=8))
    counts = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=2))
    lake = with_lake(path, rows[: len(rows) - late])

    async def work() -> None:
        whole = await BarRepository.open(f"sqlite:///{path / 'whole.db'}")
        await whole.add(table(rows))
        store = await opened(path, rows, lake)
        await store.repository.confirm("lake", len(rows) - late)
        await store.repository.prune(FIRST_DAY + timedelta(days=before))
        for query in queries:
            assert (await store.bars(query)).equals(await whole.bars(query)), query
            plain = BarQuery(symbols=query.symbols, feed=query.feed, as_of=query.as_of)
            for n in counts:
                assert (await store.latest(plain, n)).equals(await whole.latest(plain, n)), n
        await store.repository.close()
        await whole.close()

    asyncio.run(work())


def test_tiers_ask_the_lake_only_for_what_the_database_may_lack(tmp_path: Path) -> None:
    rows = [at(day, minute) for day in range(6) for minute in range(3)]
    lake = with_lake(tmp_path, rows)

    async def work() -> None:
        store = await opened(tmp_path, rows, lake)
        await store.bars(BarQuery(symbols=("AAA",)))
        assert lake.asked == []
        await store.repository.prune(FIRST_DAY + timedelta(days=2))
        await store.bars(BarQuery(symbols=("AAA",), start=OPEN + 4 * DAY))
        await store.bars(BarQuery(symbols=("AAA",), newest_first=True, limit=3))
        await store.latest(BarQuery(symbols=("AAA",)), 3)
        assert lake.asked == []
        assert len(await store.latest(BarQuery(symbols=("AAA",)), 18)) == 18
        assert [query.end for query in lake.asked] == [1_767_830_400_000_000_000]  # 8 January
        await store.repository.close()

    asyncio.run(work())


def test_tiers_new_database_over_an_older_lake_finds_its_series(tmp_path: Path) -> None:
    old = [at(0, m, symbol="OLD") for m in range(3)]
    lake = with_lake(tmp_path, old)

    async def work() -> None:
        new = [at(5, 0), at(5, 0, symbol="OLD", feed="sip")]
        store = await opened(tmp_path, new, lake)
        await store.repository.prune(FIRST_DAY + timedelta(days=4))
        found = await store.latest(BarQuery(timeframe="1m"), 2)
        assert rows_of(found) == [old[1], old[2], *new]
        feeds = [(each.symbol, each.feed) for each in await store.series(BarQuery())]
        assert feeds == [("AAA", "iex"), ("OLD", "iex"), ("OLD", "sip")]
        await store.repository.close()

    asyncio.run(work())


def test_tiers_failing_lake_is_an_error_never_a_shorter_answer(tmp_path: Path) -> None:
    class Broken(RepositoryLake):
        def bars(self, query: BarQuery) -> pa.Table:
            raise LakeError("the file is gone")

    async def work() -> None:
        rows = [at(0), at(5)]
        store = await opened(tmp_path, rows, Broken(f"sqlite:///{tmp_path / 'lake.db'}"))
        await store.repository.prune(FIRST_DAY + timedelta(days=4))
        with pytest.raises(LakeError, match="the file is gone"):
            await store.bars(BarQuery(symbols=("AAA",)))
        await store.repository.close()

    asyncio.run(work())


def test_tiers_cache_serves_repeats_and_sees_what_was_just_added(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path, [at(0)], None)
        query = BarQuery(symbols=("AAA",), timeframe="1m")
        for _ in range(5):
            assert rows_of(await store.latest(query)) == [at(0)]
        assert store.cache.counts == CacheCounts(hits=4, misses=1)
        await store.add(table([at(0, 0, symbol="OTHER")]))
        await store.latest(query)
        assert store.cache.counts == CacheCounts(hits=5, misses=1)
        await store.add(table([at(0, 1)]))
        assert rows_of(await store.latest(query)) == [at(0, 1)]
        await store.repository.close()

    asyncio.run(work())


ADDER = """
import asyncio, sys
from storekit import bar, table
from marketpipe.store import BarRepository

async def main(url, minute):
    async with await BarRepository.open(url) as repository:
        await repository.add(table([bar(minute)]))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_tiers_latest_sees_at_once_what_another_process_confirmed(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    url = f"sqlite:///{tmp_path / 'a.db'}"

    async def work() -> None:
        store = TieredBarStore(await BarRepository.open(url))
        query = BarQuery(symbols=("AAA",), timeframe="1m")
        assert len(await store.latest(query)) == 0
        for minute in range(3):
            await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", ADDER, url, str(minute)],
                cwd=tests,
                check=True,
            )
            assert rows_of(await store.latest(query)) == [bar(minute)]
        await store.repository.close()

    asyncio.run(work())


def test_tiers_floor_is_a_day(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path, [], None)
        assert await store.repository.prune(date(2026, 1, 7)) == 0
        assert await store.repository.floor() == date(2026, 1, 7)
        await store.repository.close()

    asyncio.run(work())
