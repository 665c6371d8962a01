"""Where bars begin and end: instants worked out by hand from the exchanges' local times."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from marketpipe.domain.sessions import SessionTable, bar_edges, continuous_edges, session_table
from marketpipe.domain.timeframe import Timeframe
from marketpipe.errors import CalendarError


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def table(calendar: str, ts: str, session: str = "regular") -> SessionTable:
    return session_table(calendar, session, ns(ts), ns(ts))


def edges(
    calendar: str, timeframe: str, ts: str, session: str = "regular", auction: bool = False
) -> tuple[int, int, int] | None:
    return bar_edges(
        table(calendar, ts, session), Timeframe.parse(timeframe), ns(ts), closing_auction=auction
    )


def span(calendar: str, on: str, session: str = "regular") -> list[tuple[int, int]]:
    """Segments of one session."""
    rows = table(calendar, on, session)
    chosen = rows.date[rows.seg_session] == day(on)
    return list(zip(rows.seg_open[chosen].tolist(), rows.seg_close[chosen].tolist(), strict=True))


@pytest.mark.parametrize(
    ("on", "opens", "closes"),
    [
        # 09:30-16:00 New York is 14:30-21:00 UTC in winter and 13:30-20:00 in summer; the clocks
        # changed on Sundays 2024-03-10 and 2024-11-03.
        ("2024-03-08", "2024-03-08 14:30", "2024-03-08 21:00"),
        ("2024-03-11", "2024-03-11 13:30", "2024-03-11 20:00"),
        ("2024-11-01", "2024-11-01 13:30", "2024-11-01 20:00"),
        ("2024-11-04", "2024-11-04 14:30", "2024-11-04 21:00"),
        # Half days close at 13:00 New York.
        ("2024-07-03", "2024-07-03 13:30", "2024-07-03 17:00"),
        ("2024-11-29", "2024-11-29 14:30", "2024-11-29 18:00"),
    ],
)
def test_regular_session_new_york_is_local_time(on: str, opens: str, closes: str) -> None:
    assert span("XNYS", on) == [(ns(opens), ns(closes))]


@pytest.mark.parametrize(
    ("on", "opens", "closes"),
    [
        # 04:00-20:00 New York: 09:00-01:00 UTC in winter, 08:00-00:00 in summer.
        ("2024-03-08", "2024-03-08 09:00", "2024-03-09 01:00"),
        ("2024-03-11", "2024-03-11 08:00", "2024-03-12 00:00"),
        # On half days the post-market ends at 17:00 New York.
        ("2024-07-03", "2024-07-03 08:00", "2024-07-03 21:00"),
        ("2024-11-29", "2024-11-29 09:00", "2024-11-29 22:00"),
    ],
)
def test_extended_session_new_york_is_local_time(on: str, opens: str, closes: str) -> None:
    assert span("XNYS", on, "extended") == [(ns(opens), ns(closes))]


@pytest.mark.parametrize("session", ["regular", "extended"])
def test_holiday_has_no_session_and_builds_no_bar(session: str) -> None:
    assert span("XNYS", "2024-07-04", session) == []
    assert edges("XNYS", "1m", "2024-07-04 15:00", session) is None
    assert edges("XNYS", "1d", "2024-07-04 15:00", session) is None


@pytest.mark.parametrize(
    ("timeframe", "ts", "opens", "closes"),
    [
        # 2024-07-05: 13:30-20:00 UTC, 390 minutes = 55 bars of 7 minutes and one of 5.
        ("7m", "2024-07-05 13:30", "2024-07-05 13:30", "2024-07-05 13:37"),
        ("7m", "2024-07-05 13:36:59", "2024-07-05 13:30", "2024-07-05 13:37"),
        ("7m", "2024-07-05 13:37", "2024-07-05 13:37", "2024-07-05 13:44"),
        ("7m", "2024-07-05 19:59:59", "2024-07-05 19:55", "2024-07-05 20:00"),
        ("1h", "2024-07-05 14:29:59", "2024-07-05 13:30", "2024-07-05 14:30"),
        ("1h", "2024-07-05 19:45", "2024-07-05 19:30", "2024-07-05 20:00"),
        ("4h", "2024-07-05 17:29", "2024-07-05 13:30", "2024-07-05 17:30"),
        ("4h", "2024-07-05 17:30", "2024-07-05 17:30", "2024-07-05 20:00"),
        # Half day, 210 minutes: the second 4-hour bar does not exist.
        ("4h", "2024-07-03 16:59", "2024-07-03 13:30", "2024-07-03 17:00"),
        ("24h", "2024-07-05 19:00", "2024-07-05 13:30", "2024-07-05 20:00"),
        ("1d", "2024-07-05 19:00", "2024-07-05 13:30", "2024-07-05 20:00"),
    ],
)
def test_bars_are_anchored_at_the_open_and_cut_at_the_close(
    timeframe: str, ts: str, opens: str, closes: str
) -> None:
    assert edges("XNYS", timeframe, ts) == (ns(opens), ns(closes), day(ts[:10]))


@pytest.mark.parametrize("timeframe", ["1s", "1m", "24h", "1d", "1w"])
@pytest.mark.parametrize(
    "ts", ["2024-07-05 13:29:59", "2024-07-05 20:00", "2024-07-06 15:00", "2024-07-03 17:30"]
)
def test_tick_outside_the_session_builds_no_bar(timeframe: str, ts: str) -> None:
    assert edges("XNYS", timeframe, ts) is None


def test_half_day_after_hours_belong_to_no_later_session() -> None:
    # 17:30 New York on a half day: the post-market has ended half an hour before.
    assert edges("XNYS", "1m", "2024-07-03 21:30", "extended") is None
    assert edges("XNYS", "1m", "2024-07-03 20:59", "extended") == (
        ns("2024-07-03 20:59"),
        ns("2024-07-03 21:00"),
        day("2024-07-03"),
    )


def test_extended_evening_keeps_the_exchange_date() -> None:
    # 19:30 New York on 2024-01-02 is already 2024-01-03 in UTC.
    found = edges("XNYS", "1d", "2024-01-03 00:30", "extended")
    assert found == (ns("2024-01-02 09:00"), ns("2024-01-03 01:00"), day("2024-01-02"))


@pytest.mark.parametrize(
    ("timeframe", "ts", "takes"),
    [
        ("1d", "2024-07-05 20:00", True),
        ("1d", "2024-07-05 20:09:59", True),
        ("1d", "2024-07-05 20:10", False),
        ("1w", "2024-07-05 20:05", True),
        ("1m", "2024-07-05 20:00", False),
        ("24h", "2024-07-05 20:00", False),
        ("1d", "2024-07-03 17:09:59", True),
        ("1d", "2024-07-03 17:10", False),
        ("1d", "2024-07-05 13:29", False),
    ],
)
def test_closing_auction_print_joins_the_day_bar_for_ten_minutes(
    timeframe: str, ts: str, takes: bool
) -> None:
    found = edges("XNYS", timeframe, ts, auction=True)
    assert (found is not None) == takes
    if found:
        assert found[1] == ns(f"{ts[:10]} {'17:00' if ts < '2024-07-04' else '20:00'}")
    assert edges("XNYS", timeframe, ts) is None


@pytest.mark.parametrize(
    ("calendar", "session"),
    [("CMES", "regular"), ("24/5", "regular"), ("XNYS", "extended"), ("XNYS", "ny_day")],
)
def test_closing_auction_elsewhere_has_no_extra_time(calendar: str, session: str) -> None:
    rows = table(calendar, "2024-07-05", session)
    np.testing.assert_array_equal(rows.auction_end_ns, rows.close_ns)


@pytest.mark.parametrize(
    ("calendar", "timeframe", "ts", "opens", "closes"),
    [
        # Tokyo 2024-07-05: 09:00-11:30 and 12:30-15:00 local is 00:00-02:30 and 03:30-06:00 UTC.
        ("XTKS", "1h", "2024-07-05 02:10", "2024-07-05 02:00", "2024-07-05 02:30"),
        ("XTKS", "1h", "2024-07-05 03:40", "2024-07-05 03:30", "2024-07-05 04:30"),
        ("XTKS", "4h", "2024-07-05 01:00", "2024-07-05 00:00", "2024-07-05 02:30"),
        ("XTKS", "4h", "2024-07-05 05:59", "2024-07-05 03:30", "2024-07-05 06:00"),
        ("XTKS", "1d", "2024-07-05 04:00", "2024-07-05 00:00", "2024-07-05 06:00"),
        # From 2024-11-05 Tokyo trades until 15:30.
        ("XTKS", "4h", "2024-11-05 06:29", "2024-11-05 03:30", "2024-11-05 06:30"),
        # Hong Kong: 09:30-12:00 and 13:00-16:00 local is 01:30-04:00 and 05:00-08:00 UTC.
        ("XHKG", "1h", "2024-07-05 03:59", "2024-07-05 03:30", "2024-07-05 04:00"),
        ("XHKG", "7m", "2024-07-05 05:08", "2024-07-05 05:07", "2024-07-05 05:14"),
        ("XHKG", "1d", "2024-07-05 05:08", "2024-07-05 01:30", "2024-07-05 08:00"),
        # Christmas Eve: the morning only.
        ("XHKG", "1d", "2024-12-24 02:00", "2024-12-24 01:30", "2024-12-24 04:00"),
    ],
)
def test_bars_restart_after_the_lunch_break(
    calendar: str, timeframe: str, ts: str, opens: str, closes: str
) -> None:
    assert edges(calendar, timeframe, ts) == (ns(opens), ns(closes), day(ts[:10]))


@pytest.mark.parametrize(("calendar", "ts"), [("XTKS", "03:00"), ("XHKG", "04:00")])
@pytest.mark.parametrize("timeframe", ["1m", "4h", "1d", "1w"])
def test_tick_in_the_lunch_break_builds_no_bar(calendar: str, ts: str, timeframe: str) -> None:
    assert edges(calendar, timeframe, f"2024-07-05 {ts}") is None


@pytest.mark.parametrize(
    ("ts", "opens", "closes", "session_date"),
    [
        # Chicago 17:00 to 17:00: 23:00 UTC in winter, 22:00 in summer.
        ("2024-01-02 23:30", "2024-01-02 23:00", "2024-01-03 23:00", "2024-01-03"),
        ("2024-01-03 22:59", "2024-01-02 23:00", "2024-01-03 23:00", "2024-01-03"),
        ("2024-01-07 23:00", "2024-01-07 23:00", "2024-01-08 23:00", "2024-01-08"),
        ("2024-03-08 22:59", "2024-03-07 23:00", "2024-03-08 23:00", "2024-03-08"),
        ("2024-03-10 22:00", "2024-03-10 22:00", "2024-03-11 22:00", "2024-03-11"),
    ],
)
def test_overnight_session_is_dated_by_its_close(
    ts: str, opens: str, closes: str, session_date: str
) -> None:
    assert edges("CMES", "1d", ts) == (ns(opens), ns(closes), day(session_date))


@pytest.mark.parametrize(
    ("timeframe", "ts", "opens", "closes", "first"),
    [
        # The week of Independence Day, with its half day and holiday.
        ("1w", "2024-07-03 15:00", "2024-07-01 13:30", "2024-07-05 20:00", "2024-07-01"),
        # Labor Day is a Monday: the week starts on Tuesday.
        ("1w", "2024-09-06 15:00", "2024-09-03 13:30", "2024-09-06 20:00", "2024-09-03"),
        # Tuesday 2024-07-02 is day 19906: days 19906 and 19907 are a pair, 19904 (a Sunday) and
        # 19905 (Monday) the one before.
        ("2d", "2024-07-03 15:00", "2024-07-02 13:30", "2024-07-03 17:00", "2024-07-02"),
        ("2d", "2024-07-01 15:00", "2024-07-01 13:30", "2024-07-01 20:00", "2024-07-01"),
        # Weeks since 1970-01-05: 2024-12-30 begins week 2869, so 2024-12-23 begins a pair.
        ("2w", "2025-01-02 15:00", "2024-12-23 14:30", "2025-01-03 21:00", "2024-12-23"),
        # 365 days: 54 * 365 = 19710 = 2023-12-19, until 20074 = 2024-12-17.
        ("365d", "2024-07-05 15:00", "2023-12-19 14:30", "2024-12-17 21:00", "2023-12-19"),
    ],
)
def test_bars_of_days_and_weeks_run_from_first_open_to_last_close(
    timeframe: str, ts: str, opens: str, closes: str, first: str
) -> None:
    assert edges("XNYS", timeframe, ts) == (ns(opens), ns(closes), day(first))


def test_new_york_days_last_from_midnight_to_midnight() -> None:
    # 23 hours when the clocks go forward, 25 when they go back, weekends too.
    assert span("XNYS", "2024-03-10", "ny_day") == [
        (ns("2024-03-10 05:00"), ns("2024-03-11 04:00"))
    ]
    assert span("XNYS", "2024-11-03", "ny_day") == [
        (ns("2024-11-03 04:00"), ns("2024-11-04 05:00"))
    ]
    assert span("XNYS", "2024-07-04", "ny_day") == [
        (ns("2024-07-04 04:00"), ns("2024-07-05 04:00"))
    ]


def test_new_york_days_anchor_hours_at_midnight() -> None:
    found = edges("XNYS", "1h", "2024-07-06 03:59", "ny_day")
    assert found == (ns("2024-07-06 03:00"), ns("2024-07-06 04:00"), day("2024-07-05"))


@pytest.mark.parametrize(
    ("timeframe", "ts", "opens", "closes"),
    [
        ("1m", "2024-07-06 23:59:59", "2024-07-06 23:59", "2024-07-07 00:00"),
        ("24h", "2024-07-06 12:00", "2024-07-06 00:00", "2024-07-07 00:00"),
        ("1d", "2024-07-06 12:00", "2024-07-06 00:00", "2024-07-07 00:00"),
        ("2d", "2024-07-01 12:00", "2024-06-30 00:00", "2024-07-02 00:00"),
        ("1w", "2024-07-04 12:00", "2024-07-01 00:00", "2024-07-08 00:00"),
        ("1w", "1970-01-05 00:00", "1970-01-05 00:00", "1970-01-12 00:00"),
        ("1w", "1970-01-04 23:59", "1969-12-29 00:00", "1970-01-05 00:00"),
        ("2w", "2025-01-05 23:59", "2024-12-23 00:00", "2025-01-06 00:00"),
        # 140 minutes are 20 bars of 7: 02:20 is an edge on the first day.
        ("7m", "1970-01-01 02:20", "1970-01-01 02:20", "1970-01-01 02:27"),
        # 1440 = 205 * 7 + 5: a bar of the first day reaches into the second and keeps its date.
        ("7m", "1970-01-02 00:01", "1970-01-01 23:55", "1970-01-02 00:02"),
    ],
)
def test_continuous_bars_count_from_the_epoch(
    timeframe: str, ts: str, opens: str, closes: str
) -> None:
    expected = (ns(opens), ns(closes), day(opens[:10]))
    assert continuous_edges(Timeframe.parse(timeframe), ns(ts)) == expected
    assert edges("24/7", timeframe, ts, "continuous") == expected


def test_regular_session_of_a_market_that_never_closes_is_continuous() -> None:
    assert table("24/7", "2024-07-05").session == "continuous"
    assert len(table("24/7", "2024-07-05").date) == 0


def test_five_day_market_pauses_on_weekends_only() -> None:
    assert edges("24/5", "1d", "2024-07-05 23:59") == (
        ns("2024-07-05"),
        ns("2024-07-06"),
        day("2024-07-05"),
    )
    assert edges("24/5", "1m", "2024-07-06 12:00") is None


def test_bar_edges_outside_of_the_table_is_refused() -> None:
    rows = table("XNYS", "2024-07-05")
    assert (rows.start_ns, rows.end_ns) == (ns("2024-01-01"), ns("2025-01-01"))
    for ts in (ns("2024-01-01") - 1, ns("2025-01-01")):
        with pytest.raises(CalendarError, match="ask session_table for a wider range"):
            bar_edges(rows, Timeframe.parse("1m"), ts)


def test_day_groups_of_an_intraday_timeframe_is_refused() -> None:
    with pytest.raises(CalendarError, match="only d and w group whole sessions"):
        table("XNYS", "2024-07-05").day_groups(Timeframe.parse("24h"))


def test_table_arrays_are_read_only() -> None:
    rows = table("XNYS", "2024-07-05")
    with pytest.raises(ValueError, match="read-only"):
        rows.open_ns[0] = 0
