"""Our bars beside the vendor's own of the same stream, as SQL over the lake."""

# ruff: noqa: S608 - values are quoted by views.literal, all else are names of ours

from bisect import bisect_right
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import duckdb

from marketpipe.domain.schemas import BACKFILLED
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import LakeError
from marketpipe.lake.layout import TABLES, LakeLayout, day_of
from marketpipe.lake.snapshot import LiveTable, Wanted
from marketpipe.lake.views import SERIES, literal, one_of, rows
from marketpipe.pipelines.connectivity import merged

RULES: Final = "alpaca-v1"
"""The rule set that is the vendor's."""
MINUTE: Final = "1m"
DAY: Final = "1d"
COLUMNS: Final = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
"""Columns of a bar that are compared."""
VWAP_DIGITS: Final = 6
"""Decimals that the vendor rounds the vwap of a stock to."""

_KEY: Final = (*SERIES, "symbol", "timeframe", "ts_open")
_HALF: Final = Decimal(5).scaleb(-VWAP_DIGITS - 1)
_HEARD: Final = "coalesce(ts_recv, recorded_at)"

Feed = tuple[str, str]
"""Source and feed."""


class Word(NamedTuple):
    """What one side says of a bar, by column."""

    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    trade_count: int | None
    vwap: Decimal | None


class Pair(NamedTuple):
    """One interval of which either side has a bar.

    Attributes
    ----------
    source, feed, symbol, timeframe, ts_open : which; ns since the epoch, inclusive
    ours : our latest revision; None where we have none, or a void one
    theirs : the vendor's latest word; None where it has none
    equal : by column of `COLUMNS`, whether both say the same
    partial : whether ours is, and has not been filled in since
    ts_close, revision, cause, known_at : of ours, void or not; None where there is none
    kind, heard_ns, journal_id, offset : of theirs: ``bar``, ``updated`` or ``daily``, and its
        record
    """

    source: str
    feed: str
    symbol: str
    timeframe: str
    ts_open: int
    ours: Word | None
    theirs: Word | None
    equal: tuple[bool, ...]
    partial: bool
    ts_close: int | None
    revision: int | None
    cause: str | None
    known_at: int | None
    kind: str | None
    heard_ns: int | None
    journal_id: str | None
    offset: int | None


class Tally(NamedTuple):
    """A symbol's minutes of one day: how many both sides have, whole and equal in every cell."""

    source: str
    feed: str
    symbol: str
    timeframe: str
    exact: int
    ours: int
    theirs: int


class Last(NamedTuple):
    """When the last trade of a symbol's day was, and when we last heard of one; ns."""

    ts_event: int
    heard_ns: int


class Revision(NamedTuple):
    """An earlier revision of a bar of ours."""

    said: Word
    cause: str
    known_at: int


