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
"""In which nothing is late, cancelled or corrected: what is sent of long ago, and lost, only the
look at the day finds."""
AMENDED = Storm("stocks", 60, 12, 180.0, 5.0)
"""The last hour of a day, with late prints, cancels and corrections."""


def run(folder: Path, of: Storm, quiet: Market, *, look_apart: bool = False) -> tuple[Ran, Ran]:
    """Run a session without faults, and the same one in a storm."""
    planned = storm(SEED, of.faults, quiet.start_ns, quiet.end_ns - 120_000_000_000)
    clean = asyncio.run(run_session(folder / "clean", quiet, speed=of.speed))
    stormy = asyncio.run(
        run_session(folder / "storm", quiet, planned, speed=of.speed, look_apart=look_apart)
    )
    return clean, stormy


def check(quiet: Market, clean: Ran, stormy: Ran, *, day: str) -> str:
    """Check that a storm changed nothing, and how far the look at its day is; say what it was."""
    days = [gap for gap in stormy.gaps if gap.reason == "day" and gap.start_ns < quiet.end_ns]
    lost = [gap for gap in stormy.gaps if gap.reason != "day"]
    assert [f"{gap.reason}: {gap.detail}" for gap in lost if gap.state != "repaired"] == []
    assert len(lost) >= 2
    assert [gap.state for gap in days] == [day]
    assert stormy.done.held.bars == clean.done.held.bars
    assert stormy.done.held.root == clean.done.held.root
    return f"{len(lost)} gaps, all repaired, {sum(clean.done.held.bars.values()):,} bars, same root"


def check_look(ran: Ran) -> None:
    """Check that a day was looked over, and its trades make the vendor's bars."""
    look = next(gap for gap in ran.gaps if gap.reason == "day")
    assert look.bars_exact == look.bars_compared > 0


def test_storm_of_an_hour_changes_no_bar_and_leaves_nothing_to_the_days_end(
    tmp_path: Path,
) -> None:
    quiet = noon(HOUR.kind, HOUR.minutes, per_second=HOUR.per_second)
    check(quiet, *run(tmp_path, HOUR, quiet), day="open")


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("of", DAYS, ids=lambda of: of.kind)
def test_storm_of_a_day_changes_no_bar_and_leaves_nothing_to_its_end(
    of: Storm, tmp_path: Path, figures: dict[str, str]
) -> None:
    quiet = market(of.kind, of.minutes, per_second=of.per_second, amended=False)
    clean, stormy = run(tmp_path, of, quiet, look_apart=True)
    assert stormy.before is not None
    found = check(quiet, clean, stormy.before, day="open")
    check(quiet, clean, stormy, day="repaired")
    check_look(stormy)
    assert stormy.done.held.revisions == stormy.before.done.held.revisions
    figures[f"storm of {of.faults} faults on a day of {of.kind}"] = f"seed {SEED}: {found}"


@pytest.mark.torture
def test_storm_among_late_prints_and_cancels_changes_no_bar_once_the_day_is_looked_over(
    tmp_path: Path, figures: dict[str, str]
) -> None:
    quiet = market(AMENDED.kind, AMENDED.minutes, per_second=AMENDED.per_second)
    clean, stormy = run(tmp_path, AMENDED, quiet)
    found = check(quiet, clean, stormy, day="repaired")
    check_look(stormy)
    figures[f"storm of {AMENDED.faults} faults on late prints"] = f"seed {SEED}: {found}"
