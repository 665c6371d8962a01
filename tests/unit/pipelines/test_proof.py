"""Proving a journal: live, replay and SQL agree, or the first bar that differs is named."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from crashkit import bars_of
from crashkit import settings as live
from feedkit import OPEN, live_settings, recording, ticks, whole_of
from loadkit import Trade, load, load_settings, write
from marketpipe.domain.schemas import BARS
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.mockfeed import MockFeed
from marketpipe.pipelines.opening import live_pipeline, versions_of
from marketpipe.pipelines.proof import Proof, prove
from marketpipe.pipelines.service import IngestionService
from marketpipe.sources.alpaca import AlpacaParser
from rebuildkit import DAY, FIRST_DAY, add, job, rebuild, streamed, tamper


def stream(data: Path, feed: MockFeed, **changes: Any) -> None:
    """Stream a feed to its end."""
    derive: DeriveSettings = replace(live_settings().derive, journal_id=feed.journal_id, **changes)
    wanted = LiveSettings(
        derive=derive, versions=versions_of(derive), flush_ns=60 * NANOS, flushes_per_checkpoint=2
    )
    asyncio.run(IngestionService(DataFolder(data), wanted, feed).run())


def counts(proof: Proof) -> list[tuple[str, int]]:
    """Return the sides' names and bars."""
    return [(side.name, side.bars) for side in proof.sides]


def test_prove_csv_feed_agrees_on_all_sides(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 200)
    with path.open("a") as file:  # a late trade, a duplicate, a line that cannot be read
        file.write(f"AAPL,{OPEN},500,1,9\nAAPL,{OPEN},500,1,9\nAAPL,{OPEN},nan,1,10\n")
    whole_of(tmp_path / "d", path)
    proof = prove(DataFolder(tmp_path / "d"), "mock-file")
    assert proof.agrees
    assert counts(proof) == [("live", 6), ("store", 6), ("replay", 6), ("batch", 6)]
    assert len({side.root for side in proof.sides}) == 1
    assert proof.sides[0].history_root == proof.sides[1].history_root == proof.sides[2].history_root
    assert (proof.left_out, proof.no_batch) == (0, "")


