"""What one read lists and opens stays the same, however often the pipeline has appended."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq
import pytest

from housekit import KEPT_TO, by_minutes
from livekit import OPEN_NS, FeedSpec
from marketpipe.domain.units import DAY_NS
from marketpipe.lake import TABLES, Lake
from marketpipe.lake.snapshot import LiveTable, Wanted
from marketpipe.pipelines.datafolder import DataFolder

SYMBOL = "AAPL"
START = OPEN_NS // DAY_NS * DAY_NS
DAY = (START, START + DAY_NS)
INSTANT = {"trades": "ts_event", "bars": "ts_open"}
LOG = 100
"""Entries of a table's log after which it has a checkpoint."""


class Cost(NamedTuple):
    """What a new reader goes through to read one symbol-day of a table.

    Attributes
    ----------
    log : entries of the table's log since its last checkpoint, which also lists removed files
    listed : live files of the table, which has a partition for each of two symbols
    opened : files that can hold rows of the read
    groups : row groups in these
    """

    log: int
    listed: int
    opened: int
    groups: int


class Watch:
    """Counts after every append of a table, before anything tidies up, what a read costs then.

    At the appends numbered in ``at`` it reads, too.
    """

    def __init__(self, folder: DataFolder, name: str, at: tuple[int, ...]) -> None:
        self.costs: list[Cost] = []
        self.rows: list[int] = []
        self._name, self._at, self._lake = name, at, folder.lake
        self._table = LiveTable(TABLES[name], folder.lake.path(name))

    def look(self) -> None:
        """Count what a read costs now."""
        opened = self._table.files(Wanted((SYMBOL,), INSTANT[self._name], *DAY)).paths
        groups = sum(pq.read_metadata(path).num_row_groups for path in opened)
        log = self._table.folder / "_delta_log"
        checkpoints = [int(found.name[:20]) for found in log.glob("*.checkpoint.parquet")]
        entries = sum(int(p.stem) > max(checkpoints, default=-1) for p in log.glob("*.json"))
        listed = self._table.files().paths
        self.costs.append(Cost(entries, len(listed), len(opened), groups))
        if len(self.costs) in self._at:
            lake = Lake(self._lake.root)
            read = self._read(lake)
            assert len(read) == len(pl.scan_parquet(list(listed)).filter(symbol=SYMBOL).collect())
            self.rows.append(len(read))

    def _read(self, lake: Lake) -> pl.DataFrame:
        if self._name == "trades":
            return lake.trades(SYMBOL, *DAY)
        return lake.bars(SYMBOL, "1m", *DAY, history=True)


def assert_bounded(root: Path, at: tuple[int, ...]) -> dict[str, list[Cost]]:
    """Append once a minute; return what reads cost at some numbers of appends, by table."""
    folder, minutes = DataFolder(root), at[-1] + 2
    spec = FeedSpec(symbols=(SYMBOL, "MSFT"), trades=60 * minutes, minutes=minutes, late=0.01)
    watches: dict[str, Watch] = {}

    def after_append(boundary: str) -> None:
        name, _, when = boundary.partition(":")
        if name in INSTANT and when == "after":
            watches.setdefault(name, Watch(folder, name, at)).look()

    asyncio.run(by_minutes(folder, spec, "1m", after_append))
    bound = Cost(log=LOG, listed=2 * KEPT_TO, opened=KEPT_TO, groups=KEPT_TO)
    for watch in watches.values():
        assert len(watch.costs) >= at[-1]
        most = Cost(*map(max, zip(*watch.costs, strict=True)))
        assert all(found <= allowed for found, allowed in zip(most, bound, strict=True)), most
        assert watch.rows == sorted(set(watch.rows))
        assert len(watch.rows) == len(at)
    return {name: [watch.costs[n - 1] for n in at] for name, watch in watches.items()}


def test_read_of_a_symbol_day_after_many_appends_opens_no_more_files(tmp_path: Path) -> None:
    assert_bounded(tmp_path, (10, 70))


@pytest.mark.torture
@pytest.mark.timeout(3_600)
def test_read_of_a_symbol_day_after_400_appends_opens_no_more_files(
    tmp_path: Path, figures: dict[str, str]
) -> None:
    at = (10, 100, 400)
    found = assert_bounded(tmp_path, at)["trades"]
    told = ", ".join(f"{cost.opened} after {n}" for cost, n in zip(found, at, strict=True))
    figures["files opened for a symbol-day, by appends"] = f"{told}; never more than {KEPT_TO}"
