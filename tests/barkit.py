"""Ticks by hand for tests of the bar engine, and bars as short tuples."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from marketpipe.bars.engine import BarEngine
from marketpipe.bars.events import bars_of
from marketpipe.domain.bars import BarEvent, OHLCVBar
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64
from marketpipe.normalize import RuleSet

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


class Print(NamedTuple):
    """One trade: RFC 3339 instant, price and size in units, and what else matters."""

    at: str
    price: str
    size: str = "100"
    symbol: str = "AAA"
    flags: int = PLAIN
    key: tuple[int, int, int] | None = None
    known: str | None = None


def ns(text: str) -> int:
    """Read an RFC 3339 instant, exactly, as ns since the epoch."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    whole = datetime.fromisoformat(f"{head}+00:00")
    seconds = whole.toordinal() * 86_400 + whole.hour * 3600 + whole.minute * 60 + whole.second
    return (seconds - 719_163 * 86_400) * SECOND + int(fraction.ljust(9, "0") or 0)


def nanos(text: str | Decimal) -> int:
    """Read an exact decimal as a count of 1e-9; what does not fit is an error."""
    scaled = Decimal(text).scaleb(9)
    if scaled != int(scaled):
        raise ValueError(f"{text} has more than nine decimals")
    return int(scaled)


def ticks(prints: Sequence[Print], symbols: Sequence[str] = ("AAA", "BBB")) -> Ticks:
    """Pack prints into columns; a print without a key is ordered by its place."""
    n = len(prints)
    keys = [p.key or (0, 0, i + 1) for i, p in enumerate(prints)]
    known = [NULL_I64 if p.known is None else ns(p.known) for p in prints]
    return Ticks(
        streams=tuple(StreamKey("test", "", s) for s in symbols),
        stream=np.array([list(symbols).index(p.symbol) for p in prints], np.int32),
        ts_event=np.array([ns(p.at) for p in prints], np.int64),
        price=np.array([nanos(p.price) for p in prints], np.int64),
        size=np.array([nanos(p.size) for p in prints], np.int64),
        key_major=np.array([k[0] for k in keys], np.int64),
        key_mid=np.array([k[1] for k in keys], np.int64),
        key_minor=np.array([k[2] for k in keys], np.int64),
        flags=np.array([p.flags for p in prints], np.uint16),
        known_at=np.array(known, np.int64).reshape(n),
    )


def stream(symbol: str = "AAA") -> StreamKey:
    """Name the stream of a symbol of `ticks`."""
    return StreamKey("test", "", symbol)


def alpaca(at: str, price: str, size: str, conditions: str = "@", tape: str = "C") -> Print:
    """Make a print with the flags that ``alpaca-v1`` gives its conditions."""
    flags = ALPACA.judge(conditions, tape, "Q").flags
    return Print(at, price, size, flags=flags)


ALPACA = RuleSet.load("alpaca-v1")


def bars(table: pa.Table, timeframe: str | None = None) -> list[OHLCVBar]:
    """Return the bars of a table, of one timeframe if named."""
    return [b for b in bars_of(table) if timeframe in (None, b.timeframe)]


def text(value: int | None, digits: int = 9) -> str:
    """Write nanos as a plain decimal; "-" for none."""
    if value is None:
        return "-"
    return format(Decimal(value).scaleb(-digits).normalize(), "f")


def ohlc(bar: OHLCVBar) -> str:
    """Write open, high, low, close as ``10 12 9 11``."""
    return " ".join(text(v) for v in (bar.open, bar.high, bar.low, bar.close))


def full(bar: OHLCVBar) -> str:
    """Write open, high, low, close, volume, trade count and vwap in one line."""
    return f"{ohlc(bar)} {text(bar.volume)} {bar.trade_count} {text(bar.vwap)}"


def life(events: Iterable[BarEvent]) -> list[tuple[str, str, int, str, str]]:
    """Write events as (kind, timeframe, revision, cause, prices)."""
    return [(e.kind, e.bar.timeframe, e.bar.revision, e.bar.cause, ohlc(e.bar)) for e in events]


def build(
    prints: Sequence[Print], timeframes: Sequence[str] = ("1m",), **settings: object
) -> BarEngine:
    """Run prints through an engine of these settings to its end."""
    engine = BarEngine(timeframes, **settings)  # type: ignore[arg-type]
    engine.apply(ticks(prints))
    engine.flush()
    return engine
