"""A SQLite journal whose files were damaged: all that survives is read, the rest is named."""

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journalkit import batch, offsets_of, record, rows_of
from marketpipe.errors import JournalError
from marketpipe.journal import Damage, SqliteJournal, SqliteJournalReader

FIRST = "00000000000000000000.db"
PAGE = 8192
BLOCKS = 60
COUNT = BLOCKS * 5


def _row(number: int) -> dict[str, object]:
    noise = hashlib.shake_256(b"%d" % number).digest(350 + number % 900)
    return record(number, payload=noise)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed journal of `COUNT` records in one file, in blocks of 5 that zstd cannot shrink."""
    made = tmp_path / "journal"
    with SqliteJournal(made, "alpaca") as journal:
        for start in range(0, COUNT, 5):
            journal.append(batch(_row(n) for n in range(start, start + 5)))
    assert sorted(path.name for path in made.iterdir()) == [FIRST, "writer.lock"]
    return made


def _flip(path: Path, at: int, count: int = 64) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + count] = bytes(byte ^ 0xA5 for byte in content[at : at + count])
    path.write_bytes(content)


def _lost(damages: tuple[Damage, ...], end: int) -> set[int]:
    lost: set[int] = set()
    for damage in damages:
        last = end - 1 if damage.last_offset is None else damage.last_offset
        lost |= set(range(damage.first_offset, last + 1))
    return lost


def _assert_rest_is_read(reader: SqliteJournalReader, lost: set[int]) -> None:
    """Every offset is either read rightly or lost, and reading names where the loss begins."""
    offset, end = 0, reader.next_offset
    while offset < end:
        try:
            for part in reader.read(offset, 5):
                for row in part.to_pylist():
                    assert row["offset"] == offset
                    assert row["payload"] == _row(offset)["payload"]
                    offset += 1
        except JournalError as error:
            words = str(error)
            assert offset in lost
            assert FIRST in words
            assert "from a backup" in words
            offset += 1
        else:
            assert offset == end


def test_damage_of_any_page_loses_only_what_is_named(folder: Path, tmp_path: Path) -> None:
    sizes: list[int] = []
    for page in range(1, (folder / FIRST).stat().st_size // PAGE):
        hurt = Path(shutil.copytree(folder, tmp_path / f"hurt-{page}"))
        # Heads of pages and their middles in turn: structure, then content.
        _flip(hurt / FIRST, page * PAGE + (page % 2) * 2000)
        with closing(SqliteJournalReader(hurt)) as reader:
            try:
                end = reader.next_offset
            except JournalError:
                end = COUNT
                assert reader.check() != ()
            else:
                lost = _lost(reader.check(), end)
                sizes.append(len(lost))
                _assert_rest_is_read(reader, lost)
        _assert_writer_goes_on(hurt)
    assert sorted(sizes)[len(sizes) // 2] <= 15


def _assert_writer_goes_on(folder: Path) -> None:
    with closing(SqliteJournalReader(folder)) as reader:
        before = reader.check()
        try:
            journal = SqliteJournal(folder, "alpaca")
        except JournalError as error:
            words = str(error)
            assert "from a backup" in words
            return
        with journal:
            if journal.next_offset < COUNT:
                assert journal.repairs[-1].first_offset == journal.next_offset
            first = journal.append(batch([_row(n) for n in range(3)]))
            assert len(rows_of(reader.read(first))) == 3
            lost = _lost(reader.check(), reader.next_offset)
            assert lost <= _lost(before, COUNT)


@pytest.mark.parametrize("pages", [1, 5, 20])
def test_file_cut_short_keeps_what_it_still_has(folder: Path, pages: int) -> None:
    path = folder / FIRST
    os.truncate(path, path.stat().st_size - pages * PAGE + 77)
    with SqliteJournal(folder, "alpaca") as journal, closing(journal.reader()) as reader:
        assert 0 < journal.next_offset < COUNT
        repair = journal.repairs[-1]
        assert repair.first_offset == journal.next_offset
        assert repair.kept_as is not None
        assert Path(repair.kept_as).exists()
        lost = _lost(reader.check(), reader.next_offset)
        assert lost == _lost(
            tuple(Damage(r.first_offset, r.last_offset, r.file, "") for r in journal.repairs[:-1]),
            0,
        )
        _assert_rest_is_read(reader, lost)
    with SqliteJournal(folder, "alpaca") as journal:
        assert journal.repairs == ()


def _alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "data = zeroblob(length(data))",
        "crc = crc + 1",
        "last_clock = 3",
        "last_ts_recv = last_ts_recv + 1",
        "records = 4",
        "records = 'x'",
    ],
)
def test_last_block_that_is_torn_is_cut_and_reported(folder: Path, change: str) -> None:
    _alter(folder / FIRST, f"UPDATE block SET {change} WHERE first_offset = {COUNT - 5}")
    with SqliteJournal(folder, "alpaca") as journal, closing(journal.reader()) as reader:
        assert journal.next_offset == COUNT - 5
        (repair,) = journal.repairs
        assert repair.first_offset == COUNT - 5
        assert repair.file == str(folder / FIRST)
        assert repair.kept_as == str(folder / (FIRST + ".damaged"))
        assert "checksum" in repair.reason
        assert journal.append(batch([_row(COUNT - 5)])) == COUNT - 5
        assert offsets_of(reader.read(0)) == list(range(COUNT - 4))
        assert reader.check() == ()


def test_cut_says_up_to_where_the_block_went(folder: Path) -> None:
    _alter(folder / FIRST, f"UPDATE block SET crc = 0 WHERE first_offset = {COUNT - 5}")
    with SqliteJournal(folder, "alpaca") as journal:
        assert journal.repairs[0].last_offset == COUNT - 1


def test_block_in_the_middle_that_is_torn_is_named_by_reading(folder: Path) -> None:
    _alter(folder / FIRST, "UPDATE block SET crc = 0 WHERE first_offset IN (50, 55, 100)")
    with SqliteJournal(folder, "alpaca") as journal, closing(journal.reader()) as reader:
        assert journal.repairs == ()
        assert journal.next_offset == COUNT
        assert [(d.first_offset, d.last_offset) for d in reader.check()] == [(50, 59), (100, 104)]
        reading = reader.read(0)
        assert next(reading).num_rows == 50
        with pytest.raises(JournalError, match=r"offsets 50 to 59 .*from 60 on it is readable"):
            next(reading)
        lost = {*range(50, 60), *range(100, 105)}
        _assert_rest_is_read(reader, lost)
        for offset in lost:
            with pytest.raises(JournalError, match=FIRST):
                list(reader.read(offset))


def test_block_that_is_gone_is_named_by_reading(folder: Path) -> None:
    _alter(folder / FIRST, "DELETE FROM block WHERE first_offset = 50")
    with closing(SqliteJournalReader(folder)) as reader:
        (damage,) = reader.check()
        assert damage == Damage(50, 54, str(folder / FIRST), "records are missing")
        _assert_rest_is_read(reader, set(range(50, 55)))


def test_backwards_reads_what_holds_the_kind_and_names_its_damage(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca") as journal:
        for number in range(12):  # ten blocks of data between two controls
            kind = "control" if number % 11 == 0 else "data"
            journal.append(batch([_row(number) | {"kind": kind}]))
    _alter(tmp_path / FIRST, "UPDATE block SET crc = 0 WHERE first_offset = 5")
    with closing(SqliteJournalReader(tmp_path)) as reader:
        assert offsets_of(reader.backwards("control")) == [11, 0]
        with pytest.raises(JournalError, match="offsets 5 to 5"):
            list(reader.backwards("data"))
    # what is right before a record says where the one before that is
    for change in ("UPDATE block SET crc = 0", "UPDATE block SET last_control = 3"):
        _alter(tmp_path / FIRST, f"{change} WHERE first_offset = 10")
        with closing(SqliteJournalReader(tmp_path)) as reader:
            reading = reader.backwards("control")
            assert next(reading)["offset"].to_pylist() == [11]
            with pytest.raises(JournalError, match="offsets 10 to 10"):
                next(reading)


def test_file_that_is_gone_is_named_by_reading(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        for start in range(0, 50, 10):
            journal.append(batch(_row(n) for n in range(start, start + 10)))
    (tmp_path / "00000000000000000020.db").unlink()
    with closing(SqliteJournalReader(tmp_path)) as reader:
        assert [(d.first_offset, d.last_offset) for d in reader.check()] == [(20, 29)]
        with pytest.raises(JournalError, match="offsets 20 to 29"):
            list(reader.read(0))
        assert offsets_of(reader.read(30)) == list(range(30, 50))


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be one" * 300])
def test_last_file_that_is_none_stops_the_writer_and_is_named(
    tmp_path: Path, content: bytes
) -> None:
    with SqliteJournal(tmp_path, "alpaca", segment_bytes=1) as journal:
        journal.append(batch(_row(n) for n in range(10)))
        journal.append(batch(_row(n) for n in range(10, 20)))
    last = tmp_path / "00000000000000000010.db"
    last.write_bytes(content)
    with pytest.raises(JournalError, match=r"nothing of .*00010.db.* from a backup"):
        SqliteJournal(tmp_path, "alpaca")
    with closing(SqliteJournalReader(tmp_path)) as reader:
        (damage,) = reader.check()
        assert (damage.first_offset, damage.last_offset, damage.file) == (10, None, str(last))
    last.unlink()
    with SqliteJournal(tmp_path, "alpaca") as journal:
        assert journal.next_offset == 10


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_repair_that_was_cut_off_is_undone(folder: Path, steps: int) -> None:
    """The state after each rename of a repair: the journal comes back as it was, to be repaired."""
    with SqliteJournal(folder, "alpaca"):
        shutil.copytree(folder, folder.with_name("live"))
    live = folder.with_name("live")
    moves = [("", ".damaged"), ("-wal", ".damaged-wal"), ("-shm", ".damaged-shm")]
    for old, new in moves[:steps]:
        if (live / (FIRST + old)).exists():
            (live / (FIRST + old)).replace(live / (FIRST + new))
    (live / (FIRST + ".new")).write_bytes(b"half a draft")
    with SqliteJournal(live, "alpaca") as journal, closing(journal.reader()) as reader:
        assert offsets_of(reader.read(0)) == list(range(COUNT))
