"""A data folder of two streamed days, bars in it tampered with, and rebuilds that are killed."""

import asyncio
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crashkit import Killer, bars_of
from feedkit import OPEN, ticks, whole_of
from marketpipe.domain.schemas import BARS
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.journals import recorded
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.live import AtBoundary, nowhere
from marketpipe.pipelines.rebuild import Origin, RebuildJob, Rebuilt, plan, write
from marketpipe.store import BarRepository

DAY = 86_400 * NANOS
FIRST_DAY = OPEN // DAY
NOW = OPEN + 10 * DAY


def streamed(folder: Path) -> Path:
    """Stream two minutes of one day and of the next, so that the first session is over."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    for n in range(2):
        whole_of(data, ticks(folder / f"{n}.csv", 120, start_ns=OPEN + n * DAY))
    return data


def tamper(data: Path, symbol: str = "AAPL", ts_open: int = OPEN) -> None:
    """Write a wrong revision of a minute, to lake and store."""
    rows = bars_of(data)
    at = (pc.field("symbol") == symbol) & (pc.field("timeframe") == "1m")
    (row,) = rows.filter(at & (pc.field("ts_open") == ts_open)).to_pylist()
    row |= {"high": Decimal(999), "revision": 1, "cause": "late", "known_at": row["known_at"] + 1}
    add(data, pa.Table.from_pylist([row], schema=BARS))


def add(data: Path, bars: pa.Table) -> None:
    """Add bars to lake and store, behind everyone's back."""

    async def to_store() -> None:
        async with await BarRepository.open(DataFolder(data).store_url) as store:
            await store.add(bars)

    asyncio.run(to_store())
    table = LakeTable.open(DataFolder(data).lake, "bars")
    writer = f"tamper/{len(table.history())}"
    table.append(bars, app_id=writer, through=0, offsets=np.zeros(len(bars), np.int64))


def job(data: Path, origin: Origin = "raw", symbols: frozenset[str] | None = None) -> RebuildJob:
    """Return a rebuild of the first day."""
    made = recorded(DataFolder(data), "mock-file")
    return RebuildJob(
        folder=DataFolder(data),
        settings=made.settings,
        make_parser=made.make_parser,
        origin=origin,
        symbols=symbols,
        days=Days(FIRST_DAY, FIRST_DAY),
    )


def rebuild(
    wanted: RebuildJob, now_ns: int = NOW, at_boundary: AtBoundary = nowhere
) -> tuple[Rebuilt, int]:
    """Plan and write a rebuild."""
    found = plan(wanted)
    return found, asyncio.run(write(wanted, found, now_ns, at_boundary))


def killed(data: Path, boundary: str) -> int:
    """Rebuild in a process that kills itself at a boundary; return how it ended."""
    words = [sys.executable, __file__, str(data), boundary]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(words, env=env, check=False, timeout=120).returncode


if __name__ == "__main__":
    rebuild(job(Path(sys.argv[1])), at_boundary=Killer((sys.argv[2], 1)))
