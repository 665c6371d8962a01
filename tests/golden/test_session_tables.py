"""Session tables against tables that others published (data/calendars, see its README)."""

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from marketpipe.domain.overrides import NO_OVERRIDES, Overrides
from marketpipe.domain.sessions import SessionTable, session_table
from marketpipe.domain.units import DAY_NS

pytestmark = pytest.mark.data

Days: TypeAlias = dict[date, list[tuple[int, int]]]

RESOURCES = "exchange_calendars_resources"
XNYS = "XNYS_sessions_1990_2026_from_exchange_calendars_4.13.2.csv"
CORRECTIONS = Path(__file__).with_name("calendar_corrections.toml")
MINUTE_NS = 60_000_000_000


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def published(path: Path) -> Days:
    """Read `session,open,close[,break_start,break_end]`."""
    days: Days = {}
    with path.open(encoding="utf-8", newline="") as file:
        for session, opens, closes, *pause in list(csv.reader(file))[1:]:
            edges = [opens, *(edge for edge in pause if edge), closes]
            instants = [ns(edge) for edge in edges]
            days[date.fromisoformat(session[:10])] = list(
                zip(instants[::2], instants[1::2], strict=True)
            )
    return days


def table(
    calendar: str, first: date, last: date, overrides: Overrides = NO_OVERRIDES
) -> SessionTable:
    return session_table(calendar, "regular", day_ns(first), day_ns(last), overrides)


def day_ns(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_NS


def ours(rows: SessionTable, first: date, last: date) -> Days:
    days: Days = {}
    for session, opens, closes in zip(
        rows.date[rows.seg_session].tolist(),
        rows.seg_open.tolist(),
        rows.seg_close.tolist(),
        strict=True,
    ):
        on = date(1970, 1, 1) + timedelta(days=session)
        if first <= on <= last:
            days.setdefault(on, []).append((opens, closes))
    return days


def differences(calendar: str, path: Path, overrides: Overrides = NO_OVERRIDES) -> list[str]:
    expected = published(path)
    first, last = min(expected), max(expected)
    found = ours(table(calendar, first, last, overrides), first, last)
    return [
        str(day)
        for day in sorted(expected.keys() | found.keys())
        if expected.get(day) != found.get(day)
    ]


@pytest.mark.parametrize(
    ("calendar", "file"),
    [
        ("XNYS", XNYS),
        ("XNYS", f"{RESOURCES}/xnys.csv"),
        ("XLON", f"{RESOURCES}/xlon.csv"),
        ("XTKS", f"{RESOURCES}/xtks.csv"),
        ("XHKG", f"{RESOURCES}/xhkg.csv"),
        ("24/5", f"{RESOURCES}/24-5.csv"),
    ],
)
def test_sessions_equal_the_published_table(market_data: Path, calendar: str, file: str) -> None:
    assert differences(calendar, market_data / "calendars" / file) == []


def test_futures_sessions_equal_the_published_table_once_corrected(market_data: Path) -> None:
    path = market_data / "calendars" / RESOURCES / "cmes.csv"
    juneteenths = ["2022-06-20", "2023-06-19", "2024-06-19", "2025-06-19", "2026-06-19"]
    # The installed library may have learnt of Juneteenth; the published table has.
    assert differences("CMES", path) in ([], [*juneteenths, "2027-06-18"])
    assert differences("CMES", path, Overrides.load(CORRECTIONS)) == []


def test_hong_kong_closures_missing_from_the_table_come_from_overrides(market_data: Path) -> None:
    path = market_data / "calendars" / RESOURCES / "xhkg.csv"
    closures = ["2023-09-01", "2023-09-08"]
    assert differences("XHKG", path, Overrides.load(CORRECTIONS)) == closures


def test_new_york_holidays_since_1970_have_no_session(market_data: Path) -> None:
    path = market_data / "calendars/pandas_market_calendars"
    lines = (path / "nyse_all_full_day_holidays_since_1928.csv").read_text().split()
    holidays = {datetime.strptime(line, "%m/%d/%Y").replace(tzinfo=UTC).date() for line in lines}
    first, last = date(1970, 1, 1), max(holidays)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    expected = [day for day in days if day.weekday() < 5 and day not in holidays]
    assert list(ours(table("XNYS", first, last), first, last)) == expected


@pytest.mark.parametrize(
    ("day", "closes"),
    [
        # Sources disagree on these closes. The library, and so we, give the scheduled close
        # where trading ended early in an emergency, and the early one of New Year's Eve 1999.
        ("1994-02-11", "21:00"),
        ("1996-01-08", "21:00"),
        ("1997-10-27", "21:00"),
        ("1999-12-31", "18:00"),
        ("2005-06-01", "20:00"),
    ],
)
def test_close_that_sources_disagree_on_is_the_scheduled_one(
    market_data: Path, day: str, closes: str
) -> None:
    on = date.fromisoformat(day)
    [(_, close_ns)] = ours(table("XNYS", on, on), on, on)[on]
    assert close_ns == ns(f"{day}T{closes}Z")
    assert published(market_data / "calendars" / XNYS)[on][-1][1] == close_ns


def test_year_2024_in_new_york_has_252_sessions_and_97740_minutes(market_data: Path) -> None:
    first, last = date(2024, 1, 1), date(2024, 12, 31)
    days = ours(table("XNYS", first, last), first, last)
    assert len(days) == 252
    assert sum(closes - opens for [(opens, closes)] in days.values()) == 97_740 * MINUTE_NS
    lengths = np.array([(closes - opens) // MINUTE_NS for [(opens, closes)] in days.values()])
    assert np.unique(lengths).tolist() == [210, 390]
    assert (lengths == 210).sum() == 3
