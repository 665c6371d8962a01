"""Whole days of a simulated Alpaca in which all goes wrong end with the bars of quiet ones."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from alpacakit import Ran, market, run_session
from marketpipe.simulator import storm

SEED = 20260107


class Storm(NamedTuple):
    """A session, its faults and its pace."""

    kind: str
    minutes: int
    faults: int
    speed: float
    per_second: float


HOUR = Storm("stocks", 60, 12, 180.0, 5.0)
DAYS = (
    Storm("stocks", 16 * 60, 50, 480.0, 3.0),
    Storm("crypto", 24 * 60, 50, 720.0, 2.0),
)


def run(folder: Path, of: Storm) -> tuple[Ran, Ran]:
    """Run a session without faults, and the same one in a storm."""
    quiet = market(of.kind, of.minutes, per_second=of.per_second)
    planned = storm(SEED, of.faults, quiet.start_ns, quiet.end_ns - 120_000_000_000)
    clean = asyncio.run(run_session(folder / "clean", quiet, speed=of.speed))
    stormy = asyncio.run(run_session(folder / "storm", quiet, planned, speed=of.speed))
    return clean, stormy


def unrepaired(ran: Ran) -> list[str]:
    """Describe the gaps that were not filled."""
    return [f"{gap.reason}: {gap.detail}" for gap in ran.gaps if gap.state != "repaired"]


def check(clean: Ran, stormy: Ran) -> str:
    """Check that a storm changed nothing; return what it came to."""
    assert unrepaired(stormy) == []
    assert stormy.done.held.bars == clean.done.held.bars
    assert stormy.done.held.root == clean.done.held.root
    lost = [gap for gap in stormy.gaps if gap.reason != "day"]
    assert len(lost) >= 2
    day = next(gap for gap in stormy.gaps if gap.reason == "day")
    assert day.bars_exact == day.bars_compared > 0
    return f"{len(lost)} gaps, all repaired, {sum(clean.done.held.bars.values()):,} bars, same root"


def test_storm_of_an_hour_changes_no_bar(tmp_path: Path) -> None:
    check(*run(tmp_path, HOUR))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("of", DAYS, ids=lambda of: of.kind)
def test_storm_of_a_day_changes_no_bar(of: Storm, tmp_path: Path, figures: dict[str, str]) -> None:
    found = check(*run(tmp_path, of))
    figures[f"storm of {of.faults} faults on a day of {of.kind}"] = f"seed {SEED}: {found}"
