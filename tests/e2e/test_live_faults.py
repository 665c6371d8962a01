"""Disks, files and locks that fail under a pipeline: what is said, and the documented way back."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import docskit
from crashkit import (
    SMALL,
    Forge,
    Kept,
    Life,
    differences,
    kept,
    reference,
    rows_of,
    write_feed,
)
from livekit import records
from marketpipe.errors import LakeError
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder

PAGE = docskit.DOCS / "how-to" / "recover.md"
AFTER_A_CHECKPOINT = ("bars:after", 3)


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as made:
        yield made


@pytest.fixture(scope="module")
def fault_free(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, Kept]:
    life, wanted, _ = reference(forge, tmp_path_factory.mktemp("faults") / "small")
    return life, wanted


@pytest.fixture
def half_way(forge: Forge, fault_free: tuple[Life, Kept], tmp_path: Path) -> Life:
    """A pipeline that was killed after its first checkpoint, before its second."""
    life = replace(fault_free[0], folder=str(tmp_path / "data"))
    assert forge.live(replace(life, kill_at=AFTER_A_CHECKPOINT)).status == -9
    return life


def _only_segment(life: Life) -> Path:
    return Path(life.folder) / "journal" / "alpaca" / "00000000000000000000.db"


def _damage(life: Life, blocks: str) -> None:
    with closing(sqlite3.connect(_only_segment(life), isolation_level=None)) as base:
        changed = base.execute(f"UPDATE block SET crc = crc + 1 WHERE {blocks}").rowcount
    assert changed == 1


def _remove(life: Life, folder: str) -> None:
    shutil.rmtree(Path(life.folder) / folder)


def _remove_store(life: Life) -> None:
    for path in Path(life.folder).glob("marketpipe.db*"):
        path.unlink()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda life: _damage(life, _LAST), id="last block of the journal"),
        pytest.param(lambda life: _remove(life, "journal"), id="journal"),
        pytest.param(_remove_store, id="database"),
        pytest.param(lambda life: _remove(life, "lake"), id="lake"),
        pytest.param(lambda life: _remove(life, "lake/raw"), id="raw"),
        pytest.param(lambda life: _remove(life, "lake/canonical/trades"), id="trades"),
        pytest.param(lambda life: _remove(life, "lake/bars"), id="bars"),
    ],
)
def test_restart_alone_brings_back(
    forge: Forge,
    fault_free: tuple[Life, Kept],
    half_way: Life,
    fault: Callable[[Life], None],
) -> None:
    fault(half_way)
    forge.finish(half_way)
    assert differences(kept(Path(half_way.folder)), fault_free[1]) == []


_LAST = "first_offset = (SELECT max(first_offset) FROM block)"


def test_journal_cut_far_below_what_was_derived_is_refilled_from_raw(
    forge: Forge, fault_free: tuple[Life, Kept], half_way: Life
) -> None:
    with closing(sqlite3.connect(_only_segment(half_way), isolation_level=None)) as base:
        base.execute("UPDATE block SET crc = crc + 1 WHERE first_offset >= 300")
    forge.finish(half_way)
    assert list(_only_segment(half_way).parent.glob("*.damaged"))
    assert differences(kept(Path(half_way.folder)), fault_free[1]) == []


def test_journal_damaged_in_the_middle_is_named_and_joined_from_raw(
    forge: Forge, fault_free: tuple[Life, Kept], half_way: Life
) -> None:
    _damage(half_way, "first_offset = 150")
    again = replace(half_way, code="+1")  # which reads the journal from its first record
    end = forge.live(again)
    assert end.status == 1
    assert "JournalError" in end.error
    assert "offsets 150 to 299" in end.error
    reader = SqliteJournalReader(_only_segment(half_way).parent)
    assert next(iter(reader.read(300)))["offset"][0].as_py() == 300
    reader.close()
    block = next(b for b in docskit.blocks(PAGE) if b.language == "python")
    names: dict[str, Any] = {}
    exec(block.text, names)
    names["join_journal"](Path(half_way.folder), "alpaca")
    forge.finish(again)
    assert differences(kept(Path(half_way.folder)), fault_free[1]) == []


def test_missing_lake_file_is_named_and_its_table_made_anew(
    forge: Forge, fault_free: tuple[Life, Kept], half_way: Life
) -> None:
    folder = DataFolder(Path(half_way.folder))
    table = LakeTable.open(folder.lake, "trades", create=False)
    gone = Path(table.files()[0])
    for path in table.files():
        Path(path).unlink()
    with pytest.raises(LakeError, match=gone.name):
        table.check()
    end = forge.live(half_way)
    assert end.status == 1
    assert "LakeError: reading table trades" in end.error
    assert len(rows_of(folder.root, "bars"))
    assert folder.lake.path("trades").is_relative_to(half_way.folder)
    shutil.move(folder.lake.path("trades"), folder.root.parent / "away")
    forge.finish(half_way)
    assert differences(kept(folder.root), fault_free[1]) == []


def test_journal_and_raw_both_gone_is_refused(forge: Forge, half_way: Life) -> None:
    _remove(half_way, "journal")
    _remove(half_way, "lake/raw")
    end = forge.live(half_way)
    assert end.status == 1
    assert "StorageError: journal alpaca: its checkpoint cannot be used: table raw" in end.error
    _remove_store(half_way)
    end = forge.live(half_way)
    assert "StorageError: journal alpaca: ends before offset 0" in end.error
    assert "restore the data folder from a backup" in end.error


def test_locked_database_is_named_and_letting_go_helps(
    forge: Forge, fault_free: tuple[Life, Kept], half_way: Life
) -> None:
    with closing(sqlite3.connect(Path(half_way.folder) / "marketpipe.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        end = forge.live(half_way)
    assert end.status == 1
    assert "BusyError" in end.error
    assert "is locked by another process" in end.error
    forge.finish(half_way)
    assert differences(kept(Path(half_way.folder)), fault_free[1]) == []


def test_store_ahead_of_a_journal_that_lost_its_end_is_refused_and_made_anew(
    forge: Forge, fault_free: tuple[Life, Kept], tmp_path: Path
) -> None:
    """Bars of records that neither journal nor lake has, and that the feed does not repeat."""
    life = replace(fault_free[0], folder=str(tmp_path / "data"))
    assert forge.live(replace(life, kill_at=("store:after", 1))).status == -9
    _remove(life, "journal")
    other = records(replace(SMALL, seed=2))
    other_life = replace(life, feed=str(write_feed(tmp_path / "other.arrow", other)))
    end = forge.live(other_life)
    assert end.status == 1
    assert "NondeterminismError" in end.error
    _remove_store(life)
    forge.finish(other_life)
    fresh = replace(other_life, folder=str(tmp_path / "fresh"))
    forge.finish(fresh)
    assert differences(kept(Path(life.folder)), kept(Path(fresh.folder))) == []


FULL = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from crashkit import Life, differences, kept, read_feed, run
from marketpipe.errors import FullError, StorageError

folder, feed, reference = sys.argv[1:4]
life, table = Life(folder=folder + "/data", feed=feed), read_feed(feed)
filler = Path(folder) / "filler"
room, refused = 0, 0
while True:
    filler.write_bytes(b"")
    try:
        with filler.open("wb") as file:
            while file.write(bytes(4096)):
                file.flush()
    except OSError:
        pass
    room += 80_000
    with filler.open("r+b") as file:
        file.truncate(max(0, filler.stat().st_size - room))
    try:
        asyncio.run(run(life, table))
    except StorageError as error:
        # without room for the index of its log, SQLite calls a full disk an I/O error
        assert isinstance(error, FullError) or "disk I/O error" in str(error), error
        refused += isinstance(error, FullError)
    else:
        break
filler.unlink()
assert refused >= 2, refused
asyncio.run(run(life, table))
print(differences(kept(Path(life.folder)), kept(Path(reference))))
"""

