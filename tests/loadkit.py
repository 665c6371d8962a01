"""Files to load, a way to load them, and processes that are killed while they do."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from crashkit import Killer, rows_of
from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.lake import Lake
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.live import AtBoundary, nowhere
from marketpipe.pipelines.load import LoadJob, LoadReport, load_file

OPEN = 1_767_623_400 * NANOS
"""2026-01-05 14:30 UTC, a Monday: the open in New York."""
MINUTE = 60 * NANOS
DAY = 86_400 * NANOS
NOW = OPEN + 30 * DAY
"""When files are loaded, if a test does not say."""


class Trade(NamedTuple):
    """A line of a tick CSV; ``second`` after the open, ``number`` 0 for no id."""

    second: float
    price: str
    size: str = "10"
    number: int = 0
    symbol: str = "AAPL"

    @property
    def ts_ns(self) -> int:
        """When it happened."""
        return OPEN + int(self.second * NANOS)


def write(path: Path, trades: Iterable[Trade]) -> Path:
    """Write a tick CSV."""
    lines = [f"{t.symbol},{t.ts_ns},{t.price},{t.size},{t.number or ''}\n" for t in trades]
    path.write_text("symbol,ts_ns,price,size,trade_id\n" + "".join(lines))
    return path


def day(count: int = 300, symbols: Sequence[str] = ("AAPL", "BTC/USD")) -> list[Trade]:
    """Return trades of some symbols, one of each a second, with ids."""
    return [
        Trade(k, f"{100 + (k * 7) % 23}.{k % 100:02d}", str(k % 5 + 1), 1000 + k, symbol)
        for k in range(count)
        for symbol in symbols
    ]


def load_settings(timeframes: str = "1m,5m,1d", **changes: Any) -> DeriveSettings:
    """Return what bars a load builds: plain rules, 24/7."""
    return DeriveSettings(
        journal_id="load",
        timeframes=parse_many(timeframes),
        rule_set=RuleSet.load("plain"),
        **changes,
    )


def load(
    folder: Path,
    path: Path,
    *,
    now_ns: int = NOW,
    settings: DeriveSettings | None = None,
    source: str = "file",
    feed: str = "",
    symbols: frozenset[str] | None = None,
    at_boundary: AtBoundary = nowhere,
) -> LoadReport:
    """Load a file into a data folder."""
    job = LoadJob(
        folder=DataFolder(folder),
        path=path,
        source=source,
        feed=feed,
        symbols=symbols,
        settings=settings or load_settings(),
        now_ns=now_ns,
    )
    return asyncio.run(load_file(job, at_boundary))


def bars(folder: Path, symbol: str = "AAPL", timeframe: str = "1m", **ask: Any) -> pl.DataFrame:
    """Return bars of a data folder's lake."""
    return Lake(DataFolder(folder).lake.root).bars(symbol, timeframe, **ask)


def trades(folder: Path, symbol: str = "AAPL", **ask: Any) -> pl.DataFrame:
    """Return trades of a data folder's lake."""
    return Lake(DataFolder(folder).lake.root).trades(symbol, **ask)


def everything(folder: Path) -> dict[str, object]:
    """Return what a data folder holds; of the raw table the lines."""
    kept: dict[str, object] = {name: rows_of(folder, name).rows() for name in TABLES[1:]}
    raw = rows_of(folder, "raw").filter(pl.col("kind") == "data")
    kept["raw"] = raw.rows()
    with sqlite3.connect(folder / "marketpipe.db") as database:
        kept["store"] = database.execute("SELECT * FROM bars ORDER BY seq").fetchall()
    database.close()
    return kept


def killed(folder: Path, path: Path, boundaries: Sequence[str]) -> dict[str, int]:
    """Load a file once a boundary, in processes that kill themselves there; return how they ended.

    The data folder of each is ``folder/boundary``.
    """
    told = subprocess.run(
        [sys.executable, __file__, str(folder), str(path), *boundaries],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    ends: dict[str, int] = json.loads(told.stdout)
    return ends


def _main(folder: str, path: str, *boundaries: str) -> None:
    ends = {}
    for boundary in boundaries:
        child = os.fork()
        if not child:
            name, _, count = boundary.partition("-")
            load(Path(folder, boundary), Path(path), at_boundary=Killer((name, int(count or 1))))
            os._exit(0)
        ends[boundary] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(ends))


KILLED = -signal.SIGKILL

if __name__ == "__main__":
    _main(*sys.argv[1:])
