"""`marketpipe backup` and `restore`: a consistent point, also while a feed is taken in."""

import asyncio
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from e2e.conftest import Command
from feedkit import OPEN, service, ticks, whole_of
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.backup import back_up, restore
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.lakesink import TABLES

MOCK = ("stream", "--mode", "mock", "--timeframes", "1m,5m")


def store_rows(folder: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "marketpipe.db") as database:
        return database.execute("SELECT * FROM bars ORDER BY seq").fetchall()


def lake_rows(folder: Path, name: str) -> list[str]:
    rows = read_rows(LakeTable.open(DataFolder(folder).lake, name, create=False))
    return sorted(repr(row) for row in rows.to_pylist())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "boundary", ["raw:after", "bars:before", "store:after", "checkpoint:before", "retain:after"]
)
def test_backup_within_a_run_restores_and_ends_with_the_same_roots(
    tmp_path: Path, boundary: str, packed: bool
) -> None:
    path = ticks(tmp_path / "t.csv", 3_000, per_second=5)
    output = tmp_path / ("copy.tar.zst" if packed else "copy")
    passed: list[str] = []

    def copying(name: str) -> None:
        passed.append(name)
        if name == boundary and passed.count(name) == 2:
            back_up(DataFolder(tmp_path / "whole"), output)

    whole = asyncio.run(service(tmp_path / "whole", path, at_boundary=copying).run())
    assert passed.count(boundary) >= 2
    assert restore(output, DataFolder(tmp_path / "again")) > 10
    again = whole_of(tmp_path / "again", path)
    assert again.held == whole.held
    assert store_rows(tmp_path / "again") == store_rows(tmp_path / "whole")
    for name in TABLES:
        assert lake_rows(tmp_path / "again", name) == lake_rows(tmp_path / "whole", name)


def test_backup_from_another_thread_while_a_feed_is_taken_in(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 6_000, per_second=10)
    outputs = [tmp_path / f"copy{n}" for n in range(3)]
    begun = threading.Event()

    def copy() -> None:
        begun.wait(60)
        for output in outputs:
            back_up(DataFolder(tmp_path / "whole"), output)

    copier = threading.Thread(target=copy)
    copier.start()
    running = service(tmp_path / "whole", path, at_boundary=lambda _: begun.set())
    whole = asyncio.run(running.run())
    copier.join()
    for output in outputs:
        restored = tmp_path / f"again-{output.name}"
        restore(output, DataFolder(restored))
        assert whole_of(restored, path).held == whole.held


def test_backup_and_restore_by_command(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv")
    first = marketpipe(*MOCK, "--csv", path, "--source", "my:feed")
    done = marketpipe("backup", "--output", "copy.tar.zst")
    assert done.code == 0, done.err
    assert "offsets 0 to 1,801" in done.line("journal")
    done = marketpipe("restore", "--input", "copy.tar.zst", "--data-dir", "again")
    assert done.code == 0, done.err
    again = marketpipe(*MOCK, "--csv", path, "--source", "my:feed", "--data-dir", "again")
    assert again.line("root") == first.line("root")
    assert again.line("messages").startswith("0 appended")
    assert marketpipe("doctor", "--data-dir", "again").code == 0


def test_restore_into_a_folder_that_is_not_empty_exits_two(
    marketpipe: Command, tmp_path: Path
) -> None:
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    marketpipe("backup", "--output", "copy")
    done = marketpipe("restore", "--input", "copy")
    assert done.code == 2
    assert "'data' is not empty" in done.err
    Path("empty").mkdir()
    assert marketpipe("restore", "--input", "copy", "--data-dir", "empty").code == 0


def test_backup_that_cannot_be_made_exits_two(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "holds no journal" in marketpipe("backup", "--output", "copy").err
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    assert "does not exist" in marketpipe("backup", "--output", "no/copy").err
    Path("there").mkdir()
    assert "is there already" in marketpipe("backup", "--output", "there").err
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@localhost/none")
    done = marketpipe("backup", "--output", "copy")
    assert done.code == 2
    assert "pg_dump" in done.err
    assert "secret" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "t.csv", "there"]


def test_restore_of_a_damaged_backup_is_refused_and_leaves_nothing(
    marketpipe: Command, tmp_path: Path
) -> None:
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    marketpipe("backup", "--output", "copy")
    marketpipe("backup", "--output", "copy.tar.zst")
    database = Path("copy/marketpipe.db")
    whole = database.read_bytes()
    database.write_bytes(whole[:-1] + b"x")
    assert "'marketpipe.db' is not as it was written" in _refused(marketpipe, "copy")
    database.unlink()
    assert "'marketpipe.db' is missing" in _refused(marketpipe, "copy")
    database.write_bytes(whole)
    manifest = Path("copy/backup.json")
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "format": 99}))
    assert "format 99" in _refused(marketpipe, "copy", 3)
    manifest.unlink()
    assert "is no backup" in _refused(marketpipe, "copy")
    packed = Path("copy.tar.zst")
    packed.write_bytes(packed.read_bytes()[:-2000])
    _refused(marketpipe, "copy.tar.zst")
    packed.write_bytes(b"nothing of the kind")
    _refused(marketpipe, "copy.tar.zst")
    _refused(marketpipe, "absent")


def _refused(marketpipe: Command, source: str, code: int = 2) -> str:
    done = marketpipe("restore", "--input", source, "--data-dir", "again")
    assert done.code == code
    assert not Path("again").exists()
    assert not list(Path().glob(".again*"))
    return done.err


def test_restored_folder_takes_the_next_file(marketpipe: Command, tmp_path: Path) -> None:
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "a.csv", 60))
    marketpipe("backup", "--output", "copy")
    marketpipe("restore", "--input", "copy", "--data-dir", "again")
    later = ticks(tmp_path / "b.csv", 60, start_ns=OPEN + 86_400 * NANOS)
    done = marketpipe(*MOCK, "--csv", later, "--data-dir", "again")
    assert done.line("ticks") == "trades 240"
