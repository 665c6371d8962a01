"""Whole replays as processes of their own, and single trades as calls."""

import os
import subprocess
import sys
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

from bench import data
from bench.bars import TIMEFRAMES
from marketpipe.bars import BarEngine

RUNS: Final = 3
CALL_RUNS: Final = 3
CALLS: Final = 200_000
MEMORY_AIM: Final = 1_500_000_000
"""Peak resident bytes that no run is meant to reach, whatever its length."""


class _Set(NamedTuple):
    name: str
    kind: str
    trades: int
    sessions: int
    aim: float | None
    timeframes: tuple[str, ...] = ()


_SETS: Final = (
    _Set("Parquet, one session", "parquet", 10_000_000, 1, 5_000_000),
    _Set("Parquet, ten sessions", "parquet", 50_000_000, 10, 5_000_000),
    _Set(
        f"Parquet, ten sessions, {', '.join(TIMEFRAMES)}",
        *("parquet", 50_000_000, 10, None),
        tuple(TIMEFRAMES),
    ),
    _Set("CSV, one session", "csv", 10_000_000, 1, 1_500_000),
)


@dataclass(frozen=True, slots=True)
class Run:
    """The median run of one input; ``aim`` in trades a second, None where there is none."""

    name: str
    trades: int
    seconds: float
    peak_bytes: int
    aim: float | None

    @property
    def rate(self) -> float:
        """Trades a second."""
        return self.trades / self.seconds


@dataclass(frozen=True, slots=True)
class Call:
    """The cost of one `apply_trade`, and how many events came of them all."""

    symbols: int
    events: int
    microseconds: float


def replays() -> list[Run]:
    """Run `marketpipe replay` on each input."""
    runs = []
    for name, kind, trades, sessions, aim, timeframes in _SETS:
        path = (data.csv if kind == "csv" else data.parquet)(trades, sessions)
        command = [sys.executable, "-m", "marketpipe", "replay", f"--{kind}", str(path), "--quiet"]
        if timeframes:
            command += ["--timeframes", ",".join(timeframes)]
        _timed(command)
        timed = [_timed(command) for _ in range(RUNS)]
        runs.append(
            Run(name, trades, median(s for s, _ in timed), max(peak for _, peak in timed), aim)
        )
    return runs


def _timed(command: list[str]) -> tuple[float, int]:
    """Return the seconds from start to exit and the peak resident bytes of one process."""
    start = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return perf_counter() - start, usage.ru_maxrss * 1024


def calls() -> list[Call]:
    """Feed one trade after the other, of one symbol and of a hundred."""
    trades = data.load(data.parquet(10_000_000)).take(slice(CALLS))
    return [_calls(trades, count) for count in (1, 100)]


def _calls(trades: data.Trades, symbols: int) -> Call:
    names = [f"S{code % symbols}" for code in trades.symbol.tolist()]
    rows = list(
        zip(names, trades.ts.tolist(), trades.price.tolist(), trades.size.tolist(), strict=True)
    )
    best, events = float("inf"), 0
    for _ in range(CALL_RUNS):
        engine = BarEngine(list(TIMEFRAMES))
        events = 0
        start = perf_counter()
        for name, ts, price, size in rows:
            events += len(engine.apply_trade(name, ts, price, size))
        best = min(best, perf_counter() - start)
    return Call(symbols, events, best / len(rows) * 1e6)
