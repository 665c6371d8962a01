"""A day of many symbols, flushed every minute: the lake's files stay few, and become a handful."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from crashkit import rows_of
from housekit import KEPT_TO, by_minutes
from livekit import FeedSpec
from marketpipe.lake import LakeTable, compact
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakesink import TABLES

SYMBOLS = tuple(f"S{k:03d}" for k in range(500))
FEW = 3
"""Most files of a partition after compaction."""


class Files(NamedTuple):
    """Live files of all tables, in how many partitions, and most of a partition."""

    total: int
    partitions: int
    most: int


def tables(folder: DataFolder) -> dict[str, LakeTable]:
    """Open every table of the lake."""
    return {name: LakeTable.open(folder.lake, name, create=False) for name in TABLES}


def files(folder: DataFolder) -> Files:
    """Count the live files of all tables."""
    found = Counter(
        Path(path).parent for table in tables(folder).values() for path in table.files()
    )
    return Files(found.total(), len(found), max(found.values()))


def rows(folder: DataFolder) -> dict[str, pl.DataFrame]:
    """Return all rows of every table."""
    return {name: rows_of(folder.root, name) for name in TABLES}


def assert_few(root: Path, trades: int, minutes: int) -> str:
    """Run some minutes of all symbols, then compact; tell how many files there were."""
    spec = FeedSpec(
        symbols=SYMBOLS, trades=trades, minutes=minutes, late=0.005, duplicates=0.005,
        cancels=0.001, corrections=0.001, bad=0.001,
    )  # fmt: skip
    folder, passed = DataFolder(root), list[str]()
    records = asyncio.run(by_minutes(folder, spec, "1m,5m,15m,1h,1d", passed.append))
    flushes = passed.count("raw:after")
    assert flushes >= minutes
    before, held = files(folder), rows(folder)
    assert len(held["raw"]) == records
    assert held["trades"]["symbol"].n_unique() > 450
    assert FEW < before.most <= KEPT_TO
    counts = {name: table.count() for name, table in tables(folder).items()}
    for table in tables(folder).values():
        compact(table)
    after = files(folder)
    assert after.most <= FEW
    assert after.partitions == before.partitions
    assert {name: table.count() for name, table in tables(folder).items()} == counts
    assert all(found.equals(held[name]) for name, found in rows(folder).items())
    return (
        f"{records:,} records, {flushes} flushes: {before.total:,} files in "
        f"{before.partitions} partitions (most {before.most}), after compaction {after.total:,} "
        f"(most {after.most}), every row kept"
    )


def test_an_hour_of_500_symbols_compacted_leaves_few_files_a_partition(tmp_path: Path) -> None:
    assert_few(tmp_path, 12_000, 64)


@pytest.mark.torture
@pytest.mark.timeout(3_600)
def test_a_day_of_500_symbols_compacted_leaves_few_files_a_partition(
    tmp_path: Path, figures: dict[str, str]
) -> None:
    figures["a day of 500 symbols, flushed every 60 s"] = assert_few(tmp_path, 200_000, 390)
