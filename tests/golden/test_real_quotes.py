"""Bars of bid and ask of real quotes against their vendors' own, digit for digit."""

import csv
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import barkit
from marketpipe.bars import BarEngine
from marketpipe.domain.batches import Dictionaries, QuoteBatch, StreamKey
from marketpipe.domain.timeframe import parse_many
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.pipelines.replay import Replay, ReplaySettings
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.sources.csvfile import CsvSource

MS = 1_000_000
SIDES = ("open", "high", "low", "close")
# ts_open in ns to open, high, low and close
Prices = dict[int, tuple[Decimal, ...]]


def prices(table: pa.Table, timeframe: str) -> Prices:
    table = table.filter(pc.equal(table["timeframe"], timeframe))
    columns = [table[name].to_pylist() for name in SIDES]
    return dict(zip(table["ts_open"].to_pylist(), zip(*columns, strict=True), strict=True))


def official(path: Path, side: str) -> Prices:
    """Read a vendor's bars of one side."""
    names = [f"{side}_{name}" for name in SIDES]
    with gzip.open(path, "rt") as lines:
        return {
            int(row["ts_open_ms"]) * MS: tuple(Decimal(row[name]) for name in names)
            for row in csv.DictReader(lines)
        }


@pytest.mark.data
@pytest.mark.parametrize("side", ["bid", "ask"])
def test_eurusd_bars_replayed_equal_the_vendors(
    market_data: Path, tmp_path: Path, side: str
) -> None:
    """104,254 of 104,254 seconds and 8,306 of 8,306 minutes of each side; no empty interval."""
    with CsvSource(market_data / "quotes_eurusd/quotes.csv.gz") as source:
        run = Replay(
            source,
            ReplaySettings(
                timeframes=parse_many("1s,1m"), rule_set=RuleSet.load("plain"), price_type=side
            ),
            SessionSpool(tmp_path),
        )
        run.run()
    seconds = official(market_data / "quotes_eurusd/official_1s.csv.gz", side)
    minutes = official(market_data / "quotes_eurusd/official_1m.csv.gz", side)
    assert (run.ticks, len(seconds), len(minutes)) == (273_925, 104_254, 8_306)
    bars = run.bars()
    assert prices(bars, "1s") == seconds
    assert prices(bars, "1m") == minutes
    assert bars["volume"].null_count == bars["notional"].null_count == len(bars)


def decoded(path: Path) -> Iterator[tuple[int, int, int]]:
    """Decode a vendor's tick file: running sums of deltas; yields (ms, ask, bid) in nanos."""
    raw: dict[str, Any] = json.loads(path.read_text(), parse_float=Decimal)
    step = barkit.nanos(raw["multiplier"])
    times = accumulate(raw["times"], initial=raw["timestamp"])
    asks = accumulate((d * step for d in raw["asks"]), initial=barkit.nanos(raw["ask"]))
    bids = accumulate((d * step for d in raw["bids"]), initial=barkit.nanos(raw["bid"]))
    rows = zip(times, asks, bids, strict=True)
    next(rows)  # the head, before the first delta
    return rows


def quotes(rows: list[tuple[int, int, int]]) -> QuoteBatch:
    n = len(rows)
    return QuoteBatch(
        dictionaries=Dictionaries(streams=(StreamKey("dukascopy", "", "BTC/USD"),)),
        stream=np.zeros(n, np.int32),
        row=np.arange(1, n + 1),
        ts_event=np.array([ms * MS for ms, _, _ in rows], np.int64),
        bid=np.array([bid for _, _, bid in rows], np.int64),
        ask=np.array([ask for _, ask, _ in rows], np.int64),
    )


@pytest.mark.data
def test_dukascopy_ticks_decoded_equal_the_published_answer(market_data: Path) -> None:
    """8,523 ticks of the hour, as the library that the samples are from decodes them."""
    folder = market_data / "dukascopy"
    answer = folder / "expected/btcusd-tick-2023-02-20T12-2023-02-20T13.json"
    expected = [
        (row["timestamp"], barkit.nanos(row["askPrice"]), barkit.nanos(row["bidPrice"]))
        for row in json.loads(answer.read_text(), parse_float=Decimal)
    ]
    assert list(decoded(folder / "raw/ticks-BTC-USD-2023-2-20-12.json")) == expected
    assert len(expected) == 8_523


@pytest.mark.data
def test_dukascopy_seconds_from_ticks_equal_the_published_answer(market_data: Path) -> None:
    """2,284 of 2,284 second bars of the bid of one hour of BTC/USD."""
    folder = market_data / "dukascopy"
    batch = quotes(list(decoded(folder / "raw/ticks-BTC-USD-2023-2-20-12.json")))
    done = TickNormalizer(rule_set=RuleSet.load("plain"), price_type="bid").apply(batch)
    engine = BarEngine(["1s"], price_type="bid")
    engine.apply(done.ticks)
    engine.flush()
    answer = folder / "expected/btcusd-s1-bid-2023-02-20T12-2023-02-20T13.json"
    expected = {
        row["timestamp"] * MS: tuple(Decimal(row[name]) for name in SIDES)
        for row in json.loads(answer.read_text(), parse_float=Decimal)
    }
    assert len(expected) == 2_284
    assert prices(engine.bars(), "1s") == expected


@pytest.mark.data
def test_eurusd_mid_lies_half_way_between_bid_and_ask(market_data: Path, tmp_path: Path) -> None:
    """Where one quote alone makes the second, its mid is the mean of the vendor's two closes."""
    with CsvSource(market_data / "quotes_eurusd/quotes.csv.gz") as source:
        run = Replay(
            source,
            ReplaySettings(
                timeframes=parse_many("1s"), rule_set=RuleSet.load("plain"), price_type="mid"
            ),
            SessionSpool(tmp_path),
        )
        run.run()
    bid = official(market_data / "quotes_eurusd/official_1s.csv.gz", "bid")
    ask = official(market_data / "quotes_eurusd/official_1s.csv.gz", "ask")
    bars = run.bars()
    alone = prices(bars.filter(pc.equal(bars["trade_count"], 1)), "1s")
    assert len(alone) > 10_000
    # five decimals: the mean is always exact
    assert {ts: 2 * mid[3] for ts, mid in alone.items()} == {
        ts: bid[ts][3] + ask[ts][3] for ts in alone
    }
