"""`marketpipe replay --store`: a file loaded into the data folder, beside what live captured."""

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import marketpipe as mp
from e2e.conftest import Command
from feedkit import OPEN, ticks
from livekit import Message, cancel, correction, encode, trade
from marketpipe.domain.units import NANOS

DAY = 86_400 * NANOS
MINUTES = ("--timeframes", "1m,5m")


def frames(path: Path, found: list[tuple[int, Message]]) -> Path:
    """Write messages as a recording, one a frame, received 10 ms after they happened."""
    path.write_text("".join(f"{at + 10_000_000} [{encode(m)}]\n" for at, m in found))
    return path


def captured(path: Path, missing: range) -> tuple[Path, list[Message]]:
    """Write two days of a feed without some of the first day's trades; return these as well."""
    whole = [(OPEN + k * NANOS, trade(k + 1, OPEN + k * NANOS, f"{100 + k}")) for k in range(240)]
    next_day = [(OPEN + DAY, trade(1, OPEN + DAY, "90"))]
    kept = [pair for k, pair in enumerate(whole) if k not in missing]
    return frames(path, [*kept, *next_day]), [whole[k][1] for k in missing]


def as_csv(path: Path, messages: list[Message]) -> Path:
    """Write trade messages as the CSV that a vendor's history would be."""
    head = "symbol,timestamp,price,size,venue,trade_id,conditions,tape\n"
    path.write_text(
        head
        + "".join(
            f"{m['S']},{m['t']},{m['p']},{m['s']},{m['x']},{m['i']},{' '.join(m['c'])},{m['z']}\n"
            for m in messages
        )
    )
    return path


