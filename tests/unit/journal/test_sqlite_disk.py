"""A SQLite journal on a disk that is full, or may not be written."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from journalkit import numbered, offsets_of
from marketpipe.errors import JournalError
from marketpipe.journal import SqliteJournal


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that may not grow: SQLite reports an I/O error in the midst of a transaction."""
    with SqliteJournal(tmp_path, "alpaca") as journal, closing(journal.reader()) as reader:
        journal.append(numbered(0, 10))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        try:
            with pytest.raises(JournalError, match="append to"):
                journal.append(numbered(10, 40_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert journal.next_offset == reader.next_offset == 10
        assert journal.append(numbered(10, 20)) == 10
        assert offsets_of(reader.read(0)) == list(range(20))


FULL = """
import hashlib, sys
from contextlib import closing
from pathlib import Path
from journalkit import batch, offsets_of, record
from marketpipe.errors import FullError
from marketpipe.journal import SqliteJournal

def rows(first):
    noise = hashlib.shake_256(b"%d" % first).digest(20_000)
    return batch(record(first + n, payload=noise[n:]) for n in range(3))

folder = Path(sys.argv[1])
with SqliteJournal(folder, "alpaca", segment_bytes=300_000) as journal:
    with closing(journal.reader()) as reader:
        refused = 0
        for _ in range(2000):
            first = journal.next_offset
            try:
                journal.append(rows(first))
            except FullError as error:
                assert "the disk is full" in str(error), error
                assert journal.next_offset == reader.next_offset == first
                assert offsets_of(reader.read(reader.first_offset))[-1] == first - 1
                refused += 1
                before = reader.first_offset
                kept = journal.retain(first - (first - before) // 2)
                assert kept > before
                if refused == 3:
                    break
        assert refused == 3
        assert journal.append(rows(first)) == first
        assert offsets_of(reader.read(kept)) == list(range(kept, first + 3))
        assert reader.check() == ()
try:
    (folder / "filler").write_bytes(bytes(20_000_000))
except OSError:
    pass
try:
    SqliteJournal(folder, "alpaca")
except FullError:
    (folder / "filler").unlink()
with SqliteJournal(folder, "alpaca") as journal:
    assert journal.repairs == () and journal.next_offset == first + 3
print("done")
"""


READ_ONLY = """
import sys
from pathlib import Path
from marketpipe.errors import JournalError
from marketpipe.journal import SqliteJournal, SqliteJournalReader

folder = Path(sys.argv[1])
reader = SqliteJournalReader(folder)
print(sum(part.num_rows for part in reader.read(0)), reader.check())
reader.close()
try:
    SqliteJournal(folder, "alpaca")
except JournalError as error:
    print(error)
"""


def _run_mounted(folder: Path, mount: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script on a mount that only it sees, and that goes away with it."""
    scope = ["unshare", "-m" if os.geteuid() == 0 else "-Urm"]
    if shutil.which("unshare") is None or subprocess.run([*scope, "true"], check=False).returncode:
        pytest.skip("this system does not let tests mount: such a disk cannot be made")
    shell = ["sh", "-ec", f'cd /; {mount}; exec "$0" -c "$2" "$1"']
    return subprocess.run(
        [*scope, *shell, sys.executable, str(folder), script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_full_disk_is_told_and_room_helps(tmp_path: Path) -> None:
    done = _run_mounted(tmp_path, 'mount -t tmpfs -o size=4m none "$1"', FULL)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_read_only_disk_is_named_and_read(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca") as journal:
        journal.append(numbered(0, 10))
    mount = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"'
    done = _run_mounted(tmp_path, mount, READ_ONLY)
    assert done.stderr == ""
    read, refused = done.stdout.splitlines()
    assert read == "10 ()"
    assert "writer.lock" in refused
    assert "Read-only file system" in refused
