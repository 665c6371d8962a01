"""Explaining a bar: every message that had a say in it, what became of it, and its bytes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from feedkit import OPEN, live_settings, ticks, whole_of
from livekit import Message, cancel, correction, encode, trade
from loadkit import Trade, load, load_settings, write
from marketpipe.domain.units import NANOS
from marketpipe.errors import SeriesError, UsageError
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.explain import Evidence, explain
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.mockfeed import MockFeed
from marketpipe.pipelines.opening import versions_of
from marketpipe.pipelines.service import IngestionService


def at(second: float) -> int:
    """Return an instant after the open."""
    return OPEN + int(second * NANOS)


def streamed(folder: Path, found: Sequence[tuple[float, Message]], rules: str = "plain") -> Path:
    """Stream messages, each in a frame of its own, received at the given seconds."""
    path = folder / "f.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{at(second)} [{encode(m)}]\n" for second, m in found) + f"{at(600)} []\n"
    )
    feed = MockFeed(path=path, form="frames", source="alpaca", feed="sip")
    derive = replace(
        live_settings("1m,1d").derive, journal_id=feed.journal_id, rule_set=RuleSet.load(rules)
    )
    wanted = LiveSettings(derive=derive, versions=versions_of(derive))
    asyncio.run(IngestionService(DataFolder(folder / "d"), wanted, feed).run())
    return folder / "d"


def by_id(found: tuple[Evidence, ...]) -> dict[tuple[str, str], Evidence]:
    """Return evidence by kind and id."""
    return {(e.kind, e.trade_id): e for e in found}


def test_explain_says_what_became_of_every_message(tmp_path: Path) -> None:
    one, two, three = (trade(n, at(n), f"10{n}") for n in (1, 2, 3))
    feed = [
        *((n, m) for n, m in ((1, one), (2, two), (3, three))),
        (4, two),  # again
        (5, {**trade(5, at(5), "1"), "p": -1}),  # no trade can have this price
        (6, cancel(one, at(6))),
        (7, correction(three, at(7), new_id=33, price="150")),
        (8, trade(8, at(70), "1")),  # of the next minute
    ]
    found = explain(DataFolder(streamed(tmp_path, feed)), "AAPL", "1m", at(30))
    (bar,) = found.revisions.to_pylist()
    assert (bar["ts_open"], bar["open"], bar["close"], bar["trade_count"]) == (OPEN, 102, 150, 2)
    told = by_id(found.evidence)
    assert {key: e.used for key, e in told.items()} == {
        ("trade", "1"): False,
        ("trade", "2"): False,  # the second of its two: they share a key
        ("trade", "3"): True,
        ("trade", "5"): False,
        ("cancel", "1"): True,
        ("correction", "3"): True,
    }
    assert told["trade", "1"].decision.startswith("gone: cancelled")
    assert told["trade", "2"].decision == "left out: a trade of its id was there before"
    assert told["trade", "3"].decision.endswith("vwap, as corrected")
    assert told["trade", "5"].decision == "left out: in quarantine, non_positive_price"
    assert told["correction", "3"].decision == "correction of trade 3: 150 × 100"
    twos = [e for e in found.evidence if e.trade_id == "2"]
    assert [(e.used, e.price) for e in twos] == [(True, "102"), (False, "102")]
    # the bytes are those that came
    assert told["trade", "3"].raw == encode(three).encode()
    assert told["cancel", "1"].raw == encode(feed[5][1]).encode()


def test_explain_rules_say_what_a_trade_may_set(tmp_path: Path) -> None:
    one, two, three = (
        {**trade(n, at(n), price), "z": "C"} for n, price in ((1, "101"), (2, "500"), (3, "102"))
    )
    two["c"] = ["@", "I"]
    feed = list(enumerate((one, two, three), 1))
    data = streamed(tmp_path, feed, "alpaca-v1")
    found = explain(DataFolder(data), "AAPL", "1m", at(1))
    told = by_id(found.evidence)
    # an odd lot adds its size and sets no price, by the table of alpaca-v1
    assert told["trade", "2"].conditions == "@ I"
    assert told["trade", "2"].decision == "sets volume"
    assert told["trade", "1"].decision == "sets open/close, high/low, volume, vwap"
    assert found.revisions["high"].to_pylist()[-1] == 102


def test_explain_lines_of_a_csv_feed_and_of_a_load(tmp_path: Path) -> None:
    whole_of(tmp_path / "live", ticks(tmp_path / "t.csv", 90))
    live = explain(DataFolder(tmp_path / "live"), "AAPL", "1m", OPEN)
    assert len(live.evidence) == 60
    assert live.evidence[0].raw == (tmp_path / "t.csv").read_bytes().splitlines()[1]
    first = [Trade(1, "100", number=1), Trade(2, "101", number=2)]
    load(tmp_path / "d", write(tmp_path / "a.csv", first))
    second = [first[0]._replace(price="150"), first[1], Trade(3, "99", number=3)]
    load(tmp_path / "d", write(tmp_path / "b.csv", second), now_ns=at(10**7))
    found = explain(DataFolder(tmp_path / "d"), "AAPL", "1m", OPEN)
    assert found.revisions["cause"].to_pylist() == ["first", "backfill"]
    told = [(e.kind, e.trade_id, e.price, e.used) for e in found.evidence]
    assert told == [
        ("trade", "1", "100", True),
        ("correction", "1", "150", True),
        ("trade", "2", "101", True),
        ("trade", "2", "101", False),
        ("trade", "3", "99", True),
    ]
    assert "as a file says that was loaded later" in found.evidence[1].decision
    assert found.evidence[1].raw.decode().endswith(",150,10,1")


def test_explain_bar_that_is_not_there_says_where_to_look(tmp_path: Path) -> None:
    load(tmp_path / "d", write(tmp_path / "t.csv", [Trade(1, "100")]))
    folder = DataFolder(tmp_path / "d")
    with pytest.raises(UsageError, match=r"no 1m bar of AAPL holds.*marketpipe sql"):
        explain(folder, "AAPL", "1m", at(120))
    with pytest.raises(UsageError, match="no 1m bar of MSFT"):
        explain(folder, "MSFT", "1m", OPEN)


def test_explain_two_series_must_be_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [Trade(1, "100", number=1)])
    for feed in ("iex", "sip"):
        load(tmp_path / "d", path, source="alpaca", feed=feed, settings=load_settings("1m"))
    folder = DataFolder(tmp_path / "d")
    with pytest.raises(SeriesError, match=r"alpaca/iex.*alpaca/sip"):
        explain(folder, "AAPL", "1m", OPEN)
    named = explain(folder, "AAPL", "1m", OPEN, feed="sip")
    assert named.revisions["feed"].to_pylist() == ["sip"]
    assert len(named.evidence) == 1
    preferred = explain(folder, "AAPL", "1m", OPEN, priority=["alpaca/iex"])
    assert preferred.revisions["feed"].to_pylist() == ["iex"]
