"""What the lake shows as of an instant is what a fresh computation makes of what was known then."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pytest

import marketpipe as mp
from crashkit import feed_in, settings
from instantkit import SEED, TIMEFRAMES, Knowledge
from livekit import FAULTY, FeedSpec, numbered, records
from marketpipe.domain.schemas import BARS
from marketpipe.domain.units import NANOS
from marketpipe.lake import Lake, LakeTable
from marketpipe.lake.views import Knowledge as KnownBy
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.verify import first_difference

IDENTITY = ("timeframe", "symbol", "ts_open")
KNOWN_BY: tuple[KnownBy, ...] = ("assumed", "strict")


class Compared(NamedTuple):
    """How much was compared: states of knowledge and reads; voided and revised bars met."""

    states: int
    reads: int
    voided: int
    revised: int


async def run(folder: DataFolder, feed: pa.Table) -> None:
    """Take a feed in, in two lives of a pipeline that flushes and compacts often."""
    often = replace(
        settings(timeframes=",".join(TIMEFRAMES)), flush_ns=10 * NANOS, flushes_per_compaction=4
    )
    for part in (feed.slice(0, len(feed) // 2), feed):
        async with live_pipeline(folder, often, AlpacaParser, files_per_partition=3) as pipeline:
            await feed_in(pipeline, part, 50)
            await pipeline.stop()


def bars(
    lake: Lake, spec: FeedSpec, at: int, known_by: KnownBy, *, history: bool = False
) -> pl.DataFrame:
    """Read the bars of all symbols and timeframes as of an instant."""
    return pl.concat(
        lake.bars(spec.symbols, timeframe, as_of=at, knowledge=known_by, history=history)
        for timeframe in TIMEFRAMES
    ).sort(*IDENTITY, "revision")


def of_events(events: pa.Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what should be read of the events of a fresh derivation: bars, and their history."""
    found = pl.from_arrow(events)
    assert isinstance(found, pl.DataFrame)
    history = found.sort(*IDENTITY, "revision")
    latest = history.unique(IDENTITY, keep="last", maintain_order=True)
    return latest.filter(pl.col("coverage") != "void"), history


def assert_as_of(folder: Path, spec: FeedSpec, count: int, every: int) -> Compared:
    """Compare at ``count`` instants, by either time in turn; now and then history and SQL too."""
    feed = records(spec)
    asyncio.run(run(DataFolder(folder), feed))
    commits = LakeTable.open(DataFolder(folder).lake, "bars", create=False).history()
    assert {"compact", "WRITE"} <= {commit.operation for commit in commits}
    known, lake = Knowledge(numbered(feed)), mp.open(folder)
    reads = voided = revised = 0
    for number, at in enumerate(known.instants(count)):
        known_by = KNOWN_BY[number % 2]
        visible = bars(lake, spec, at, known_by)
        reads += len(TIMEFRAMES)
        wanted = known.bars(at)
        assert first_difference(visible.to_arrow().cast(BARS), wanted) is None, (at, known_by)
        assert len(visible) == len(wanted), (at, known_by)
        if number % every:
            continue
        latest, history = of_events(known.events(at))
        assert visible.equals(latest), (at, known_by)
        assert bars(lake, spec, at, known_by, history=True).equals(history), (at, known_by)
        query = f"SELECT * FROM bars ORDER BY {', '.join(IDENTITY)}"
        assert lake.sql(query, as_of=at, knowledge=known_by).equals(visible), (at, known_by)
        reads += len(TIMEFRAMES) + 1
        voided += history.filter(coverage="void").height
        revised += latest.filter(pl.col("revision") > 0).height
    return Compared(known.states, reads, voided, revised)


def test_lake_as_of_random_instants_shows_bars_of_what_was_known(tmp_path: Path) -> None:
    found = assert_as_of(tmp_path, replace(FAULTY, trades=500, minutes=4, cancels=0.03), 36, 9)
    assert found.states > 25
    assert min(found.voided, found.revised) > 0


@pytest.mark.torture
@pytest.mark.timeout(3_600)
def test_lake_as_of_a_thousand_instants_shows_bars_of_what_was_known(
    tmp_path: Path, figures: dict[str, str]
) -> None:
    spec = replace(FAULTY, trades=6_000, minutes=20, seed=7)
    found = assert_as_of(tmp_path, spec, 1_000, 25)
    figures["instants through the lake"] = (
        f"seed {SEED}: 1,000 instants, {found.states} states, {found.reads:,} reads, 0 differences"
    )
