"""Certification: our bars beside the vendor's own bars of the same stream, cell by cell."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from marketpipe.domain.sessions import EXTENDED, NY_DAY, REGULAR, SessionTable, session_table
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.errors import UsageError
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.vendorside import (
    COLUMNS,
    DAY,
    MINUTE,
    RULES,
    Feed,
    Last,
    Pair,
    Tally,
    VendorSide,
    same_word,
    was_covered,
)

Outcome: TypeAlias = Literal[
    "exact", "differs", "only_ours", "only_theirs", "partial", "revised", "cut", "not_over"
]
"""What became of one bar. Apart, and no difference: ``partial`` (the feed began or broke off
within it), ``revised`` (equal until a cancel or correction, after the vendor's last word),
``cut`` (one side has it; the feed began, broke off or ended before the vendor's update of it) and
``not_over`` (a day of which trades came after the vendor's last word, or that we have no bar of: it
is not over, or days are not built)."""

DIFFERENCES: Final = ("differs", "only_ours", "only_theirs")
UPDATE_NS: Final = 40 * NANOS
"""The vendor updates a minute half a minute after it ended; reporting may lag ten seconds."""

_MINUTE_NS: Final = 60 * NANOS
_CALENDAR: Final = "XNYS"
_UNREPEATED: Final = ("cancel", "correction")
"""Causes of revisions that the vendor sends no bar for."""


@dataclass(slots=True, kw_only=True)
class SymbolDay:
    """One symbol's bars of one timeframe and day.

    Attributes
    ----------
    source, feed, symbol, timeframe : of which series; the rule set is ``alpaca-v1``
    date : New York's, days since 1970-01-01
    outcomes : number of bars by `Outcome`
    cells : by column of `COLUMNS`, how many cells of matched bars are equal
    partial_equal : bars of ours that are partial, and equal all the same
    """

    source: str
    feed: str
    symbol: str
    timeframe: str
    date: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)
    partial_equal: int = 0

    @property
    def matched(self) -> int:
        """Bars that both sides have, and that were compared."""
        return self.outcomes["exact"] + self.outcomes["differs"]

    @property
    def differences(self) -> int:
        """Bars that differ, or that only one side has although both should."""
        return sum(self.outcomes[name] for name in DIFFERENCES)


class Difference(NamedTuple):
    """A bar that the two sides do not agree on."""

    outcome: Outcome
    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What `certify` found.

    Attributes
    ----------
    days : one per source, feed, symbol, timeframe and date; sorted by date
    first : the first difference: the earliest date, its first symbol, minutes before the day
    without : symbols of compared feeds that we have minutes of, and the vendor none on that day
    untraded : symbols that the vendor has bars of on a day of which no trade of them was received
    left_out : crypto pairs, which were not asked for by name
    other_feeds : what was not compared, and why
    """

    days: tuple[SymbolDay, ...]
    first: Difference | None
    without: frozenset[str]
    untraded: frozenset[str]
    left_out: tuple[str, ...]
    other_feeds: tuple[str, ...]

    @property
    def symbols(self) -> frozenset[str]:
        """Symbols that either side has bars of."""
        return self.without.union(self.untraded, (one.symbol for one in self.days))

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return self.first is None


def certify(
    folder: DataFolder,
    *,
    symbols: Collection[str] = (),
    day: int | None = None,
    feeds: Collection[Feed] | None = None,
) -> Certificate:
    """Compare our minutes and days under ``alpaca-v1`` with the vendor's own.

    Of each bar the latest revision is compared with the latest that the vendor sent. Prices,
    volume and count must be equal; vwap to the six decimals that the vendor rounds it to. A day is
    compared when it is over: the vendor's last daily bar came after the close and after every
    trade that we have of the day.

    Parameters
    ----------
    symbols : only these; none means all but crypto pairs
    day : only this date of New York, days since 1970-01-01
    feeds : only these; None for all

    Raises
    ------
    UsageError
        If there is nothing to compare; the message says why.
    LakeError
        If the lake cannot be read.
    """
    with VendorSide(folder.lake, symbols) as sides:
        theirs, ours = sides.theirs(), sides.ours()
        if feeds is not None:
            theirs = {feed: days for feed, days in theirs.items() if feed in feeds}
        left_out = () if symbols else tuple(sides.pairs())
        usable = [feed for feed in theirs if RULES in ours.get(feed, {})]
        if not usable:
            raise UsageError(_nothing(theirs, ours, left_out))
        found = _Found()
        utc_days = {d for feed in usable for d in theirs[feed] | ours[feed][RULES]}
        for date, start_ns, end_ns in _new_york_days(utc_days):
            if day is None or day == date:
                sides.load(usable, start_ns, end_ns)
                found.add(sides, date, start_ns, end_ns)
    if not found.days:
        raise UsageError(_no_bars(found))
    if not any(any(one.outcomes[name] for name in _COMPARED) for one in found.days):
        raise UsageError(_all_apart(found))
    others = (f"{'/'.join(f)}: {_rules_of(ours.get(f, {}))}" for f in theirs if f not in usable)
    return Certificate(
        days=tuple(found.days),
        first=found.first,
        without=frozenset(found.without),
        untraded=frozenset(found.untraded),
        left_out=left_out,
        other_feeds=tuple(others),
    )


_COMPARED: Final = ("exact", *DIFFERENCES)


class _Found:
    """What has been found so far, day by day."""

    def __init__(self) -> None:
        self.days: list[SymbolDay] = []
        self.first: Difference | None = None
        self.without: set[str] = set()
        self.untraded: set[str] = set()

    def add(self, sides: VendorSide, date: int, start_ns: int, end_ns: int) -> None:
        """Take a day that is loaded."""
        mine: dict[tuple[str, ...], SymbolDay] = {}
        tallies = sides.tallies()
        traded = {tally[:3] for tally in tallies if tally.ours}
        doubtful = {tally.symbol for tally in tallies if tally[:3] not in traded}
        traded.update(sides.last(start_ns, end_ns, doubtful))
        for tally in tallies:
            if tally[:3] not in traded:
                self.untraded.add(tally.symbol)
            elif tally.theirs:
                one = _symbol_day(tally, date)
                mine[tally[:4]] = one
                if tally.timeframe == MINUTE and tally.exact:
                    one.outcomes["exact"] = tally.exact
                    one.cells.update(dict.fromkeys(COLUMNS, tally.exact))
            elif tally.timeframe == MINUTE and tally.ours:
                self.without.add(tally.symbol)
        odd = [pair for pair in sides.odd() if pair[:4] in mine]
        judge = _Judge(sides, odd, start_ns, end_ns)
        for pair in odd:
            outcome = judge.outcome(pair)
            one = mine[pair[:4]]
            one.outcomes[outcome] += 1
            one.partial_equal += outcome == "partial" and all(pair.equal)
            if outcome in ("exact", "differs"):
                one.cells.update(c for c, same in zip(COLUMNS, pair.equal, strict=True) if same)
            if outcome in DIFFERENCES and self.first is None:
                self.first = Difference(outcome, pair)
        self.days += [one for one in mine.values() if one.outcomes.total()]


def _symbol_day(tally: Tally, date: int) -> SymbolDay:
    return SymbolDay(
        source=tally.source,
        feed=tally.feed,
        symbol=tally.symbol,
        timeframe=tally.timeframe,
        date=date,
    )


class _Judge:
    """Says of the pairs of one day [start, end) what each comes to."""

    def __init__(self, sides: VendorSide, odd: Sequence[Pair], start_ns: int, end_ns: int) -> None:
        self._sides = sides
        feeds = {(pair.source, pair.feed) for pair in odd}
        self._spans = {feed: sides.connected(feed, start_ns, end_ns) for feed in feeds}
        of_days = {pair.symbol for pair in odd if pair.timeframe == DAY}
        self._hours = _hours(start_ns, end_ns) if of_days else None
        self._last = sides.last(start_ns, end_ns, of_days)

    def outcome(self, pair: Pair) -> Outcome:
        if pair.timeframe == DAY:
            return self._of_day(pair)
        if pair.ours is not None and pair.theirs is not None and all(pair.equal):
            return "partial"  # else it would not be odd
        if self._was_revised(pair):
            return "revised"
        cut = not self._was_there(pair, pair.ts_open, pair.ts_open + _MINUTE_NS + UPDATE_NS)
        if pair.ours is None:
            return "cut" if cut else "only_theirs"
        filled_in = pair.cause == "backfill"
        if pair.partial or (cut and not filled_in):
            return "partial" if pair.theirs is not None else "cut"
        return "differs" if pair.theirs is not None else "only_ours"

    def _was_there(self, pair: Pair, start_ns: int, end_ns: int) -> bool:
        spans = self._spans[pair.source, pair.feed]
        # Without raw records (old days may be dropped) nothing is excused.
        return not spans or was_covered(spans, start_ns, end_ns)

    def _was_revised(self, pair: Pair) -> bool:
        """Whether both were equal until cancels or corrections that the vendor knew not yet."""
        if pair.theirs is None or pair.heard_ns is None or pair.cause not in _UNREPEATED:
            return False
        for said, cause, known_at in reversed(self._sides.revisions(pair)):
            if same_word(said, pair.theirs):
                return True
            if cause not in _UNREPEATED or known_at <= pair.heard_ns:
                return False
        return False

    def _of_day(self, pair: Pair) -> Outcome:
        key = (pair.source, pair.feed, pair.symbol)
        if pair.ours is None or pair.theirs is None or pair.heard_ns is None or not self._hours:
            return "not_over"
        opens, closes = self._hours
        last = self._last.get(key, Last(0, 0))
        told = pair.heard_ns // _MINUTE_NS * _MINUTE_NS
        if told < closes or last.ts_event >= told or last.heard_ns > pair.heard_ns:
            return "not_over"
        whole = self._was_there(pair, opens, told)
        if not whole and pair.cause != "backfill":
            return "partial"
        return "exact" if all(pair.equal) else "differs"


def _hours(start_ns: int, end_ns: int) -> tuple[int, int] | None:
    """Return when New York's extended session opens and its regular one closes; None: holiday."""
    extended = session_table(_CALENDAR, EXTENDED, start_ns, end_ns - 1)
    regular = session_table(_CALENDAR, REGULAR, start_ns, end_ns - 1)
    opens, closes = _within(extended, start_ns, end_ns), _within(regular, start_ns, end_ns)
    if opens is None or closes is None:
        return None
    return int(extended.open_ns[opens]), int(regular.close_ns[closes])


def _within(table: SessionTable, start_ns: int, end_ns: int) -> int | None:
    at = bisect_right(table.open_ns.tolist(), end_ns - 1) - 1
    return at if at >= 0 and table.open_ns[at] >= start_ns else None


def _new_york_days(utc_days: Collection[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the date, start and end of New York's days that UTC days reach into, ascending."""
    if not utc_days:
        return
    first, last = min(utc_days) * DAY_NS, (max(utc_days) + 1) * DAY_NS - 1
    table = session_table(_CALENDAR, NY_DAY, first, last)
    for date, opens, closes in zip(
        table.date.tolist(), table.open_ns.tolist(), table.close_ns.tolist(), strict=True
    ):
        if opens // DAY_NS in utc_days or (closes - 1) // DAY_NS in utc_days:
            yield date, opens, closes


def _nothing(
    theirs: dict[Feed, set[int]], ours: dict[Feed, dict[str, set[int]]], pairs: Sequence[str]
) -> str:
    """Say why there is nothing to compare."""
    if theirs:
        feed = next(iter(sorted(theirs)))
        return (
            f"against-vendor: nothing to compare: of {'/'.join(feed)} "
            f"{_rules_of(ours.get(feed, {}))}; stream with --rules {RULES} and with {MINUTE} among "
            "the --timeframes"
        )
    if pairs:
        return (
            "against-vendor: nothing to compare: the vendor's bars here are of crypto "
            f"({', '.join(pairs[:5])}), which hold mid-prices of quotes and cannot be built of "
            "trades; to compare them all the same, name them with --symbols"
        )
    return (
        "against-vendor: nothing to compare: the lake has no bars of the vendor for what was "
        "asked; subscribe to bars and updatedBars as well as to trades"
    )


def _no_bars(found: _Found) -> str:
    if found.untraded:
        some = ", ".join(sorted(found.untraded)[:5])
        return (
            "against-vendor: nothing to compare: no trade was received of what the vendor has bars "
            f"of ({some}); subscribe to trades of it"
        )
    return (
        "against-vendor: nothing to compare: neither side has a bar of what was asked; see "
        "marketpipe sql 'SELECT DISTINCT symbol, session_date FROM vendor_bars'"
    )


def _rules_of(rules: dict[str, set[int]]) -> str:
    if not rules:
        return f"there are no {MINUTE} bars of ours"
    return f"our {MINUTE} bars were built with rules {', '.join(sorted(rules))}"


def _all_apart(found: _Found) -> str:
    counts: Counter[Outcome] = Counter()
    for one in found.days:
        counts.update(one.outcomes)
    said = ", ".join(f"{APART[name]} {n:,}" for name, n in counts.items() if n)
    return (
        f"against-vendor: nothing to compare: no bar is whole on both sides ({said}); let the "
        "feed run for some minutes more"
    )


APART: Final[dict[Outcome, str]] = {
    "partial": "partial",
    "revised": "revised since",
    "cut": "where the feed was cut",
    "not_over": "days not over or not built",
}
"""Words for what is counted apart."""
