"""What a SQLite journal refuses, and what it says."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from journalkit import T0, numbered, offsets_of, rows_of
from marketpipe.errors import BusyError, JournalError, NewerVersionError, UsageError
from marketpipe.journal import SqliteJournal, SqliteJournalReader

FIRST = "00000000000000000000.db"


def test_second_writer_is_told_of_the_first(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca") as journal:
        with pytest.raises(
            BusyError, match=rf"{tmp_path} already has a writer, process {os.getpid()};"
        ):
            SqliteJournal(tmp_path, "alpaca")
        journal.append(numbered(0, 1))
    with SqliteJournal(tmp_path, "alpaca") as journal:
        assert journal.next_offset == 1


def test_second_writer_in_another_process_is_told_of_the_first(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from marketpipe.journal import SqliteJournal\n"
    script += "SqliteJournal(Path(sys.argv[1]), 'alpaca')"
    with SqliteJournal(tmp_path, "alpaca"):
        second = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert (
        f"BusyError: the journal in {tmp_path} already has a writer, process {os.getpid()};"
        in second.stderr
    )


def test_locked_database_is_busy_after_the_timeout(tmp_path: Path) -> None:
    with (
        SqliteJournal(tmp_path, "alpaca", busy_timeout_s=0.05) as journal,
        closing(sqlite3.connect(tmp_path / FIRST, isolation_level=None)) as other,
        closing(journal.reader()) as reader,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match=f"append to .*{FIRST}.*locked"):
            journal.append(numbered(0, 5))
        other.execute("ROLLBACK")
        assert journal.append(numbered(0, 5)) == 0
        assert offsets_of(reader.read(0)) == list(range(5))


def test_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    place.write_text("a file")
    with pytest.raises(JournalError, match=f"use the folder {place}: .*exists"):
        SqliteJournal(place, "alpaca")
    with pytest.raises(JournalError, match=f"in {place}"):
        SqliteJournalReader(place)


def test_folder_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=f"no journal in {tmp_path}"):
        SqliteJournalReader(tmp_path)
    with pytest.raises(JournalError, match=r"none.*No such file"):
        SqliteJournalReader(tmp_path / "none")


def test_journal_of_another_name_is_refused(tmp_path: Path) -> None:
    SqliteJournal(tmp_path, "alpaca").close()
    with pytest.raises(JournalError, match="journal_id was 'alpaca', must be 'binance'"):
        SqliteJournal(tmp_path, "binance")
    with (
        closing(SqliteJournalReader(tmp_path, "binance")) as reader,
        pytest.raises(JournalError, match="journal_id was 'alpaca', must be 'binance'"),
    ):
        reader.read(0)


def test_reader_without_a_name_finds_it(tmp_path: Path) -> None:
    SqliteJournal(tmp_path, "alpaca").close()
    with closing(SqliteJournalReader(tmp_path)) as reader:
        assert reader.journal_id == "alpaca"


def _alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute(statement)


def test_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    SqliteJournal(tmp_path, "alpaca").close()
    _alter(tmp_path / FIRST, "UPDATE meta SET value = 2 WHERE key = 'format'")
    with pytest.raises(NewerVersionError, match=r"format was '2'.* reads up to 1"):
        SqliteJournal(tmp_path, "alpaca")
    with closing(SqliteJournalReader(tmp_path)) as reader:
        for use in (lambda: reader.read(0), reader.check, lambda: reader.next_offset):
            with pytest.raises(NewerVersionError):
                use()


def test_renamed_segment_is_refused(tmp_path: Path) -> None:
    SqliteJournal(tmp_path, "alpaca").close()
    (tmp_path / FIRST).rename(tmp_path / "00000000000000000007.db")
    with pytest.raises(JournalError, match="was renamed: it begins at offset 0"):
        SqliteJournal(tmp_path, "alpaca")


def test_other_database_is_no_segment(tmp_path: Path) -> None:
    _alter(tmp_path / FIRST, "CREATE TABLE meta (key, value)")
    with pytest.raises(JournalError, match="is no segment of a journal"):
        SqliteJournal(tmp_path, "alpaca")


def test_journal_of_version_1_is_read(tmp_path: Path) -> None:
    """The file was written by the first version: `numbered(0, 3)`, then a clock record."""
    shutil.copy(Path(__file__).parent / "v1" / FIRST, tmp_path)
    with SqliteJournal(tmp_path, "alpaca") as journal, closing(journal.reader()) as reader:
        assert journal.next_offset == 4
        rows = rows_of(reader.read(0))
        assert [row["payload"] for row in rows] == [b'{"n":0}', b'{"n":1}', b'{"n":2}', b""]
        assert [row["ts_recv"] - T0 for row in rows] == [0, 1, 2, 1000]
        assert reader.last("clock") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"journal_id": ""}, "journal_id: was ''"),
        ({"durability": "none"}, "durability: was 'none'; valid are process, power"),
        ({"segment_bytes": 0}, "segment_bytes: was '0', must be at least 1"),
    ],
)
def test_argument_out_of_range_is_named(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        SqliteJournal(tmp_path, **({"journal_id": "alpaca"} | arguments))  # type: ignore[arg-type]


def test_segments_are_begun_by_size_and_unlinked_whole(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        for start in range(0, 40, 10):
            journal.append(numbered(start, start + 10))
        assert journal.retain(25) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000000000000000020.db",
        "00000000000000000030.db",
        "writer.lock",
    ]


def test_time_of_receipt_survives_the_segments(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        journal.append(numbered(1000, 1001))
        journal.append(numbered(0, 1))
        assert journal.retain(2) == 1
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        assert journal.last_ts_recv == T0 + 1000
        journal.append(numbered(0, 1))
        assert journal.last_ts_recv == T0 + 1000


def test_reader_that_loses_its_segment_to_retention_says_so(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        for start in range(0, 40, 10):
            journal.append(numbered(start, start + 10))
        with closing(journal.reader()) as reader:
            reading = reader.read(0, 10)
            next(reading)
            journal.retain(30)
            with pytest.raises(JournalError, match=r"retain\(\) may have deleted it"):
                list(reading)