READ_ONLY = """
import asyncio, sys
from pathlib import Path
from crashkit import Life, bars_of, read_feed, rows_of, run
from marketpipe.errors import StorageError
from marketpipe.journal import SqliteJournalReader

folder, feed, _ = sys.argv[1:4]
reader = SqliteJournalReader(Path(folder) / "data" / "journal" / "alpaca")
print(sum(part.num_rows for part in reader.read(0)) > 0, len(bars_of(Path(folder) / "data")) > 0)
reader.close()
try:
    asyncio.run(run(Life(folder=folder + "/data", feed=feed), read_feed(feed)))
except StorageError as error:
    print(error)
"""


def _run_mounted(folder: Path, mount: str, script: str, *words: str) -> str:
    """Run a script on a mount that only it sees, and that goes away with it."""
    scope = ["unshare", "-m" if os.geteuid() == 0 else "-Urm"]
    if shutil.which("unshare") is None or subprocess.run([*scope, "true"], check=False).returncode:
        pytest.skip("this system does not let tests mount: such a disk cannot be made")
    shell = ["sh", "-ec", f'cd /; {mount}; exec "$0" -c "$2" "$1" "$3" "$4"']
    done = subprocess.run(
        [*scope, *shell, sys.executable, str(folder), script, *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_full_disk_is_told_and_room_brings_everything_back(
    fault_free: tuple[Life, Kept], tmp_path: Path
) -> None:
    life = fault_free[0]
    mount = 'mount -t tmpfs -o size=6m none "$1"'
    assert _run_mounted(tmp_path, mount, FULL, life.feed, life.folder) == "[]\n"


def test_read_only_folder_is_named_and_read(
    forge: Forge, fault_free: tuple[Life, Kept], half_way: Life
) -> None:
    folder = Path(half_way.folder).parent
    mount = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"'
    readable, said = _run_mounted(folder, mount, READ_ONLY, half_way.feed, "").splitlines()
    assert readable == "True True"
    assert "Read-only file system" in said
    forge.finish(half_way)
    assert differences(kept(Path(half_way.folder)), fault_free[1]) == []
