"""Databases of every earlier schema open, and say what they said."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from marketpipe.domain.findings import Example, Findings
from marketpipe.errors import NondeterminismError
from marketpipe.store import (
    BarQuery,
    BarRepository,
    Checkpoint,
    CheckpointStore,
    FindingsStore,
    GapEntry,
    GapStore,
)
from marketpipe.store import migrate as migrate_module
from marketpipe.store.schema import metadata
from storekit import DAY, FIRST_DAY, OPEN, Row, bar, rows_of, table, void

KEPT = Path(__file__).parents[2] / "golden" / "store"


def first_rows() -> list[Row]:
    """List what ``v0001.db`` was given: two sessions, a late revision, a void one."""
    tomorrow = {"session_date": FIRST_DAY + timedelta(days=1)}
    moved = [
        row | {"ts_open": row["ts_open"] + DAY, "ts_close": row["ts_close"] + DAY}
        for row in (bar(0), bar(0, 1), bar(1, symbol="BTC/USD"), void(1, 1, symbol="BTC/USD"))
    ]
    return [bar(0), bar(1), *(row | tomorrow for row in moved)]


def first_checkpoint() -> Checkpoint:
    """Return the checkpoint in ``v0001.db``."""
    return Checkpoint(
        pipeline="live",
        journal_id="alpaca",
        offset=41,
        versions={"code": "0.1.0", "rules": "alpaca-v1"},
        state=b"\x00state\xff",
        saved_at_ns=OPEN,
    )


def first_findings() -> Findings:
    """Return the findings in ``v0001.db``."""
    return Findings.of("late", 2, [Example(7, "price", "1.5")])


def second_gap() -> GapEntry:
    """Return the gap in ``v0002.db``."""
    return GapEntry(
        journal_id="alpaca-iex",
        number=1,
        source="alpaca",
        feed="iex",
        start_ns=OPEN,
        end_ns=OPEN + 5,
        reason="mute",
        symbols=("AAPL", "MSFT"),
        state="refused",
        trades=3,
        bars_compared=2,
        bars_exact=1,
        detail="the plan does not include it",
    )


async def write_second(path: Path) -> None:
    """Make a database with what ``v0002.db`` holds."""
    await write_first(path)
    async with await BarRepository.open(f"sqlite:///{path}") as repository:
        await GapStore(repository.database).save(second_gap())


async def check_second(path: Path) -> None:
    """Check that a database says what ``v0002.db`` said."""
    await check_first(path)
    async with await BarRepository.open(f"sqlite:///{path}") as repository:
        assert await GapStore(repository.database).every() == [second_gap()]


async def write_first(path: Path) -> None:
    """Make a database with what ``v0001.db`` holds."""
    async with await BarRepository.open(f"sqlite:///{path}") as repository:
        await repository.add(table(first_rows()))
        await repository.confirm("lake", 6)
        await repository.prune(FIRST_DAY + timedelta(days=1))
        await CheckpointStore(repository.database).save(first_checkpoint())
        await FindingsStore(repository.database).save("live", first_findings())


async def check_first(path: Path) -> None:
    """Check that a database says what ``v0001.db`` said."""
    rows = first_rows()
    async with await BarRepository.open(f"sqlite:///{path}") as repository:
        assert rows_of(await repository.outbox(2)) == rows[2:]
        assert rows_of(await repository.bars(BarQuery())) == [rows[3]]
        assert await repository.add(table(rows)) == 0
        with pytest.raises(NondeterminismError, match="retention took"):
            await repository.add(table([rows[1] | {"trade_count": 5}]))
        assert await repository.readers() == {"lake": 6}
        assert await repository.floor() == FIRST_DAY + timedelta(days=1)
        assert await repository.last_seq() == 6
        stored = await CheckpointStore(repository.database).load("live", "alpaca")
        assert stored == first_checkpoint()
        assert await FindingsStore(repository.database).load("live") == first_findings()


def test_migrations_database_of_the_first_schema_says_what_it_said(tmp_path: Path) -> None:
    shutil.copy(KEPT / "v0001.db", tmp_path / "a.db")
    asyncio.run(check_first(tmp_path / "a.db"))


def test_migrations_database_of_the_second_schema_says_what_it_said(tmp_path: Path) -> None:
    shutil.copy(KEPT / "v0002.db", tmp_path / "a.db")
    asyncio.run(check_second(tmp_path / "a.db"))


def test_migrations_new_database_says_the_same(tmp_path: Path) -> None:
    asyncio.run(write_second(tmp_path / "a.db"))
    asyncio.run(check_second(tmp_path / "a.db"))


def test_migrations_every_schema_has_a_kept_database() -> None:
    config = Config()
    folder = Path(migrate_module.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert {f"v{revision}.db" for revision in revisions} == {
        path.name for path in KEPT.glob("*.db")
    }


def test_migrations_end_in_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    async def reflected(path: Path) -> sa.MetaData:
        await (await BarRepository.open(f"sqlite:///{path}")).close()
        found = sa.MetaData()
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        async with engine.connect() as connection:
            await connection.run_sync(found.reflect)
        await engine.dispose()
        return found

    found = asyncio.run(reflected(tmp_path / "a.db"))
    assert set(found.tables) == {*metadata.tables, "alembic_version"}
    for name, expected in metadata.tables.items():
        columns = {c.name: (c.nullable, c.primary_key) for c in found.tables[name].columns}
        assert columns == {c.name: (c.nullable, c.primary_key) for c in expected.columns}
        unique = {
            tuple(c.name for c in constraint.columns)
            for constraint in found.tables[name].constraints
            if isinstance(constraint, sa.UniqueConstraint)
        }
        assert unique == {
            tuple(c.name for c in constraint.columns)
            for constraint in expected.constraints
            if isinstance(constraint, sa.UniqueConstraint)
        }
