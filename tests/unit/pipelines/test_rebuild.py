"""Rebuilding: nothing to say of good data, a difference shown first, then a revision."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from crashkit import bars_of
from loadkit import KILLED, OPEN, Trade, load, load_settings
from loadkit import write as csv
from marketpipe.errors import UsageError
from marketpipe.lake import Lake
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.rebuild import Origin, plan
from rebuildkit import DAY, FIRST_DAY, NOW, job, killed, rebuild, streamed, tamper

ORIGINS = pytest.mark.parametrize("origin", ["raw", "canonical"])


def history(data: Path) -> list[tuple[object, ...]]:
    """Return revision, cause, high, recorded and known times of AAPL's first minute."""
    found = Lake(DataFolder(data).lake.root).bars("AAPL", "1m", OPEN, OPEN + 1, history=True)
    names = ("revision", "cause", "high", "recorded_at", "known_at")
    return [tuple(row[n] for n in names) for row in found.sort("revision").iter_rows(named=True)]


def in_store(data: Path) -> int:
    """Return how many rows of bars the store has."""
    with sqlite3.connect(data / "marketpipe.db") as database:
        (count,) = database.execute("SELECT count(*) FROM bars").fetchone()
    database.close()
    return int(count)


@ORIGINS
def test_rebuild_of_good_data_finds_no_difference(tmp_path: Path, origin: Origin) -> None:
    data = streamed(tmp_path)
    before = bars_of(data)
    found, written = rebuild(job(data, origin))
    assert not found
    # two symbols: two minutes and the 5m that the next day's clock closed
    assert (found.equal, written) == (6, 0)
    assert bars_of(data).equals(before)


@ORIGINS
def test_rebuild_shows_a_difference_and_writes_it_as_one_revision(
    tmp_path: Path, origin: Origin
) -> None:
    data = streamed(tmp_path)
    right = history(data)[0][2]
    tamper(data)
    found = plan(job(data, origin))
    assert (found.changed, found.absent, found.gone, found.equal) == (1, 0, 0, 5)
    (difference,) = found.differences
    assert difference[:4] == ("AAPL", "1m", OPEN, "high")
    assert (difference.kept, difference.fresh) == ("999.000000000", str(right))
    assert len(history(data)) == 2  # nothing was written by looking
    _, written = rebuild(job(data, origin))
    assert written == 1
    assert history(data)[2] == (2, "rebuild", right, NOW, NOW)
    assert in_store(data) == len(bars_of(data))
    assert rebuild(job(data, origin))[1] == 0
    # what was wrong is still what was known before
    was = Lake(DataFolder(data).lake.root).bars("AAPL", "1m", OPEN, OPEN + 1, as_of=NOW - 1)
    assert was["high"][0] == 999


@pytest.mark.parametrize("boundary", ["journal:after", "store:after", "bars:after"])
def test_rebuild_killed_at_a_write_is_finished_by_the_next(tmp_path: Path, boundary: str) -> None:
    data = streamed(tmp_path)
    tamper(data)
    assert killed(data, boundary) == KILLED
    rebuild(job(data), now_ns=NOW + 1)
    assert [row[:2] for row in history(data)] == [(0, "first"), (1, "late"), (2, "rebuild")]
    # what had reached the store stays as it was, else it is written now
    assert history(data)[2][3] == (NOW + 1 if boundary == "journal:after" else NOW)
    assert in_store(data) == len(bars_of(data))
    tamper(data, "BTC/USD")
    # nothing is left to finish, so another rebuild may follow
    assert rebuild(job(data), now_ns=NOW + 2)[1] == 1


@pytest.mark.parametrize("boundary", ["journal:after", "store:after", "bars:after"])
def test_rebuild_that_broke_off_hinders_no_other(tmp_path: Path, boundary: str) -> None:
    data = streamed(tmp_path)
    tamper(data)
    assert killed(data, boundary) == KILLED
    tamper(data, "BTC/USD")
    rebuild(replace(job(data), symbols=frozenset({"BTC/USD"})), now_ns=NOW + 1)
    rebuild(job(data), now_ns=NOW + 2)
    assert not plan(job(data))
    assert [row[:2] for row in history(data)] == [(0, "first"), (1, "late"), (2, "rebuild")]
    assert in_store(data) == len(bars_of(data))
    # and a load of the same session goes on from there
    extra = csv(tmp_path / "x.csv", [Trade(30.5, "555", number=7)])
    load(data, extra, settings=load_settings("1m,5m"))
    assert in_store(data) == len(bars_of(data))


def test_rebuild_of_a_session_that_is_live_is_refused(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    tamper(data, ts_open=OPEN + DAY)
    today = replace(job(data), days=Days(FIRST_DAY, FIRST_DAY + 1))
    assert plan(today).changed == 1
    with pytest.raises(UsageError, match="still live in journal mock-file"):
        rebuild(today)
    tamper(data)
    # nothing was begun, so another rebuild may follow
    assert rebuild(job(data))[1] == 1


def test_rebuild_from_raw_leaves_loaded_sessions_to_canonical(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    extra = csv(tmp_path / "x.csv", [Trade(30.5, "555", number=7)])
    assert load(data, extra, settings=load_settings("1m,5m")).revisions == 2
    raw, canonical = plan(job(data)), plan(job(data, "canonical"))
    assert not raw
    assert not canonical
    assert (raw.equal, raw.left_out, canonical.equal) == (3, 3, 6)


def test_rebuild_only_named_symbols(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    tamper(data)
    assert not plan(job(data, symbols=frozenset({"BTC/USD"})))
    assert plan(job(data, symbols=frozenset({"AAPL"}))).changed == 1
