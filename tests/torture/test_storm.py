"""Whole days of a simulated Alpaca in which all goes wrong end with the bars of quiet ones."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from alpacakit import Ran, market, noon, run_session
from marketpipe.simulator import storm
from marketpipe.simulator.market import Market

SEED = 20260107


class Storm(NamedTuple):
    """A session, its faults and its pace."""

    kind: str
    minutes: int
    faults: int
    speed: float
    per_second: float


HOUR = Storm("stocks", 60, 12, 180.0, 5.0)
"""At noon, so that no look at the day mends what a gap was not filled with."""
DAYS = (
    Storm("stocks", 16 * 60, 50, 480.0, 3.0),
    Storm("crypto", 24 * 60, 50, 720.0, 2.0),
)


def run(folder: Path, of: Storm, quiet: Market) -> tuple[Ran, Ran]:
    """Run a session without faults, and the same one in a storm."""
    planned = storm(SEED, of.faults, quiet.start_ns, quiet.end_ns - 120_000_000_000)
    clean = asyncio.run(run_session(folder / "clean", quiet, speed=of.speed))
    stormy = asyncio.run(run_session(folder / "storm", quiet, planned, speed=of.speed))
    return clean, stormy


def check(clean: Ran, stormy: Ran, *, day: str) -> str:
    """Check that a storm changed nothing, and how far the look at its day is; say what it was."""
    lost = [gap for gap in stormy.gaps if gap.reason != "day"]
    assert [f"{gap.reason}: {gap.detail}" for gap in lost if gap.state != "repaired"] == []
    assert len(lost) >= 2
    assert [gap.state for gap in stormy.gaps if gap.reason == "day"] == [day]
    assert stormy.done.held.bars == clean.done.held.bars
    assert stormy.done.held.root == clean.done.held.root
    return f"{len(lost)} gaps, all repaired, {sum(clean.done.held.bars.values()):,} bars, same root"


def test_storm_of_an_hour_changes_no_bar_and_leaves_nothing_to_the_days_end(
    tmp_path: Path,
) -> None:
    quiet = noon(HOUR.kind, HOUR.minutes, per_second=HOUR.per_second)
    check(*run(tmp_path, HOUR, quiet), day="open")


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("of", DAYS, ids=lambda of: of.kind)
def test_storm_of_a_day_changes_no_bar(of: Storm, tmp_path: Path, figures: dict[str, str]) -> None:
    quiet = market(of.kind, of.minutes, per_second=of.per_second)
    clean, stormy = run(tmp_path, of, quiet)
    found = check(clean, stormy, day="repaired")
    look = next(gap for gap in stormy.gaps if gap.reason == "day")
    assert look.bars_exact == look.bars_compared > 0
    figures[f"storm of {of.faults} faults on a day of {of.kind}"] = f"seed {SEED}: {found}"
