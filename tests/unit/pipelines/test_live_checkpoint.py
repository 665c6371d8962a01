"""A checkpoint of another version is given up only where all can be derived again."""

import asyncio
import shutil
from datetime import date
from pathlib import Path

import pytest

from crashkit import Life, bars_of, run
from livekit import FeedSpec, records
from marketpipe.errors import StorageError
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable, drop_before, vacuum
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.verify.digest import DigestTree

FEED = records(FeedSpec(trades=600, minutes=4))


def live(folder: Path, code: str = "", rows: int = len(FEED)) -> None:
    life = Life(folder=str(folder), feed="", batch=100, segment_bytes=1, code=code)
    asyncio.run(run(life, FEED.slice(0, rows)))


def drop_raw(folder: Path) -> None:
    raw = LakeTable.open(DataFolder(folder).lake, "raw")
    assert drop_before(raw, date(2100, 1, 1), ts_now_ns=0, also_append_only=True)
    vacuum(raw)


def test_checkpoint_of_other_code_stays_where_the_start_was_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    live(folder, rows=400)
    drop_raw(folder)
    with pytest.raises(StorageError, match=r"code '.*', which is '.*\+1' now; .* first record"):
        live(folder, "+1")
    live(folder)  # what made the checkpoint goes on from it
    live(tmp_path / "whole")
    assert DigestTree.build(bars_of(folder)) == DigestTree.build(bars_of(tmp_path / "whole"))


def test_checkpoint_of_other_code_stays_where_journal_and_start_are_gone(tmp_path: Path) -> None:
    live(tmp_path)
    drop_raw(tmp_path)
    shutil.rmtree(tmp_path / "journal")
    with pytest.raises(StorageError, match="its checkpoint cannot be used: it was made with code"):
        live(tmp_path, "+1")


def test_checkpoint_stays_where_a_table_and_the_start_are_gone(tmp_path: Path) -> None:
    live(tmp_path)
    drop_raw(tmp_path)
    aside = tmp_path / "aside"
    (tmp_path / "lake" / "canonical" / "trades").rename(aside)
    with pytest.raises(StorageError, match="table trades of the lake lacks rows"):
        live(tmp_path)
    shutil.rmtree(tmp_path / "lake" / "canonical" / "trades")
    aside.rename(tmp_path / "lake" / "canonical" / "trades")
    live(tmp_path)


def test_checkpoint_of_other_code_is_given_up_where_all_is_there(tmp_path: Path) -> None:
    live(tmp_path)
    before = bars_of(tmp_path)
    reader = SqliteJournalReader(DataFolder(tmp_path).journal("alpaca"), "alpaca")
    assert reader.first_offset > 0
    reader.close()
    live(tmp_path, "+1")
    assert DigestTree.build(bars_of(tmp_path)) == DigestTree.build(before)
    with pytest.raises(StorageError, match="lacks rows"):
        live_without_raw(tmp_path)


def live_without_raw(folder: Path) -> None:
    shutil.rmtree(folder / "lake" / "raw")
    live(folder, "+1")
