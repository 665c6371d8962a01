"""What `marketpipe lake drop` took stays dropped, and is not taken for what never was."""

from pathlib import Path

import polars as pl
import pytest

import marketpipe as mp
from e2e.conftest import Command
from feedkit import OPEN, three_days, ticks
from livekit import Message, cancel, correction, encode, trade
from marketpipe.domain.units import NANOS

DAY = 86_400 * NANOS
MOCK = ("stream", "--mode", "mock", "--timeframes", "1m")
FIRST = ("--start", "2026-01-05", "--end", "2026-01-06")
SECOND = ("--start", "2026-01-06", "--end", "2026-01-07")


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """Three days."""
    for path in three_days(tmp_path):
        assert marketpipe(*MOCK, "--csv", path).code == 0
    return marketpipe


def bars() -> pl.DataFrame:
    return mp.open("data").bars(["AAPL", "BTC/USD"], "1m", history=True)


@pytest.mark.parametrize("table", ["trades", "bars"])
def test_load_of_dropped_days_is_refused_and_changes_nothing(
    streamed: Command, tmp_path: Path, table: str
) -> None:
    streamed("lake", "drop", table, "--before", "2026-01-06")
    before = bars()
    new = tmp_path / "new.csv"
    new.write_text(f"symbol,ts_ns,price,size,trade_id\nAAPL,{OPEN + 5},7,1,9\n")
    done = streamed("replay", "--csv", new, "--store", "--timeframes", "1m")
    assert done.code == 2
    assert f"table {table}: days before 2026-01-06 were dropped of it" in done.err
    assert bars().equals(before)
    # it is not in the way of a load of what is whole
    new.write_text(f"symbol,ts_ns,price,size,trade_id\nAAPL,{OPEN + DAY + 5},7,1,9\n")
    done = streamed("replay", "--csv", new, "--store", "--timeframes", "1m")
    assert done.code == 0, done.err
    assert "1 revisions" in done.line("stored")


def test_rebuild_of_dropped_trades_is_from_raw_alone(streamed: Command) -> None:
    streamed("lake", "drop", "trades", "--before", "2026-01-06")
    before = bars()
    done = streamed("rebuild", "--from", "canonical", *FIRST, "--write")
    assert done.code == 2
    assert "rebuild --from raw" in done.err
    assert streamed("rebuild", "--from", "canonical", *SECOND).code == 0
    done = streamed("rebuild", "--from", "raw", *FIRST, "--write")
    assert done.line("bars") == "4 agree, 0 changed, 0 not kept, 0 without a trade"
    assert bars().equals(before)
    assert streamed("verify").code == 0


def test_bars_that_were_dropped_stay_dropped_and_verify_leaves_them_out(
    streamed: Command, tmp_path: Path
) -> None:
    streamed("lake", "drop", "bars", "--before", "2026-01-06")
    kept = bars()
    assert len(kept) == 6  # the last minute of the third day waits for a clock
    done = streamed("verify")
    assert done.code == 0, done.out
    assert done.line("left out") == (
        "4 bars of sessions before 2026-01-06, which were dropped from the lake"
    )
    for origin in ("raw", "canonical"):
        assert streamed("rebuild", "--from", origin, *FIRST, "--write").code == 2
        assert streamed("rebuild", "--from", origin, *SECOND, "--write").code == 0
    path = ticks(tmp_path / "d.csv", 120, start_ns=OPEN + 3 * DAY)
    assert streamed(*MOCK, "--csv", path).code == 0
    assert bars()["ts_open"].min() == kept["ts_open"].min()
    assert streamed("verify").code == 0


def test_rebuild_without_the_first_days_of_raw_is_refused_and_doctor_says_why(
    streamed: Command,
) -> None:
    streamed("lake", "drop", "raw", "--before", "2026-01-06", "--also-raw")
    done = streamed("rebuild", "--from", "raw", *SECOND, "--write")
    assert done.code == 3
    assert "marketpipe doctor" in done.err
    done = streamed("doctor")
    assert done.code == 0
    assert "note     table raw: " in done.out
    assert "days before 2026-01-06 were dropped; offsets 0 to " in done.out


def test_cancel_of_a_dropped_trade_voids_no_bar(marketpipe: Command, tmp_path: Path) -> None:
    def stream(name: str, *found: tuple[int, Message]) -> None:
        lines = (f"{at} [{encode(message)}]\n" for at, message in found)
        (tmp_path / name).write_text("".join(lines))
        words = ("--frames", name, "--feed", "sip", "--timeframes", "1m")
        done = marketpipe("stream", "--mode", "mock", *words)
        assert done.code == 0, done.err

    one, two = trade(1, OPEN, "100"), trade(2, OPEN + NANOS, "101")
    fix = correction(one, OPEN + 2 * NANOS, new_id=11, price="102")
    next_day = trade(1, OPEN + DAY, "90")
    stream("1.txt", (OPEN, one), (OPEN + NANOS, two), (OPEN + 2 * NANOS, fix))
    stream("2.txt", (OPEN + DAY, next_day), (OPEN + DAY + 60 * NANOS, trade(2, OPEN + DAY, "91")))
    assert marketpipe("lake", "drop", "trades", "--before", "2026-01-06").code == 0
    before = mp.open("data").bars("AAPL", "1m", history=True)
    day_3 = OPEN + 2 * DAY
    stream(
        "3.txt",
        (day_3, cancel(one, OPEN + 3 * NANOS)),
        (day_3, cancel(two, OPEN + 3 * NANOS)),
        (day_3, trade(1, day_3, "80")),
        (day_3 + DAY, trade(1, day_3 + DAY, "70")),
    )
    now = mp.open("data").bars("AAPL", "1m", OPEN, OPEN + DAY // 2, history=True)
    assert now.equals(before.filter(pl.col("ts_open") < OPEN + DAY // 2))
    assert len(now) == 1