class VendorSide:
    """Reads both sides from one lake; a context manager.

    Parameters
    ----------
    layout : the lake
    symbols : only these; none means all but crypto pairs, whose bars the vendor makes of quotes too

    Raises
    ------
    LakeError
        By every method, if a table cannot be read.
    """

    def __init__(self, layout: LakeLayout, symbols: Collection[str] = ()) -> None:
        self._tables = {
            name: LiveTable(spec, layout.path(name))
            for name, spec in TABLES.items()
            if name in ("bars", "vendor_bars", "trades", "corrections", "raw")
        }
        self._symbols = tuple(sorted(symbols))
        self._con = duckdb.connect()

    def __enter__(self) -> "VendorSide":
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def theirs(self) -> dict[Feed, set[int]]:
        """Return the feeds that have bars of the vendor, and the UTC days of these."""
        found: dict[Feed, set[int]] = {}
        for source, feed, day in self._distinct("vendor_bars", "source, feed", "true"):
            found.setdefault((source, feed), set()).add(day)
        return found

    def ours(self) -> dict[Feed, dict[str, set[int]]]:
        """Return the feeds of our minutes of trades: by rule set, the UTC days of these."""
        found: dict[Feed, dict[str, set[int]]] = {}
        where = f"price_type = 'trade' AND timeframe = {literal(MINUTE)}"
        for source, feed, rules, day in self._distinct("bars", "source, feed, rule_set", where):
            found.setdefault((source, feed), {}).setdefault(rules, set()).add(day)
        return found

    def pairs(self) -> list[str]:
        """Return the crypto pairs that the vendor has bars of, sorted, named or not."""
        stored = rows("vendor_bars", self._tables["vendor_bars"].files(), "contains(symbol, '/')")
        return [row[0] for row in self._fetch(f"SELECT DISTINCT symbol FROM ({stored}) ORDER BY 1")]

    def _distinct(self, name: str, columns: str, where: str) -> list[tuple[Any, ...]]:
        stored = self._stored(name, Wanted(symbols=self._symbols), where)
        return self._fetch(f"SELECT DISTINCT {columns}, ts_open // {DAY_NS} FROM ({stored})")

    def load(self, feeds: Sequence[Feed], start_ns: int, end_ns: int) -> None:
        """Put the bars of some feeds that open in [start, end) side by side, for what follows."""
        wanted = Wanted(symbols=self._symbols, column="ts_open", start=start_ns, end=end_ns)
        where = (
            f"ts_open >= {start_ns} AND ts_open < {end_ns} "
            f"AND timeframe IN ({literal(MINUTE)}, {literal(DAY)}) AND {_of(feeds)}"
        )
        of_ours = f"{where} AND price_type = 'trade' AND rule_set = {literal(RULES)}"
        key = ", ".join(_KEY)
        same = ", ".join(f"{_same(column)} AS {column}_same" for column in COLUMNS)
        said = ", ".join(f"o.{c} AS our_{c}, v.{c} AS their_{c}" for c in COLUMNS)
        self._fetch(
            f"""CREATE OR REPLACE TEMP TABLE beside AS
WITH v AS (
    SELECT *, {_HEARD} AS heard_ns FROM ({self._stored("vendor_bars", wanted, where)})
    QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY heard_ns DESC,
        kind = 'updated' DESC, journal_id, "offset" DESC) = 1
), o AS (
    SELECT * FROM ({self._stored("bars", wanted, of_ours)})
    QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY revision DESC) = 1
)
SELECT {key}, {said}, {same}, coalesce(o.coverage <> 'void', false) AS is_ours,
    v.kind IS NOT NULL AS is_theirs,
    coalesce(o.partial AND o.cause <> 'backfill', false) AS partial,
    o.ts_close, o.revision, o.cause, o.known_at, v.kind, v.heard_ns, v.journal_id, v."offset"
FROM o FULL JOIN v USING ({key})"""
        )

    def tallies(self) -> list[Tally]:
        """Return what is equal, of each symbol and timeframe; sorted."""
        found = self._fetch(
            f"""SELECT source, feed, symbol, timeframe, count(*) FILTER ({_EXACT}),
    count(*) FILTER (is_ours), count(*) FILTER (is_theirs)
FROM beside GROUP BY ALL ORDER BY ALL"""
        )
        return [Tally(*row) for row in found]

    def odd(self) -> list[Pair]:
        """Return all that is not equal in every cell, and whole; of days all; sorted.

        A symbol that the vendor has no bar of in a timeframe is left out.
        """
        said = ", ".join(f"{side}_{column}" for side in ("our", "their") for column in COLUMNS)
        same = ", ".join(f"{column}_same" for column in COLUMNS)
        found = self._fetch(
            f"""SELECT {", ".join(_KEY)}, is_ours, is_theirs, partial, ts_close, revision, cause,
    known_at, kind, heard_ns, journal_id, "offset", {said}, {same}
FROM (SELECT *, bool_or(is_theirs) OVER (PARTITION BY source, feed, symbol, timeframe) AS has_some
    FROM beside)
WHERE (is_ours OR is_theirs) AND has_some AND ((NOT ({_EXACT})) OR timeframe = {literal(DAY)})
ORDER BY source, feed, symbol, timeframe DESC, ts_open"""
        )
        return [_pair(row) for row in found]

    def revisions(self, pair: Pair) -> list[Revision]:
        """Return what we said of a bar, first to last."""
        wanted = Wanted(
            symbols=(pair.symbol,), column="ts_open", start=pair.ts_open, end=pair.ts_open + 1
        )
        where = (
            f"{_of([(pair.source, pair.feed)])} AND symbol = {literal(pair.symbol)} AND "
            f"timeframe = {literal(pair.timeframe)} AND ts_open = {pair.ts_open} AND "
            f"price_type = 'trade' AND rule_set = {literal(RULES)}"
        )
        found = self._fetch(
            f"SELECT {', '.join(COLUMNS)}, cause, known_at "
            f"FROM ({self._stored('bars', wanted, where)}) ORDER BY revision"
        )
        count = len(COLUMNS)
        return [Revision(Word(*row[:count]), row[count], row[count + 1]) for row in found]

    def connected(self, feed: Feed, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """Return when a feed was connected around [start, end): intervals of receipt, ascending."""
        days = range(start_ns // DAY_NS, end_ns // DAY_NS + 1)
        dates = [day_of(day * DAY_NS).isoformat() for day in days]
        stored = self._stored("raw", Wanted(dates=dates), _of([feed]))
        found = self._fetch(
            "SELECT min(ts_recv), max(ts_recv) FROM "
            f"({stored}) GROUP BY journal_id, conn_started_ns, conn_id"
        )
        return merged([(low, high) for low, high in found])

    def last(self, start_ns: int, end_ns: int, symbols: Collection[str]) -> dict[Any, Last]:
        """Return the last there is of trades in [start, end): by source, feed and symbol."""
        names = tuple(sorted(symbols))
        if not names:
            return {}
        wanted = Wanted(symbols=names, column="ts_event", start=start_ns, end=end_ns)
        key = "source, feed, symbol"

        def within(column: str) -> str:
            return f"{column} >= {start_ns} AND {column} < {end_ns}"

        trades = self._stored("trades", wanted, within("ts_event"))
        fixes = self._stored("corrections", Wanted(symbols=names), within("trade_ts_event"))
        # What was loaded to fill a gap the vendor knew all along.
        heard = f"CASE WHEN flags & {BACKFILLED} = 0 THEN {_HEARD} ELSE 0 END"
        found = self._fetch(
            f"""SELECT {key}, max(ts_event), max(heard) FROM (
    SELECT {key}, ts_event, {heard} AS heard FROM ({trades}) UNION ALL
    SELECT {key}, 0, {_HEARD} FROM ({fixes})) GROUP BY ALL"""
        )
        return {row[:3]: Last(*row[3:]) for row in found}

    def _stored(self, name: str, wanted: Wanted, where: str) -> str:
        chosen = one_of("symbol", self._symbols) if self._symbols else "NOT contains(symbol, '/')"
        if name != "raw":
            where = f"{where} AND {chosen}"
        return rows(name, self._tables[name].files(wanted), where)

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._con.execute(query).fetchall()
        except duckdb.Error as error:
            raise LakeError(
                f"a table of the lake cannot be read: {error}; if a file is missing, rebuild the "
                "table from the raw layer"
            ) from error


_EXACT: Final = "is_ours AND is_theirs AND NOT partial AND " + " AND ".join(
    f"{column}_same" for column in COLUMNS
)


def same_word(ours: Word, theirs: Word) -> bool:
    """Whether two words on a bar are equal, vwap to the decimals that the vendor gives."""
    return ours[:-1] == theirs[:-1] and same_vwap(ours.vwap, theirs.vwap)


def same_vwap(ours: Decimal | None, theirs: Decimal | None) -> bool:
    """Whether a mean is one that the vendor could have rounded to what it gives."""
    if ours is None or theirs is None:
        return ours == theirs
    return abs(ours - theirs) <= _HALF


def was_covered(spans: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> bool:
    """Whether one of some ascending intervals holds [start, end]."""
    at = bisect_right(spans, start_ns, key=lambda span: span[0]) - 1
    return at >= 0 and end_ns <= spans[at][1]


def _same(column: str) -> str:
    same = f"o.{column} IS NOT DISTINCT FROM v.{column}"
    if column != "vwap":
        return same
    wide = "DECIMAL(38,9)"
    return f"coalesce(abs(o.vwap::{wide} - v.vwap::{wide}) <= {_HALF:f}::{wide}, {same})"


def _of(feeds: Sequence[Feed]) -> str:
    some = (f"(source = {literal(s)} AND feed = {literal(f)})" for s, f in feeds)
    return f"({' OR '.join(some)})"


def _pair(row: tuple[Any, ...]) -> Pair:
    is_ours, is_theirs, partial = row[5:8]
    said, count = row[16:], len(COLUMNS)
    ours = Word(*said[:count]) if is_ours else None
    theirs = Word(*said[count : 2 * count]) if is_theirs else None
    return Pair._make((*row[:5], ours, theirs, said[2 * count :], partial, *row[8:16]))
