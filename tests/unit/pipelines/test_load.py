"""Loading files: nothing twice, nothing overwritten, and everything known when it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loadkit import DAY, MINUTE, NOW, OPEN, Trade, bars, day, load, load_settings, trades, write
from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.lake import Lake, LakeTable
from marketpipe.pipelines.datafolder import DataFolder

LATER = NOW + DAY


def told(folder: Path, timeframe: str = "1m", **ask: Any) -> list[tuple[object, ...]]:
    """Return revision, cause, high and known_at of AAPL's first bar."""
    found = bars(folder, timeframe=timeframe, history=True, **ask).sort("ts_open", "revision")
    first = found.filter(pl.col("ts_open") == found["ts_open"].min())
    return [
        (row["revision"], row["cause"], f"{row['high'].normalize():f}", row["known_at"])
        for row in first.iter_rows(named=True)
    ]


def test_load_same_file_again_adds_nothing_whatever_it_is_called(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    first = load(tmp_path / "d", path)
    assert (first.already, first.rows, first.new, first.known) == (False, 120, 120, 0)
    before = bars(tmp_path / "d", history=True)
    again = load(tmp_path / "d", path.rename(tmp_path / "u.csv"), now_ns=LATER)
    assert (again.already, again.new, again.bars, again.revisions) == (True, 0, 0, 0)
    assert bars(tmp_path / "d", history=True).equals(before)


def test_load_same_day_in_another_order_adds_no_row(tmp_path: Path) -> None:
    day_of = day(180)
    load(tmp_path / "d", write(tmp_path / "t.csv", day_of))
    kept = bars(tmp_path / "d", history=True), trades(tmp_path / "d")
    report = load(tmp_path / "d", write(tmp_path / "u.csv", day_of[::-1]), now_ns=LATER)
    assert (report.new, report.restated, report.known) == (0, 0, 360)
    assert (report.bars, report.revisions) == (0, 0)
    assert bars(tmp_path / "d", history=True).equals(kept[0])
    assert trades(tmp_path / "d").equals(kept[1])


@pytest.mark.parametrize("knowledge", ["assumed", "strict"])
def test_load_one_restated_trade_adds_one_revision_and_the_old_answer_is_there_as_of_before(
    tmp_path: Path, knowledge: str
) -> None:
    day_of = day(180)
    load(tmp_path / "d", write(tmp_path / "t.csv", day_of))
    before = bars(tmp_path / "d")
    day_of[0] = day_of[0]._replace(price="500")
    report = load(tmp_path / "d", write(tmp_path / "u.csv", day_of), now_ns=LATER)
    # one bar of each timeframe: 1m, 5m, 1d
    assert (report.new, report.restated, report.known) == (0, 1, 359)
    assert (report.bars, report.revisions) == (0, 3)
    minute, session = told(tmp_path / "d", "1m"), told(tmp_path / "d", "1d")
    # 100 + (7 k mod 23) is highest, 122, at k = 13, 36, 59, 82, …; the cents are k mod 100
    assert [row[:3] for row in minute] == [(0, "first", "122.59"), (1, "correction", "500")]
    assert [row[:3] for row in session] == [(0, "first", "122.82"), (1, "correction", "500")]
    assert (minute[0][3], minute[1][3]) == (OPEN + MINUTE + NANOS, LATER)
    ask = {"knowledge": knowledge}
    assert bars(tmp_path / "d", as_of=LATER - 1, **ask).equals(before)
    now = bars(tmp_path / "d", as_of=LATER, **ask)
    assert now["high"][0] == 500
    assert now[1:].equals(before[1:])
    # the trade keeps its time, and says what each file said
    assert trades(tmp_path / "d", as_of=LATER - 1, **ask)["price"][0] == 100
    assert trades(tmp_path / "d", as_of=LATER, **ask)["price"][0] == 500


def test_load_restated_and_restated_back_follows_the_last_file(tmp_path: Path) -> None:
    prices = ["100", "500", "100"]
    for n, price in enumerate(prices):
        rows = [Trade(0, price, number=1), Trade(61 + n, "7", number=10 + n)]
        report = load(tmp_path / "d", write(tmp_path / f"{n}.csv", rows), now_ns=NOW + n)
        assert report.restated == (n > 0)
    assert [row[2] for row in told(tmp_path / "d")] == prices


def test_load_further_trade_of_a_day_that_was_loaded_is_a_backfill_known_from_then_on(
    tmp_path: Path,
) -> None:
    load(tmp_path / "d", write(tmp_path / "t.csv", day(120)))
    extra = Trade(30.5, "999", number=77)
    report = load(tmp_path / "d", write(tmp_path / "u.csv", [*day(120), extra]), now_ns=LATER)
    assert (report.new, report.known, report.revisions) == (1, 240, 3)
    assert [row[1:] for row in told(tmp_path / "d")][1] == ("backfill", "999", LATER)
    found = trades(tmp_path / "d").filter(pl.col("trade_id") == "77")
    assert found["known_at"].to_list() == found["recorded_at"].to_list() == [LATER]
    assert str(bars(tmp_path / "d", as_of=LATER - 1)["high"][0]) == "122.590000000"


def test_load_first_of_a_series_is_known_when_the_vendor_publishes_and_strictly_only_now(
    tmp_path: Path,
) -> None:
    delay = 15 * MINUTE
    settings = load_settings(delay_ns=delay)
    load(tmp_path / "d", write(tmp_path / "t.csv", day(60)), settings=settings)
    found = trades(tmp_path / "d")
    assert (found["known_at"] - found["ts_event"]).unique().to_list() == [delay]
    assert found["recorded_at"].unique().to_list() == [NOW]
    published = OPEN + MINUTE + delay + NANOS
    assert [row[3] for row in told(tmp_path / "d")] == [published]
    assert len(bars(tmp_path / "d", as_of=published)) == 1
    assert len(bars(tmp_path / "d", as_of=published - 1)) == 0
    assert len(bars(tmp_path / "d", as_of=NOW - 1, knowledge="strict")) == 0
    assert len(bars(tmp_path / "d", as_of=NOW, knowledge="strict")) == 1


def test_load_own_time_of_receipt_is_when_a_trade_was_known(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    received = OPEN + 5 * MINUTE
    path.write_text(
        "symbol,ts_ns,price,size,trade_id,ts_recv_ns\n"
        f"AAPL,{OPEN},100,1,1,{received}\nAAPL,{OPEN + NANOS},101,1,2,{NOW + DAY}\n"
    )
    load(tmp_path / "d", path)
    found = trades(tmp_path / "d")
    # what claims to have been received after the load is not known before the vendor's delay
    assert found["known_at"].to_list() == [received, OPEN + NANOS]
    assert told(tmp_path / "d")[0][3] == received


def test_load_equal_prints_without_ids_are_two_and_no_third_comes(tmp_path: Path) -> None:
    twice = [Trade(1, "100"), Trade(1, "100"), Trade(2, "101")]
    first = load(tmp_path / "d", write(tmp_path / "t.csv", twice))
    assert first.new == 3
    again = load(tmp_path / "d", write(tmp_path / "u.csv", [twice[2], *twice[:2]]), now_ns=LATER)
    assert (again.new, again.known) == (0, 3)
    third = load(tmp_path / "d", write(tmp_path / "v.csv", [*twice, twice[0]]), now_ns=LATER + 1)
    assert (third.new, third.known) == (1, 3)
    (bar,) = bars(tmp_path / "d").iter_rows(named=True)
    assert (bar["volume"], bar["trade_count"], bar["cause"]) == (40, 4, "backfill")


def test_load_weeks_over_two_days_make_one_bar_once(tmp_path: Path) -> None:
    week = [Trade(k * 86_400, f"{100 + k}", number=k + 1) for k in range(3)]
    settings = load_settings("1d,1w")
    report = load(tmp_path / "d", write(tmp_path / "t.csv", week), settings=settings)
    assert (report.bars, report.revisions) == (4, 0)
    (bar,) = bars(tmp_path / "d", timeframe="1w").iter_rows(named=True)
    monday = OPEN // DAY * DAY
    assert (bar["ts_open"], bar["ts_close"], bar["trade_count"]) == (monday, monday + 7 * DAY, 3)
    more = write(tmp_path / "u.csv", [Trade(86_400 * 4, "999", number=9)])
    second = load(tmp_path / "d", more, settings=settings, now_ns=LATER)
    assert (second.bars, second.revisions) == (1, 1)
    history = told(tmp_path / "d", "1w")
    assert [row[:3] for row in history] == [(0, "first", "102"), (1, "backfill", "999")]


def test_load_on_an_exchange_calendar_has_its_sessions(tmp_path: Path) -> None:
    settings = load_settings("1h,1d", calendar="XNYS", session="regular")
    before, inside, after = Trade(-60, "1"), Trade(60, "100"), Trade(7 * 3600, "1000")
    load(tmp_path / "d", write(tmp_path / "t.csv", [before, inside, after]), settings=settings)
    (hour,) = bars(tmp_path / "d", timeframe="1h").iter_rows(named=True)
    (session,) = bars(tmp_path / "d", timeframe="1d").iter_rows(named=True)
    assert (hour["ts_open"], hour["ts_close"]) == (OPEN, OPEN + 60 * MINUTE)
    # 09:30 to 16:00 in New York
    assert (session["ts_open"], session["ts_close"]) == (OPEN, OPEN + 390 * MINUTE)
    assert (session["high"], session["trade_count"]) == (100, 1)
    assert len(trades(tmp_path / "d")) == 3


def test_load_bars_that_are_not_over_yet_are_left_to_a_later_load(tmp_path: Path) -> None:
    now = OPEN + 90 * NANOS
    path = write(tmp_path / "t.csv", [Trade(1, "100", number=1), Trade(70, "101", number=2)])
    report = load(tmp_path / "d", path, now_ns=now)
    assert (report.new, report.bars) == (2, 1)
    assert bars(tmp_path / "d")["ts_open"].to_list() == [OPEN]


def test_load_symbols_in_many_buckets_are_all_there(tmp_path: Path) -> None:
    symbols = [f"S{n}" for n in range(40)]
    path = write(tmp_path / "t.csv", [Trade(1, "5", number=1, symbol=s) for s in symbols])
    report = load(tmp_path / "d", path)
    assert (report.new, report.bars) == (40, 120)
    lake = Lake(DataFolder(tmp_path / "d").lake.root)
    assert len(lake.bars(symbols, "1m")) == 40
    files = LakeTable.open(DataFolder(tmp_path / "d").lake, "bars", create=False).files()
    assert len({Path(file).parent.name for file in files}) == 16


def test_load_only_named_symbols_of_a_named_source(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(10))
    report = load(tmp_path / "d", path, symbols=frozenset({"AAPL"}), source="alpaca", feed="sip")
    assert report.new == 10
    found = trades(tmp_path / "d", source="alpaca", feed="sip")
    assert found["symbol"].unique().to_list() == ["AAPL"]
    # the rest of the same file is another load
    rest = load(tmp_path / "d", path, source="alpaca", feed="sip", now_ns=LATER)
    assert (rest.already, rest.new, rest.known) == (False, 10, 10)


def test_load_refused_rows_are_quarantined_with_their_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [Trade(1, "-1"), Trade(2, "nan"), Trade(3, "5")])
    report = load(tmp_path / "d", path)
    assert (report.rows, report.new) == (3, 1)
    found = Lake(DataFolder(tmp_path / "d").lake.root).sql(
        "SELECT reason, raw FROM quarantine ORDER BY reason"
    )
    assert found["reason"].to_list() == ["bad_number", "non_positive_price"]
    assert b"nan" in found["raw"][0]


def test_load_raw_has_every_record_of_the_journal(tmp_path: Path) -> None:
    for n in range(2):
        load(tmp_path / "d", write(tmp_path / f"{n}.csv", day(5 + n)), now_ns=NOW + n)
    lake = Lake(DataFolder(tmp_path / "d").lake.root)
    (row,) = lake.sql('SELECT count(*) n, min("offset") a, max("offset") b FROM raw').rows()
    assert row[0] == row[2] + 1
    assert row[1] == 0


def test_load_after_the_journal_was_lost_goes_on_from_the_raw_lake(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(20))
    load(tmp_path / "d", path)
    journal = tmp_path / "d" / "journal" / "load"
    journal.rename(tmp_path / "aside")
    assert load(tmp_path / "d", path).already
    other = load(tmp_path / "d", write(tmp_path / "u.csv", day(21)), now_ns=LATER)
    assert (other.new, other.known) == (2, 40)


def test_load_of_quotes_or_of_no_file_is_refused(tmp_path: Path) -> None:
    quotes = tmp_path / "q.csv"
    quotes.write_text(f"symbol,ts_ns,bid,ask\nAAPL,{OPEN},1,2\n")
    with pytest.raises(UsageError, match="holds quotes; only trades"):
        load(tmp_path / "d", quotes)
    with pytest.raises(UsageError, match="is not a file"):
        load(tmp_path / "d", tmp_path / "none.csv")
    # neither left anything that a later load would have to finish
    assert load(tmp_path / "d", write(tmp_path / "t.csv", day(1))).new == 2


def test_load_other_timeframes_of_the_same_file_build_those(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", day(60))
    load(tmp_path / "d", path, settings=load_settings("1m"))
    wide = replace(load_settings("1m"), timeframes=parse_many("1m,1h"))
    report = load(tmp_path / "d", path, settings=wide, now_ns=LATER)
    assert (report.already, report.new, report.known) == (False, 0, 120)
    assert (report.bars, report.revisions) == (2, 0)
