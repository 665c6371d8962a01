"""What goes wrong with a real SQLite file: locks, full disks, read-only and damaged files."""

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from marketpipe.errors import BusyError, FullError, StoreError
from marketpipe.store import BarQuery, BarRepository, Checkpoint, CheckpointStore
from storekit import bar, rows_of, table

Work = Callable[[BarRepository], Awaitable[None]]


def run(path: Path, work: Work) -> None:
    async def whole() -> None:
        async with await BarRepository.open(f"sqlite:///{path}", busy_timeout_s=0.2) as opened:
            await work(opened)

    asyncio.run(whole())


def test_store_locked_by_another_is_busy_and_readable_meanwhile(tmp_path: Path) -> None:
    async def work(repository: BarRepository) -> None:
        await repository.add(table([bar(0)]))
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match=r"a\.db' is locked by another process"):
            await repository.add(table([bar(1)]))
        assert rows_of(await repository.bars(BarQuery())) == [bar(0)]
        other.execute("ROLLBACK")
        other.close()
        assert await repository.add(table([bar(1)])) == 1

    run(tmp_path / "a.db", work)


def test_store_opened_while_locked_is_busy(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="is locked"):
            run(tmp_path / "a.db", _nothing)
    other.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_store_full_disk_keeps_what_was_there_and_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))

    async def work(repository: BarRepository) -> None:
        assert await repository.add(table([bar(m) for m in range(100)])) == 100
        before = await repository.outbox(0)
        many = table([bar(m) for m in range(12_000)])
        with pytest.raises(FullError, match=r"disk of .* is full; nothing of this write was kept"):
            await repository.add(many)
        with pytest.raises(FullError):
            await CheckpointStore(repository.database).save(
                Checkpoint(
                    pipeline="live",
                    journal_id="a",
                    offset=1,
                    versions={},
                    state=bytes(3_000_000),
                    saved_at_ns=0,
                )
            )
        assert (await repository.outbox(0)).equals(before)
        ballast.unlink()
        assert await repository.add(many.slice(0, 1000)) == 900
        assert await repository.last_seq() == 1000

    run(small_disk / "a.db", work)
    run(small_disk / "a.db", _nothing)


def test_store_read_only_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    run(path, _nothing)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    with pytest.raises(StoreError, match="read-only; make the file and its folder writable"):
        asyncio.run(BarRepository.open(f"sqlite:///file:{path}?mode=ro&uri=true"))


def test_store_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match=r"folder of .* cannot be made"):
        run(tmp_path / "data" / "a.db", _nothing)


def test_store_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be opened \(Is a directory\)"):
        run(tmp_path, _nothing)


def test_store_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"symbol,price\n" * 1000)
    with pytest.raises(StoreError, match="it is no SQLite database; name another file"):
        run(path, _nothing)
    assert path.read_bytes() == b"symbol,price\n" * 1000


def test_store_damaged_pages_are_named_never_an_empty_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def fill(repository: BarRepository) -> None:
        await repository.add(table([bar(m) for m in range(3000)]))

    run(path, fill)
    whole = bytearray(path.read_bytes())
    for page in range(20, len(whole) // 4096 - 2):
        whole[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(whole)

    async def read(repository: BarRepository) -> None:
        with pytest.raises(StoreError, match="pages are damaged; restore a backup, or rebuild"):
            await repository.bars(BarQuery())

    run(path, read)


async def _nothing(_repository: BarRepository) -> None:
    """Opening is all."""
