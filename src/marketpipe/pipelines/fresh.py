"""Bars computed anew from canonical ticks, whatever was computed before."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.bars import BarEngine
from marketpipe.domain.ticks import Ticks
from marketpipe.normalize import CorrectionBook
from marketpipe.normalize.restored import chosen, stored_ticks
from marketpipe.pipelines.arrivals import correction_messages
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.repairs import concerned, corrected


@dataclass(frozen=True, slots=True)
class FreshBars:
    """Builds final bars of canonical ticks in one go, order of arrival aside.

    Parameters
    ----------
    settings : what to build; a bar counts as known ``delay_ns + grace_ns`` after its end, or
        when its last tick or correction was
    """

    settings: DeriveSettings

    def engine(self, price_type: str, workers: int = 1) -> BarEngine:
        """Return an empty engine for these bars."""
        s = self.settings
        return BarEngine(
            s.timeframes,
            calendar=s.calendar,
            session=s.session,
            rule_set=s.rule_set,
            price_type=price_type,
            grace_ns=s.delay_ns + s.grace_ns,
            events=False,
            workers=workers,
            overrides=s.overrides,
        )

    def date_of(self, ts_ns: int) -> int:
        """Return the session date (days since 1970-01-01) that an instant (ns) is in."""
        return int(self.engine("trade").dates_of(np.array([ts_ns], np.int64))[0])

    def of_trades(self, trades: pa.Table, corrections: pa.Table, *, workers: int = 1) -> pa.Table:
        """Return the bars of canonical trades after all corrections, schema BARS."""
        left = effective(trades, corrections)
        engine = self.engine("trade", workers)
        engine.apply(in_time(left, self.settings, "trade"))
        engine.flush()
        return engine.bars()

    def of_quotes(self, quotes: pa.Table, price_type: str) -> pa.Table:
        """Return the bars of canonical quotes, schema BARS."""
        engine = self.engine(price_type)
        engine.apply(in_time(quotes, self.settings, price_type))
        engine.flush()
        return engine.bars()


def in_time(table: pa.Table, settings: DeriveSettings, price_type: str) -> Ticks:
    """Return canonical ticks in order of event time, so that none is late."""
    ticks = stored_ticks(table, settings.rule_set, price_type)
    return chosen(ticks, np.argsort(ticks.ts_event, kind="stable"))


def effective(trades: pa.Table, corrections: pa.Table) -> pa.Table:
    """Return what is left of canonical trades after all of some canonical corrections.

    A corrected trade is known when its last correction is. A trade that came in two journals, in
    one of loads and one of a feed, is one.
    """
    trades = once(trades)
    book = CorrectionBook()
    for message in correction_messages(corrections):
        book.add(message)
    if not book:
        return trades
    about = concerned(trades, book)
    for row, (scope, date, trade_id) in about:
        book.admit(scope, date, trade_id, int(trades["ts_event"][row].as_py()))
    return corrected(trades, about, book)


def once(trades: pa.Table) -> pa.Table:
    """Leave out trades whose vendor's id came before in another journal; keep the first received.

    Within one journal ids are there once already.
    """
    if pc.count_distinct(trades["journal_id"]).as_py() < 2:
        return trades
    ordered = trades.sort_by(
        [("recorded_at", "ascending"), ("journal_id", "ascending"), ("offset", "ascending")]
    )
    names = [*_IDENTITY, "trade_id"]
    numbered = pl.DataFrame({n: pl.Series(ordered[n].combine_chunks()) for n in names})
    repeated = (pl.int_range(pl.len()).over(names) > 0) & pl.col("trade_id").is_not_null()
    keep = numbered.select(~repeated).to_series().to_arrow()
    return ordered.filter(keep)


_IDENTITY = ("source", "feed", "symbol", "venue", "tape", "session_date")
