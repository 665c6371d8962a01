"""Bars into the serving database: what one `BarRepository.add` after the other takes."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import pyarrow as pa

from bench import data
from bench.ours import ticks
from marketpipe.bars import BarEngine
from marketpipe.store import BarRepository

AIM: Final = 50_000
ADDS: Final = (500, 5_000, 50_000)
"""Bars to an add: a minute of 500 symbols, and more."""
_TRADES: Final = 10_000_000
_BARS: Final = 150_000


@dataclass(frozen=True, slots=True)
class Adding:
    """How fast bars went in, with so many to an add, each add one durable transaction."""

    bars_an_add: int
    bars: int
    seconds: float

    @property
    def rate(self) -> float:
        """Bars a second."""
        return self.bars / self.seconds


def measure() -> list[Adding]:
    """Add the minute bars of a session to a new SQLite file, for each size of an add."""
    engine = BarEngine(["1m"], events=False, workers=2)
    engine.apply(ticks(data.load(data.parquet(_TRADES))))
    engine.flush()
    bars = engine.bars().slice(0, _BARS).combine_chunks()
    found = []
    for size in ADDS:
        with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
            seconds = asyncio.run(_add(f"sqlite:///{Path(name) / 'bars.db'}", bars, size))
            found.append(Adding(size, len(bars), seconds))
    return found


async def _add(url: str, bars: pa.Table, size: int) -> float:
    async with await BarRepository.open(url) as repository:
        start = perf_counter()
        for at in range(0, len(bars), size):
            await repository.add(bars.slice(at, size))
        return perf_counter() - start
