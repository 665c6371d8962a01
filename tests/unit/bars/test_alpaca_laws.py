"""``alpaca-v1`` against a slow reading of its rules: any order, any split, any cancel."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from barkit import HOUR, MINUTE, SECOND, Print, bars, stream, ticks
from marketpipe.bars import BarEngine
from marketpipe.domain.bars import OHLCVBar
from marketpipe.domain.ticks import DAY_SHIFT, FIRST_ONLY, HIGH_LOW, LAST, VOLUME, VWAP, Ticks
from marketpipe.domain.units import DAY_NS

OPEN = 1_704_171_600 * SECOND  # 2024-01-02T05:00Z, midnight in New York
TIMEFRAMES = ("1m", "5m", "1h", "1d")
LENGTHS = {"1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR, "1d": DAY_NS}
# may set open and close; only as the first; high and low; volume
EFFECTS = {
    "all": (True, False, True, True),
    "half": (False, True, True, True),
    "price": (True, False, True, False),
    "volume": (False, False, False, True),
    "none": (False, False, False, False),
}
# what conditions of the table do to minutes and days
PAIRS = [
    *(("all", "all"), ("volume", "volume"), ("all", "volume")),
    *(("volume", "half"), ("none", "none"), ("none", "price")),
]


class Trade(NamedTuple):
    ts: int
    seq: int
    price: int
    size: int
    minute: str
    day: str

    @property
    def flags(self) -> int:
        return bits(self.minute) | bits(self.day) << DAY_SHIFT


def bits(effect: str) -> int:
    last, half, high_low, volume = EFFECTS[effect]
    return (
        LAST * last
        | FIRST_ONLY * half
        | HIGH_LOW * high_low
        | VOLUME * volume
        | VWAP * (high_low and volume)
    )


# open, high, low, close, volume, count, vwap
Facts = tuple[int, int, int, int, int, int, int | None]


def from_trades(trades: Iterable[tuple[Trade, str]]) -> Facts | None:
    """Build one bar of trades with their effects, or none."""
    ordered = sorted(trades)
    last = [t for t, e in ordered if EFFECTS[e][0]]
    half = [t for t, e in ordered if EFFECTS[e][1]][:1]
    extreme = [t.price for t, e in ordered if EFFECTS[e][2]]
    counted = [t for t, e in ordered if EFFECTS[e][3]]
    both = [t for t, e in ordered if EFFECTS[e][2] and EFFECTS[e][3]]
    volume = sum(t.size for t in counted)
    if not volume or not last + half:
        return None
    weight = sum(t.size for t in both)
    vwap = round(Fraction(sum(t.size * t.price for t in both), weight)) if weight else None
    opened, closed = min(last + half).price, (last or half)[-1].price
    return opened, max(extreme), min(extreme), closed, volume, len(counted), vwap


def from_minutes(minutes: Sequence[Facts]) -> Facts:
    """Build one bar of emitted minutes, in order."""
    valued = [(m[4], m[6]) for m in minutes if m[6] is not None]
    weight = sum(v for v, _ in valued)
    vwap = round(Fraction(sum(v * p for v, p in valued), weight)) if valued else None
    return (
        minutes[0][0],
        max(m[1] for m in minutes),
        min(m[2] for m in minutes),
        minutes[-1][3],
        sum(m[4] for m in minutes),
        sum(m[5] for m in minutes),
        vwap,
    )


def oracle(trades: Iterable[Trade]) -> dict[tuple[str, int], Facts]:
    trades = list(trades)
    out: dict[tuple[str, int], Facts] = {}
    for timeframe, effect in (("1m", "minute"), ("1d", "day")):
        length = LENGTHS[timeframe]
        groups: dict[int, list[tuple[Trade, str]]] = {}
        for t in trades:
            start = OPEN + (t.ts - OPEN) // length * length
            groups.setdefault(start, []).append((t, getattr(t, effect)))
        for start, members in groups.items():
            bar = from_trades(members)
            if bar is not None:
                out[timeframe, start] = bar
    for timeframe in ("5m", "1h"):
        length = LENGTHS[timeframe]
        minutes: dict[int, list[tuple[int, Facts]]] = {}
        for (tf, start), bar in out.items():
            if tf == "1m":
                minutes.setdefault(start // length * length, []).append((start, bar))
        for start, found in minutes.items():
            out[timeframe, start] = from_minutes([bar for _, bar in sorted(found)])
    return out


def facts(found: Iterable[OHLCVBar]) -> dict[tuple[str, int], tuple[int | None, ...]]:
    return {
        (b.timeframe, b.ts_open): (
            *(b.open, b.high, b.low, b.close, b.volume, b.trade_count, b.vwap),
        )
        for b in found
        if b.coverage != "void"
    }


@st.composite
def trades(draw: st.DrawFn) -> list[Trade]:
    spread = draw(st.sampled_from([90, 700, 9_000, 200_000]))
    return [
        Trade(
            OPEN + draw(st.integers(0, spread)) * SECOND,
            seq,
            draw(st.integers(1, 60)),
            draw(st.integers(0, 7)),
            *draw(st.sampled_from(PAIRS)),
        )
        for seq in range(1, draw(st.integers(1, 40)) + 1)
    ]


def packed(found: Sequence[Trade]) -> Ticks:
    return replace(
        ticks([Print("1970-01-01T00:00:00Z", "1", key=(0, 0, t.seq)) for t in found]),
        ts_event=np.array([t.ts for t in found], np.int64),
        price=np.array([t.price for t in found], np.int64),
        size=np.array([t.size for t in found], np.int64),
        flags=np.array([t.flags for t in found], np.uint16),
    )


def feed(engine: BarEngine, arrival: Sequence[Trade], cuts: Sequence[int]) -> list[OHLCVBar]:
    out: list[OHLCVBar] = []
    edges = sorted({0, len(arrival), *(c % (len(arrival) + 1) for c in cuts)})
    for lo, hi in pairwise(edges):
        out += [e.bar for e in engine.apply(packed(arrival[lo:hi]))]
    return out + [e.bar for e in engine.flush()]


@given(trades(), st.lists(st.integers(0, 40), max_size=4), st.data())
def test_alpaca_any_order_and_split_equal_the_slow_reading(
    found: list[Trade], cuts: list[int], data: st.DataObject
) -> None:
    arrival = data.draw(st.sampled_from([sorted(found), data.draw(st.permutations(found))]))
    engine = BarEngine(TIMEFRAMES, rule_set="alpaca-v1")
    events = feed(engine, arrival, cuts)
    expected = oracle(found)
    assert facts(bars(engine.bars())) == expected
    revisions: dict[tuple[str, int], list[OHLCVBar]] = {}
    for bar in events:
        revisions.setdefault((bar.timeframe, bar.ts_open), []).append(bar)
    for history in revisions.values():
        assert [b.revision for b in history] == list(range(len(history)))
    assert facts(history[-1] for history in revisions.values()) == expected


@given(trades(), st.data())
def test_alpaca_any_cancels_leave_the_bars_of_the_rest(
    found: list[Trade], data: st.DataObject
) -> None:
    engine = BarEngine(TIMEFRAMES, rule_set="alpaca-v1")
    events = feed(engine, found, [])
    gone = data.draw(st.lists(st.sampled_from(found), max_size=5, unique=True))
    left = list(found)
    for trade in gone:
        left.remove(trade)
        for request in engine.request_recompute(stream(), trade.ts, "cancel"):
            inside = [t for t in left if request.ts_open <= t.ts < request.ts_close]
            events += [e.bar for e in engine.recompute(request, packed(inside), OPEN + 2 * DAY_NS)]
    assert facts(bars(engine.bars())) == oracle(left)
    latest = {(b.timeframe, b.ts_open): b for b in sorted(events, key=lambda b: b.revision)}
    assert facts(latest.values()) == oracle(left)
