"""Calendars: names, bounds, and that nothing is imported for markets that never close."""

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from marketpipe.domain.calendars import calendar_names, find_calendar
from marketpipe.domain.sessions import session_table
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import CalendarError


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


NOW = ns("2024-07-05")


@pytest.mark.parametrize(
    ("name", "near"), [("XNYX", "XNYS"), ("nyse", "NYSE"), ("XTSK", "XTKS"), ("24-7", "24/7")]
)
def test_unknown_calendar_suggests_near_names(name: str, near: str) -> None:
    with pytest.raises(CalendarError, match=f"was '{name}', which is unknown") as refusal:
        session_table(name, "regular", NOW, NOW)
    assert near in str(refusal.value)
    assert "calendar_names() lists all" in str(refusal.value)


def test_unknown_calendar_like_no_other_still_names_the_remedy() -> None:
    with pytest.raises(CalendarError, match="is unknown; use an exchange's MIC"):
        session_table("", "regular", NOW, NOW)


def test_calendar_alias_resolves_to_the_same_table() -> None:
    assert session_table("NYSE", "regular", NOW, NOW) is session_table("XNYS", "regular", NOW, NOW)
    assert {"NYSE", "XNYS", "24/7", "CMES"} <= set(calendar_names())


def test_unknown_session_lists_the_known_ones() -> None:
    with pytest.raises(CalendarError, match="was 'open'; expected one of regular, extended"):
        session_table("XNYS", "open", NOW, NOW)


@pytest.mark.parametrize("calendar", ["XTKS", "24/7", "CMES"])
def test_extended_session_without_data_is_refused(calendar: str) -> None:
    with pytest.raises(CalendarError, match=f"'{calendar}' has no extended hours"):
        session_table(calendar, "extended", 0, NOW)


def test_instant_before_what_is_known_is_refused() -> None:
    early = ns("1996-12-31 23:59:59")
    for last in (early, NOW):
        with pytest.raises(
            CalendarError, match=r"was 1996-12-31T23:59:59Z.*from 1997-01-01 to 2199"
        ):
            session_table("XTKS", "regular", early, last)


def test_instant_after_what_is_known_is_refused() -> None:
    # Mumbai's holidays are known for a year or two ahead only.
    late = (find_calendar("XBOM").last_date + 1) * DAY_NS
    for first in (late, NOW):
        with pytest.raises(CalendarError, match="its sessions are known from 1997-01-01 to 20"):
            session_table("XBOM", "regular", first, late)


@pytest.mark.parametrize("ts_ns", [-1, ns("2200-01-01"), -(2**63), 2**63 - 1])
@pytest.mark.parametrize("session", ["regular", "ny_day"])
def test_instant_beyond_all_calendars_is_refused(session: str, ts_ns: int) -> None:
    with pytest.raises(CalendarError, match="years 1970 to 2199"):
        session_table("XNYS", session, ts_ns, ts_ns)


def test_range_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(CalendarError, match="swap them"):
        session_table("XNYS", "regular", NOW, NOW - 1)


def test_calendar_the_library_cannot_build_is_refused_with_its_reason() -> None:
    # Tel Aviv's special closes fall on days that the library's own schedule lacks.
    with pytest.raises(CalendarError, match=r"exchange_calendars \S+ cannot build"):
        session_table("XTAE", "regular", NOW, NOW)


def test_first_instants_of_a_calendar_are_covered() -> None:
    first = ns("1997-01-01")
    rows = session_table("XTKS", "regular", first, first)
    # Tokyo's first session of 1997 was Monday, January 6th.
    assert rows.start_ns == first
    assert rows.open_ns[0] == ns("1997-01-06 00:00")


def test_last_instants_of_a_calendar_are_covered() -> None:
    end = (find_calendar("XBOM").last_date + 1) * DAY_NS
    rows = session_table("XBOM", "regular", end - 1, end - 1)
    assert rows.end_ns == end
    assert end - 7 * DAY_NS < rows.close_ns[-1] < end


def test_version_names_the_library() -> None:
    rows = session_table("XNYS", "regular", NOW, NOW)
    assert rows.version.split()[0] == "exchange_calendars"


def test_continuous_takes_any_calendar_and_any_instant() -> None:
    rows = session_table("XNYS", "continuous", -(2**63), 2**63 - 1)
    assert (rows.calendar, rows.session, len(rows.seg_open)) == ("XNYS", "continuous", 0)


def test_tables_without_an_exchange_never_import_the_calendar_library() -> None:
    program = (
        "import sys\n"
        "from marketpipe.domain.sessions import session_table\n"
        "session_table('24/7', 'regular', 0, 1)\n"
        "session_table('XNYS', 'continuous', 0, 1)\n"
        "session_table('XNYS', 'ny_day', 0, 1)\n"
        "sys.exit(len({'pandas', 'exchange_calendars'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("session", ["regular", "extended", "ny_day"])
def test_rows_of_a_date_are_the_same_whatever_range_is_asked(session: str) -> None:
    wide = session_table("XNYS", session, ns("1998-01-01"), ns("2025-06-01"))
    # 2009 and 2010 lie in different decades, in which calendars are built.
    for year in (2009, 2010, 2024):
        narrow = session_table("XNYS", session, ns(f"{year}-03-01"), ns(f"{year}-03-01"))
        same = np.isin(wide.date, narrow.date)
        np.testing.assert_array_equal(wide.date[same], narrow.date)
        np.testing.assert_array_equal(wide.open_ns[same], narrow.open_ns)
        np.testing.assert_array_equal(wide.close_ns[same], narrow.close_ns)
