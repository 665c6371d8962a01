"""The lake answers a bar query as the database does, and fills what retention took from it."""

import asyncio
from datetime import timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marketpipe.lake import LakeLayout, LakeTable
from marketpipe.pipelines.laketier import LakeBarTier
from marketpipe.store import BarQuery, BarRepository, TieredBarStore
from storekit import DAY, FIRST_DAY, MINUTE, OPEN, Row, bar, table, void

DAYS = 3


def _rows() -> list[Row]:
    rows = []
    for day, symbol, minute in product(range(DAYS), ("AAPL", "BTC/USD"), range(3)):
        for revision in range(2 if minute == 1 else 1):
            row = bar(minute, revision, symbol=symbol)
            rows.append(_on(row, day))
    rows.append(_on(void(1, 2, symbol="AAPL"), 1))
    return rows


def _on(row: Row, day: int) -> Row:
    times = {name: row[name] + day * DAY for name in ("ts_open", "ts_close", "known_at")}
    if row["recorded_at"] is not None:
        times["recorded_at"] = row["recorded_at"] + day * DAY
    return row | times | {"session_date": FIRST_DAY + timedelta(days=day)}


@pytest.fixture
def both(tmp_path: Path) -> tuple[str, LakeTable, pa.Table]:
    bars = table(_rows())
    lake = LakeTable.open(LakeLayout(tmp_path / "lake"), "bars")
    lake.append(bars, app_id="test", through=0, offsets=np.zeros(len(bars), np.int64))
    return f"sqlite:///{tmp_path / 'bars.db'}", lake, bars


QUERIES = [
    BarQuery(),
    BarQuery(history=True),
    BarQuery(voids=True),
    BarQuery(symbols=("AAPL",), timeframe="1m"),
    BarQuery(symbols=("BTC/USD", "NONE")),
    BarQuery(start=OPEN + MINUTE, end=OPEN + DAY + 2 * MINUTE),
    BarQuery(as_of=OPEN + DAY + 2 * MINUTE),
    BarQuery(as_of=OPEN + DAY + 2 * MINUTE, knowledge="strict", history=True),
    BarQuery(limit=4),
    BarQuery(limit=5, newest_first=True),
    BarQuery(feed="other"),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_lake_tier_answers_as_the_database_does(
    both: tuple[str, LakeTable, pa.Table], query: BarQuery
) -> None:
    url, lake, bars = both

    async def database() -> pa.Table:
        async with await BarRepository.open(url) as repository:
            await repository.add(bars)
            assert await repository.series(query) == LakeBarTier(lake).series(query)
            return await repository.bars(query)

    expected = asyncio.run(database())
    assert LakeBarTier(lake).bars(query).equals(expected)


def test_lake_tier_fills_what_retention_took(both: tuple[str, LakeTable, pa.Table]) -> None:
    url, lake, bars = both

    async def pruned() -> tuple[pa.Table, pa.Table]:
        async with await BarRepository.open(url) as repository:
            await repository.add(bars)
            whole = await repository.bars(BarQuery(history=True))
            assert await repository.prune(FIRST_DAY + timedelta(days=2)) > 0
            store = TieredBarStore(repository, lake=LakeBarTier(lake))
            return whole, await store.bars(BarQuery(history=True))

    whole, tiered = asyncio.run(pruned())
    assert len(whole) == len(bars)
    assert tiered.equals(whole)


def test_lake_tier_of_an_empty_lake_is_empty(tmp_path: Path) -> None:
    tier = LakeBarTier(LakeTable.open(LakeLayout(tmp_path), "bars"))
    assert len(tier.bars(BarQuery(symbols=("AAPL",)))) == 0
    assert tier.series(BarQuery()) == ()
