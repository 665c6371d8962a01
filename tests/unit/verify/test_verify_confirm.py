"""Agreement of the program's bars with recomputed ones, by hand and on real data."""

import csv
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from marketpipe.errors import SeriesError
from marketpipe.verify import confirm, recompute
from marketpipe.verify.recompute import RECOMPUTED

MakeBars = Callable[..., pa.Table]
OPEN_NS = 1_767_623_400_000_000_000


def recomputed_of(bars: pa.Table) -> pa.Table:
    return bars.select(RECOMPUTED.names).cast(RECOMPUTED)


def test_confirm_equal_bars_agree(make_bars: MakeBars) -> None:
    bars = make_bars({}, {"symbol": "MSFT"}, {"timeframe": "5m"})
    found = confirm(bars, recomputed_of(bars))
    assert found.ok
    assert found.matched_count == 3
    assert found.fields[-3:] == ("trade_count", "official_open", "official_close")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ts_close", OPEN_NS + 1),
        ("vwap", None),
        ("vwap", Decimal("189.370000001")),
        ("notional", Decimal("227244.000000000000000002")),
        ("volume", Decimal("99999999999999999999999999999.999999999")),
        ("trade_count", 13),
        ("official_open", Decimal("189.37")),
        ("official_close", Decimal("189.5")),
    ],
)
def test_confirm_names_the_smallest_difference(
    make_bars: MakeBars, field: str, value: object
) -> None:
    found = confirm(make_bars({field: value}), recomputed_of(make_bars({})))
    assert not found.ok
    assert [cell.field for cell in found.differing] == [field]


def test_confirm_looks_at_latest_revisions_alone(make_bars: MakeBars) -> None:
    bars = make_bars({"close": Decimal(1)}, {"revision": 1}, {"revision": 2, "state": "forming"})
    assert confirm(bars, recomputed_of(make_bars({}))).ok


def test_confirm_tells_streams_apart_only_where_there_are_several(make_bars: MakeBars) -> None:
    iex, sip = make_bars({"feed": "iex"}), make_bars({"feed": "sip"})
    assert confirm(iex, recomputed_of(sip)).ok
    both = pa.concat_tables([iex, sip])
    assert confirm(both, recomputed_of(both)).matched_count == 2
    assert confirm(both, recomputed_of(iex)).extra_count == 1


def test_confirm_of_two_price_types_is_refused(make_bars: MakeBars) -> None:
    bars = make_bars({"price_type": "bid"}, {"price_type": "ask"})
    with pytest.raises(SeriesError, match="2 series"):
        confirm(bars, recomputed_of(make_bars({})))


def read_official(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.data
def test_recompute_gold_trades_give_the_vendors_own_minutes(market_data: Path) -> None:
    folder = market_data / "trades_gold"
    found = recompute(folder / "ticks.csv.gz", ["1m"])
    official = {
        (row[0], int(row[1]) * 1_000_000): tuple(map(Decimal, row[2:]))
        for row in read_official(folder / "official_1m.csv.gz")
    }
    names = ("open", "high", "low", "close", "volume")
    ours = {
        (b["symbol"], b["ts_open"]): tuple(b[name] for name in names)
        for b in found.bars.to_pylist()
    }
    assert found.excluded == {}
    assert len(ours) == 3037
    assert ours == official


@pytest.mark.data
@pytest.mark.parametrize(("timeframe", "count"), [("1s", 104_254), ("1m", 8_306)])
@pytest.mark.parametrize(("side", "column"), [("bid", 2), ("ask", 6)])
def test_recompute_eurusd_quotes_give_the_vendors_own_bars(
    market_data: Path, timeframe: str, count: int, side: str, column: int
) -> None:
    folder = market_data / "quotes_eurusd"
    bars = recompute(folder / "quotes.csv.gz", [timeframe], price=side).bars
    official = {
        int(row[1]) * 1_000_000: tuple(map(Decimal, row[column : column + 4]))
        for row in read_official(folder / f"official_{timeframe}.csv.gz")
    }
    prices = zip(
        *(bars[name].to_pylist() for name in ("open", "high", "low", "close")), strict=True
    )
    assert len(official) == count
    assert dict(zip(bars["ts_open"].to_pylist(), prices, strict=True)) == official


@pytest.mark.data
def test_recompute_binance_trades_give_the_expected_minutes(
    market_data: Path, tmp_path: Path
) -> None:
    folder = market_data / "binance_eth"
    lines = ["symbol,ts_ms,price,size,trade_id"]
    for name in ("ethusdt_20240808.gz", "ethusdt_20240809.gz"):
        with gzip.open(folder / name, "rt") as file:
            for line in file:
                if "@trade" in line[:60]:
                    t = json.loads(line.partition(" ")[2])["data"]
                    lines.append(f"{t['s']},{t['T']},{t['p']},{t['q']},{t['t']}")
    ticks = tmp_path / "ticks.csv"
    ticks.write_text("\n".join(lines))
    found = recompute(ticks, ["1m"])
    with (folder / "expected_1m.csv").open(newline="") as file:
        expected = [
            (int(row["minute_ms"]), *(Decimal(row[c]) for c in "ohlcvn"), Decimal(row["qv"]))
            for row in csv.DictReader(file)
        ]
    ours = [
        (
            b["ts_open"] // 1_000_000,
            *(b[name] for name in ("open", "high", "low", "close", "volume", "trade_count")),
            round(b["notional"], 6),
        )
        for b in found.bars.to_pylist()
    ]
    assert len(lines) == 14_516
    assert found.excluded == {}
    assert ours == expected
