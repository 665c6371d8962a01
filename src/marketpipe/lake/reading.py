"""The lake as its users read it: as of now, or as of any instant before."""

# ruff: noqa: S608 - values are quoted by views.literal, all else are names of ours

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from marketpipe.domain.findings import Findings
from marketpipe.domain.schemas import PRICE_TYPES
from marketpipe.domain.timeframe import Timeframe
from marketpipe.errors import LakeError, UsageError
from marketpipe.lake.asking import Ask, asked, check_knowledge, valid_symbols
from marketpipe.lake.instants import Instant, instant_ns
from marketpipe.lake.layout import TABLES
from marketpipe.lake.sandbox import SqlLimits, run_query
from marketpipe.lake.series import (
    LISTING_ORDER,
    PLACED_BY,
    chosen_condition,
    named_condition,
    refuse_unknown,
    series_listing,
)
from marketpipe.lake.snapshot import Files, LiveTable, Wanted
from marketpipe.lake.views import (
    BAR_SERIES,
    FINDINGS,
    ORDER_KEY,
    SERIES,
    VIEWS,
    Knowledge,
    effective_trades,
    findings_view,
    known,
    latest_bars,
    literal,
    one_of,
    rows,
    scan,
    view,
)

_BAR_ORDER: Final = ("symbol", "timeframe", "ts_open", "revision")
_TICK_ORDER: Final = ("symbol", *ORDER_KEY, "journal_id", '"offset"')
_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}

_NO_TIMES: Final = (
    "which are totals without times, so what they were then is not known; leave as_of out"
)
_NOT_HERE: Final = "which are not in the lake; open the data folder with marketpipe.open(FOLDER)"


