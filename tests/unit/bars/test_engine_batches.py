"""Where a batch ends costs nothing: bars that it leaves open do not slow down what follows."""

import os
import time

import numpy as np
import pytest

from marketpipe.bars.engine import BarEngine
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64

SECOND = 1_000_000_000
OPEN = 1_704_205_800 * SECOND
TICKS = 200_000
STREAMS = tuple(StreamKey("test", "", name) for name in ("AAA", "BBB"))


def ticks(first: int, stop: int) -> Ticks:
    """Ticks of two symbols in turn, half a second apart: one per symbol and second."""
    rows = np.arange(first, stop)
    zeros = np.zeros(len(rows), np.int64)
    return Ticks(
        streams=STREAMS,
        stream=(rows % 2).astype(np.int32),
        ts_event=OPEN + rows * (SECOND // 2),
        price=SECOND + rows,
        size=zeros + SECOND,
        key_major=zeros,
        key_mid=zeros,
        key_minor=rows + 1,
        flags=np.full(len(rows), PLAIN, np.uint16),
        known_at=np.full(len(rows), NULL_I64),
    )


def cost(batches: int) -> float:
    """Return the processor seconds of the quickest of five runs in so many batches."""
    step = TICKS // batches
    given = [ticks(at, at + step) for at in range(0, TICKS, step)]
    spent = []
    for _ in range(5):
        engine = BarEngine(["1s", "1m", "5m", "15m", "1h", "1d"], events=False)
        start = time.thread_time()
        for batch in given:
            engine.apply(batch)
        spent.append(time.thread_time() - start)
    return min(spent)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="speed of compiled code")
def test_engine_ten_batches_cost_about_what_one_does() -> None:
    cost(10)
    assert cost(10) < 3 * cost(1)
