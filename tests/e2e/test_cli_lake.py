"""`marketpipe lake`, `db` and `doctor` on a data folder."""

import sqlite3
from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from e2e.conftest import Command
from feedkit import OPEN, ticks
from marketpipe.domain.units import NANOS

MOCK = ("stream", "--mode", "mock", "--timeframes", "1m")


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """Two days."""
    for day, name in enumerate(("a.csv", "b.csv")):
        path = ticks(tmp_path / name, 120, start_ns=OPEN + day * 86_400 * NANOS)
        assert marketpipe(*MOCK, "--csv", path).code == 0
    return marketpipe


def test_lake_compact_then_files_and_vacuum(streamed: Command, tmp_path: Path) -> None:
    later = OPEN + (86_400 + 600) * NANOS  # a second append to the second day
    streamed(*MOCK, "--csv", ticks(tmp_path / "c.csv", 60, start_ns=later))
    before = streamed("lake", "files", "raw").out.split()
    done = streamed("lake", "compact", "raw")
    assert done.code == 0
    after = streamed("lake", "files", "raw").out.split()
    assert len(after) < len(before)
    assert all(Path(path).is_file() for path in (*before, *after))
    history = streamed("lake", "history", "raw", "--limit", "1")
    assert history.out.split()[-1] == "compact"
    assert streamed("lake", "vacuum", "raw").line("vacuumed") == "raw: 0 files deleted"


def test_lake_drop_takes_old_days(streamed: Command, tmp_path: Path) -> None:
    done = streamed("lake", "drop", "trades", "--before", "2026-01-06")
    assert done.line("dropped") == "trades: 240 rows of days before 2026-01-06"
    refused = streamed("lake", "drop", "raw", "--before", "2026-01-06")
    assert refused.code == 2
    assert "--also-raw" in refused.err
    assert streamed("lake", "drop", "raw", "--before", "2026-01-06", "--also-raw").code == 0
    assert streamed("lake", "drop", "bars").code == 2
    (tmp_path / "m.toml").write_text("[lake]\nretention_days = 1\n")
    done = streamed("lake", "drop", "bars", "--config", "m.toml")
    assert "6 rows" in done.line("dropped")  # both days are long past


def test_lake_usage_adds_up(streamed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPIPE_LAKE__DISK_BUDGET_BYTES", "1000000000")
    done = streamed("lake", "usage")
    sizes = {line.split()[0]: line.split()[1] for line in done.out.splitlines()}
    numbers = {name: int(size.replace(",", "")) for name, size in sizes.items()}
    total = numbers.pop("total")
    assert total == sum(numbers.values()) > 0
    assert "of a budget of 1,000,000,000" in done.out
    assert done.code == 0
    monkeypatch.setenv("MARKETPIPE_LAKE__DISK_BUDGET_BYTES", "1000")
    assert streamed("lake", "usage").code == 1


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("compact",), 2, "marketpipe lake compact bars"),
        (("compact", "nothing"), 2, "valid are raw"),
        (("files", "bars"), 3, "nothing was written to it yet"),
        (("shrink", "bars"), 2, "shrink"),
        (("drop", "bars", "--before", "noon"), 2, "was 'noon'"),
    ],
)
def test_lake_that_cannot_be_done_says_why(
    marketpipe: Command, words: tuple[str, ...], code: int, named: str
) -> None:
    done = marketpipe("lake", *words)
    assert done.code == code
    assert named in done.err


def test_db_upgrade_makes_and_keeps_the_newest_schema(marketpipe: Command) -> None:
    first = marketpipe("db", "upgrade")
    assert first.code == 0
    assert first.line("upgraded") == marketpipe("db", "upgrade").line("upgraded")
    with sqlite3.connect("data/marketpipe.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = marketpipe("db", "upgrade")
    assert newer.code == 3
    assert "'9999'" in newer.err


def test_doctor_tells_what_the_folder_holds(streamed: Command) -> None:
    done = streamed("doctor")
    assert done.code == 0
    assert "ok       journal mock-file: first offset 0, next offset " in done.out
    assert "ok       table trades: " in done.out
    assert "480 rows" in done.out
    assert "ok       store: schema 0002, last seq 6" in done.out
    assert "ok       checkpoint live/mock-file: offset " in done.out


def test_doctor_finds_a_missing_file_of_the_lake(streamed: Command) -> None:
    Path(streamed("lake", "files", "trades").out.split()[0]).unlink()
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   table trades: " in done.out


def test_doctor_finds_a_file_of_the_lake_that_was_cut_short(streamed: Command) -> None:
    path = Path(streamed("lake", "files", "trades").out.split()[0])
    path.write_bytes(path.read_bytes()[:-100])
    done = streamed("doctor")
    assert done.code == 1
    assert f"broken   table trades: table trades: '{path}' cannot be read" in done.out


def test_doctor_finds_records_that_the_raw_table_lacks(streamed: Command) -> None:
    # as an operator with another tool could: a day of one journal is gone, nobody noted it
    table = DeltaTable("data/lake/raw")
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    table.delete('"offset" >= 10 AND "offset" < 20')
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   table raw: offsets 10 to 19 of journal mock-file are missing" in done.out
    DeltaTable("data/lake/raw").delete('"offset" < 25')
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   table raw: offsets 0 to 24 of journal mock-file are missing" in done.out


def test_doctor_finds_a_record_that_the_raw_table_has_twice(streamed: Command) -> None:
    table = DeltaTable("data/lake/raw")
    rows = table.to_pyarrow_table()
    write_deltalake(table, rows.filter(pc.field("offset") == 7), mode="append")
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   table raw: offset 7 of journal mock-file is there twice" in done.out


def test_doctor_finds_a_database_of_a_newer_version(streamed: Command) -> None:
    with sqlite3.connect("data/marketpipe.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   store: schema 9999, which this version of MarketPipe does not know" in done.out


def test_doctor_finds_a_damaged_journal(streamed: Command) -> None:
    with sqlite3.connect("data/journal/mock-file/00000000000000000000.db") as segment:
        segment.execute("UPDATE block SET data = zeroblob(length(data)) WHERE first_offset = 1")
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   journal mock-file: offsets 1 to " in done.out
    assert "from a backup" in done.out


def test_doctor_finds_a_damaged_database(streamed: Command) -> None:
    for path in Path("data").glob("marketpipe.db*"):
        path.write_bytes(b"no database" * 1000)
    done = streamed("doctor")
    assert done.code == 1
    assert "broken   store: " in done.out