def test_prove_two_files_of_one_journal_are_one_batch(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    proof = prove(DataFolder(data), "mock-file")
    assert proof.agrees
    assert [n for _, n in counts(proof)] == [8] * 4
    one = prove(DataFolder(data), "mock-file", symbols=frozenset({"AAPL"}), day=FIRST_DAY)
    assert [n for _, n in counts(one)] == [3] * 4


def test_prove_files_of_two_headers_have_no_batch_and_say_so(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    other = tmp_path / "2.csv"
    other.write_text(f"ts_ns,symbol,price,size\n{OPEN + 3 * 86_400 * NANOS},AAPL,5,1\n")
    whole_of(data, other)
    proof = prove(DataFolder(data), "mock-file")
    assert proof.agrees
    assert [name for name, _ in counts(proof)] == ["live", "store", "replay"]
    assert "2 different headers" in proof.no_batch


@pytest.mark.parametrize(
    ("rules", "calendar"), [("plain", "24/7"), ("plain", "XNYS"), ("alpaca-v1", "24/7")]
)
def test_prove_calendars_and_rules_agree(tmp_path: Path, rules: str, calendar: str) -> None:
    changes = {"rule_set": RuleSet.load(rules), "calendar": calendar}
    path = ticks(tmp_path / "t.csv", 400, start_ns=OPEN - 90 * NANOS)
    stream(tmp_path / "d", MockFeed(path=path, form="csv", source="file"), **changes)
    proof = prove(DataFolder(tmp_path / "d"), "mock-file")
    assert proof.agrees, proof.sides
    assert len(proof.sides) == 4
    assert proof.sides[0].bars > 8


@pytest.mark.parametrize("price", ["bid", "ask", "mid"])
def test_prove_quotes_of_a_csv_feed_agree(tmp_path: Path, price: str) -> None:
    path = tmp_path / "q.csv"
    rows = [f"EURUSD,{OPEN + k * NANOS},{1 + k % 7}.1,{1 + (k * 3) % 8}.2\n" for k in range(150)]
    path.write_text("symbol,ts_ns,bid,ask\n" + "".join(rows))
    stream(tmp_path / "d", MockFeed(path=path, form="csv", source="file"), price_types=(price,))
    proof = prove(DataFolder(tmp_path / "d"), "mock-file")
    assert proof.agrees, proof.sides
    assert counts(proof) == [("live", 2), ("store", 2), ("replay", 2), ("batch", 2)]


def test_prove_frames_agree_and_quotes_of_them_say_that_there_is_no_batch(tmp_path: Path) -> None:
    feed = MockFeed(path=recording(tmp_path / "f.txt"), form="frames", source="alpaca")
    stream(tmp_path / "d", feed)
    proof = prove(DataFolder(tmp_path / "d"), feed.journal_id)
    assert proof.agrees, proof.sides
    assert len(proof.sides) == 4
    stream(tmp_path / "q", feed, price_types=("mid",))
    quotes = prove(DataFolder(tmp_path / "q"), feed.journal_id)
    assert quotes.agrees
    assert "no quotes" in quotes.no_batch


def test_prove_tampered_bar_is_named_on_both_sides(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    tamper(data)
    proof = prove(DataFolder(data), "mock-file")
    assert not proof.agrees
    assert proof.sides[1].difference is None  # the same was put into the database
    for side in proof.sides[2:]:
        assert side.difference is not None
        assert side.difference.path.symbol == "AAPL"
        assert side.difference.path.timeframe == "1m"
        assert side.difference.ts_open == OPEN
    assert prove(DataFolder(data), "mock-file", symbols=frozenset({"BTC/USD"})).agrees


def test_prove_leaves_out_sessions_that_a_load_changed_and_counts_their_bars(
    tmp_path: Path,
) -> None:
    data = streamed(tmp_path)
    extra = write(tmp_path / "x.csv", [Trade(30.5, "555", number=7)])
    load(data, extra, settings=load_settings("1m,5m"))
    proof = prove(DataFolder(data), "mock-file")
    assert proof.agrees, proof.sides
    assert (proof.left_out, [n for _, n in counts(proof)]) == (3, [5] * 4)
    assert proof.sessions_left_out == 1


def test_prove_counts_sessions_that_a_rebuild_voided_as_left_out(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    shift = 3 * DAY
    bars = bars_of(data)
    (row,) = bars.filter(
        (pc.field("symbol") == "AAPL")
        & (pc.field("timeframe") == "1m")
        & (pc.field("ts_open") == OPEN)
    ).to_pylist()
    row |= {name: row[name] - shift for name in ("ts_open", "ts_close")}
    row["session_date"] -= timedelta(days=3)
    add(data, pa.Table.from_pylist([row], schema=BARS))  # of which there is no trade
    wide = replace(job(data), days=Days(FIRST_DAY - 3, FIRST_DAY))
    assert rebuild(wide)[1] == 1
    proof = prove(DataFolder(data), "mock-file")
    assert proof.agrees, proof.sides
    assert (proof.left_out, proof.sessions_left_out) == (1, 1)
    alone = prove(DataFolder(data), "mock-file", day=FIRST_DAY - 3)
    assert (alone.left_out, alone.is_empty) == (1, False)
    assert alone.dates == (date(2026, 1, 2), date(2026, 1, 6))
    assert prove(DataFolder(data), "mock-file", day=FIRST_DAY - 4).is_empty


def test_prove_what_only_the_raw_lake_has_is_read_from_there(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    before = prove(DataFolder(data), "mock-file")
    journal = data / "journal" / "mock-file"
    journal.rename(tmp_path / "aside")
    whole_of(data, tmp_path / "1.csv")  # the journal comes back from the raw lake
    assert prove(DataFolder(data), "mock-file") == before


def test_prove_journal_that_does_not_say_how_it_was_made_is_refused(tmp_path: Path) -> None:
    async def opened() -> None:
        async with live_pipeline(DataFolder(tmp_path), live(), AlpacaParser):
            pass

    asyncio.run(opened())
    with pytest.raises(UsageError, match="does not say which bars"):
        prove(DataFolder(tmp_path), "alpaca")


def test_prove_names_what_the_store_has_and_the_lake_lacks(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    extra = write(tmp_path / "x.csv", [Trade(30.5, "555", number=7)])
    load(data, extra, settings=load_settings("1m,5m"))
    assert prove(DataFolder(data), "mock-file").agrees
    with closing(sqlite3.connect(data / "marketpipe.db")) as database, database:
        database.execute("DELETE FROM bars WHERE cause = 'backfill'")
    proof = prove(DataFolder(data), "mock-file")
    assert [side.difference is None for side in proof.sides] == [True, False, True, True]
