"""A generated market through the pipeline: its messages give the bars that it shows itself."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest

from livekit import derive_settings, derived, numbered
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.derive import Derived
from marketpipe.simulator.generate import generate
from marketpipe.simulator.market import Event, Market
from marketpipe.simulator.rollup import Timeframe, rolled
from marketpipe.sources.framing import Encoding, join
from marketpipe.sources.records import RecordBuilder

OPEN_NS = 1_767_623_400 * NANOS  # 2026-01-05 09:30 in New York
MINUTE_NS = 60 * NANOS

_row = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class Shown(NamedTuple):
    """A bar: prices, volume and VWAP as decimals."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int
    vwap: Decimal


def records(market: Market, encoding: Encoding, per_frame: int = 10) -> pa.Table:
    """Return what a client receives of a market, with a tick of the clock at each second.

    A last one, a day later, ends the day.
    """
    builder = RecordBuilder(
        source="alpaca",
        feed="sip",
        stream="v2/sip",
        conn_id=0,
        conn_started_ns=market.start_ns,
    )
    envelope = b"" if encoding == "json" else b"m"
    frame: list[Event] = []
    clock = market.start_ns

    def send() -> None:
        if frame:
            payloads = [event.encode(encoding) for event in frame]
            builder.add_frame(join(list(payloads), envelope), frame[-1].ts_send_ns, encoding)
            frame.clear()

    for event in market.events():
        if event.ts_send_ns >= clock + NANOS:
            send()
            clock = event.ts_send_ns // NANOS * NANOS
            builder.add_clock(clock)
        frame.append(event)
        if len(frame) == per_frame:
            send()
    send()
    builder.add_clock(market.end_ns)
    builder.add_clock(market.end_ns + DAY_NS)
    return pa.Table.from_batches([builder.take()])


def built(done: Derived, timeframe: str = "1m") -> dict[tuple[str, int], Shown]:
    """Return the final bars that the pipeline made."""
    last = {
        (row["symbol"], row["ts_open"]): row
        for row in sorted(done.bars.to_pylist(), key=lambda row: row["revision"])
        if row["timeframe"] == timeframe
    }
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
    return {
        key: Shown(*(row[name] for name in names))
        for key, row in last.items()
        if row["coverage"] == "traded"
    }


def shown(market: Market) -> dict[tuple[str, int], Shown]:
    """Return the minute bars of the market's history at its end."""
    bars = {}
    for symbol in market.symbols:
        for row in market.bars(symbol, 0, market.end_ns, market.end_ns):
            bars[symbol, row.ts_event_ns] = _bar(row.json)
    return bars


def days(market: Market) -> dict[tuple[str, int], Shown]:
    """Return the last bar of the day that was sent for each symbol."""
    sent = [event for event in market.events() if event.channel == "dailyBars"]
    return {(event.symbol, event.ts_event_ns): _bar(event.encode("json")) for event in sent}


def rolled_up(market: Market, text: str) -> dict[tuple[str, int], Shown]:
    """Return the bars of a timeframe of the market's history at its end."""
    timeframe = Timeframe.read(text)
    assert timeframe is not None
    end_ns = market.end_ns
    return {
        (symbol, row.ts_event_ns): _bar(row.json)
        for symbol in market.symbols
        for row in rolled(
            market.bars, market.days, market.kind, timeframe, symbol, 0, end_ns, end_ns
        )
    }


def differing(
    ours: dict[tuple[str, int], Shown],
    theirs: dict[tuple[str, int], Shown],
    half: Decimal = Decimal("0.000000501"),
) -> dict[tuple[str, int], tuple[Shown | None, Shown | None]]:
    """Return bars that are not the same; the vendor's VWAP has six decimals."""
    found: dict[tuple[str, int], tuple[Shown | None, Shown | None]] = {}
    for key in ours.keys() | theirs.keys():
        one, other = ours.get(key), theirs.get(key)
        if one and other and abs(one.vwap - other.vwap) <= half:
            one = one._replace(vwap=other.vwap)
        if one != other:
            found[key] = one, other
    return found


def _bar(json: bytes) -> Shown:
    fields = _row(json)
    open_, high, low, close, volume, vwap = (
        Decimal(str(fields[key])) for key in ("o", "h", "l", "c", "v", "vw")
    )
    return Shown(open_, high, low, close, volume, fields["n"], vwap)


@pytest.mark.parametrize(
    ("start_ns", "encoding", "seed", "rate"),
    [
        (OPEN_NS, "json", 1, 8.0),
        # The prints before the open have a T, and no minute begins with the market.
        (OPEN_NS - 7 * MINUTE_NS + 13 * NANOS, "msgpack", 2, 8.0),
        # So few that minutes hold an odd lot alone, or nothing.
        (OPEN_NS, "msgpack", 3, 0.2),
    ],
)
def test_market_of_stocks_gives_the_vendors_bars_when_derived(
    start_ns: int, encoding: Encoding, seed: int, rate: float
) -> None:
    market = generate(
        ("AAPL", "MSFT", "SPY", "F", "GE"),
        "stocks",
        start_ns,
        start_ns + 18 * MINUTE_NS,
        seed,
        trades_per_second=rate,
        quotes_per_second=2.0,
        late_share=0.02,
        cancel_share=0.02,
        correction_share=0.02,
        halt_share=0.2,
        tail_ns=8 * MINUTE_NS,
    )
    settings = replace(derive_settings("1m,5m,1h,1d"), rule_set=RuleSet.load("alpaca-v1"))
    done = derived(settings, numbered(records(market, encoding)))
    theirs = shown(market)
    assert len(theirs) > 10
    assert differing(built(done, "1m"), theirs) == {}
    assert differing(built(done, "1d"), days(market)) == {}
    assert days(market)
    # a mean of rounded means can be off by the rounding of both
    for ours, name in (("5m", "5Min"), ("1h", "1Hour"), ("1d", "1Day")):
        wanted = rolled_up(market, name)
        assert wanted
        assert differing(built(done, ours), wanted, Decimal("0.000001001")) == {}
    one_week = list(rolled_up(market, "1Week").values())
    assert one_week == list(rolled_up(market, "1Day").values())
    assert "quarantine" not in done.tables


def test_market_of_crypto_gives_the_vendors_bars_of_minutes_with_trades_when_derived() -> None:
    market = generate(
        ("BTC/USD", "ETH/USD"),
        "crypto",
        OPEN_NS,
        OPEN_NS + 12 * MINUTE_NS,
        4,
        trades_per_second=0.1,
        quotes_per_second=1.0,
        late_share=0.05,
    )
    done = derived(derive_settings("1m"), numbered(records(market, "msgpack")))
    theirs = shown(market)
    traded = {key: bar for key, bar in theirs.items() if bar.trade_count}
    assert 0 < len(traded) < len(theirs)
    last_ns = market.end_ns - MINUTE_NS
    ours = {key: bar for key, bar in built(done).items() if key[1] <= last_ns}
    assert differing(ours, traded) == {}
    assert "quarantine" not in done.tables
    tables = Counter(event.channel for event in market.events())
    bars = sum(tables[channel] for channel in ("bars", "updatedBars", "dailyBars"))
    assert len(done.tables["vendor_bars"]) == bars
    assert sum(done.tables["book"]["is_snapshot"].to_pylist()) > 20
