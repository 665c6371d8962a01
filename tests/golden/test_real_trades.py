"""Bars of real trades against the bars that their vendors published, digit for digit.

Where the data comes from and under which licence: the README of the folder that
``MARKETPIPE_TEST_DATA`` names.
"""

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import barkit
from marketpipe.bars import BarEngine
from marketpipe.domain.batches import Dictionaries, StreamKey, TradeBatch
from marketpipe.domain.timeframe import parse_many
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.pipelines.replay import MAX_BARS, Replay, ReplaySettings
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.sources.csvfile import CsvSource

MS = 1_000_000


def replayed(path: Path, folder: Path, max_bars: int = MAX_BARS) -> Replay:
    """Replay a trade file to minutes, on the grid of UTC."""
    with CsvSource(path) as source:
        run = Replay(
            source,
            ReplaySettings(
                timeframes=parse_many("1m"), rule_set=RuleSet.load("plain"), max_bars=max_bars
            ),
            SessionSpool(folder),
        )
        run.run()
    return run


def gold_minutes(market_data: Path) -> dict[tuple[str, int], tuple[int, ...]]:
    """Read the vendor's minutes: (symbol, ns) to nanos of open, high, low, close, volume."""
    with gzip.open(market_data / "trades_gold/official_1m.csv.gz", "rt") as lines:
        return {
            (row["symbol"], int(row["ts_open_ms"]) * MS): tuple(
                barkit.nanos(row[name]) for name in ("open", "high", "low", "close", "volume")
            )
            for row in csv.DictReader(lines)
        }


def ohlcv(table: pa.Table) -> dict[tuple[str, int], tuple[int | None, ...]]:
    return {
        (b.symbol, b.ts_open): (b.open, b.high, b.low, b.close, b.volume)
        for b in barkit.bars(table)
    }


@pytest.mark.data
def test_gold_minutes_replayed_equal_the_vendors(market_data: Path, tmp_path: Path) -> None:
    """3,037 of 3,037 minute bars of COMEX gold futures; size-0 prints set prices."""
    run = replayed(market_data / "trades_gold/ticks.csv.gz", tmp_path)
    expected = gold_minutes(market_data)
    assert len(expected) == 3037
    assert run.ticks == 92_496
    assert not run.findings
    assert ohlcv(run.bars()) == expected


@pytest.mark.data
def test_gold_minutes_with_sessions_put_aside_equal_the_vendors(
    market_data: Path, tmp_path: Path
) -> None:
    """The same 3,037 bars where memory is so scarce that every session leaves it at once."""
    run = replayed(market_data / "trades_gold/ticks.csv.gz", tmp_path, max_bars=1)
    assert ohlcv(run.bars()) == gold_minutes(market_data)


@pytest.mark.data
def test_gold_minutes_of_shuffled_trades_equal_the_vendors(market_data: Path) -> None:
    """The same 3,037 bars: the order key, not the arrival, decides open and close."""
    with CsvSource(market_data / "trades_gold/ticks.csv.gz") as source:
        batches = list(source.batches())
    normalizer = TickNormalizer(rule_set=RuleSet.load("plain"))
    (done,) = [normalizer.apply(batch).ticks for batch in batches]
    order = np.random.default_rng(20131007).permutation(len(done))
    shuffled = type(done)(
        streams=done.streams,
        **{
            name: getattr(done, name)[order]
            for name in (
                *("stream", "ts_event", "price", "size", "key_major", "key_mid", "key_minor"),
                *("flags", "known_at"),
            )
        },
    )
    engine = BarEngine(["1m"])
    engine.apply(shuffled)
    engine.flush()
    assert engine.counts["late"] > 80_000
    assert ohlcv(engine.bars()) == gold_minutes(market_data)


