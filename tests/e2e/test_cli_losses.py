"""What a load made of a feed's bars survives the loss of the database, and of the lake's bars."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from e2e.conftest import Command

OPEN_S = 1_767_623_400
DAY_S = 86_400
STREAM = ("stream", "--mode", "mock", "--csv", "a.csv", "--timeframes", "1m,5m")


def _trades(path: Path, rows: list[tuple[int, int, int]]) -> None:
    lines = [f"AAPL,{seconds * 10**9},{price},1,{number}" for seconds, price, number in rows]
    path.write_text("\n".join(["symbol,ts_ns,price,size,trade_id", *lines, ""]))


def _bars(folder: Path) -> list[tuple[object, ...]]:
    query = "SELECT ts_open, ts_close, high, revision, cause, known_at FROM bars ORDER BY 1, 2, 4"
    with closing(sqlite3.connect(folder / "data/marketpipe.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture
def loaded(marketpipe: Command, tmp_path: Path) -> list[tuple[object, ...]]:
    """Stream two days, load a trade that the first day lacks; return the bars of the database."""
    days = [(OPEN_S + day * DAY_S + 7 * i, 100 + i % 5, i) for day in (0, 1) for i in range(60)]
    _trades(tmp_path / "a.csv", [(s, p, n + (s - OPEN_S) // DAY_S * 1000) for s, p, n in days])
    assert marketpipe(*STREAM).code == 0
    _trades(tmp_path / "x.csv", [(OPEN_S + 10, 555, 7777)])
    stored = marketpipe("replay", "--csv", "x.csv", "--store", "--timeframes", "1m,5m")
    assert stored.line("stored").endswith("2 revisions of bars kept before")
    bars = _bars(tmp_path)
    assert [row[4] for row in bars].count("backfill") == 2
    return bars


def test_database_lost_after_a_load_comes_back_whole(
    marketpipe: Command, tmp_path: Path, loaded: list[tuple[object, ...]]
) -> None:
    for path in (tmp_path / "data").glob("marketpipe.db*"):
        path.unlink()
    assert marketpipe(*STREAM).code == 0
    assert _bars(tmp_path) == loaded
    assert marketpipe("verify").code == 0


def test_bars_of_the_lake_lost_after_a_load_come_back_whole(
    marketpipe: Command, tmp_path: Path, loaded: list[tuple[object, ...]]
) -> None:
    count = ("sql", "SELECT count(*) AS n, count(DISTINCT ts_open) AS m FROM bars")
    before = marketpipe(*count).out
    shutil.rmtree(tmp_path / "data/lake/bars")
    assert marketpipe(*STREAM).code == 0
    assert marketpipe(*count).out == before
    assert _bars(tmp_path) == loaded
    assert marketpipe("verify").code == 0


def test_verify_names_a_store_that_lacks_what_a_load_made(
    marketpipe: Command, tmp_path: Path, loaded: list[tuple[object, ...]]
) -> None:
    with closing(sqlite3.connect(tmp_path / "data/marketpipe.db")) as database, database:
        database.execute("DELETE FROM bars WHERE cause = 'backfill'")
    done = marketpipe("verify")
    assert done.code == 1
    assert "revision 1: bar was" in done.out
