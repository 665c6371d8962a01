"""A pipeline that flushes often leaves few files, and every row once."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl

from crashkit import feed_in, settings
from livekit import FeedSpec, records
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.housekeeping import keep_files_few
from marketpipe.pipelines.live import nowhere
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.sources.alpaca import AlpacaParser

FEED = FeedSpec(trades=2_500, minutes=10, late=0.01)


async def _run(folder: DataFolder, flushes_per_compaction: int) -> None:
    often = replace(settings(), flush_ns=8 * NANOS, flushes_per_compaction=flushes_per_compaction)
    async with live_pipeline(folder, often, AlpacaParser) as pipeline:
        await feed_in(pipeline, records(FEED), 50)
        await pipeline.stop()


def _most_files(folder: DataFolder, name: str) -> int:
    files = LakeTable.open(folder.lake, name, create=False).files()
    return max(Counter(str(Path(path).parent) for path in files).values())


def _rows(folder: DataFolder, name: str) -> pl.DataFrame:
    files = LakeTable.open(folder.lake, name, create=False).files()
    found = pl.read_parquet(files, hive_partitioning=True)
    return found.select(sorted(found.columns)).sort(sorted(found.columns))


def test_live_pipeline_compacts_what_it_writes_and_keeps_every_row(tmp_path: Path) -> None:
    tidy, untidy = DataFolder(tmp_path / "tidy"), DataFolder(tmp_path / "untidy")
    asyncio.run(_run(tidy, 17))
    asyncio.run(_run(untidy, 10**9))
    for name in ("raw", "trades", "bars"):
        assert _most_files(untidy, name) > 34
        assert _most_files(tidy, name) < 34
        assert _rows(tidy, name).equals(_rows(untidy, name))


def test_keep_files_few_leaves_a_file_a_partition_and_then_nothing_to_do(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    asyncio.run(_run(folder, 10**9))
    before = {name: _rows(folder, name) for name in ("raw", "trades", "bars")}
    assert set(keep_files_few(folder.lake, "zstd", nowhere)) >= set(before)
    for name, rows in before.items():
        assert _most_files(folder, name) == 1
        assert _rows(folder, name).equals(rows)
    assert keep_files_few(folder.lake, "zstd", nowhere) == []
