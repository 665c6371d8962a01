"""What is asked of bars: a series, part of one, and the bars of a time as known at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, Self, TypeAlias

from marketpipe.errors import UsageError

Knowledge: TypeAlias = Literal["assumed", "strict"]

SERIES: Final = ("source", "feed", "symbol", "price_type", "rule_set", "session", "timeframe")
"""The columns that name a series and its timeframe: with ``ts_open``, a bar's identity."""


class Series(NamedTuple):
    """One series in one timeframe: what a topic of the outbox is about."""

    source: str
    feed: str
    symbol: str
    price_type: str
    rule_set: str
    session: str
    timeframe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BarQuery:
    """Which bars, as of when. Hashable, so that it can be the key of a cache.

    Attributes
    ----------
    symbols : None is all symbols
    timeframe : canonical spelling; None is all timeframes
    source, feed, price_type, rule_set, session : None leaves that part of the series open, and
        the answer may then hold several series
    start, end : ns since the epoch, UTC, of ``ts_open``; inclusive, exclusive; None is unbounded
    as_of : ns; only revisions known at that instant (inclusive); None is all of them
    knowledge : ``assumed``: known by ``known_at``; ``strict``: by ``recorded_at`` where there is
        one
    history : True: every revision known. False: the latest one known of each bar
    voids : True: also bars whose latest revision is void; histories always hold them
    limit : at most this many rows, from the beginning of the order; None is all
    newest_first : the order is by ``ts_open`` descending instead of ascending, then by symbol,
        the other parts of the series, and revision ascending

    Raises
    ------
    UsageError
        If ``limit`` is below 1, ``end`` lies before ``start``, or ``knowledge`` is unknown.
    """

    symbols: tuple[str, ...] | None = None
    timeframe: str | None = None
    source: str | None = None
    feed: str | None = None
    price_type: str | None = None
    rule_set: str | None = None
    session: str | None = None
    start: int | None = None
    end: int | None = None
    as_of: int | None = None
    knowledge: Knowledge = "assumed"
    history: bool = False
    voids: bool = False
    limit: int | None = None
    newest_first: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit: was '{self.limit}'; valid is 1 or more, or none for all")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise UsageError(
                f"end: was '{self.end}', before start '{self.start}'; valid is start or later"
            )
        if self.knowledge not in ("assumed", "strict"):
            raise UsageError(f"knowledge: was '{self.knowledge}'; valid are assumed, strict")

    @property
    def parts(self) -> Mapping[str, str]:
        """The parts of the series that are fixed, symbols left aside."""
        given = {name: getattr(self, name) for name in SERIES if name != "symbol"}
        return {name: value for name, value in given.items() if value is not None}

    def admits(self, series: Series) -> bool:
        """Whether a series is among those asked for."""
        if self.symbols is not None and series.symbol not in self.symbols:
            return False
        return all(getattr(series, name) == value for name, value in self.parts.items())

    def of_series(self, series: Series) -> Self:
        """Return the query narrowed to one series."""
        return replace(
            self,
            symbols=(series.symbol,),
            timeframe=series.timeframe,
            source=series.source,
            feed=series.feed,
            price_type=series.price_type,
            rule_set=series.rule_set,
            session=series.session,
        )

    def with_end(self, end: int) -> Self:
        """Return the query with another end (exclusive); one before its start asks for nothing."""
        start = self.start if self.start is None else min(self.start, end)
        return replace(self, start=start, end=end)
