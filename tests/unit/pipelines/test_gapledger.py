"""The gap ledger while the database is locked: nothing waits for it, and nothing is lost."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gapkit import DAY_COMES_S, ENDS, GAP, Script, running
from livekit import stored
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.controls import noted_gaps
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.sources.connector import Gap
from marketpipe.store import GapEntry
from marketpipe.store.gaps import DAY
from vendorkit import in_loop, reached

REFUSED = "gaps cannot be listed until this is mended"
LISTED = "gaps are listed again"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal(tmp_path / "journal", "j", segment_bytes=1) as made:
        yield made


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def in_store(path: Path) -> list[tuple[int, str, str]]:
    """Return number, reason and state of what the store has."""
    with closing(sqlite3.connect(path)) as other:
        return other.execute("SELECT number, reason, state FROM gaps ORDER BY number").fetchall()


def in_journal(journal: SqliteJournal, folder: Path) -> list[tuple[int, str, str]]:
    """Return the same of what the control records say."""
    raw = LakeTable.open(DataFolder(folder).lake, "raw")
    return [(entry.number, entry.reason, entry.state) for entry in noted_gaps(journal, raw)]


@in_loop
async def test_gap_while_the_store_is_locked_is_repaired_meanwhile_and_listed_after(
    tmp_path: Path, journal: SqliteJournal, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    async with running(tmp_path, Script(), journal, busy_s=0.01) as run:
        with locked(path):
            async with asyncio.timeout(1):
                await run.filler.opened(GAP)
            assert in_journal(journal, tmp_path) == [(1, GAP.reason, "open"), (2, DAY, "open")]
            await reached(lambda: REFUSED in caplog.text)
            await run.waits(2)
            await run.waits(83)
            await reached(partial(run.waits_for, DAY_COMES_S - 85))
            assert in_journal(journal, tmp_path)[0] == (1, GAP.reason, "repaired")
            assert in_store(path) == []
            assert run.filler.unsaved == 2
        entry = await run.entry()
    assert (entry.state, entry.trades, entry.bars_exact) == ("repaired", 2, 2)
    assert in_store(path) == [(1, GAP.reason, "repaired"), (2, DAY, "open")]
    assert (caplog.text.count(REFUSED), caplog.text.count(LISTED)) == (1, 1)
    assert "is locked by another process" in caplog.text


def test_gap_that_no_store_got_before_the_end_is_listed_and_filled_by_the_next_run(
    tmp_path: Path, journal: SqliteJournal, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"

    async def once() -> None:
        with ExitStack() as lock:
            async with running(tmp_path, Script(), journal, busy_s=0.01) as run:
                await run.filler.opened(GAP)
                await run.waits(2)
                assert len(await run.ledger()) == 2
                lock.enter_context(locked(path))
                await run.waits(83)
                await reached(lambda: run.filler.open == 1)
                await run.filler.opened(Gap(ENDS + 84 * NANOS, ENDS + 85 * NANOS, "mute"))
            assert in_store(path) == [(1, GAP.reason, "open"), (2, DAY, "open")]

    asyncio.run(once())
    assert "gaps that cannot be listed now: 2; the next run lists them" in caplog.text

    async def again() -> list[GapEntry]:
        async with running(tmp_path, Script(), journal, at_ns=ENDS + 90 * NANOS) as run:
            assert [(e.number, e.reason, e.state) for e in await run.ledger()] == [
                (1, GAP.reason, "repaired"),
                (2, DAY, "open"),
                (3, "mute", "open"),
            ]
            await reached(lambda: run.filler.open == 2)
            await run.filler.opened(Gap(ENDS + 91 * NANOS, ENDS + 92 * NANOS, "mute"))
            return await run.ledger()

    assert [entry.number for entry in asyncio.run(again())] == [1, 2, 3, 4]


def test_store_that_went_back_to_an_older_copy_gets_what_the_lake_noted_since(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    later = GAP.end_ns + 3 * DAY_NS

    async def once(at_ns: int, gap: Gap | None) -> list[GapEntry]:
        async with running(tmp_path, Script(), journal, at_ns=at_ns) as run:
            if gap is not None:
                await run.filler.opened(gap)
            # what is due by then is done
            await reached(lambda: run.filler.open == 2)
            return await run.ledger()

    asyncio.run(once(ENDS, GAP))
    shutil.copy(tmp_path / "store.db", tmp_path / "copy.db")
    known = asyncio.run(once(later, Gap(later - NANOS, later, "mute")))
    assert [(e.number, e.reason) for e in known] == [
        *[(1, GAP.reason), (2, DAY)],
        *[(3, "mute"), (4, DAY)],
    ]
    rows = stored(journal)
    LakeTable.open(DataFolder(tmp_path).lake, "raw").append(
        rows, app_id="live/j/raw", through=len(rows) - 1
    )
    assert journal.retain(len(rows)) > 0
    shutil.copy(tmp_path / "copy.db", tmp_path / "store.db")
    assert asyncio.run(once(later, None)) == known
