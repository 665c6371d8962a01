"""Certification beyond one recording's minutes: days, reconnects, roundings, corrections."""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from certifykit import Found, at, bar, heard, print_of, recorded, session
from feedkit import live_settings
from livekit import cancel, correction
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.certify import Certificate, Outcome, certify
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.mockfeed import MockFeed
from marketpipe.pipelines.opening import versions_of
from marketpipe.pipelines.service import IngestionService
from marketpipe.pipelines.vendorside import VWAP_DIGITS, Word, same_word
from marketpipe.pipelines.whydiffers import why_differs

HOUR = 3600.0
FIRST_TRADE = -5.6 * HOUR
"""08:54Z, before the extended session opens in New York."""
MIDNIGHT = 14.5 * HOUR
"""05:00Z of the next day: New York's day is over."""
CLOSE = 6.5 * HOUR


def stream(folder: Path, path: Path, feed: str = "sip") -> None:
    """Stream a recording under the vendor's rules."""
    mock = MockFeed(path=path, form="frames", source="alpaca", feed=feed)
    derive = replace(
        live_settings("1m,1d").derive,
        journal_id=f"mock-{feed}",
        rule_set=RuleSet.load("alpaca-v1"),
    )
    wanted = LiveSettings(derive=derive, versions=versions_of(derive))
    asyncio.run(IngestionService(DataFolder(folder), wanted, mock).run())


def certified(folder: Path, found: Iterable[Found], start: float, end: float) -> Certificate:
    """Stream messages and compare."""
    folder.mkdir(parents=True, exist_ok=True)
    stream(folder / "d", recorded(folder / "f.txt", found, start=start, end=end))
    return certify(DataFolder(folder / "d"))


def outcomes(found: Certificate, timeframe: str) -> Mapping[Outcome, int]:
    """Return the outcomes of the only symbol-day of a timeframe."""
    (day,) = (one for one in found.days if one.timeframe == timeframe)
    return {name: count for name, count in day.outcomes.items() if count}


def day_of_trades(last: str = "50 60 50 60 30 3 55", told: float = 7 * HOUR) -> list[Found]:
    """Return one day: a first-only print, a full one, a late-hours one, and daily bars.

    The first sets the day's open, the last adds its size alone: vwap (500 + 600) / 20. In its
    minute the first is volume only.
    """
    midnight_before = MIDNIGHT - 24 * HOUR
    return [
        heard(print_of(1, 1, "50", 10, "4"), 1),
        heard(print_of(2, 2, "60", 10), 2),
        (60.5, bar("b", 0, "60 60 60 60 20 2 60")),
        (60.5, bar("d", midnight_before, "50 60 50 60 20 2 55")),
        heard(print_of(3, 6.9 * HOUR, "70", 10, "T"), 6.9 * HOUR),
        (6.9 * HOUR + 61, bar("b", 6.9 * HOUR, "70 70 70 70 10 1 70")),
        (told, bar("d", midnight_before, last)),
    ]


def test_certify_day_that_is_over_is_compared_with_the_last_daily_bar(tmp_path: Path) -> None:
    found = certified(tmp_path / "a", day_of_trades(), FIRST_TRADE, MIDNIGHT + 5)
    assert outcomes(found, "1d") == {"exact": 1}
    wrong = day_of_trades("50 60 50 60 30 3 56")
    found = certified(tmp_path / "b", wrong, FIRST_TRADE, MIDNIGHT + 5)
    assert outcomes(found, "1d") == {"differs": 1}
    assert found.first is not None
    assert (found.first.pair.timeframe, found.first.pair.equal) == ("1d", (True,) * 6 + (False,))


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (CLOSE - 1, MIDNIGHT + 5),  # before the close
        (6.9 * HOUR + 30, MIDNIGHT + 5),  # within the minute of the day's last trade
        (7 * HOUR, 8 * HOUR),  # our day has not ended
    ],
)
def test_certify_day_that_is_not_over_is_counted_apart(
    tmp_path: Path, told: float, end: float
) -> None:
    partial = "50 60 50 60 20 2 55"
    found = certified(tmp_path, day_of_trades(partial, told), FIRST_TRADE, end)
    assert outcomes(found, "1d") == {"not_over": 1}
    assert found.agrees


def test_certify_day_corrected_after_the_last_daily_bar_is_not_over(tmp_path: Path) -> None:
    day = day_of_trades()
    late = heard(cancel(day[1][1], at(7.1 * HOUR)), 7.1 * HOUR)
    found = certified(tmp_path, [*day, late], FIRST_TRADE, MIDNIGHT + 5)
    assert outcomes(found, "1d") == {"not_over": 1}


