"""A data folder that only files were loaded into: verified and rebuilt without any feed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from deltalake import DeltaTable

import marketpipe as mp
from e2e.conftest import Command, Done
from loadkit import DAY, OPEN, Trade, day, write

DAYS = ("--start", "2026-01-05", "--end", "2026-01-07")
KIND = ("--timeframes", "1m,1h", "--calendar", "XNYS", "--source", "vendor", "--feed", "sip")
STORED = ("replay", "--store", *KIND)


@pytest.fixture
def loaded(marketpipe: Command, tmp_path: Path) -> Command:
    """Two minutes of a day, and a second file that fills in and goes on the day after."""
    first = write(tmp_path / "a.csv", day(120))
    more = [
        Trade(50.5, "99", number=9),
        Trade(86_400, "90", number=1),
        Trade(0, "100.00", "1", 1000),
    ]
    second = write(tmp_path / "b.csv", more)
    for path in (first, second):
        done = marketpipe(*STORED, "--csv", path)
        assert done.code == 0, done.err
    return marketpipe


def roots(done: Done) -> dict[str, str]:
    """Return the root of each side."""
    rows = [line.split() for line in done.out.splitlines() if " bars  root " in line]
    return {row[0]: row[-1] for row in rows}


def histories(done: Done) -> list[str]:
    return [line.split()[-1] for line in done.out.splitlines() if "history root" in line]


def test_verify_of_loads_alone_agrees_on_all_sides(loaded: Command) -> None:
    done = loaded("verify")
    assert done.code == 0, done.out
    assert done.line("journal") == "load: 1m,1h of XNYS, rules plain"
    assert list(roots(done)) == ["lake", "store", "trades", "replay", "batch"]
    assert len(set(roots(done).values())) == 1
    assert len(histories(done)) == 3
    assert len(set(histories(done))) == 1
    assert done.line("lake").startswith("8 bars")  # of two symbols 2 minutes and 1 hour, and 2 more
    one = loaded("verify", "--symbols", "AAPL", "--date", "2026-01-06")
    assert one.line("batch").startswith("2 bars")
    assert loaded("verify", "--symbols", "APL").code == 2
    assert loaded("verify", "--journal", "load").out == done.out


@pytest.mark.parametrize(
    ("statement", "side"),
    [
        ("UPDATE bars SET volume = '7' WHERE seq = 1", "store"),
        ("DELETE FROM bars WHERE seq = 1", "store"),
    ],
)
def test_verify_of_loads_names_what_differs(loaded: Command, statement: str, side: str) -> None:
    with closing(sqlite3.connect("data/marketpipe.db")) as database, database:
        database.execute(statement)
    done = loaded("verify")
    assert done.code == 1
    found = roots(done)
    assert [name for name, root in found.items() if root != found["lake"]] == [side]


@pytest.mark.parametrize("origin", ["raw", "canonical"])
def test_rebuild_of_loads_alone_agrees_and_mends(loaded: Command, origin: str) -> None:
    words = ("rebuild", "--from", origin, *DAYS)
    assert loaded(*words).line("bars") == "8 agree, 0 changed, 0 not kept, 0 without a trade"
    before = loaded("verify")
    for path in Path("data/lake/bars").glob("session_date=2026-01-06/*/*.parquet"):
        path.unlink()
    table = DeltaTable("data/lake/bars")
    table.repair()
    with closing(sqlite3.connect("data/marketpipe.db")) as database, database:
        database.execute("DELETE FROM bars WHERE ts_open >= ?", (OPEN + DAY,))
    assert loaded("verify").code == 1
    done = loaded(*words)
    assert (done.code, done.line("bars")) == (
        1, "6 agree, 0 changed, 2 not kept, 0 without a trade",
    )  # fmt: skip
    assert loaded(*words, "--write").line("written").startswith("2 revisions")
    assert loaded(*words).code == 0
    after = loaded("verify")
    assert after.code == 0, after.out
    assert roots(after) == roots(before)


def test_rebuild_of_loads_whose_trades_are_lost_voids_no_bar(loaded: Command) -> None:
    DeltaTable("data/lake/canonical/trades").delete("symbol = 'AAPL'")
    kept = mp.open("data").bars("AAPL", "1m")
    done = loaded("rebuild", "--from", "canonical", *DAYS, "--write")
    assert done.code == 3
    assert "lacks the trades of 5 bars that loads made" in done.err
    assert "into a new data folder" in done.err
    assert mp.open("data").bars("AAPL", "1m").equals(kept)
    assert loaded("rebuild", "--from", "raw", *DAYS).code == 0
    done = loaded("verify")
    assert done.code == 1
    assert [name for name, root in roots(done).items() if root != roots(done)["lake"]] == ["trades"]


def test_verify_of_loads_whose_trades_were_dropped_says_so(loaded: Command) -> None:
    loaded("lake", "drop", "trades", "--before", "2026-01-06")
    done = loaded("verify")
    assert done.code == 0, done.out
    assert list(roots(done)) == ["lake", "store", "replay", "batch"]
    assert "days before 2026-01-06 were dropped of it" in done.line("trades")
    done = loaded("rebuild", "--from", "canonical", *DAYS)
    assert done.code == 2
    assert "rebuild --from raw, which reads the lines in the journal load" in done.err
    assert loaded("rebuild", "--from", "raw", *DAYS).code == 0


@pytest.mark.parametrize(
    ("trades", "named"),
    [
        ([Trade(0, "555", number=1000)], "a later file restated a trade"),
        ([Trade(0, "555")], "several files hold trades without ids"),
    ],
)
def test_verify_of_loads_says_why_there_is_no_batch(
    loaded: Command, tmp_path: Path, trades: list[Trade], named: str
) -> None:
    assert loaded(*STORED, "--csv", write(tmp_path / "c.csv", trades)).code == 0
    done = loaded("verify")
    assert done.code == 0, done.out
    assert "batch" not in roots(done)
    assert named in done.line("batch")
    assert len(set(roots(done).values())) == 1


def test_loads_of_several_kinds_and_feeds_are_compared_apart(
    loaded: Command, tmp_path: Path
) -> None:
    other = write(tmp_path / "c.csv", [Trade(5 * 86_400 + k, "7", number=k) for k in range(1, 90)])
    assert loaded("replay", "--store", "--timeframes", "5m", "--csv", other).code == 0
    feed = write(
        tmp_path / "f.csv", [Trade(k, "5", number=k, symbol="MSFT") for k in range(1, 130)]
    )
    streamed = loaded("stream", "--mode", "mock", "--csv", feed, "--timeframes", "1m")
    assert streamed.code == 0, streamed.err
    done = loaded("verify")
    assert done.code == 0, done.out
    heads = [line for line in done.out.splitlines() if line.startswith("journal ")]
    assert [head.split(maxsplit=1)[1] for head in heads] == [
        "mock-file",
        "load: 1m,1h of XNYS, rules plain",
        "load: 5m of 24/7, rules plain",
    ]
    for origin in ("raw", "canonical"):
        words = ("rebuild", "--from", origin, "--start", "2026-01-05", "--end", "2026-02-01")
        assert loaded(*words).code == (0 if origin == "raw" else 1)
        assert loaded(*words, "--write").code == 0
        assert loaded(*words).code == 0
    assert loaded("verify").code == 0


def test_loads_into_a_feeds_stream_are_not_taken_for_loads_alone_once_trades_are_dropped(
    marketpipe: Command, tmp_path: Path
) -> None:
    for name, first in (("1.csv", 0), ("2.csv", 86_400)):
        feed = write(tmp_path / name, [Trade(first + k, "5", number=k) for k in range(1, 130)])
        done = marketpipe("stream", "--mode", "mock", "--csv", feed, "--timeframes", "1m")
        assert done.code == 0, done.err
    gap = write(tmp_path / "g.csv", [Trade(7.5, "6", number=900)])
    assert marketpipe("replay", "--store", "--timeframes", "1m", "--csv", gap).code == 0
    before = marketpipe("verify")
    assert marketpipe("lake", "drop", "trades", "--before", "2026-02-01").code == 0
    after = marketpipe("verify")
    assert (after.code, after.out) == (0, before.out)
    assert "journal    load" not in after.out
    done = marketpipe("verify", "--journal", "load")
    assert done.code == 2
    assert "its streams are those of feeds" in done.err


@pytest.mark.parametrize("words", [("verify",), ("rebuild", *DAYS)])
def test_folder_with_nothing_says_what_makes_something(
    marketpipe: Command, words: tuple[str, ...]
) -> None:
    done = marketpipe(*words)
    assert done.code == 2
    assert "holds no feed and no loaded file" in done.err


def test_loads_with_corrections_of_the_calendar_say_why_they_cannot_be_checked(
    marketpipe: Command, tmp_path: Path
) -> None:
    (tmp_path / "o.toml").write_text('[[XNYS]]\ndate = 2026-01-05\nclose = "13:00"\n')
    path = write(tmp_path / "a.csv", [Trade(k, "5", number=k) for k in range(1, 70)])
    assert marketpipe(*STORED, "--csv", path, "--overrides", "o.toml").code == 0
    for words in (("verify",), ("rebuild", *DAYS)):
        done = marketpipe(*words)
        assert done.code == 2
        assert "a.csv was loaded with --overrides, a file that is not kept" in done.err
    # beside a feed they are in nobody's way
    other = [Trade(k, "5", number=k, symbol="MSFT") for k in range(1, 130)]
    feed = write(tmp_path / "f.csv", other)
    assert marketpipe("stream", "--mode", "mock", "--csv", feed, "--timeframes", "1m").code == 0
    done = marketpipe("verify")
    assert done.code == 0
    assert "not compared: journal load: a.csv was loaded with --overrides" in done.out
    done = marketpipe("rebuild", *DAYS)
    assert done.code == 0
    assert "bars of loads are left out: journal load: a.csv was loaded" in done.err
