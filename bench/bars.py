"""What every contender hands back: bars in columns, so that answers can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from bench.data import I64, SECOND, Trades

TIMEFRAMES: Final = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "1d": 86_400}
"""Canonical spelling → seconds; anchored at the UTC epoch (session ``continuous``)."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one timeframe: one row each, in any order; prices and volume in nanos.

    ``count`` is None where the contender does not count trades.
    """

    symbol: npt.NDArray[np.int16]
    ts_open: I64
    open: I64
    high: I64
    low: I64
    close: I64
    volume: I64
    count: I64 | None = None

    def __len__(self) -> int:
        return len(self.ts_open)

    def ordered(self, *, with_count: bool) -> npt.NDArray[np.int64]:
        """Rows by symbol and time, as one matrix with a bar in every column."""
        order = np.lexsort((self.ts_open, self.symbol))
        columns = [
            self.symbol.astype(np.int64),
            self.ts_open,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
        ]
        if with_count and self.count is not None:
            columns.append(self.count)
        return np.stack([column[order] for column in columns])


Answer: TypeAlias = dict[str, Bars]
"""Timeframe → its bars."""


def best_of(runs: int, work: Callable[[], object], reset: Callable[[], object]) -> float:
    """Return the seconds of the fastest of ``runs`` calls, ``reset`` before each not counted."""
    seconds = []
    for _ in range(runs):
        reset()
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds)


def differing(answer: Answer, reference: Answer) -> int:
    """Count the bars that are missing, surplus or different in any cell."""
    return sum(_differing(answer[name], bars) for name, bars in reference.items())


def _differing(ours: Bars, theirs: Bars) -> int:
    with_count = ours.count is not None and theirs.count is not None
    left, right = ours.ordered(with_count=with_count), theirs.ordered(with_count=with_count)
    if left.shape == right.shape and np.array_equal(left, right):
        return 0
    rows = {tuple(row) for row in right.T.tolist()}
    found = [tuple(row) for row in left.T.tolist()]
    same = sum(row in rows for row in found)
    keys = {row[:2] for row in rows} | {row[:2] for row in found}
    return len(keys) - same


def straightforward(trades: Trades) -> Answer:
    """Return the right answer, slowly: sort by symbol and time, cut, reduce.

    The yardstick of the correctness column; it shares no code with any contender.
    """
    order = np.lexsort((trades.ts, trades.symbol))
    given = trades.take(order)
    answer = {}
    for name, seconds in TIMEFRAMES.items():
        opens = given.ts - given.ts % (seconds * SECOND)
        new = (given.symbol[1:] != given.symbol[:-1]) | (opens[1:] != opens[:-1])
        first = np.concatenate(([0], np.flatnonzero(new) + 1))
        last = np.append(first[1:], len(given)) - 1
        answer[name] = Bars(
            given.symbol[first],
            opens[first],
            given.price[first],
            np.maximum.reduceat(given.price, first),
            np.minimum.reduceat(given.price, first),
            given.price[last],
            np.add.reduceat(given.size, first),
            last - first + 1,
        )
    return answer
