"""`marketpipe db prune`: old sessions leave the database, and are answered from the lake."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from e2e.conftest import Command
from feedkit import OPEN, three_days
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.laketier import LakeBarTier
from marketpipe.store import BarQuery, BarRepository, TieredBarStore

DAY = 86_400 * NANOS
MOCK = ("stream", "--mode", "mock", "--timeframes", "1m,1h")
FOLDER = DataFolder(Path("data"))
HISTORY = BarQuery(history=True)


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """Three days."""
    for path in three_days(tmp_path):
        assert marketpipe(*MOCK, "--csv", path).code == 0
    return marketpipe


async def opened(query: BarQuery, lake: bool) -> pa.Table:
    async with await BarRepository.open(FOLDER.store_url) as repository:
        if not lake:
            return await repository.bars(query)
        table = LakeTable.open(FOLDER.lake, "bars", create=False)
        return await TieredBarStore(repository, lake=LakeBarTier(table)).bars(query)


def in_store(query: BarQuery = HISTORY) -> pa.Table:
    """Return what the database alone says."""
    return asyncio.run(opened(query, lake=False))


def tiered(query: BarQuery = HISTORY) -> pa.Table:
    """Return what the database says with the lake behind it."""
    return asyncio.run(opened(query, lake=True))


def confirm(seq: int) -> None:
    """Say that a reader of the outbox has come to a row."""

    async def tell() -> None:
        async with await BarRepository.open(FOLDER.store_url) as repository:
            await repository.confirm("screen", seq)

    asyncio.run(tell())


def test_db_prune_leaves_answers_as_they_were_and_does_nothing_twice(streamed: Command) -> None:
    whole = in_store()
    export = ("export", "bars", "--symbols", "AAPL", "--timeframes", "1m", "--output", "b.csv")
    streamed(*export)
    exported = Path("b.csv").read_bytes()
    done = streamed("db", "prune", "--before", "2026-01-06")
    assert done.code == 0, done.err
    assert done.line("pruned").endswith(": 6 rows of sessions before 2026-01-06")
    left = in_store()
    assert len(whole) - len(left) == 6
    assert tiered().equals(whole)
    streamed(*export)
    assert Path("b.csv").read_bytes() == exported
    assert ": 0 rows of" in streamed("db", "prune", "--before", "2026-01-06").line("pruned")
    assert in_store().equals(left)


def test_db_prune_is_known_to_verify_and_to_later_feeds(streamed: Command, tmp_path: Path) -> None:
    streamed("db", "prune", "--before", "2026-01-06")
    late = tmp_path / "late.csv"  # late trade of a pruned bar: the store has one revision of it
    late.write_text(
        f"symbol,ts_ns,price,size,trade_id\nAAPL,{OPEN + 3 * DAY},7,1,9\nAAPL,{OPEN + 5},7,1,9\n"
        f"AAPL,{OPEN + 4 * DAY},7,1,9\n"
    )
    assert streamed(*MOCK, "--csv", late).code == 0
    done = streamed("verify")
    assert done.code == 0, done.out
    assert "was pruned of sessions before 2026-01-06: later ones are compared" in done.out
    assert max(tiered()["revision"].to_pylist()) == 1


def test_db_prune_goes_by_the_setting(streamed: Command, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("[store]\nretention_days = 1\n")
    done = streamed("db", "prune", "--config", "m.toml")
    assert ": 14 rows of sessions before 20" in done.line("pruned")  # all days are long past
    assert len(in_store()) == 0


def test_db_prune_waits_for_readers_of_the_outbox(streamed: Command) -> None:
    confirm(2)
    done = streamed("db", "prune", "--before", "2026-01-06")
    assert ": 2 rows of sessions" in done.line("pruned")
    assert done.line("left") == "4 rows that a reader of the outbox has not confirmed"
    confirm(100)
    assert ": 4 rows of" in streamed("db", "prune", "--before", "2026-01-06").line("pruned")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "say --before DATE, or set store.retention_days"),
        (("--before", "noon"), "before: was 'noon'; expected a date as 2026-01-05"),
        (("--before", "1970-01-01"), "valid is a day after 1970-01-01"),
        (("--before", "9999-12-31"), "what is yet to come cannot be old"),
    ],
)
def test_db_prune_refuses_days_that_are_none(
    streamed: Command, words: tuple[str, ...], named: str
) -> None:
    before = in_store()
    done = streamed("db", "prune", *words)
    assert done.code == 2
    assert named in done.err
    assert in_store().equals(before)


def test_db_prune_does_not_take_the_last_copy_unasked(streamed: Command) -> None:
    assert streamed("lake", "drop", "bars", "--before", "2026-01-06").code == 0
    before = in_store()
    done = streamed("db", "prune", "--before", "2026-01-07")
    assert done.code == 2
    assert "days before 2026-01-06 were dropped of it" in done.err
    assert in_store().equals(before)
    done = streamed("db", "prune", "--before", "2026-01-07", "--also-last")
    assert ": 12 rows of" in done.line("pruned")


def test_db_prune_waits_until_the_lake_has_the_rows(streamed: Command, tmp_path: Path) -> None:
    (tmp_path / "data/lake/bars").rename(tmp_path / "elsewhere")  # as a lost table
    done = streamed("db", "prune", "--before", "2026-01-06")
    assert done.code == 3
    assert "lacks 6 rows of 2026-01-05 that the database has" in done.err
    assert len(in_store()) == 14