def test_certify_day_that_the_feed_began_within_is_partial(tmp_path: Path) -> None:
    found = certified(tmp_path, day_of_trades(), -1, MIDNIGHT + 5)
    assert outcomes(found, "1d") == {"partial": 1}


def test_certify_minutes_around_a_reconnect_are_apart(tmp_path: Path) -> None:
    first = [one for one in session() if one[0] < 140]
    # the trade of 14:32:20 is lost; the vendor's bars of 14:32 and of 14:31's update come later
    second = [one for one in session() if one[0] > 145 and one[1].get("i") != 10]
    stream(tmp_path / "d", recorded(tmp_path / "a.txt", first, end=140))
    stream(tmp_path / "d", recorded(tmp_path / "b.txt", second, start=145))
    found = certify(DataFolder(tmp_path / "d"))
    assert outcomes(found, "1m") == {"exact": 4, "partial": 1, "revised": 1}
    assert found.agrees


def test_certify_late_trade_that_the_vendor_never_repeats_is_a_difference(tmp_path: Path) -> None:
    found = certified(tmp_path, [one for one in session() if one[1]["T"] != "u"], start=-5, end=600)
    assert not found.agrees
    assert outcomes(found, "1m") == {"exact": 4, "differs": 1, "revised": 1}
    assert found.first is not None
    assert found.first.pair.ts_open == at(60)
    # it was not a cancel, and a vendor updates a bar when a trade was late
    assert found.first.pair.cause == "late"


def test_certify_bar_emptied_by_a_cancel_after_the_last_word_is_revised(tmp_path: Path) -> None:
    one = print_of(21, 365, "113", 10)
    rest = [found for found in session() if found[1].get("i") not in (16, 17)]
    found = certified(
        tmp_path, [*rest, heard(one, 365), heard(cancel(one, at(430)), 430)], start=-5, end=600
    )
    assert outcomes(found, "1m") == {"exact": 4, "revised": 2}


def test_certify_cancel_that_the_vendor_knew_of_is_no_excuse(tmp_path: Path) -> None:
    # the same bar again, after the cancel of its high
    again = (405.0, bar("u", 180, "108 109 108 109 20 2 108.5"))
    found = certified(tmp_path, [*session(), again], start=-5, end=600)
    assert outcomes(found, "1m") == {"exact": 5, "differs": 1}
    right = (405.0, bar("u", 180, "108 108 108 108 10 1 108"))
    found = certified(tmp_path / "right", [*session(), right], start=-5, end=600)
    assert outcomes(found, "1m") == {"exact": 6}


def test_certify_word_heard_last_stands(tmp_path: Path) -> None:
    # a bar sent again, as REST gives it after a gap; of one instant the update stands
    again = (500.0, bar("b", 60, "102 104 102 104 41 3 103.25"))
    found = certified(tmp_path / "a", [*session(), again], start=-5, end=600)
    assert outcomes(found, "1m") == {"exact": 4, "differs": 1, "revised": 1}
    same = (150.5, bar("b", 60, "102 103 102 103 20 2 102.5"))
    found = certified(tmp_path / "b", [*session(), same], start=-5, end=600)
    assert outcomes(found, "1m") == {"exact": 5, "revised": 1}


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("419.846564885", "419.846565", True),  # 54,999.90 / 131, of a real bar
        ("419.846564885", "419.846564", False),  # cut, not rounded
        ("10.0000015", "10.000002", True),  # a half, whichever way
        ("10.0000015", "10.000001", True),
        ("10.000001499", "10.000002", False),
        (None, None, True),
        (None, "0", False),
    ],
)
def test_same_word_vwap_is_equal_to_the_vendors_six_decimals(
    ours: str | None, theirs: str | None, same: bool
) -> None:
    words = [
        Word(*(Decimal(1),) * 5, 1, None if vwap is None else Decimal(vwap))
        for vwap in (ours, theirs)
    ]
    assert same_word(*words) is same
    assert not same_word(words[0]._replace(trade_count=2), words[0])


def test_certify_vwap_is_compared_by_the_same_rule(tmp_path: Path) -> None:
    # (2 x 10.000001 + 10.000003 x 2) / 4 is no half; (10.000001 + 10.000002) / 2 is
    found = [
        heard(print_of(1, 1, "10.000001", 1), 1),
        heard(print_of(2, 2, "10.000002", 1), 2),
        (60.5, bar("b", 0, "10.000001 10.000002 10.000001 10.000002 2 2 10.000002")),
        heard(print_of(3, 61, "10.000001", 2), 61),
        heard(print_of(4, 62, "10.000002", 1), 62),
        # 10.000001333...: a vendor that rounded up would be wrong
        (120.5, bar("b", 60, "10.000001 10.000002 10.000001 10.000002 3 2 10.000002")),
    ]
    done = certified(tmp_path, found, start=-5, end=600)
    assert outcomes(done, "1m") == {"exact": 1, "differs": 1}
    (day,) = done.days
    assert (day.cells["vwap"], day.cells["volume"]) == (1, 2)


