"""Roll-up of finished bars: coarser bars from a table of finer ones, exactly."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.bars.grid import uses_table
from marketpipe.bars.merging import SERIES, Edges, Groups, int64_of
from marketpipe.bars.plan import nests
from marketpipe.domain.batches import I64
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.schemas import BARS
from marketpipe.domain.sessions import (
    ALWAYS_OPEN,
    CONTINUOUS,
    NY_DAY,
    SessionTable,
    continuous_edges,
    session_table,
)
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS, format_ns
from marketpipe.errors import CalendarError, InputError, TimeframeError
from marketpipe.normalize.ruleset import RuleSet


def roll_up(
    bars: pa.Table,
    timeframe: str | Timeframe,
    *,
    calendar: str = ALWAYS_OPEN,
    session: str | None = None,
    overrides: Overrides | None = None,
) -> pa.Table:
    """Merge finished bars of one timeframe into coarser ones.

    Open of the first bar, close of the last, extremes, exact sums. ``vwap`` is the quotient of
    the sums under ``plain``; other rule sets leave trades out of it that finished bars no longer
    tell apart, so theirs is the volume-weighted mean of the bars' own. It is rounded half to
    even at nine decimals. Void bars add nothing. What is rolled up has no history: ``revision``
    is 0, ``cause`` ``first``, ``known_at`` the latest of the bars' and of its own end (of d and w:
    of the last session's closing auction); ``state``
    is the least settled of the bars'. An interval of which bars are missing is merged from
    those that are there.

    Parameters
    ----------
    bars : of the schema `BARS`, any order, the latest revision of each; any number of series
    timeframe : of the result; every bar of it must hold whole bars of the finer one
    calendar, overrides : those that the bars were built on
    session : ``regular``, ``extended``, ``continuous`` or ``ny_day``; by default what the bars
        and their rule set say

    Returns
    -------
    Table of the schema `BARS`, sorted by symbol and time.

    Raises
    ------
    InputError
        If the table has other columns, a bar appears twice, or bars do not lie on this grid.
    TimeframeError
        If the bars are of several timeframes, or theirs does not nest in this one.
    CalendarError
        If the grid is not named, or unknown.
    BarOverflowError
        If a sum no longer fits its column.
    """
    coarse = Timeframe.parse(timeframe) if isinstance(timeframe, str) else timeframe
    if bars.schema.names != BARS.names:
        raise InputError(
            f"bars: the columns were {', '.join(bars.schema.names[:40])}; expected those of the "
            "schema BARS, as BarEngine.bars() gives them"
        )
    bars = bars.filter(pc.is_valid(bars["open"]))
    if not len(bars):
        return BARS.empty_table()
    fine = _only_timeframe(bars)
    session = _session(bars, calendar) if session is None else session
    tables = uses_table(calendar, session)
    _check_nests(fine, coarse, tables)
    series, names = _series(bars)
    order = np.lexsort((int64_of(bars, "ts_open"), series))
    bars, series = bars.take(pa.array(order)), series[order]
    opens, closes = int64_of(bars, "ts_open"), int64_of(bars, "ts_close")
    same = series[1:] == series[:-1]
    if (same & (opens[1:] == opens[:-1])).any():
        raise InputError("bars: one bar appears twice; give the latest revision of each only")
    if tables:
        table = session_table(calendar, session, int(opens.min()), int(opens.max()), overrides)
        own, above = (_table_edges(table, timeframe, opens) for timeframe in (fine, coarse))
    else:
        own, above = (_utc_edges(timeframe, opens) for timeframe in (fine, coarse))
    astray = (opens != own.ts_open) | (closes != own.ts_close)
    if astray.any():
        at = int(np.argmax(astray))
        raise InputError(
            f"bars: the one from {format_ns(int(opens[at]))} to {format_ns(int(closes[at]))} is "
            f"none of {fine} on calendar {calendar!r}, session {session!r}; name the calendar and "
            "session that the bars were built on"
        )
    lo = above.ts_open
    starts = np.flatnonzero(np.concatenate([[True], ~same | (lo[1:] != lo[:-1])]))
    groups = Groups(bars, starts, np.append(starts[1:], len(bars)) - 1)
    return groups.table(str(coarse), names[series[starts]], above.at(starts))


def _only_timeframe(bars: pa.Table) -> Timeframe:
    found = pc.unique(bars["timeframe"]).to_pylist()
    if len(found) > 1:
        raise TimeframeError(
            f"bars: their timeframes were {', '.join(sorted(found))}; roll up one at a time"
        )
    return Timeframe.parse(found[0])


def _session(bars: pa.Table, calendar: str) -> str:
    sessions = pc.unique(bars["session"]).to_pylist()
    rules = pc.unique(bars["rule_set"]).to_pylist()
    own = {r in RuleSet.names() and RuleSet.load(r).anchoring == "ny_day" for r in rules}
    if len(sessions) > 1 or len(own) > 1:
        raise CalendarError(
            f"bars: sessions were {', '.join(sorted(sessions))} and rule sets "
            f"{', '.join(sorted(rules))}, on several grids; roll up those of one grid at a time"
        )
    if own == {True}:
        return NY_DAY
    if sessions[0] != CONTINUOUS and calendar == ALWAYS_OPEN:
        raise CalendarError(
            f"calendar: was '{ALWAYS_OPEN}', but the bars are of session {sessions[0]!r}; name "
            "the calendar that they were built on, such as calendar='XNYS'"
        )
    return str(sessions[0])


def _check_nests(fine: Timeframe, coarse: Timeframe, tables: bool) -> None:
    if not fine < coarse:
        raise TimeframeError(
            f"timeframe: was '{coarse}', not coarser than the bars' '{fine}'; bars only merge"
        )
    if nests(fine, coarse, tables=tables):
        return
    if fine.is_intraday == coarse.is_intraday:
        why = f"a bar of {coarse} is no whole number of bars of {fine}"
    else:
        why = f"a day of UTC is no whole number of bars of {fine}"
    raise TimeframeError(f"timeframe: was '{coarse}', but {why}; build it from the ticks instead")


def _series(bars: pa.Table) -> tuple[I64, npt.NDArray[Any]]:
    """Give each bar the rank of its series (by symbol, feed, source), and each rank its names."""
    code = np.zeros(len(bars), np.int64)
    words: list[list[str]] = []
    for column in SERIES:
        coded = bars[column].combine_chunks().dictionary_encode()
        texts = coded.dictionary.to_pylist()
        rank = np.empty(len(texts), np.int64)
        rank[sorted(range(len(texts)), key=texts.__getitem__)] = range(len(texts))
        code = code * len(texts) + rank[coded.indices.to_numpy()]
        words.append(sorted(texts))
    found, series = np.unique(code, return_inverse=True)
    shape = tuple(len(texts) for texts in words)
    names = np.empty((len(found), len(SERIES)), object)
    for i, codes in enumerate(np.unravel_index(found, shape)):
        names[:, i] = np.array(words[i], object)[codes]
    return series.astype(np.int64), names


def _utc_edges(timeframe: Timeframe, ts_ns: I64) -> Edges:
    origin, end, _ = continuous_edges(timeframe, 0)
    lo = origin + (ts_ns - origin) // (end - origin) * (end - origin)
    hi = lo + (end - origin)
    return Edges(lo, hi, hi, lo // DAY_NS)


def _table_edges(table: SessionTable, timeframe: Timeframe, ts_ns: I64) -> Edges:
    segment = np.searchsorted(table.seg_open, ts_ns, side="right") - 1
    if segment.min() < 0 or (ts_ns >= table.seg_close[segment]).any():
        raise InputError(
            f"bars: some start outside the sessions of calendar {table.calendar!r}, session "
            f"{table.session!r}; name the calendar and session that they were built on"
        )
    session = table.seg_session[segment]
    if timeframe.is_intraday:
        start, length = table.seg_open[segment], timeframe.duration_ns
        lo = start + (ts_ns - start) // length * length
        hi: I64 = np.minimum(lo + length, table.seg_close[segment])
        return Edges(lo, hi, hi, table.date[session].astype(np.int64))
    opens, closes = table.day_groups(timeframe)
    last = np.searchsorted(table.close_ns, closes[session])
    dates = table.group_dates(timeframe)[session].astype(np.int64)
    return Edges(opens[session], closes[session], table.auction_end_ns[last], dates)