class Lake:
    """The tables of one lake, read together.

    Of all methods: ``symbols`` is one or several; ``start`` is inclusive, ``end`` exclusive, either
    may be left out. An instant is ns since the epoch, an aware datetime, RFC 3339 with a zone, or
    a date, which stands for the start of that UTC day: one day is ``("2026-01-05",
    "2026-01-06")``. ``as_of`` hides what became known after it (a row known at that very instant
    is seen); ``knowledge`` says by which time: ``assumed``, when the market could have known it,
    or ``strict``, when we received it. Rows are sorted by symbol and time. Prices, sizes and sums
    are exact decimals, instants int64 ns since the epoch, UTC. A symbol without data has no rows.

    Each symbol's rows are of one series. What the parameters leave open follows ``priority``: the
    first of it that has rows in what was asked; the columns name the series. Safe to use from
    several threads.

    Parameters
    ----------
    root : folder of the lake, ``<data>/lake``; it may not exist yet
    priority : ``source/feed``, the preferred first
    limits : what one SQL query may cost
    findings : gives what pipelines noticed, by pipeline, which is not in the lake; asked for by
        SQL that names it

    Raises
    ------
    UsageError
        By every method, if an argument cannot be read.
    SeriesError
        By every method that takes symbols: more than one series fits, or none is so named.
    LakeError
        By every method, if a table or file cannot be read; `NewerVersionError` if a newer version
        of MarketPipe wrote it.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        priority: Sequence[str] = (),
        limits: SqlLimits | None = None,
        findings: Callable[[], Mapping[str, Findings]] | None = None,
    ) -> None:
        folder = Path(root).absolute()
        self._limits = limits or SqlLimits()
        self._priority = tuple(priority)
        self._findings = findings
        self._tables = {
            name: LiveTable(spec, folder / spec.folder) for name, spec in TABLES.items()
        }
        self._con = duckdb.connect(":memory:", config=_CONFIG)

    def bars(
        self,
        symbols: str | Iterable[str],
        timeframe: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        history: bool = False,
        source: str | None = None,
        feed: str | None = None,
        rules: str | None = None,
        session: str | None = None,
        price: str | None = None,
    ) -> pl.DataFrame:
        """Return bars whose ``ts_open`` lies within the range: of each its highest revision.

        A bar whose highest revision is void (its trades were cancelled) is not there. With
        ``history`` every revision is, void ones too.
        """
        if price is not None and price not in PRICE_TYPES:
            raise UsageError(f"price: was {price!r}; valid are {', '.join(PRICE_TYPES)}")
        named = {
            "source": source,
            "feed": feed,
            "price_type": price,
            "rule_set": rules,
            "session": session,
        }
        is_timeframe = f"timeframe = {literal(str(Timeframe.parse(timeframe)))}"
        ask = asked(symbols, start, end, as_of, knowledge)
        stored, _ = self._stored("bars", ask, named, is_timeframe)
        return self._fetch(stored if history else latest_bars(stored), _BAR_ORDER)

    def trades(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        raw: bool = False,
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return trades with cancels and corrections applied, or as they first came (``raw``).

        A corrected trade keeps its time and its place in the order, has the latest correction's
        price, size, conditions and id, and became known with the last of its corrections.
        """
        ask = asked(symbols, start, end, as_of, knowledge)
        stored, files = self._stored("trades", ask, {"source": source, "feed": feed})
        fixes = None if raw else self._fixes(ask, files)
        if fixes is not None:
            stored = effective_trades(stored, fixes)
        return self._fetch(stored, _TICK_ORDER)

    def quotes(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return quotes."""
        ask = asked(symbols, start, end, as_of, knowledge)
        return self._ticks("quotes", ask, source, feed)

    def book(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return the levels of book messages; those of one message follow one another."""
        ask = asked(symbols, start, end, as_of, knowledge)
        return self._ticks("book", ask, source, feed, "level")

    def statuses(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return halts, resumptions and price bands."""
        ask = asked(symbols, start, end, as_of, knowledge)
        return self._ticks("statuses", ask, source, feed)

    def corrections(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return cancels and corrections, by their own time and not that of the trades."""
        ask = asked(symbols, start, end, as_of, knowledge)
        return self._ticks("corrections", ask, source, feed)

    def vendor_bars(
        self,
        symbols: str | Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        as_of: Instant | None = None,
        knowledge: Knowledge = "assumed",
        source: str | None = None,
        feed: str | None = None,
    ) -> pl.DataFrame:
        """Return bars as the vendor published them, by ``ts_open``, updates of a bar included."""
        ask = asked(symbols, start, end, as_of, knowledge)
        return self._ticks("vendor_bars", ask, source, feed)

    def sql(
        self, query: str, *, as_of: Instant | None = None, knowledge: Knowledge = "assumed"
    ) -> pl.DataFrame:
        """Run one SELECT of DuckDB's SQL over all tables, in a sandbox of its own.

        The views are ``raw``, ``trades`` (cancels and corrections applied), ``quotes``, ``book``,
        ``statuses``, ``vendor_bars``, ``corrections``, ``bars`` (highest revisions, void ones left
        out) and ``quarantine``. With ``as_of`` each holds what was known then; of ``raw`` and
        ``quarantine`` that is what was received. ``findings`` has totals as of each pipeline's
        last checkpoint, without times, so there is none with ``as_of``.
        """
        instant = None if as_of is None else instant_ns(as_of, "as_of")
        check_knowledge(knowledge)
        files = {name: self._tables[name].files() for name in VIEWS}
        views = {
            name: view(name, files[name], files["corrections"], instant, knowledge)
            for name in VIEWS
        }
        withheld = {}
        if instant is not None:
            withheld[FINDINGS] = _NO_TIMES
        elif self._findings is None:
            withheld[FINDINGS] = _NOT_HERE
        else:
            # Every way to read a view names it, and most queries do not.
            named = FINDINGS in query.lower()
            views[FINDINGS] = findings_view(self._findings() if named else {})
        paths = [path for found in files.values() for path in found.paths]
        return run_query(query, views, paths, self._limits, withheld)

    def series(self, symbols: str | Iterable[str] | None = None) -> pl.DataFrame:
        """List what there is: one row per table, series, symbol and timeframe.

        Returns
        -------
        Columns ``table, source, feed, symbol, price_type, rule_set, session, timeframe`` (null
        where a table has none), ``rows`` (stored ones, all revisions), ``first``, ``last`` (ns;
        ``ts_open`` of bars, else ``ts_event``).
        """
        wanted = Wanted(symbols=() if symbols is None else valid_symbols(symbols))
        stored = {name: scan(name, self._tables[name].files(wanted)) for name in PLACED_BY}
        return self._fetch(series_listing(stored, wanted.symbols), LISTING_ORDER)

    def _ticks(
        self, name: str, ask: Ask, source: str | None, feed: str | None, *order: str
    ) -> pl.DataFrame:
        stored, _ = self._stored(name, ask, {"source": source, "feed": feed})
        return self._fetch(stored, (*_TICK_ORDER, *order))

    def _stored(
        self, name: str, ask: Ask, named: Mapping[str, str | None], condition: str = "true"
    ) -> tuple[str, Files]:
        """Return a SELECT of what a read is about, of one series a symbol, and its files."""
        instant = PLACED_BY[name]
        wanted = Wanted(symbols=ask.symbols, column=instant, start=ask.start, end=ask.end)
        files = self._tables[name].files(wanted)
        where = [
            one_of("symbol", ask.symbols),
            condition,
            known(name, ask.as_of, ask.knowledge),
            named_condition(named),
        ]
        where += [f"{instant} >= {ask.start}"] if ask.start is not None else []
        where += [f"{instant} < {ask.end}"] if ask.end is not None else []
        about = " AND ".join(where)
        series = BAR_SERIES if name == "bars" else SERIES
        found = self._distinct(rows(name, files, about), ("symbol", *series))
        if found.is_empty():
            if any(value is not None for value in named.values()):
                whole = scan(name, self._tables[name].files())
                refuse_unknown(named, self._distinct(whole, series))
            return rows(name, Files()), Files()
        return rows(name, files, f"{about} AND {chosen_condition(found, self._priority)}"), files

    def _fixes(self, ask: Ask, trades: Files) -> str | None:
        """Return a SELECT of what was known of corrections of trades; none if there was nothing."""
        # A correction is filed under the session date of its trade.
        dates = self._tables["trades"].dates(trades)
        files = self._tables["corrections"].files(Wanted(symbols=ask.symbols, dates=dates))
        is_known = known("corrections", ask.as_of, ask.knowledge)
        found = rows("corrections", files, f"{is_known} AND {one_of('symbol', ask.symbols)}")
        # Most symbols have none, and applying none would take as long as reading the trades.
        return found if files and self._distinct(found, ["symbol"]).height else None

    def _distinct(self, query: str, columns: Sequence[str]) -> pl.DataFrame:
        return self._fetch(f"SELECT DISTINCT {', '.join(columns)} FROM ({query})", columns)

    def _fetch(self, query: str, order: Iterable[str]) -> pl.DataFrame:
        with self._con.cursor() as con:
            try:
                found: pl.DataFrame = con.sql(f"{query} ORDER BY {', '.join(order)}").pl()
            except duckdb.Error as error:
                for table in self._tables.values():
                    table.forget()
                what = str(error).split("\n\nLINE ", maxsplit=1)[0]
                raise LakeError(
                    f"a table of the lake cannot be read: {what}; if a file is missing, rebuild "
                    "the table from the raw layer"
                ) from error
        return found
