"""A slow, plain-Python reading of what a bar is, for comparison with the engine."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from marketpipe.domain.sessions import SessionTable, bar_edges, continuous_edges
from marketpipe.domain.timeframe import Timeframe


@dataclass(frozen=True, slots=True)
class Trade:
    """One plain trade: order key, nanos, symbol."""

    symbol: str
    ts: int
    seq: int
    price: int
    size: int


def half_even(value: Fraction) -> int:
    """Round to the nearest integer, halves to even."""
    return round(value)


def bars(
    trades: Iterable[Trade], timeframes: Iterable[str], table: SessionTable | None = None
) -> dict[tuple[str, str, int], tuple[int, ...]]:
    """Return {(symbol, timeframe, ts_open): (close, o, h, l, c, volume, notional, vwap, count)}."""
    groups: dict[tuple[str, str, int, int], list[Trade]] = {}
    for trade in trades:
        for text in timeframes:
            tf = Timeframe.parse(text)
            found = (
                continuous_edges(tf, trade.ts) if table is None else bar_edges(table, tf, trade.ts)
            )
            if found is not None:
                groups.setdefault((trade.symbol, str(tf), found[0], found[1]), []).append(trade)
    out: dict[tuple[str, str, int], tuple[int, ...]] = {}
    for (symbol, tf_text, lo, hi), members in groups.items():
        members.sort(key=lambda t: (t.ts, t.seq))
        prices = [t.price for t in members]
        volume = sum(t.size for t in members)
        notional = sum(t.size * t.price for t in members)
        vwap = half_even(Fraction(notional, volume)) if volume else -1
        out[symbol, tf_text, lo] = (
            hi, prices[0], max(prices), min(prices), prices[-1], volume, notional, vwap,
            len(members),
        )  # fmt: skip
    return out