def spot_trades(market_data: Path) -> tuple[TradeBatch, list[int]]:
    """Read ``<local ns> <json>`` frames of ETH/USDT; return their trades and local stamps."""
    rows, stamps = [], []
    for day in ("08", "09"):
        with gzip.open(market_data / f"binance_eth/ethusdt_202408{day}.gz", "rb") as frames:
            for frame in frames:
                stamp, _, text = frame.partition(b" ")
                if b'"stream":"ethusdt@trade"' in text:
                    rows.append(json.loads(text)["data"])
                    stamps.append(int(stamp))
    n = len(rows)
    batch = TradeBatch(
        dictionaries=Dictionaries(streams=(StreamKey("binance", "spot", "ETH/USDT"),)),
        stream=np.zeros(n, np.int32),
        row=np.arange(1, n + 1),
        ts_event=np.array([row["T"] for row in rows], np.int64) * MS,
        price=np.array([barkit.nanos(Decimal(row["p"])) for row in rows], np.int64),
        size=np.array([barkit.nanos(Decimal(row["q"])) for row in rows], np.int64),
        id_hi=np.zeros(n, np.int64),
        id_lo=np.array([row["t"] for row in rows], np.int64),
        ts_recv=np.array(stamps, np.int64),
    )
    return batch, stamps


@pytest.mark.data
def test_eth_minutes_by_event_time_equal_the_venues_klines(market_data: Path) -> None:
    """Ten whole minutes of 14,515 ETH/USDT trades: prices, both sums, count and ids."""
    batch, stamps = spot_trades(market_data)
    assert len(batch) == 14_515
    assert batch.id_lo is not None
    assert (np.diff(batch.id_lo) == 1).all()
    assert batch.ts_event[0] > stamps[0]  # the local clock runs slow: latency is negative
    done = TickNormalizer(rule_set=RuleSet.load("plain")).apply(batch)
    assert not done.findings
    engine = BarEngine(["1m", "1h", "1d"])
    engine.apply(done.ticks)
    engine.flush()
    minutes = {b.ts_open: b for b in barkit.bars(engine.bars(), "1m")}
    with (market_data / "binance_eth/expected_1m.csv").open() as lines:
        expected = list(csv.DictReader(lines))
    assert set(minutes) == {int(row["minute_ms"]) * MS for row in expected}
    assert len(expected) == 12
    for row in expected[1:-1]:
        bar = minutes[int(row["minute_ms"]) * MS]
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == tuple(
            barkit.nanos(row[name]) for name in "ohlcv"
        )
        assert bar.notional == int(Decimal(row["qv"]).scaleb(18))
        assert bar.trade_count == int(row["n"]) == int(row["last_id"]) - int(row["first_id"]) + 1


@pytest.mark.data
def test_eth_day_bars_across_midnight_split_at_utc(market_data: Path) -> None:
    """Trades on either side of 2024-08-09T00:00Z: the kline of 00:00 starts the new day."""
    batch, _ = spot_trades(market_data)
    engine = BarEngine(["1d"])
    engine.apply(TickNormalizer(rule_set=RuleSet.load("plain")).apply(batch).ticks)
    engine.flush()
    first, second = barkit.bars(engine.bars())
    midnight = barkit.ns("2024-08-09T00:00:00Z")
    assert (first.ts_close, second.ts_open) == (midnight, midnight)
    assert barkit.text(first.close) == "2682.5"  # close of the venue's kline of 23:59
    assert barkit.text(second.open) == "2682.5"  # open of its kline of 00:00
    # trades before midnight, by the venue's ids: 1520538925 to 1520545022
    assert first.trade_count == 1520545022 - 1520538925 + 1
    assert second.trade_count == 14_515 - first.trade_count


@pytest.mark.data
def test_eth_frames_repeated_after_a_reconnect_change_nothing(market_data: Path) -> None:
    """The venue's ids tell repeats: the file read twice gives the bars of once."""
    batch, _ = spot_trades(market_data)
    normalizer = TickNormalizer(rule_set=RuleSet.load("plain"))
    once, twice = BarEngine(["1m"]), BarEngine(["1m"])
    first = normalizer.apply(batch)
    again = normalizer.apply(batch)
    assert again.findings.counts == {"duplicate": 14_515}
    once.apply(first.ticks)
    for ticks in (first.ticks, again.ticks):
        twice.apply(ticks)
    once.flush()
    twice.flush()
    assert twice.bars() == once.bars()
