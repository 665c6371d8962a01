"""`marketpipe stream` while another program holds its database: gaps are kept and repaired."""

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from e2e.conftest import Command
from marketpipe.domain.records import CONTROL
from marketpipe.journal import SqliteJournalReader
from marketpipe.pipelines.datafolder import DataFolder
from streamkit import listening, simulator, until_bars

JOURNAL = "alpaca-iex"
PATIENCE_S = 60.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the database of a data folder."""
    with closing(sqlite3.connect(folder / "data" / "marketpipe.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 20000")
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def listed(folder: Path) -> list[tuple[str, str]]:
    """Return reason and state of the gaps that the store has, by number."""
    with closing(sqlite3.connect(folder / "data" / "marketpipe.db")) as store:
        return store.execute("SELECT reason, state FROM gaps ORDER BY number").fetchall()


def noted(folder: Path) -> list[str]:
    """Return the reasons of the gaps that the journal has."""
    place = DataFolder(folder / "data").journal(JOURNAL)
    with closing(SqliteJournalReader(place, JOURNAL)) as reader:
        payloads = [p for batch in reader.backwards(CONTROL) for p in batch["payload"].to_pylist()]
    facts = [json.loads(payload) for payload in payloads]
    return [fact["reason"] for fact in facts if fact["event"] == "gap"]


def length(folder: Path) -> int:
    """Return how many records the journal ever got."""
    place = DataFolder(folder / "data").journal(JOURNAL)
    with closing(SqliteJournalReader(place, JOURNAL)) as reader:
        return reader.next_offset


def until(is_true: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


def drop(environ: Mapping[str, str]) -> None:
    """Have the simulator drop its connections."""
    url = f"{environ['MARKETPIPE_ALPACA__REST_URL']}/faults"
    assert httpx.post(url, params={"add": "drop"}).status_code == 200


def test_gaps_while_the_database_is_locked_are_listed_and_repaired_after_it_even_after_a_kill(
    marketpipe: Command, tmp_path: Path
) -> None:
    with simulator("--generate", "AAPL,MSFT") as environ:
        process = listening(tmp_path, environ, "--symbols", "AAPL,MSFT")
        until_bars(tmp_path, process)
        with locked(tmp_path):
            drop(environ)
            until(lambda: noted(tmp_path) == ["day", "disconnected"])
            at = length(tmp_path)
            until(lambda: length(tmp_path) > at + 500)
            assert listed(tmp_path) == []
        until(lambda: listed(tmp_path) == [("disconnected", "repaired"), ("day", "open")])

        with locked(tmp_path):
            drop(environ)
            until(lambda: len(noted(tmp_path)) == 3)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert len(listed(tmp_path)) == 2

        process = listening(tmp_path, environ, "--symbols", "AAPL,MSFT")
        until(
            lambda: (
                listed(tmp_path)
                == [
                    ("disconnected", "repaired"),
                    ("day", "open"),
                    ("disconnected", "repaired"),
                    ("stopped", "repaired"),
                ]
            )
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    proved = marketpipe("verify")
    assert proved.code == 0, proved.out
