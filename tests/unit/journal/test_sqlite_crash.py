"""A SQLite journal whose writer was killed, or whose write-ahead log was hurt."""

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from journalkit import numbered, offsets_of, record, rows_of
from marketpipe.journal import Durability, SqliteJournal, SqliteJournalReader

# Appends n % 97 + 1 records at offset n, for ever, and says what was acknowledged.
WRITER = """
import os, sys
from pathlib import Path
from journalkit import numbered
from marketpipe.journal import SqliteJournal

journal = SqliteJournal(Path(sys.argv[1]), "alpaca", durability=sys.argv[2], segment_bytes=20_000)
batches = {}
while True:
    first = journal.next_offset
    assert journal.append(numbered(first, first + first % 97 + 1)) == first
    os.write(1, b"%d\\n" % journal.next_offset)
"""
KILLS = 20


def _kill_after(folder: Path, durability: Durability, appends: int) -> int:
    """Let a writer append that often, kill it in the midst of the next, return what it said."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WRITER, str(folder), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(appends)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().splitlines(keepends=True)
    assert child.returncode == -signal.SIGKILL
    return int([line for line in said if line.endswith(b"\n")][-1])


def _ends(limit: int) -> set[int]:
    """Offsets at which an append of the writer ends."""
    ends, end = {0}, 0
    while end < limit:
        end += end % 97 + 1
        ends.add(end)
    return ends


@pytest.mark.parametrize("durability", ["process", "power"])
def test_kill_in_the_midst_of_appends_loses_nothing_acknowledged(
    tmp_path: Path, durability: Durability
) -> None:
    for number in range(KILLS // 2):
        appends = 1 + hashlib.sha256(b"%d" % number).digest()[0] % 60
        acknowledged = _kill_after(tmp_path, durability, appends)
        with closing(SqliteJournalReader(tmp_path)) as reader:
            assert reader.next_offset >= acknowledged
            found = rows_of(reader.read(0))
            assert [row["offset"] for row in found] == list(range(reader.next_offset))
            assert [row["frame_seq"] for row in found] == list(range(len(found)))
            assert len(found) in _ends(len(found))
            assert reader.check() == ()
        with SqliteJournal(tmp_path, "alpaca") as journal:
            assert journal.next_offset == len(found)


def _crashed(folder: Path, appends: int) -> Path:
    """Leave a journal as a crash does after that many appends; return its write-ahead log."""
    source = folder / "source"
    with SqliteJournal(source, "alpaca") as journal:
        for n in range(appends):
            journal.append(numbered(n * 10, n * 10 + 10))
        copy = folder / "crashed"
        copy.mkdir()
        for path in source.glob("*.db*"):
            (copy / path.name).write_bytes(path.read_bytes())
    return copy / "00000000000000000000.db-wal"


def test_log_left_by_a_crash_is_taken(tmp_path: Path) -> None:
    log = _crashed(tmp_path, 20)
    with SqliteJournal(log.parent, "alpaca") as journal, closing(journal.reader()) as reader:
        assert journal.repairs == ()
        assert offsets_of(reader.read(0)) == list(range(200))


def test_log_torn_in_an_append_loses_only_that(tmp_path: Path) -> None:
    log = _crashed(tmp_path, 20)
    os.truncate(log, log.stat().st_size - 100)
    with SqliteJournal(log.parent, "alpaca") as journal, closing(journal.reader()) as reader:
        assert journal.next_offset == 190
        assert offsets_of(reader.read(0)) == list(range(190))
        assert journal.append(numbered(190, 195)) == 190
        assert reader.check() == ()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9])
def test_log_that_was_hurt_is_reported_and_cut(tmp_path: Path, place: float) -> None:
    log = _crashed(tmp_path, 20)
    content = bytearray(log.read_bytes())
    at = int(len(content) * place) + 8
    content[at : at + 16] = bytes(byte ^ 0x5A for byte in content[at : at + 16])
    log.write_bytes(content)
    with SqliteJournal(log.parent, "alpaca") as journal, closing(journal.reader()) as reader:
        (repair,) = journal.repairs
        assert repair.first_offset == journal.next_offset < 200
        assert repair.last_offset is None
        assert "write-ahead log" in repair.reason
        kept = [row["frame_seq"] for row in rows_of(reader.read(0))]
        assert kept == list(range(journal.next_offset))
        assert len(kept) % 10 == 0
        first = journal.append(numbered(len(kept), len(kept) + 5))
        assert rows_of(reader.read(first))[0]["payload"] == record(first)["payload"]
    with SqliteJournal(log.parent, "alpaca") as journal:
        assert journal.repairs == ()


def test_drafts_and_strays_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca") as journal:
        journal.append(numbered(0, 10))
    for name in ("00000000000000000010.db.new", "00000000000000000010.db.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "00000000000000000005.db-wal").write_bytes(b"left")
    with SqliteJournal(tmp_path, "alpaca") as journal:
        assert journal.append(numbered(10, 11)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000000000000000000.db",
        "writer.lock",
    ]
