"""Putting bars aside while a replay runs: no memory is so scarce that it changes a bar."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marketpipe.domain.timeframe import parse_many
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.replay import Replay, ReplaySettings
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource
from marketpipe.verify import DigestTree

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
OPEN_NS = 1_767_623_400 * SECOND  # 2026-01-05T14:30:00Z
SESSION = (OPEN_NS, OPEN_NS + 6 * HOUR)
NEXT_SESSION = (OPEN_NS + 24 * HOUR, OPEN_NS + 30 * HOUR)
TRADES = 6_000
TIMEFRAMES = {"plain": "1s,7s,1m,1h,1d,1w", "alpaca-v1": "1m,5m,1h,1d,1w"}

ORDERLY = SyntheticConfig(
    symbols=("AAA", "BBB", "BTC/USD", "D"), sessions=(SESSION, NEXT_SESSION), trades=TRADES
)
LATE = replace(ORDERLY, late_share=0.1, late_max_ns=2 * HOUR)
CONDITIONED = replace(LATE, with_conditions=True, with_tape=True, venues=("V", "Q"))


def replayed(
    config: SyntheticConfig,
    folder: Path,
    *,
    max_bars: int,
    piece_bars: int,
    rules: str = "plain",
    workers: int = 1,
) -> Replay:
    """Replay generated trades in batches of 500, with room for so many bars."""
    run = Replay(
        SyntheticSource(config, batch_rows=500),
        ReplaySettings(
            timeframes=parse_many(TIMEFRAMES[rules]),
            rule_set=RuleSet.load(rules),
            history=True,
            max_bars=max_bars,
            workers=workers,
        ),
        SessionSpool(folder, piece_bars),
    )
    run.run()
    return run


def by_identity(bars: pa.Table) -> pa.Table:
    return bars.sort_by([(name, "ascending") for name in ("symbol", "timeframe", "ts_open")])


@pytest.mark.parametrize("max_bars", [1, 2_000])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("config", "rules"),
    [(ORDERLY, "plain"), (LATE, "plain"), (CONDITIONED, "alpaca-v1")],
    ids=["orderly", "late", "conditions"],
)
def test_replay_scarce_memory_gives_the_bars_and_revisions_of_plenty(
    config: SyntheticConfig, rules: str, workers: int, max_bars: int, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("plenty", "scarce")]
    for folder in folders:
        folder.mkdir()
    plenty = replayed(config, folders[0], max_bars=10**9, piece_bars=10**9, rules=rules)
    scarce = replayed(
        config, folders[1], max_bars=max_bars, piece_bars=300, rules=rules, workers=workers
    )
    assert not plenty.spool.bars
    assert plenty.findings == scarce.findings
    assert ("late" in plenty.findings.counts) == bool(config.late_share)
    assert by_identity(scarce.bars()) == by_identity(plenty.bars())
    assert scarce.history() == plenty.history()
    assert scarce.digest()[0].root == DigestTree.build(plenty.bars()).root
    assert scarce.digest()[1] == plenty.digest()[1]


def test_replay_running_session_is_put_aside_too(tmp_path: Path) -> None:
    config = replace(ORDERLY, sessions=(SESSION,))
    run = Replay(
        SyntheticSource(config, batch_rows=500),
        ReplaySettings(timeframes=parse_many("1s"), rule_set=RuleSet.load("plain"), max_bars=1_000),
        SessionSpool(tmp_path),
        progress=lambda done, whole, rows: held.append(run.engine.counts["bars"]),
    )
    held: list[int] = []
    run.run()
    assert len(run.bars()) > 4_000
    assert max(held) <= 1_000  # of more, all but those of the last batch of 500 trades go
    assert run.engine.counts["bars"] == 0


def test_replay_tables_are_pieces_of_whole_series_and_dates(tmp_path: Path) -> None:
    run = replayed(ORDERLY, tmp_path, max_bars=1_000, piece_bars=1_500)
    tables = list(run.tables())
    seen: set[tuple[object, str]] = set()
    order = []
    for table in tables:
        pairs = {(row["session_date"], row["symbol"]) for row in table.to_pylist()}
        assert not pairs & seen
        assert len(table) <= 1_500 or len(pairs) == 1
        seen |= pairs
        order.append(min(pairs))
    assert len(tables) > 2
    assert order == sorted(order)
    assert sum(map(len, tables)) == len(run.bars())


def test_spool_gives_back_only_what_later_ticks_may_change(tmp_path: Path) -> None:
    config = replace(ORDERLY, sessions=(SESSION,))
    run = replayed(config, tmp_path, max_bars=1, piece_bars=100)
    spool, streams = run.spool, run.engine.streams
    before = spool.bars
    never = np.full(len(streams), np.iinfo(np.int64).max)
    assert list(spool.take_after(never)) == []
    first = never.copy()
    first[2] = SESSION[0] + HOUR
    (state,) = spool.take_after(first)
    assert set(state.rows["stream"].tolist()) == {2}
    assert spool.bars == before - len(state.rows)
    assert list(spool.take_after(first)) == []
    run.engine.attach(state)
    (day,) = {b["symbol"] for b in run.engine.bars().to_pylist()}
    assert day == "BTC/USD"


def test_spool_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    config = replace(ORDERLY, sessions=(SESSION,))
    with pytest.raises(OSError, match="missing"):
        replayed(config, tmp_path / "missing", max_bars=1, piece_bars=100)
