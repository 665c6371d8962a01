"""An engine that runs out of room takes more, and nothing else changes."""

import numpy as np
import pyarrow as pa
import pytest

from marketpipe.bars import BarEngine, shard

SECOND = 1_000_000_000


def trades(*, late: bool) -> pa.Table:
    draws = np.random.default_rng(11)
    at = np.sort(draws.integers(0, 7_200, 4_000))
    if late:
        at = draws.permutation(at)
    return pa.table(
        {
            "symbol": draws.choice(["A", "B", "C"], len(at)),
            "ts_ns": at * SECOND,
            "price": draws.integers(90, 110, len(at)).astype(float),
            "size": draws.integers(1, 9, len(at)),
        }
    )


TIMEFRAMES = {"plain": ["1s", "1m", "1h"], "alpaca-v1": ["1m", "1h", "1d"]}


def run(table: pa.Table, rule_set: str) -> tuple[pa.Table, pa.Table]:
    engine = BarEngine(TIMEFRAMES[rule_set], rule_set=rule_set)
    batches = [engine.apply(table.slice(at, 500)).to_arrow() for at in range(0, len(table), 500)]
    events = pa.concat_tables([*batches, engine.flush().to_arrow()])
    return events, engine.bars()


@pytest.mark.parametrize("roomy", [300, 1 << 14], ids=["little by little", "at once"])
@pytest.mark.parametrize("rule_set", ["plain", "alpaca-v1"])
@pytest.mark.parametrize("late", [False, True])
def test_growth_changes_no_event_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, *, late: bool, rule_set: str, roomy: int
) -> None:
    table = trades(late=late)
    events, bars = run(table, rule_set)
    assert len(bars) > 300
    monkeypatch.setattr(shard, "_FIRST_SLOTS", 256)
    monkeypatch.setattr(shard, "_ROOMY", roomy)
    assert run(table, rule_set) == (events, bars)
