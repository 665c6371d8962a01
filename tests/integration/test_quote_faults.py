"""What a feed missed of quotes is fetched: rows and bars are those of a feed that missed nothing.

All of it happens at noon, hours before a day is looked over.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from alpacakit import Ran, market, noon, run_session
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.proof import prove
from marketpipe.simulator import parse_faults
from quotekit import contents

PRICES = ("trade", "bid", "ask", "mid")
LEFT = {"stocks": "statuses, lulds", "crypto": "orderbooks"}


def session(folder: Path, kind: str, faults: str = "", prices: tuple[str, ...] = PRICES) -> Ran:
    """Run some minutes around noon."""
    of = noon(kind)
    planned = parse_faults(faults, of.start_ns, of.end_ns)
    return asyncio.run(run_session(folder, of, planned, prices=prices))


def quotes_in(folder: Path) -> list[tuple[object, ...]]:
    """Return what the canonical quotes of a data folder say."""
    return contents(read_rows(LakeTable.open(DataFolder(folder).lake, "quotes")))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Ran, Path]]:
    """Return minutes, of a kind, in which nothing goes wrong, and where they are kept."""

    @cache
    def of(kind: str) -> tuple[Ran, Path]:
        folder = tmp_path_factory.mktemp("quiet") / "d"
        ran = session(folder, kind)
        assert ran.gaps == []
        assert len(quotes_in(folder)) > 500
        return ran, folder

    return of


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        ("stocks", "mute@60"),
        ("stocks", "cut@60,reorder@30+60,slow@100+30=5"),
        ("stocks", "drop@60,html@61+5,too_many@70+10,page_loop@80+5,malformed@120=2"),
        ("crypto", "drop@60"),
    ],
)
def test_quotes_and_their_bars_are_repaired(
    quiet: Callable[[str], tuple[Ran, Path]], tmp_path: Path, kind: str, faults: str
) -> None:
    whole, there = quiet(kind)
    ran = session(tmp_path / "d", kind, faults)
    assert quotes_in(tmp_path / "d") == quotes_in(there)
    assert ran.done.held.root == whole.done.held.root
    found = ran.done.findings.counts
    assert found["refetched"] > 0
    assert "duplicate" not in found
    filled = [gap for gap in ran.gaps if gap.reason != "day"]
    assert filled
    for gap in filled:
        counted, _, rest = gap.detail.partition(" quotes; ")
        assert (gap.state, rest) == ("repaired", f"not fetched: {LEFT[kind]}")
        assert int(counted.replace(",", "")) > 0
    proof = prove(DataFolder(tmp_path / "d"), ran.done.journal_id)
    assert proof.agrees
    assert {side.name for side in proof.sides} == {"live", "store", "replay"}


def test_quotes_missed_between_two_runs_are_fetched(
    quiet: Callable[[str], tuple[Ran, Path]], tmp_path: Path
) -> None:
    whole, there = quiet("stocks")
    of, folder = noon(), tmp_path / "d"
    asyncio.run(run_session(folder, of, until_ns=of.start_ns + 70 * NANOS, prices=PRICES))
    assert quotes_in(folder) != quotes_in(there)
    second = asyncio.run(run_session(folder, of, from_ns=of.start_ns + 130 * NANOS, prices=PRICES))
    assert [gap.reason for gap in second.gaps] == ["stopped", "day"]
    assert quotes_in(folder) == quotes_in(there)
    assert second.done.held.root == whole.done.held.root


def test_quotes_that_the_vendor_refuses_are_named_beside_the_trades_that_it_gave(
    quiet: Callable[[str], tuple[Ran, Path]], tmp_path: Path
) -> None:
    of = noon()
    bars = asyncio.run(run_session(tmp_path / "whole", of))
    ran = session(tmp_path / "d", "stocks", "drop@60,refuse_quotes@0+90000", ("trade",))
    (gap,) = [gap for gap in ran.gaps if gap.reason != "day"]
    assert gap.state == "repaired"
    assert gap.trades > 0
    assert gap.bars_exact == gap.bars_compared > 0
    left, _, why = gap.detail.partition("; ")
    assert left == "not fetched: quotes, statuses, lulds"
    assert why.startswith("quotes refused: ")
    assert "42210000" in why
    assert ran.done.held.root == bars.done.held.root
    _, there = quiet("stocks")
    assert len(quotes_in(tmp_path / "d")) < len(quotes_in(there))


def test_look_at_a_day_fetches_no_quotes(tmp_path: Path) -> None:
    of = market(amended=False)
    dropped = parse_faults("drop@60", of.start_ns, of.end_ns)
    ran = asyncio.run(run_session(tmp_path / "d", of, dropped))
    lost, day = ran.gaps
    assert (day.reason, day.state, day.detail) == ("day", "repaired", "")
    assert lost.detail.endswith(" quotes; not fetched: statuses, lulds")
    raw = read_rows(LakeTable.open(DataFolder(tmp_path / "d").lake, "raw"))
    asked = [row for row in raw.select(["stream"]).to_pydict()["stream"] if row == "rest/quotes"]
    # once after the gap, and its last minute again
    counted = int(lost.detail.partition(" ")[0].replace(",", ""))
    assert counted <= len(asked) <= 2 * counted
