"""Bars that are kept, beside the same bars computed anew from the canonical trades."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.columns import i64_of
from marketpipe.lake import LakeTable
from marketpipe.normalize.restored import distinct_rows
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.fresh import FreshBars
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.restate import IDENTITY, Restatement, arrow, frame, restate

_UNIT_DAYS = {"d": 1, "w": 7}


REBUILT_FROM: Final = ("trades", "corrections", "bars")
"""Tables of the lake that bars are computed of anew and compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which bars are computed anew.

    Attributes
    ----------
    source, feed : the series' vendor and feed
    symbols : those to look at
    first_ns, last_ns : bars that hold an instant of this range, both inclusive, ns
    closed_ns : only bars that end at or before this, ns
    """

    source: str
    feed: str
    symbols: tuple[str, ...]
    first_ns: int
    last_ns: int
    closed_ns: int


def restatement(
    tables: Mapping[str, LakeTable],
    settings: DeriveSettings,
    scope: Scope,
    dates: Days,
    *,
    workers: int = 1,
) -> Restatement:
    """Compute the bars of a scope from canonical trades, and compare them with those kept.

    Parameters
    ----------
    tables : of the lake
    settings : what the bars are
    dates : session dates of the scope; of no day of its `days_read` may rows have been dropped
    """
    wide = days_read(settings, dates)
    mine = (ds.field("source") == scope.source) & (ds.field("feed") == scope.feed)
    trades, corrections = (
        read_rows(tables[name], wide, scope.symbols, mine) for name in ("trades", "corrections")
    )
    fresh = FreshBars(settings).of_trades(trades, corrections, workers=workers)
    there = within(kept(tables["bars"], settings, scope, wide), scope)
    # a cancel leaves no trace in fresh bars, but they were not known before it
    times = (rows["known_at"] for rows in (trades, corrections, there) if len(rows))
    newest_ns = max((int(pc.max(known).as_py()) for known in times), default=0)
    return replace(restate(there, within(fresh, scope)), newest_ns=newest_ns)


def kept(bars: LakeTable, settings: DeriveSettings, scope: Scope, dates: Days) -> pa.Table:
    """Return the last revision of each bar that is kept, void ones included."""
    session = FreshBars(settings).engine("trade").session
    condition = (
        (ds.field("source") == scope.source)
        & (ds.field("feed") == scope.feed)
        & (ds.field("price_type") == "trade")
        & (ds.field("rule_set") == settings.rule_set.name)
        & (ds.field("session") == session)
        & ds.field("timeframe").isin([str(tf) for tf in settings.timeframes])
    )
    return latest(read_rows(bars, dates, scope.symbols, condition))


def latest(bars: pa.Table) -> pa.Table:
    """Return the last revision of each bar."""
    rows = frame(bars).sort("revision")
    return arrow(rows.unique(list(IDENTITY), keep="last", maintain_order=True))


def within(bars: pa.Table, scope: Scope) -> pa.Table:
    """Return the bars that a scope asks for, of its symbols."""
    return bars.filter(
        (pc.field("ts_open") <= scope.last_ns)
        & (pc.field("ts_close") > scope.first_ns)
        & (pc.field("ts_close") <= scope.closed_ns)
    )


def without(bars: pa.Table, changed: Mapping[StreamKey, frozenset[int]]) -> pa.Table:
    """Leave out the bars of some sessions."""
    if not changed or not len(bars):
        return bars
    dates = i64_of(bars["session_date"].cast(pa.int32()).cast(pa.int64()))
    codes, names = distinct_rows(bars, ("source", "feed", "symbol"))
    keep = np.ones(len(bars), np.bool_)
    for code, (source, feed, symbol) in enumerate(names):
        gone = changed.get(StreamKey(source, feed, symbol), frozenset())
        keep &= ~((codes == code) & np.isin(dates, sorted(gone)))
    return bars.filter(pa.array(keep))


def days_read(settings: DeriveSettings, dates: Days) -> Days:
    """Return the session dates that bars may have ticks of if they have one of some dates."""
    longest = max((tf.n * _UNIT_DAYS.get(tf.unit, 0) for tf in settings.timeframes), default=0)
    reach = longest if longest > 1 else 0
    return Days(dates.first - reach, dates.last + reach)
