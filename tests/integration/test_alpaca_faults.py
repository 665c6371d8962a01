"""A feed that goes wrong ends with the bars of one that did not: what it missed is filled in."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from alpacakit import CLOSE_NS, Ran, are_partial, market, noon, run_session, until
from marketpipe.domain.units import NANOS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.proof import prove
from marketpipe.simulator import parse_faults
from marketpipe.sources.clocks import FollowedClock
from marketpipe.sources.connector import BaseConnector

HARMLESS = ("duplicate@30+60", "reorder@30+60", "late@40+30", "unknown_type@40=3")
"""After these nothing is missing."""
LOSSES = {
    "drop@60": "disconnected",
    "cut@60": "disconnected",
    "mute@60": "mute",
    "mute@60=trades": "mute",
    "mute@60=quotes": "mute",
    "malformed@60=3": "unreadable_frame",
    "slow_client@60": "slow_client",
    "contention@60": "disconnected",
    "drop@60,too_many@61+20": "disconnected",
    "drop@50,drop@80,cut@110": "disconnected",
    "clock_skew@10+3000=20,drop@60": "disconnected",
}
"""After these something is, and the ledger says why."""
OF_CRYPTO = ("drop@60", "mute@60", "mute@60=trades")


def session(
    folder: Path, kind: str, faults: str = "", rules: str = "plain", *, at_noon: bool = False
) -> Ran:
    """Run a session of a few minutes."""
    of = noon(kind) if at_noon else market(kind)
    planned = parse_faults(faults, of.start_ns, of.end_ns)
    return asyncio.run(run_session(folder, of, planned, rules=rules))


@pytest.fixture(scope="module")
def quiet_noon(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """Return minutes around noon, of a kind, in which nothing goes wrong."""

    @cache
    def of(kind: str) -> Ran:
        ran = session(tmp_path_factory.mktemp("noon") / "d", kind, at_noon=True)
        assert ran.gaps == []
        assert ran.done.held.bars["1m"] >= 6
        return ran

    return of


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
    [*(("stocks", faults) for faults in LOSSES), *(("crypto", faults) for faults in OF_CRYPTO)],
)
def test_gap_is_filled_long_before_its_day_is_over(
    quiet_noon: Callable[[str], Ran], tmp_path: Path, kind: str, faults: str
) -> None:
    ran = session(tmp_path / "d", kind, faults, at_noon=True)
    assert ran.done.held.root == quiet_noon(kind).done.held.root
    day, *others = sorted(ran.gaps, key=lambda gap: gap.reason != "day")
    assert (day.reason, day.state) == ("day", "open")
    assert LOSSES[faults] in {gap.reason for gap in others}
    left = "statuses, lulds" if kind == "stocks" else "orderbooks"
    for gap in others:
        assert gap.state == "repaired"
        assert gap.detail.partition(" quotes; ")[2] == f"not fetched: {left}"
        assert gap.bars_exact == gap.bars_compared > 0
    assert "duplicate" not in ran.done.findings.counts


def test_what_a_reader_that_stood_still_lost_is_fetched_from_where_it_stood(
    quiet_noon: Callable[[str], Ran], tmp_path: Path
) -> None:
    of = noon()
    dropped = parse_faults("drop@110", of.start_ns, of.end_ns)

    async def stand_still(connector: BaseConnector, clock: FollowedClock) -> None:
        await until(clock, of.start_ns + 30 * NANOS)
        transport = connector._link.socket.transport  # type: ignore[attr-defined]
        transport.pause_reading()
        await until(clock, of.start_ns + 150 * NANOS)
        transport.resume_reading()

    ran = asyncio.run(
        run_session(tmp_path / "d", of, dropped, silence_seconds=600.0, meanwhile=stand_still)
    )
    lost = next(gap for gap in ran.gaps if gap.reason == "disconnected")
    # What had come by the end is read late, and what came after it is missing from there on.
    assert of.start_ns + 100 * NANOS < lost.start_ns < of.start_ns + 110 * NANOS
    assert lost.end_ns > of.start_ns + 150 * NANOS
    assert ran.done.held.root == quiet_noon("stocks").done.held.root
    assert are_partial(tmp_path / "d") == [False, True, True]


def test_gap_of_a_delayed_feed_is_filled_with_what_happened_then(tmp_path: Path) -> None:
    of, path = noon(), "v2/delayed_sip"
    quiet = asyncio.run(run_session(tmp_path / "a", of, speed=400.0, path=path))
    assert quiet.gaps == []
    dropped = parse_faults("drop@960", of.start_ns, of.end_ns)
    ran = asyncio.run(run_session(tmp_path / "b", of, dropped, speed=400.0, path=path))
    assert ran.done.held.root == quiet.done.held.root
    lost, day = ran.gaps
    assert (lost.reason, lost.state, day.reason) == ("disconnected", "repaired", "day")
    assert lost.bars_exact == lost.bars_compared > 0


@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_day_with_losses_is_looked_over_whole(
    fault_free: Callable[[str], Ran], tmp_path: Path, kind: str
) -> None:
    ran = session(tmp_path / "d", kind, "drop@60")
    assert ran.done.held.root == fault_free(kind).done.held.root
    day = next(gap for gap in ran.gaps if gap.reason == "day")
    assert {gap.state for gap in ran.gaps} == {"repaired"}
    assert (day.detail, day.bars_exact) == ("", day.bars_compared)
    assert day.bars_exact > 0
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


def test_gap_of_a_feed_that_was_stopped_while_it_was_mute_begins_with_its_last_message(
    quiet_noon: Callable[[str], Ran], tmp_path: Path
) -> None:
    of = noon()
    muted = parse_faults("mute@40", of.start_ns, of.end_ns)
    first = asyncio.run(
        run_session(
            tmp_path / "d", of, muted, until_ns=of.start_ns + 145 * NANOS, silence_seconds=600.0
        )
    )
    assert first.gaps == []
    second = asyncio.run(run_session(tmp_path / "d", of, from_ns=of.start_ns + 150 * NANOS))
    lost = next(gap for gap in second.gaps if gap.reason == "stopped")
    # The day is not over: what was missed before the stop is found without a look at it.
    assert of.start_ns + 35 * NANOS < lost.start_ns < of.start_ns + 45 * NANOS
    assert [gap.state for gap in second.gaps if gap.reason == "day"] == ["open"]
    assert second.done.held.root == quiet_noon("stocks").done.held.root
    assert are_partial(tmp_path / "d")[:3] == [True, True, True]


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
