"""The override file: what it can change, and how it complains."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from marketpipe.domain.overrides import Overrides
from marketpipe.domain.sessions import SessionTable, session_table
from marketpipe.errors import CalendarError


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def rows(
    calendar: str, text: str, session: str = "regular", on: str = "2024-07-05"
) -> SessionTable:
    return session_table(calendar, session, ns(on), ns(on), Overrides.parse(text))


def segments(table: SessionTable, on: str) -> list[tuple[int, int]]:
    days = (date.fromisoformat(on) - date(1970, 1, 1)).days
    chosen = table.date[table.seg_session] == days
    return list(zip(table.seg_open[chosen].tolist(), table.seg_close[chosen].tolist(), strict=True))


def test_override_closed_removes_the_session() -> None:
    # Hong Kong did not trade on 2023-09-08 (black rainstorm), as HKEX announced that morning;
    # exchange_calendars 4.13 has a full session (its issue 600).
    text = "[[XHKG]]\ndate = 2023-09-08\nclosed = true\nreason = 'black rainstorm'\n"
    table = rows("XHKG", text, on="2023-09-08")
    assert segments(table, "2023-09-08") == []
    assert segments(table, "2023-09-07") != []


def test_override_late_open_after_the_break_drops_the_break() -> None:
    # HKEX opened at 13:30 on 2020-08-19, after typhoon signal 8 was cancelled (issue 142).
    table = rows("XHKG", "[[XHKG]]\ndate = 2020-08-19\nopen = '13:30'\n", on="2020-08-19")
    assert segments(table, "2020-08-19") == [(ns("2020-08-19 05:30"), ns("2020-08-19 08:00"))]


def test_override_close_at_the_break_keeps_the_morning() -> None:
    table = rows("XHKG", "[[XHKG]]\ndate = 2024-07-05\nclose = 12:00:00\n")
    assert segments(table, "2024-07-05") == [(ns("2024-07-05 01:30"), ns("2024-07-05 04:00"))]


def test_override_close_inside_the_afternoon_keeps_the_break() -> None:
    table = rows("XHKG", "[[XHKG]]\ndate = 2024-07-05\nclose = '15:00'\n")
    assert segments(table, "2024-07-05") == [
        (ns("2024-07-05 01:30"), ns("2024-07-05 04:00")),
        (ns("2024-07-05 05:00"), ns("2024-07-05 07:00")),
    ]


def test_override_breaks_replace_the_usual_ones() -> None:
    text = "[[XTKS]]\ndate = 2024-07-05\nbreaks = [['10:00', '10:30'], ['11:30', '12:30']]\n"
    assert segments(rows("XTKS", text), "2024-07-05") == [
        (ns("2024-07-05 00:00"), ns("2024-07-05 01:00")),
        (ns("2024-07-05 01:30"), ns("2024-07-05 02:30")),
        (ns("2024-07-05 03:30"), ns("2024-07-05 06:00")),
    ]


def test_override_empty_breaks_join_the_session() -> None:
    table = rows("XTKS", "[[XTKS]]\ndate = 2024-07-05\nbreaks = []\n")
    assert segments(table, "2024-07-05") == [(ns("2024-07-05 00:00"), ns("2024-07-05 06:00"))]


def test_override_extra_session_is_added_in_order() -> None:
    text = "[[XNYS]]\ndate = 2024-07-06\nopen = '10:00'\nclose = '12:00'\n"
    table = rows("NYSE", text)
    assert segments(table, "2024-07-06") == [(ns("2024-07-06 14:00"), ns("2024-07-06 16:00"))]
    assert (table.date[1:] > table.date[:-1]).all()


def test_override_early_close_shortens_the_post_market() -> None:
    text = "[[NYSE]]\ndate = 2024-07-05\nclose = '13:00'\n"
    table = rows("XNYS", text, "extended")
    assert segments(table, "2024-07-05") == [(ns("2024-07-05 08:00"), ns("2024-07-05 21:00"))]


def test_override_overnight_close_and_open_fall_on_their_own_days() -> None:
    # Chicago: the session of July 5th opens at 17:00 on the 4th.
    text = "[[CMES]]\ndate = 2024-07-05\nopen = '18:00'\nclose = '12:00'\n"
    text += "breaks = [['23:00', '01:00']]\n"
    assert segments(rows("CMES", text), "2024-07-05") == [
        (ns("2024-07-04 23:00"), ns("2024-07-05 04:00")),
        (ns("2024-07-05 06:00"), ns("2024-07-05 17:00")),
    ]


def test_override_midnight_close_is_written_24_00() -> None:
    text = "[['24/5']]\ndate = 2024-07-05\nopen = '12:00'\nclose = '24:00'\n"
    assert segments(rows("24/5", text), "2024-07-05") == [
        (ns("2024-07-05 12:00"), ns("2024-07-06"))
    ]


def test_override_enters_the_version_of_its_calendar_only() -> None:
    text = "[[XHKG]]\ndate = 2024-07-05\nclosed = true\n"
    plain = rows("XHKG", "").version
    assert rows("XHKG", text).version.startswith(f"{plain} overrides sha256:")
    assert rows("XHKG", text).version == rows("XHKG", f"# a comment\n{text}reason = 'x'\n").version
    assert rows("XHKG", text).version != rows("XHKG", text.replace("05", "04")).version
    assert rows("XNYS", text).version == plain


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[XHKG]\n", "is no valid TOML"),
        ("XHKG = 1\n", r"'XHKG' must be a list of tables, each written \[\[XHKG\]\]"),
        ("[XHKG]\ndate = 2024-07-05\n", "must be a list of tables"),
        ("[[XHKX]]\ndate = 2024-07-05\n", "was 'XHKX', which is unknown"),
        ("[['24/7']]\ndate = 2024-07-05\n", "no sessions to override"),
        ("[[XHKG]]\nclosed = true\n", "'date' was None; expected a date"),
        (
            "[[XHKG]]\ndate = '2024-07-05'\nclosed = true",
            "'date' was '2024-07-05'; expected a date",
        ),
        ("[[XHKG]]\ndate = 2024-07-05T00:00:00\n", "'date' was datetime"),
        ("[[XHKG]]\ndate = 1950-01-02\nclosed = true\n", "reaches from 1960-01-01"),
        (
            "[[XHKG]]\ndate = 2024-07-05\nclose_at = 1\n",
            "'close_at' is unknown; expected date, clos",
        ),
        ("[[XHKG]]\ndate = 2024-07-05\n", "alone; add closed = true"),
        ("[[XHKG]]\ndate = 2024-07-05\nclosed = 1\n", "'closed' was 1; expected true or false"),
        (
            "[[XHKG]]\ndate = 2024-07-05\nclosed = true\nopen = '10:00'\n",
            "'open' is given; keep one",
        ),
        ("[[XHKG]]\ndate = 2024-07-06\nopen = '10:00'\n", "give open and close"),
        ("[[XHKG]]\ndate = 2024-07-05\nopen = '9:30'\n", "'open' was '9:30'; expected a time"),
        ("[[XHKG]]\ndate = 2024-07-05\nopen = '25:00'\n", "'open' was '25:00'; expected a time"),
        ("[[XHKG]]\ndate = 2024-07-05\nclose = 16\n", "'close' was 16; expected a time"),
        (
            "[[XHKG]]\ndate = 2024-07-05\nclose = '09:00'\n",
            "'close' was '09:00', not after the open",
        ),
        ("[[XHKG]]\ndate = 2024-07-05\nclose = '12:30'\n", "falls in the usual break"),
        ("[[XHKG]]\ndate = 2024-07-05\nbreaks = '12:00'\n", "expected pairs"),
        ("[[XHKG]]\ndate = 2024-07-05\nbreaks = [['12:00']]\n", "expected pairs"),
        ("[[XHKG]]\ndate = 2024-07-05\nbreaks = [['13:00', '12:00']]\n", "in order and apart"),
        ("[[XHKG]]\ndate = 2024-07-05\nbreaks = [['08:00', '10:00']]\n", "inside the session"),
        (
            "[[XHKG]]\ndate = 2024-07-05\nclosed = true\n" * 2,
            "date: was '2024-07-05' twice",
        ),
        (
            "[[XNYS]]\ndate = 2024-03-10\nopen = '02:30'\nclose = '10:00'\n",
            "a time that America/New_York skips on 2024-03-10",
        ),
    ],
)
def test_override_mistake_names_file_key_and_value(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "overrides.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CalendarError, match=complaint) as refusal:
        Overrides.load(path)
    assert str(refusal.value).startswith(str(path))


def test_override_doubled_through_an_alias_is_refused() -> None:
    text = (
        "[[XNYS]]\ndate = 2024-07-05\nclosed = true\n[[NYSE]]\ndate = 2024-07-05\nclosed = true\n"
    )
    with pytest.raises(CalendarError, match="twice"):
        Overrides.parse(text)


def test_override_that_overlaps_its_neighbour_is_refused() -> None:
    # 21:00 does not come before 20:00, so it is the evening before: July 5th, still open.
    text = "[[CMES]]\ndate = 2024-07-06\nopen = '21:00'\nclose = '20:00'\n"
    text += "[[CMES]]\ndate = 2024-07-05\nclose = '24:00'\n"
    with pytest.raises(CalendarError, match="2024-07-06 opens before the session of 2024-07-05"):
        rows("CMES", text)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_override_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "overrides.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalendarError, match="cannot read") as refusal:
        Overrides.load(path)
    assert str(path) in str(refusal.value)
