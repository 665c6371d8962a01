"""Vendors' own fine bars rolled up, against the same vendors' coarse bars, digit for digit."""

import csv
import gzip
import json
from datetime import date
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from marketpipe.bars import roll_up
from marketpipe.domain.schemas import BARS
from marketpipe.domain.timeframe import Timeframe

MS = 1_000_000
SIDES = ("open", "high", "low", "close")
# ts_open in ms to open, high, low, close and volume
Bars = dict[int, tuple[Decimal, ...]]


def table(bars: Bars, timeframe: str, symbol: str = "BTC/USD") -> pa.Table:
    """Put a vendor's bars into our columns; bars without volume leave it null."""
    length = 86_400_000 if timeframe == "1d" else Timeframe.parse(timeframe).duration_ns // MS
    rows = [
        {
            **dict.fromkeys(BARS.names),
            "source": "vendor",
            "feed": "",
            "symbol": symbol,
            "price_type": "bid",
            "rule_set": "plain",
            "session": "continuous",
            "timeframe": timeframe,
            "session_date": date.fromordinal(719_163 + ms // 86_400_000),
            "ts_open": ms * MS,
            "ts_close": (ms + length) * MS,
            **dict(zip((*SIDES, "volume"), values, strict=False)),
            "trade_count": 0,
            "state": "settled",
            "coverage": "traded",
            "partial": False,
            "revision": 0,
            "cause": "first",
            "known_at": (ms + length) * MS,
        }
        for ms, values in bars.items()
    ]
    return pa.Table.from_pylist(rows, schema=BARS)


def content(bars: pa.Table, width: int = 5) -> Bars:
    return {
        row["ts_open"] // MS: tuple(row[name] for name in (*SIDES, "volume")[:width])
        for row in bars.to_pylist()
    }


def btcusd(path: Path) -> Bars:
    with gzip.open(path, "rt") as lines:
        return {
            int(row["ts_open_ms"]): tuple(Decimal(row[name]) for name in (*SIDES, "volume"))
            for row in csv.DictReader(lines)
        }


@pytest.mark.data
def test_btcusd_2016_seconds_rolled_up_equal_the_vendors_minutes(market_data: Path) -> None:
    """11,520 second bars of Coinbase make its 4,216 minutes, fractional volumes included."""
    folder = market_data / "bars_btcusd_2016"
    seconds, minutes = btcusd(folder / "1s.csv.gz"), btcusd(folder / "1m.csv.gz")
    assert (len(seconds), len(minutes)) == (11_520, 4_216)
    assert content(roll_up(table(seconds, "1s"), "1m")) == minutes


@pytest.mark.data
def test_btcusd_2016_minutes_rolled_up_equal_the_vendors_days(market_data: Path) -> None:
    """Three days; volumes are sums of decimals, where floats differ in the last place."""
    folder = market_data / "bars_btcusd_2016"
    minutes, seconds = btcusd(folder / "1m.csv.gz"), btcusd(folder / "1s.csv.gz")
    with (folder / "1d.csv").open() as lines:
        days = {
            (date.fromisoformat(row["date"]).toordinal() - 719_163) * 86_400_000: tuple(
                Decimal(row[name]) for name in (*SIDES, "volume")
            )
            for row in csv.DictReader(lines)
        }
    assert len(days) == 3
    assert content(roll_up(table(minutes, "1m"), "1d")) == days
    assert content(roll_up(table(seconds, "1s"), "1d")) == days
    assert content(roll_up(roll_up(table(minutes, "1m"), "1h"), "1d")) == days


def decoded(path: Path) -> Bars:
    """Decode a vendor's candle file: deltas of times and prices to running sums."""
    raw: dict[str, Any] = json.loads(path.read_text(), parse_float=Decimal)
    step = Decimal(raw["multiplier"])
    times = accumulate((n * raw["shift"] for n in raw["times"]), initial=raw["timestamp"])
    next(times)
    columns = [
        [raw[name] + step * units for units in accumulate(raw[f"{name}s"])] for name in SIDES
    ]
    return dict(zip(times, zip(*columns, map(Decimal, raw["volumes"]), strict=True), strict=True))


def published(path: Path) -> Bars:
    """Read bars as the library that the samples are from gives them, filled with flat ones."""
    rows = json.loads(path.read_text(), parse_float=Decimal)
    return {row["timestamp"]: tuple(Decimal(row[name]) for name in SIDES) for row in rows}


@pytest.mark.data
def test_dukascopy_minutes_rolled_up_equal_the_vendors_hours(market_data: Path) -> None:
    """24 of 24 hours of BTC/USD, 2023-02-19, volume included."""
    raw = market_data / "dukascopy/raw"
    minutes = decoded(raw / "candles-minute-BTC-USD-BID-2023-2-19.json")
    hours = decoded(raw / "candles-hour-BTC-USD-BID-2023-2.json")
    rolled = content(roll_up(table(minutes, "1m"), "1h"))
    assert len(rolled) == 24
    assert rolled == {ms: hours[ms] for ms in rolled}


@pytest.mark.data
def test_dukascopy_hours_rolled_up_equal_the_vendors_days(market_data: Path) -> None:
    """59 of 59 days of BTC/USD, January and February 2023, volume included."""
    raw = market_data / "dukascopy/raw"
    hours = {
        **decoded(raw / "candles-hour-BTC-USD-BID-2023-1.json"),
        **decoded(raw / "candles-hour-BTC-USD-BID-2023-2.json"),
    }
    days = decoded(raw / "candles-day-BTC-USD-BID-2023.json")
    rolled = content(roll_up(table(hours, "1h"), "1d"))
    assert len(rolled) == 59
    assert rolled == {ms: days[ms] for ms in rolled}


@pytest.mark.data
@pytest.mark.parametrize(
    ("fine", "coarse", "span", "count"),
    [
        ("m1", "m5", "2023-02-19-2023-02-20", 288),
        ("m1", "m15", "2023-02-19-2023-02-20", 96),
        ("m1", "m30", "2023-02-19-2023-02-20", 48),
        ("h1", "h4", "2023-01-01-2023-02-20", 300),
    ],
)
def test_dukascopy_published_bars_rolled_up_equal_the_coarser_ones(
    market_data: Path, fine: str, coarse: str, span: str, count: int
) -> None:
    """288 of 288 five-minute and 300 of 300 four-hour bars of BTC/USD."""
    folder = market_data / "dukascopy/expected"
    source = published(folder / f"btcusd-{fine}-bid-{span}.json")
    expected = published(folder / f"btcusd-{coarse}-bid-{span}.json")
    rolled = roll_up(table(source, fine[1:] + fine[0]), coarse[1:] + coarse[0])
    assert len(expected) == count
    assert content(rolled, 4) == expected
    assert rolled["volume"].null_count == count


@pytest.mark.data
def test_dukascopy_hours_without_trades_are_never_filled(market_data: Path) -> None:
    """January 2023 starts at 14:00: the published four-hour bars begin with three flat ones."""
    folder = market_data / "dukascopy"
    hours = decoded(folder / "raw/candles-hour-BTC-USD-BID-2023-1.json")
    ours = content(roll_up(table(hours, "1h"), "4h"), 4)
    filled = published(folder / "expected/btcusd-h4-bid-2023-01-01-2023-02-20.json")
    new_year = 1_672_531_200_000
    flat = {new_year + h * 3_600_000 for h in (0, 4, 8)}
    january = {ms for ms in filled if ms < 1_675_209_600_000}
    assert january - set(ours) == flat
    assert all(len(set(filled[ms])) == 1 for ms in flat)
    # 12:00 to 16:00 opens with the first trade at 14:00, not with the carried price
    half = new_year + 12 * 3_600_000
    assert ours[half][0] == hours[new_year + 14 * 3_600_000][0] != filled[half][0]
    assert all(ours[ms] == filled[ms] for ms in ours if ms != half)


@pytest.mark.data
def test_dukascopy_flat_minutes_rolled_up_add_no_volume(market_data: Path) -> None:
    """A vendor's filler bars stay what they are: its flat minutes carry volume 0."""
    path = market_data / "dukascopy/aggregator_samples/sample_m1_data_flats.json"
    rows = json.loads(path.read_text(), parse_float=Decimal)
    minutes = {row[0]: tuple(Decimal(v) for v in row[1:]) for row in rows}
    traded = {ms: values for ms, values in minutes.items() if values[4]}
    assert len(traded) < len(minutes)
    with_flats = content(roll_up(table(minutes, "1m"), "1h"))
    without = content(roll_up(table(traded, "1m"), "1h"))
    assert set(without) < set(with_flats)
    assert all(without[ms][4] == with_flats[ms][4] for ms in without)
