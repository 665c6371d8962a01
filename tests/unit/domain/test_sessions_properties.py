"""Laws of session tables and of the bars placed by them."""

from datetime import date
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from marketpipe.domain.sessions import SessionTable, bar_edges, continuous_edges, session_table
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS

KINDS = [
    *(("XNYS", "regular"), ("XNYS", "extended"), ("XNYS", "ny_day"), ("XLON", "regular")),
    *(("XTKS", "regular"), ("XHKG", "regular"), ("CMES", "regular"), ("24/5", "regular")),
]
YEARS = (2008, 2012)


def year_ns(year: int) -> int:
    return (date(year, 1, 1) - date(1970, 1, 1)).days * DAY_NS


@lru_cache
def table(kind: tuple[str, str], first: int = YEARS[0], last: int = YEARS[1]) -> SessionTable:
    return session_table(*kind, year_ns(first), year_ns(last + 1) - 1)


kinds = st.sampled_from(KINDS)
instants = st.integers(year_ns(YEARS[0]), year_ns(YEARS[1] + 1) - 1)
intraday = st.one_of(
    st.integers(1, 86_400).map(lambda n: Timeframe(n, "s")),
    st.sampled_from(["1m", "5m", "7m", "15m", "1h", "4h", "24h"]).map(Timeframe.parse),
)
daylike = st.one_of(
    st.integers(1, 365).map(lambda n: Timeframe(n, "d")),
    st.integers(1, 52).map(lambda n: Timeframe(n, "w")),
)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_disjoint_and_fill_their_sessions(kind: tuple[str, str]) -> None:
    rows = table(kind)
    assert (rows.seg_open < rows.seg_close).all()
    assert (rows.seg_close[:-1] <= rows.seg_open[1:]).all()
    assert (rows.date[:-1] < rows.date[1:]).all()
    assert (np.diff(rows.seg_session) >= 0).all()
    assert (rows.open_ns[rows.seg_session] <= rows.seg_open).all()
    assert (rows.seg_close <= rows.close_ns[rows.seg_session]).all()
    assert set(rows.open_ns.tolist()) <= set(rows.seg_open.tolist())
    assert set(rows.close_ns.tolist()) <= set(rows.seg_close.tolist())
    assert (rows.close_ns <= rows.auction_end_ns).all()
    assert (rows.auction_end_ns[:-1] <= rows.open_ns[1:]).all()


@given(kinds, instants, st.one_of(intraday, daylike))
def test_bar_contains_its_instant(kind: tuple[str, str], ts: int, timeframe: Timeframe) -> None:
    rows = table(kind)
    found = bar_edges(rows, timeframe, ts)
    open_now = bool(((rows.seg_open <= ts) & (ts < rows.seg_close)).any())
    assert (found is not None) == open_now
    if found:
        assert found[0] <= ts < found[1]
        assert found[2] in rows.date


@given(kinds, instants, intraday)
def test_intraday_bar_spans_no_break(kind: tuple[str, str], ts: int, timeframe: Timeframe) -> None:
    rows = table(kind)
    found = bar_edges(rows, timeframe, ts)
    assume(found is not None)
    assert found is not None
    ts_open, ts_close, _ = found
    inside = (rows.seg_open <= ts_open) & (ts_close <= rows.seg_close)
    assert inside.sum() == 1
    assert ts_close - ts_open <= timeframe.duration_ns
    # The bars of a segment tile it: the next begins where this one ends.
    if ts_close < min(rows.seg_close[inside][0], rows.end_ns):
        following = bar_edges(rows, timeframe, ts_close)
        assert following is not None
        assert following[0] == ts_close


@given(kinds, instants, instants, st.one_of(intraday, daylike))
def test_edges_never_step_back(
    kind: tuple[str, str], one: int, other: int, timeframe: Timeframe
) -> None:
    earlier, later = (bar_edges(table(kind), timeframe, ts) for ts in sorted((one, other)))
    if earlier and later:
        assert earlier <= later
        assert earlier == later or earlier[1] <= later[0]


@given(kinds, instants, st.one_of(intraday, daylike))
@settings(max_examples=200)
def test_bar_is_the_same_whatever_range_is_asked(
    kind: tuple[str, str], ts: int, timeframe: Timeframe
) -> None:
    year = 1970 + int((ts // DAY_NS) / 365.2425)
    year += (ts >= year_ns(year + 1)) - (ts < year_ns(year))
    narrow, wide = table(kind, year, year), table(kind)
    assert bar_edges(narrow, timeframe, ts) == bar_edges(wide, timeframe, ts)


@given(kinds, instants, daylike)
def test_day_groups_agree_with_the_reference(
    kind: tuple[str, str], ts: int, timeframe: Timeframe
) -> None:
    rows = table(kind)
    segment = int(np.searchsorted(rows.seg_open, ts, side="right")) - 1
    assume(segment >= 0)
    assume(ts < rows.seg_close[segment])
    session = rows.seg_session[segment]
    ts_open, ts_close = rows.day_groups(timeframe)
    found = ts_open[session], ts_close[session], rows.group_dates(timeframe)[session]
    assert found == bar_edges(rows, timeframe, ts)


@given(st.integers(0, 2**62), st.one_of(intraday, daylike))
def test_continuous_bars_tile_time(ts: int, timeframe: Timeframe) -> None:
    ts_open, ts_close, session_date = continuous_edges(timeframe, ts)
    assert ts_open <= ts < ts_close
    assert session_date == ts_open // DAY_NS
    assert continuous_edges(timeframe, ts_close)[0] == ts_close
    assert continuous_edges(timeframe, ts_open - 1)[1] == ts_open
