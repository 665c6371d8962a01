"""One recomputed bar in whole numbers, and the roll-up of emitted bars into longer ones."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from marketpipe.verify.rows import timeframe_seconds

_NANOS: Final = 10**9
_MONDAY: Final = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar; prices and volume exact, vwap in nanos (None without volume).

    Official prices are of bars of days that are built from ticks, None elsewhere.
    """

    source: str
    feed: str
    symbol: str
    timeframe: str
    ts_open: int
    ts_close: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal
    notional: Decimal
    vwap_nanos: int | None
    trade_count: int
    official_open: Decimal | None = None
    official_close: Decimal | None = None

    @property
    def is_complete(self) -> bool:
        """Whether open, high, low and close are all there and not zero."""
        return bool(self.open and self.high and self.low and self.close)

    def as_row(self, price: str) -> dict[str, object]:
        """Return the bar as a row of the result; mid is halved, quotes have no sums."""
        names = ("source", "feed", "symbol", "timeframe", "ts_open", "ts_close", "trade_count")
        row: dict[str, object] = {name: getattr(self, name) for name in names}
        for name in ("open", "high", "low", "close"):
            value = getattr(self, name)
            row[name] = _exact(half_even(_units(value, 9), 2), 9) if price == "mid" else value
        if price == "trade":
            row |= {"volume": self.volume, "notional": self.notional}
            row["vwap"] = None if self.vwap_nanos is None else _exact(self.vwap_nanos, 9)
            row |= {"official_open": self.official_open, "official_close": self.official_close}
        return row


def finish(timeframe: str, row: tuple[Any, ...]) -> Bar:
    """Make a bar of one row of aggregates, dividing its vwap exactly."""
    source, feed, symbol, ts_open, ts_close = row[:5]
    opened, high, low, close, volume, notional, weight, weighted, count = row[5:14]
    official_open, official_close = row[14:]
    return Bar(
        source=source,
        feed=feed,
        symbol=symbol,
        timeframe=timeframe,
        ts_open=ts_open,
        ts_close=ts_close,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        notional=notional,
        vwap_nanos=half_even(_units(weighted, 18), _units(weight, 9)) if weight else None,
        trade_count=count,
        official_open=official_open,
        official_close=official_close,
    )


def roll_up(
    bars: Sequence[Bar], timeframe: str, sessions: Sequence[tuple[int, int, int]]
) -> list[Bar]:
    """Build longer bars from minute or day bars; volume-weighted means of their vwaps.

    Parameters
    ----------
    bars : of one timeframe, any order
    timeframe : of the result
    sessions : (session_date in days since the epoch, open, close in ns), sorted; bars of s, m, h
        are anchored at a session's open and cut at its close, those of d and w group sessions
    """
    edges = _Edges(timeframe, sessions)
    keyed = sorted(
        (((b.source, b.feed, b.symbol, *edges.of(b.ts_open)), b.ts_open, b) for b in bars),
        key=lambda item: item[:2],
    )
    return [
        _merge(timeframe, key, [bar for _, _, bar in group])
        for key, group in groupby(keyed, key=lambda item: item[0])
    ]


def half_even(numerator: int, denominator: int) -> int:
    """Divide whole numbers (denominator > 0), rounding half to even."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    up = twice > denominator or (twice == denominator and quotient % 2 == 1)
    return quotient + up


class _Edges:
    def __init__(self, timeframe: str, sessions: Sequence[tuple[int, int, int]]) -> None:
        self._opens = [opens for _, opens, _ in sessions]
        self._sessions = sessions
        self._length = timeframe_seconds(timeframe)
        self._unit = timeframe[-1]
        self._groups: dict[int, tuple[int, int]] = {}
        if self._unit in "dw":
            for date, opens, closes in sessions:
                first = self._groups.setdefault(self._number(date), (opens, closes))
                self._groups[self._number(date)] = (first[0], closes)

    def _number(self, date: int) -> int:
        origin = _MONDAY if self._unit == "w" else 0
        return (date - origin) // (self._length // 86_400)

    def of(self, ts_ns: int) -> tuple[int, int]:
        date, opens, closes = self._sessions[bisect_right(self._opens, ts_ns) - 1]
        if self._unit in "dw":
            return self._groups[self._number(date)]
        length = self._length * _NANOS
        ts_open = opens + (ts_ns - opens) // length * length
        return ts_open, min(ts_open + length, closes)


def _merge(timeframe: str, key: tuple[str, str, str, int, int], bars: list[Bar]) -> Bar:
    weighed = [(b.volume, b.vwap_nanos) for b in bars if b.vwap_nanos is not None]
    weight = sum(_units(volume, 9) for volume, _ in weighed)
    total = sum(_units(volume, 9) * vwap for volume, vwap in weighed)
    source, feed, symbol, ts_open, ts_close = key
    return Bar(
        source=source,
        feed=feed,
        symbol=symbol,
        timeframe=timeframe,
        ts_open=ts_open,
        ts_close=ts_close,
        open=bars[0].open,
        high=max(b.high for b in bars if b.high is not None),
        low=min(b.low for b in bars if b.low is not None),
        close=bars[-1].close,
        volume=_exact(sum(_units(b.volume, 9) for b in bars), 9),
        notional=_exact(sum(_units(b.notional, 18) for b in bars), 18),
        vwap_nanos=half_even(total, weight) if weight else None,
        trade_count=sum(b.trade_count for b in bars),
    )


def _units(value: Decimal, digits: int) -> int:
    """Count an exact decimal in units of 10**-digits, without the context's rounding."""
    sign, figures, exponent = value.as_tuple()
    whole = int("".join(map(str, figures)))
    scaled: int = whole * 10 ** (digits + int(exponent))
    return -scaled if sign else scaled


def _exact(units: int, digits: int) -> Decimal:
    return Decimal(f"{units}E-{digits}")
