"""A feed that goes wrong ends with the bars of one that did not: what it missed is filled in."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from alpacakit import CLOSE_NS, Ran, market, run_session
from marketpipe.domain.units import NANOS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.proof import prove
from marketpipe.simulator import parse_faults

HARMLESS = ("duplicate@30+60", "reorder@30+60", "late@40+30", "unknown_type@40=3")
"""After these nothing is missing."""
LOSSES = {
    "drop@60": "disconnected",
    "cut@60": "disconnected",
    "mute@60": "mute",
    "malformed@60=3": "unreadable_frame",
    "slow_client@60": "slow_client",
    "contention@60": "disconnected",
    "drop@60,too_many@61+20": "disconnected",
    "drop@50,drop@80,cut@110": "disconnected",
}
"""After these something is, and the ledger says why."""


def session(folder: Path, kind: str, faults: str = "", rules: str = "plain") -> Ran:
    """Run a session of a few minutes."""
    of = market(kind)
    planned = parse_faults(faults, of.start_ns, of.end_ns)
    return asyncio.run(run_session(folder, of, planned, rules=rules))


@pytest.fixture(scope="module")
def fault_free(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """Return a session of a kind in which nothing goes wrong."""

    @cache
    def of(kind: str) -> Ran:
        ran = session(tmp_path_factory.mktemp("clean") / "d", kind)
        assert ran.gaps == []
        assert ran.done.held.bars["1m"] >= 6
        return ran

    return of


@pytest.mark.parametrize(
    ("kind", "faults"), [*(("stocks", faults) for faults in HARMLESS), ("crypto", HARMLESS[0])]
)
def test_feed_that_repeats_shuffles_or_delays_ends_with_the_same_bars(
    fault_free: Callable[[str], Ran], tmp_path: Path, kind: str, faults: str
) -> None:
    ran = session(tmp_path / "d", kind, faults)
    assert ran.gaps == []
    assert ran.done.held.root == fault_free(kind).done.held.root
    counts = ran.done.findings.counts
    assert ("duplicate" in counts, "refetched" in counts) == (faults == HARMLESS[0], False)


@pytest.mark.parametrize(
    ("kind", "faults"),
    [*(("stocks", faults) for faults in LOSSES), ("crypto", "drop@60"), ("crypto", "mute@60")],
)
def test_feed_that_loses_messages_ends_with_the_same_bars(
    fault_free: Callable[[str], Ran], tmp_path: Path, kind: str, faults: str
) -> None:
    ran = session(tmp_path / "d", kind, faults)
    assert ran.done.held.root == fault_free(kind).done.held.root
    assert LOSSES[faults] in {gap.reason for gap in ran.gaps}
    day = next(gap for gap in ran.gaps if gap.reason == "day")
    assert {gap.state for gap in ran.gaps} == {"repaired"}
    assert day.bars_exact == day.bars_compared > 0
    left = "quotes, statuses, lulds" if kind == "stocks" else "quotes, orderbooks"
    assert {gap.detail for gap in ran.gaps if gap is not day} == {f"not fetched: {left}"}
    # The day is fetched whole: all trades that were there, and no repeat of the vendor's own.
    counts = ran.done.findings.counts
    assert counts["refetched"] > fault_free(kind).done.held.rows["trades"] / 2
    assert "duplicate" not in counts


def test_feed_of_two_lives_fills_the_time_between(tmp_path: Path) -> None:
    whole = session(tmp_path / "a", "stocks")
    of = market("stocks")
    first = asyncio.run(run_session(tmp_path / "b", of, until_ns=of.start_ns + 70_000_000_000))
    assert first.gaps == []
    assert first.done.held.root != whole.done.held.root
    second = asyncio.run(run_session(tmp_path / "b", of, from_ns=of.start_ns + 130_000_000_000))
    assert [gap.reason for gap in second.gaps] == ["stopped", "day"]
    assert second.done.held.root == whole.done.held.root


def test_gap_that_the_vendor_refuses_stays_in_the_ledger(tmp_path: Path) -> None:
    ran = session(tmp_path / "d", "stocks", "drop@60,refuse_rest@0+90000")
    lost = next(gap for gap in ran.gaps if gap.reason == "disconnected")
    assert lost.state == "refused"
    assert "42210000" in lost.detail
    assert lost.symbols == ("AAPL", "MSFT", "SPY")
    dropped_ns = market("stocks").start_ns + 60 * NANOS
    assert dropped_ns - 30 * NANOS < lost.start_ns < lost.end_ns < CLOSE_NS
    assert dropped_ns < lost.end_ns < dropped_ns + 60 * NANOS


def test_feed_with_losses_agrees_with_replay_and_batch(tmp_path: Path) -> None:
    ran = session(tmp_path / "d", "stocks", "drop@60,malformed@100=2", rules="alpaca-v1")
    proof = prove(DataFolder(tmp_path / "d"), ran.done.journal_id)
    assert proof.agrees
    assert {side.name for side in proof.sides} == {"live", "store", "replay", "batch"}
    assert not proof.no_batch
