"""What a pipeline says of its journal when it opens it."""

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crashkit import Life, run
from livekit import FeedSpec, records
from marketpipe.domain.findings import Findings
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.store import BarRepository, FindingsStore

FEED = records(FeedSpec(trades=600, minutes=4))
SEGMENT = "00000000000000000000.db"
CUT = "journal alpaca: cut, because it was torn or damaged: offsets"
LAST = "first_offset = (SELECT max(first_offset) FROM block)"


def live(folder: Path) -> None:
    asyncio.run(run(Life(folder=str(folder), feed="", batch=100), FEED))


def tear(folder: Path, blocks: str) -> None:
    path = DataFolder(folder).journal("alpaca") / SEGMENT
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        assert base.execute(f"UPDATE block SET crc = crc + 1 WHERE {blocks}").rowcount == 1


def noted(folder: Path) -> Findings:
    async def load() -> Findings:
        async with await BarRepository.open(DataFolder(folder).store_url) as store:
            return await FindingsStore(store.database).load("journal/alpaca")

    return asyncio.run(load())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    caplog.clear()
    return found


def test_opening_says_what_was_cut_and_counts_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live(tmp_path)
    assert (errors(caplog), noted(tmp_path)) == ([], Findings())
    for times in (1, 2):
        tear(tmp_path, LAST)
        live(tmp_path)
        (said,) = errors(caplog)
        assert said.startswith(f"{CUT} 8")
        assert f"to {len(FEED) - 1} of " in said
        assert "checksum" in said
        assert f"{SEGMENT}.damaged" in said
        assert noted(tmp_path).counts == {"journal_cut": times}
        assert noted(tmp_path).examples("journal_cut")[0].field == SEGMENT
    live(tmp_path)
    assert errors(caplog) == []


def test_opening_names_what_is_damaged_further_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live(tmp_path)
    tear(tmp_path, "first_offset = 100")
    live(tmp_path)
    (said,) = errors(caplog)
    assert said.startswith("journal alpaca: damaged, and left as it is: offsets 100 to 199 of ")
    assert noted(tmp_path) == Findings()
