"""Bars as values: one bar, one event of its life, one symbol's session of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Literal, TypeAlias

from marketpipe.domain.units import format_nanos, format_ns
from marketpipe.errors import EngineError

State: TypeAlias = Literal["forming", "confirmed", "settled"]
Coverage: TypeAlias = Literal["traded", "quiet", "gap", "halted", "void"]
Cause: TypeAlias = Literal["first", "late", "cancel", "correction", "backfill", "rule", "rebuild"]
EventKind: TypeAlias = Literal["forming", "confirmed", "revised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OHLCVBar:
    """One revision of one bar.

    Attributes
    ----------
    source, feed, symbol, price_type, rule_set, session : the series
    timeframe : canonical spelling, such as ``1h``
    session_date : days since 1970-01-01
    ts_open, ts_close : ns since the epoch, UTC; inclusive, exclusive
    open, high, low, close : nanos; None in a void bar
    volume : nanos; notional : 1e-18 units; both None in quote bars
    vwap : nanos, rounded half to even; None where no trade admits to it
    trade_count : trades that count in volume; quotes for bid, ask and mid
    official_open, official_close : nanos, in day bars where the feed has those prints
    recorded_at : ns, when this revision was written down; None in replays of files
    known_at : ns, when the market could have known it
    """

    source: str
    feed: str
    symbol: str
    price_type: str
    rule_set: str
    session: str
    timeframe: str
    session_date: int
    ts_open: int
    ts_close: int
    open: int | None
    high: int | None
    low: int | None
    close: int | None
    volume: int | None
    notional: int | None
    vwap: int | None
    trade_count: int
    official_open: int | None
    official_close: int | None
    state: State
    coverage: Coverage
    partial: bool
    revision: int
    cause: Cause
    recorded_at: int | None
    known_at: int

    @property
    def identity(self) -> tuple[str, str, str, str, str, str, str, int]:
        """Series, timeframe and start: what every path calls this bar."""
        return (
            self.source,
            self.feed,
            self.symbol,
            self.price_type,
            self.rule_set,
            self.session,
            self.timeframe,
            self.ts_open,
        )

    def decimal(self, name: Literal["open", "high", "low", "close", "vwap", "volume"]) -> Decimal:
        """Return a price or the volume as an exact decimal.

        Raises
        ------
        ValueError
            If the bar has no such value.
        """
        value: int | None = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} of {self} is empty")
        return Decimal(value).scaleb(-9, Context(prec=60))

    def __str__(self) -> str:
        prices = " ".join(
            "-" if p is None else format_nanos(p)
            for p in (self.open, self.high, self.low, self.close)
        )
        return f"{self.symbol}@{self.timeframe} {format_ns(self.ts_open)} {prices} r{self.revision}"


@dataclass(frozen=True, slots=True)
class BarEvent:
    """A bar that is forming, confirmed for the first time, or revised."""

    kind: EventKind
    bar: OHLCVBar


@dataclass(slots=True)
class SymbolBarsAggregate:
    """The bars of one series, timeframe and session date, with their revisions.

    Enforces what must hold between them: ``low <= open, close <= high``, ``ts_open <
    ts_close``, no two bars overlap, revisions are dense from 0.
    """

    _revisions: dict[int, list[OHLCVBar]] = field(default_factory=dict)

    def add(self, bar: OHLCVBar) -> None:
        """Take the next revision of a bar.

        Raises
        ------
        EngineError
            If an invariant breaks; the message names the bar and the rule.
        """
        self._check_alone(bar)
        known = self._revisions.get(bar.ts_open, [])
        if bar.revision != len(known):
            raise EngineError(f"{bar}: revision was {bar.revision}, expected {len(known)}")
        for other in self.latest():
            if other.ts_open == bar.ts_open:
                continue
            if bar.ts_open < other.ts_close and other.ts_open < bar.ts_close:
                raise EngineError(f"{bar} overlaps {other}")
        self._revisions.setdefault(bar.ts_open, []).append(bar)

    def _check_alone(self, bar: OHLCVBar) -> None:
        for other in self.latest():
            if (other.identity[:-1], other.session_date) != (bar.identity[:-1], bar.session_date):
                raise EngineError(f"{bar} is of another series or session than {other}")
            break
        if bar.ts_open >= bar.ts_close:
            raise EngineError(f"{bar}: ts_close was {format_ns(bar.ts_close)}, not after ts_open")
        if bar.coverage == "void":
            return
        if bar.open is None or bar.high is None or bar.low is None or bar.close is None:
            raise EngineError(f"{bar} has no prices, but is not void")
        if not (bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high):
            raise EngineError(f"{bar}: open and close must lie within low and high")

    def latest(self) -> Iterator[OHLCVBar]:
        """Yield the latest revision of each bar, oldest bar first."""
        for ts_open in sorted(self._revisions):
            yield self._revisions[ts_open][-1]

    def history(self, ts_open: int) -> tuple[OHLCVBar, ...]:
        """Return all revisions of one bar, first to last; empty for an unknown one."""
        return tuple(self._revisions.get(ts_open, ()))
