"""Which series a read is about, and what there is."""

from pathlib import Path
from typing import Any

import pytest

from lakerows import T0, Lakeside, S
from marketpipe.errors import SeriesError, UsageError
from marketpipe.lake.reading import Lake


def two_feeds(folder: Path) -> None:
    side = Lakeside(folder)
    side.put("trades", {"feed": "iex"}, {"feed": "sip"}, {"feed": "sip", "key_minor": 1})
    side.put("trades", {"symbol": "MSFT", "feed": "iex"})


def test_two_feeds_without_priority_are_an_error_that_lists_them(tmp_path: Path) -> None:
    two_feeds(tmp_path)
    with pytest.raises(SeriesError) as caught:
        Lake(tmp_path).trades("AAPL")
    assert str(caught.value) == (
        "AAPL: more than one series fits: alpaca/iex; alpaca/sip; name one with feed=, "
        "or set series.priority"
    )


def test_named_feed_is_read_alone(tmp_path: Path) -> None:
    two_feeds(tmp_path)
    found = Lake(tmp_path).trades("AAPL", feed="sip")
    assert found["feed"].to_list() == ["sip", "sip"]


@pytest.mark.parametrize(
    ("priority", "feeds"),
    [
        (["alpaca/sip", "alpaca/iex"], ["sip", "sip", "iex"]),
        (["alpaca/iex", "alpaca/sip"], ["iex", "iex"]),
        (["finnhub/us", "alpaca/sip"], ["sip", "sip", "iex"]),
    ],
)
def test_priority_decides_for_each_symbol(
    tmp_path: Path, priority: list[str], feeds: list[str]
) -> None:
    two_feeds(tmp_path)
    found = Lake(tmp_path, priority=priority).trades(["AAPL", "MSFT"])
    assert found["feed"].to_list() == feeds


def test_priority_chooses_among_what_was_known(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path, priority=["alpaca/sip"])
    side.put("trades", {"feed": "iex", "known_at": T0}, {"feed": "sip", "known_at": T0 + S})
    assert lake.trades("AAPL", as_of=T0)["feed"].to_list() == ["iex"]
    assert lake.trades("AAPL", as_of=T0 + S)["feed"].to_list() == ["sip"]


def test_bars_of_several_rule_sets_are_told_apart(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path, priority=["alpaca/sip"])
    for rules in ("plain", "alpaca-v1"):
        for session in ("regular", "extended"):
            side.put("bars", {"rule_set": rules, "session": session})
    with pytest.raises(SeriesError, match=r"name one with rules=, session=$") as caught:
        lake.bars("AAPL", "1m")
    assert "alpaca/sip trade alpaca-v1 extended; alpaca/sip trade alpaca-v1 regular" in str(
        caught.value
    )
    with pytest.raises(SeriesError, match=r"name one with session=$"):
        lake.bars("AAPL", "1m", rules="plain")
    found = lake.bars("AAPL", "1m", rules="plain", session="extended")
    assert found.select("rule_set", "session").rows() == [("plain", "extended")]


@pytest.mark.parametrize("price", ["bid", "ask", "mid"])
def test_bars_of_a_price_are_read_by_its_name(tmp_path: Path, price: str) -> None:
    Lakeside(tmp_path).put("bars", *({"price_type": p} for p in ("bid", "ask", "mid")))
    assert Lake(tmp_path).bars("AAPL", "1m", price=price)["price_type"].to_list() == [price]
    with pytest.raises(UsageError, match="price: was 'last'"):
        Lake(tmp_path).bars("AAPL", "1m", price="last")


@pytest.mark.parametrize("named", [{"feed": "sipp"}, {"source": "finnhub"}, {"feed": "x' OR '1"}])
def test_series_that_does_not_exist_is_no_empty_answer(tmp_path: Path, named: Any) -> None:
    two_feeds(tmp_path)
    with pytest.raises(SeriesError, match="does not exist; valid are alpaca/iex; alpaca/sip"):
        Lake(tmp_path).trades("AAPL", **named)


def test_series_that_exists_without_the_symbol_is_an_empty_answer(tmp_path: Path) -> None:
    two_feeds(tmp_path)
    assert Lake(tmp_path).trades("MSFT", feed="sip").is_empty()
    assert Lake(tmp_path).trades("TSLA").is_empty()
    assert Lake(tmp_path).quotes("AAPL", feed="sip").is_empty()


def test_series_lists_what_there_is(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    two_feeds(tmp_path)
    side.put("bars", {"ts_open": T0}, {"ts_open": T0 + 60 * S}, {"ts_open": T0, "revision": 1})
    side.put("vendor_bars", {"timeframe": "1d", "kind": "daily"})
    found = lake.series()
    assert found.columns == [
        "table", "source", "feed", "symbol", "price_type", "rule_set", "session", "timeframe",
        "rows", "first", "last",
    ]  # fmt: skip
    assert found.rows() == [
        ("bars", "alpaca", "sip", "AAPL", "trade", "plain", "regular", "1m", 3, T0, T0 + 60 * S),
        ("trades", "alpaca", "iex", "AAPL", None, None, None, None, 1, T0, T0),
        ("trades", "alpaca", "sip", "AAPL", None, None, None, None, 2, T0, T0),
        ("trades", "alpaca", "iex", "MSFT", None, None, None, None, 1, T0, T0),
        ("vendor_bars", "alpaca", "sip", "AAPL", None, None, None, "1d", 1, T0, T0),
    ]
    assert lake.series("MSFT")["symbol"].to_list() == ["MSFT"]
    assert lake.series(["TSLA"]).is_empty()