def test_load_of_a_live_gap_changes_nothing_that_was_known_before(
    marketpipe: Command, tmp_path: Path
) -> None:
    feed, missing = captured(tmp_path / "f.txt", range(70, 90))
    streamed = marketpipe("stream", "--mode", "mock", "--frames", feed, "--feed", "sip", *MINUTES)
    assert streamed.code == 0, streamed.err
    live = mp.open("data").bars("AAPL", "1m", history=True)
    gap = as_csv(tmp_path / "gap.csv", missing)
    source = ("--source", "alpaca", "--feed", "sip")
    done = marketpipe("replay", "--csv", gap, "--store", *source, *MINUTES)
    assert done.code == 0, done.err
    assert done.line("stored").startswith("20 new trades, 0 restated, 0 known before; 0 bars, 2 ")
    lake = mp.open("data")
    now = lake.bars("AAPL", "1m", history=True)
    assert now.filter(pl.col("cause") != "backfill").equals(live)
    (filled,) = now.filter(pl.col("cause") == "backfill").iter_rows(named=True)
    # the second minute again has all of its 60 trades
    assert (filled["ts_open"], filled["trade_count"]) == (OPEN + 60 * NANOS, 60)
    assert filled["known_at"] == filled["recorded_at"] > OPEN + DAY
    for at in range(OPEN, OPEN + 2 * DAY, DAY // 7):
        for knowledge in ("assumed", "strict"):
            then = lake.bars("AAPL", "1m", as_of=at, knowledge=knowledge)
            seen = live.filter(pl.col("known_at") <= at)
            assert then.equals(seen), at
    # the proof of the journal says what it cannot know
    proof = marketpipe("verify")
    assert proof.code == 0, proof.out
    assert "left out   5 bars" in proof.out


def test_load_of_what_came_before_a_vendors_correction_or_cancel_does_not_undo_it(
    marketpipe: Command, tmp_path: Path
) -> None:
    one, two, three = (trade(n, OPEN + n * NANOS, f"10{n}") for n in (1, 2, 3))
    fixes = [
        (OPEN + 4 * NANOS, cancel(one, OPEN + 4 * NANOS)),
        (OPEN + 5 * NANOS, correction(two, OPEN + 5 * NANOS, new_id=22, price="150")),
    ]
    first = [(OPEN + n * NANOS, m) for n, m in enumerate((one, two, three), 1)]
    later = (OPEN + DAY, trade(1, OPEN + DAY, "90"))
    feed = frames(tmp_path / "f.txt", [*first, *fixes, later])
    marketpipe("stream", "--mode", "mock", "--frames", feed, "--feed", "sip", *MINUTES)
    before = mp.open("data").bars("AAPL", "1m", history=True)
    source = ("--source", "alpaca", "--feed", "sip")
    originals = as_csv(tmp_path / "o.csv", [one, two, three])
    done = marketpipe("replay", "--csv", originals, "--store", *source, *MINUTES)
    assert done.line("stored") == (
        "0 new trades, 0 restated, 3 known before; 0 bars, 0 revisions of bars kept before"
    )
    # neither does a file that has the correction in it
    mended = as_csv(tmp_path / "m.csv", [{**two, "p": 150}, three])
    done = marketpipe("replay", "--csv", mended, "--store", *source, *MINUTES)
    assert done.line("stored").startswith("0 new trades, 0 restated, 2 known before")
    assert mp.open("data").bars("AAPL", "1m", history=True).equals(before)
    assert before["open"].to_list() == [150]


def test_load_owns_its_session_and_a_late_trade_of_the_feed_waits_for_a_rebuild(
    marketpipe: Command, tmp_path: Path
) -> None:
    head = "symbol,ts_ns,price,size,trade_id,ts_recv_ns\n"

    def stream(name: str, *rows: tuple[int, str, int, int]) -> None:
        lines = (
            f"AAPL,{ts},{price},1,{number},{received}\n" for ts, price, number, received in rows
        )
        (tmp_path / name).write_text(head + "".join(lines))
        done = marketpipe("stream", "--mode", "mock", "--csv", name, "--timeframes", "1m")
        assert done.code == 0, done.err

    stream("1.csv", (OPEN, "100", 1, OPEN), (OPEN + DAY, "90", 2, OPEN + DAY))
    gap = tmp_path / "gap.csv"
    gap.write_text(f"symbol,ts_ns,price,size,trade_id\nAAPL,{OPEN + 5},200,1,3\n")
    assert marketpipe("replay", "--csv", gap, "--store", "--timeframes", "1m").code == 0
    day_3 = OPEN + 2 * DAY
    stream("2.csv", (OPEN + 9, "300", 4, day_3), (day_3 + 1, "80", 5, day_3 + 1))
    first = mp.open("data").bars("AAPL", "1m", OPEN, OPEN + 1, history=True)
    assert first["cause"].to_list() == ["first", "backfill"]
    assert len(mp.open("data").trades("AAPL", OPEN, OPEN + 60 * NANOS)) == 3
    words = ("rebuild", "--from", "canonical", "--start", "2026-01-05", "--end", "2026-01-06")
    assert marketpipe(*words).code == 1
    assert marketpipe(*words, "--write").line("written").startswith("1 revisions")
    last = mp.open("data").bars("AAPL", "1m", OPEN, OPEN + 1)
    assert (last["high"].to_list(), last["cause"].to_list()) == ([300], ["rebuild"])
    # a new checkpoint-less life of the feed comes to the same
    stream("3.csv", (day_3 + DAY, "70", 6, day_3 + DAY))
    assert marketpipe("verify").code == 0


def test_load_of_a_session_that_is_live_is_refused(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 120)
    marketpipe("stream", "--mode", "mock", "--csv", path, *MINUTES)
    done = marketpipe("replay", "--csv", path, "--store", *MINUTES)
    assert done.code == 2
    assert "still live in journal mock-file" in done.err
    # it left nothing to finish: another symbol's file can be loaded
    other = tmp_path / "u.csv"
    other.write_text(f"symbol,ts_ns,price,size\nMSFT,{OPEN},5,1\n")
    assert marketpipe("replay", "--csv", other, "--store", *MINUTES).code == 0


def test_load_twice_says_so_and_two_files_of_a_day_are_one(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 120)
    first = marketpipe("replay", "--csv", path, "--store", *MINUTES)
    assert first.line("stored").startswith("240 new trades, 0 restated, 0 known before; 6 bars")
    again = marketpipe("replay", "--csv", path, "--store", *MINUTES)
    assert "loaded before" in again.line("stored")
    head, *rows = path.read_text().splitlines(keepends=True)
    mixed = tmp_path / "u.csv"
    mixed.write_text(head + "".join(rows[::-1]))
    same = marketpipe("replay", "--csv", mixed, "--store", *MINUTES)
    assert same.line("stored") == (
        "0 new trades, 0 restated, 240 known before; 0 bars, 0 revisions of bars kept before"
    )
    assert same.line("root") == first.line("root")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--csv", "-"), "--store: loads the lines of a CSV file"),
        (("--parquet", "t.parquet"), "--store: loads the lines of a CSV file"),
        (("--csv", "q.csv", "--price", "mid"), "--store: loads trades so far"),
        (("--csv", "q.csv"), "use --price bid, ask or mid"),
    ],
)
def test_load_of_what_cannot_be_loaded_exits_two_and_writes_nothing(
    marketpipe: Command, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    table = {"symbol": ["A"], "ts_ns": [OPEN], "price": [1.5], "size": [1]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    (tmp_path / "q.csv").write_text(f"symbol,ts_ns,bid,ask\nA,{OPEN},1,2\n")
    done = marketpipe("replay", *words, "--store")
    assert done.code == 2
    assert named in done.err
    assert not (tmp_path / "data" / "journal").exists()


def test_replay_manifest_says_what_the_bars_follow_from(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 60)
    done = marketpipe("replay", "--csv", path, *MINUTES, "--manifest", "m.json")
    said = json.loads(Path("m.json").read_text())
    assert said["root"] == done.line("root")
    assert said["inputs"][0]["name"] == "t.csv"
    assert said["counts"]["bars.1m"] == 2
    missing = marketpipe("replay", "--csv", path, "--manifest", "no/such/m.json")
    assert missing.code == 2
    assert "manifest" in missing.err
    over = marketpipe("replay", "--csv", path, "--manifest", path)
    assert over.code == 2
    assert "is the file of --csv" in over.err


def test_replay_source_and_feed_name_rows_that_name_none(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 60)
    named = ("--source", "venue", "--feed", "tape")
    marketpipe("replay", "--csv", path, *MINUTES, *named, "--all-series", "-o", "b.csv")
    first = Path("b.csv").read_text().splitlines()[1]
    assert first.startswith("venue,tape,trade,plain,AAPL,1m,")
    assert marketpipe("replay", "--csv", path, *MINUTES, *named, "--confirm").code == 0
