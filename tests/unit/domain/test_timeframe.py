"""Timeframes: spelling, order, bounds."""

import pytest

from marketpipe.domain.timeframe import DEFAULT_TIMEFRAMES, Timeframe, Unit, parse_many
from marketpipe.errors import TimeframeError


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1s", "1s"),
        ("60s", "1m"),
        ("90s", "90s"),
        ("60m", "1h"),
        ("90m", "90m"),
        ("3600s", "1h"),
        ("1440m", "24h"),
        ("86400s", "24h"),
        ("24h", "24h"),
        ("1d", "1d"),
        ("7d", "1w"),
        ("14d", "2w"),
        ("10d", "10d"),
        ("364d", "52w"),
        ("365d", "365d"),
    ],
)
def test_timeframe_spelling_becomes_canonical(written: str, canonical: str) -> None:
    assert str(Timeframe.parse(written)) == canonical
    assert Timeframe.parse(canonical) == Timeframe.parse(written)


@pytest.mark.parametrize(
    "written",
    [
        *("", " 1m", "1m ", "1m\n", "m", "1", "m1", "1mm", "1m,5m"),
        *("0m", "00m", "01m", "-1m", "+1m", "1.5m", "1e1m", "1_0m"),
        *("1M", "1y", "1H", "1D", "1min", "１m", "٣m", "1µs"),
        *("86401s", "1441m", "25h", "48h", "366d", "53w", "9" * 10_000 + "m"),
    ],
)
def test_timeframe_bad_spelling_is_refused(written: str) -> None:
    with pytest.raises(TimeframeError) as refusal:
        Timeframe.parse(written)
    assert "was " in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("1M", "months and years have no timeframe"),
        ("1H", "did you mean '1h'?"),
        ("5min", "did you mean '5m'?"),
        (" 1m", "did you mean '1m'?"),
        ("01m", "did you mean '1m'?"),
        ("x", "expected <n><s|m|h|d|w>"),
        ("48h", "for longer bars use d or w"),
    ],
)
def test_timeframe_bad_spelling_names_the_remedy(written: str, remedy: str) -> None:
    with pytest.raises(TimeframeError, match="timeframe: was") as refusal:
        Timeframe.parse(written)
    assert remedy in str(refusal.value)


def test_timeframe_built_from_parts_is_canonical_and_hashable() -> None:
    assert Timeframe(60, "m") == Timeframe(1, "h")
    assert {Timeframe(60, "m"), Timeframe(1, "h")} == {Timeframe.parse("1h")}


@pytest.mark.parametrize(("n", "unit"), [(0, "m"), (-5, "d"), (1, "y")])
def test_timeframe_built_from_bad_parts_is_refused(n: int, unit: Unit) -> None:
    with pytest.raises(TimeframeError):
        Timeframe(n, unit)


def test_timeframes_sort_by_length_with_hours_before_days() -> None:
    order = ["1s", "59s", "1m", "90s", "7m", "1h", "90m", "24h", "1d", "2d", "1w", "10d", "52w"]
    timeframes = [Timeframe.parse(text) for text in reversed(order)]
    assert [str(tf) for tf in sorted(timeframes)] == order
    assert timeframes[-1] < timeframes[-2] <= timeframes[-2]
    assert timeframes[0] > timeframes[1]


def test_timeframe_compared_with_text_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        assert Timeframe.parse("1m") < "5m"


def test_duration_of_intraday_timeframes_is_in_nanoseconds() -> None:
    assert Timeframe.parse("7m").duration_ns == 420_000_000_000
    assert Timeframe.parse("24h").duration_ns == 86_400_000_000_000
    assert Timeframe.parse("4h").is_intraday


def test_duration_of_days_and_weeks_is_refused() -> None:
    for text in ("1d", "2w"):
        assert not Timeframe.parse(text).is_intraday
        with pytest.raises(TimeframeError, match="no fixed duration"):
            _ = Timeframe.parse(text).duration_ns


def test_parse_many_sorts_and_drops_duplicates() -> None:
    assert parse_many("1h, 60m,1m , 5m") == tuple(map(Timeframe.parse, ("1m", "5m", "1h")))
    assert parse_many(["1d", "15m"]) == parse_many("15m,1d")


@pytest.mark.parametrize("texts", ["", "1m,", "1m,,5m", [], "1m;5m"])
def test_parse_many_of_something_else_is_refused(texts: str | list[str]) -> None:
    with pytest.raises(TimeframeError):
        parse_many(texts)


def test_default_timeframes_are_the_documented_set() -> None:
    assert [str(tf) for tf in DEFAULT_TIMEFRAMES] == ["1m", "5m", "15m", "1h", "1d"]
