"""The journal of loads: which loads there were, without reading their lines."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from marketpipe.errors import JournalError
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeLayout, LakeTable
from marketpipe.pipelines.live import nowhere
from marketpipe.pipelines.loadlog import LoadLog, Run
from marketpipe.sources.mock.messages import CsvMessages

LINES = "symbol,ts_ns,price,size\n" + "".join(f"A,{n},1,1\n" for n in range(1, 101))
STEPS = ("accepted", "changes", "loaded")


def _received(log: LoadLog, name: str, now_ns: int) -> Run:
    """Take a file of 100 lines in, in ten blocks."""
    run = log.begin({"file": name, "source": "file", "feed": "", "digest": name}, now_ns)
    with CsvMessages(io.BytesIO(LINES.encode()), batch_lines=10, conn_id=run.first) as messages:
        return log.take_in(run, messages.records(), nowhere)


def test_runs_tells_each_load_and_reads_no_lines(tmp_path: Path) -> None:
    raw = LakeTable.open(LakeLayout(tmp_path / "lake"), "raw")
    with SqliteJournal(tmp_path / "load", "load") as journal:
        log = LoadLog(journal, raw)
        assert log.runs() == []
        done = _received(log, "one", 10)
        for step in STEPS:
            done = log.note(done, step, touched=[])
        given_up = log.note(log.begin({**done.facts, "file": "two"}, 20), "given_up")
        last = _received(log, "three", 30)
    with closing(sqlite3.connect(next((tmp_path / "load").glob("*.db")))) as database:
        # a block of lines in the midst of each load
        for first in (done.first, last.first):
            inside = (first + 40, first + 50)
            torn = database.execute(
                "UPDATE block SET crc = 0 WHERE first_offset BETWEEN ? AND ?", inside
            )
            assert torn.rowcount == 1
        database.commit()
    with SqliteJournal(tmp_path / "load", "load") as journal:
        assert LoadLog(journal, raw).runs() == [done, given_up, last]
        with closing(journal.reader()) as reader, pytest.raises(JournalError):
            list(reader.read(0))
    assert (done.over is not None, done.given_up, given_up.given_up) == (True, False, True)
    assert (last.received is not None, last.accepted) == (True, None)