@pytest.mark.data
def test_vendors_stock_bars_have_six_decimals_of_vwap_at_most(market_data: Path) -> None:
    """What the comparison of vwap rests on; bars of crypto have ten."""
    longest = 0
    for path in sorted((market_data / "alpaca_rest").glob("*.json")):
        if "rypto" in path.name or "option" in path.name:
            continue
        for number in re.findall(r'"vw": ?\d+\.(\d+)', path.read_text()):
            longest = max(longest, len(number))
    assert longest == VWAP_DIGITS


@pytest.mark.data
def test_certify_real_frames_have_no_trades_of_their_one_bar(
    market_data: Path, tmp_path: Path
) -> None:
    frames = (market_data / "live_frames/alpaca_frames.jsonl").read_text().splitlines()
    stamps = [re.findall(r'"t":"([^"]+)"', frame) for frame in frames]
    timed = sorted(
        (max(times), frame) for times, frame in zip(stamps, frames, strict=True) if times
    )
    lines = ["1711645020000000000 " + frames[0]]  # 2024-03-28T16:57Z
    lines += [f"{instant(stamp)} {frame}" for stamp, frame in timed]
    (tmp_path / "f.txt").write_text("\n".join(lines) + "\n")
    stream(tmp_path / "d", tmp_path / "f.txt")
    with pytest.raises(UsageError, match=r"no trade was received of .*\(MSFT\)"):
        certify(DataFolder(tmp_path / "d"))


def test_why_differs_names_the_rule_of_a_real_bars_vwap(tmp_path: Path) -> None:
    """A bar of live_frames (MSFT, 131 shares in 3 trades) whose vwap lies below its low.

    Its 54,999.90 / 131 can only have odd lots in it, which the published rules leave out.
    """
    real = "419.86 419.86 419.86 419.86 131 3 419.846565"
    found = certified(
        tmp_path,
        [
            heard(print_of(1, 1, "419.86", 100), 1),
            heard(print_of(2, 2, "419.80", 30, "@ I"), 2),
            heard(print_of(3, 3, "419.90", 1, "@ I"), 3),
            (60.5, bar("b", 0, real)),
        ],
        start=-5,
        end=600,
    )
    assert found.first is not None
    assert found.first.pair.equal == (True,) * 6 + (False,)
    why = why_differs(DataFolder(tmp_path / "d"), found.first)
    assert why.hints == (
        "vwap: the vendor's 419.846565 is that of all trades that count in volume",
    )


def test_certify_symbol_without_a_trade_is_named_and_left_out(tmp_path: Path) -> None:
    # bars of every symbol are to be had where trades are limited
    other = (60.5, bar("b", 0, "20 20 20 20 10 1 20", symbol="MSFT"))
    found = certified(tmp_path, [*session(), other], start=-5, end=600)
    assert found.agrees
    assert found.untraded == {"MSFT"}
    assert {one.symbol for one in found.days} == {"AAPL"}


def test_why_differs_of_two_feeds_keeps_to_its_own(tmp_path: Path) -> None:
    fixed = print_of(1, 5, "100", 10)
    sip = [heard(fixed, 5), heard(correction(fixed, at(6), new_id=9, price="101"), 6)]
    stream(tmp_path / "d", recorded(tmp_path / "sip.txt", sip))
    iex = [heard(print_of(1, 5, "200", 10), 5), (60.5, bar("b", 0, "201 201 201 201 10 1 201"))]
    stream(tmp_path / "d", recorded(tmp_path / "iex.txt", iex), feed="iex")
    folder = DataFolder(tmp_path / "d")
    found = certify(folder)
    assert found.first is not None
    assert (found.first.pair.feed, found.first.outcome) == ("iex", "differs")
    # iex never had a correction, and those of sip are not about its trades
    (only,) = why_differs(folder, found.first).evidence
    assert (only.price, json.loads(only.raw)["p"]) == ("200", 200)


def instant(stamp: str) -> int:
    """Read RFC 3339 of the second; receipt is a second later."""
    whole = datetime.fromisoformat(stamp[:19] + "+00:00")
    return int(whole.timestamp() + 1) * NANOS
