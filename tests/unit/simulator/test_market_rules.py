"""The vendor's bars, by hand, and its rules against the pipeline's own reading of them."""

import numpy as np
import pytest

from marketpipe.domain.ticks import DAY_SHIFT, FIRST_ONLY, HIGH_LOW, LAST, VOLUME
from marketpipe.normalize import RuleSet
from marketpipe.simulator.messages import BarContent, BarMessage, half_even
from marketpipe.simulator.vendorbars import Effects, Span, Tally, effect, quoted_bar

NANO = 10**9
CODES = [" ", "@", *"ABCDEFGHIKLMNOPQRTUVWXYZ45679", "?"]


def test_rules_of_every_condition_are_as_the_pipeline_reads_them() -> None:
    rules = RuleSet.load("alpaca-v1")
    spans: tuple[tuple[Span, int], ...] = (("minute", 0), ("day", DAY_SHIFT))
    for tape in ("A", "B", "C", "O"):
        for one in CODES:
            for other in ("F", "I", "T", "9", "4", one):
                flags = rules.judge(f"{one} {other}", tape).flags
                for span, shift in spans:
                    ours = flags >> shift
                    last = 2 if ours & LAST else 1 if ours & FIRST_ONLY else 0
                    expected = (last, bool(ours & HIGH_LOW), bool(ours & VOLUME))
                    # The pipeline reads the blank as no condition, on every tape.
                    words = [word for word in (one, other) if word != " "]
                    assert effect(words, tape, span) == expected, (one, other, tape, span)


@pytest.mark.parametrize(
    ("conditions", "tape", "span", "expected"),
    [
        ((" ",), "A", "minute", (2, True, True)),
        (("@", "T", "I"), "C", "minute", (0, False, True)),
        (("@", "T"), "C", "minute", (2, True, True)),
        (("@", "T"), "C", "day", (0, False, True)),
        (("@", "4"), "C", "day", (1, True, True)),
        (("@", "9"), "C", "day", (2, True, False)),
        (("@", "9"), "C", "minute", (0, False, False)),
        (("@", "9", "4"), "C", "day", (1, True, False)),
        (("B",), "A", "minute", (0, False, True)),
        (("B",), "C", "minute", (2, True, True)),
        (("@",), "A", "minute", (0, False, False)),
        ((), "A", "minute", (2, True, True)),
        (None, None, "minute", (2, True, True)),
    ],
)
def test_effect_of_conditions_is_the_strictest(
    conditions: tuple[str, ...] | None, tape: str | None, span: Span, expected: tuple[int, ...]
) -> None:
    assert effect(conditions, tape, span) == expected


def tallied(*trades: tuple[int, int, int], span: Span = "day") -> Tally:
    """Count (price, size, code) trades; codes: 0 regular, 1 first only, 2 odd lot, 3 price only."""
    effects = Effects([((word,), "C") for word in ("@", "4", "I", "9")])
    columns = np.array(trades, np.int64).reshape(-1, 3).T.copy()
    return effects.tally(span, *columns)


def test_bar_opens_with_the_first_allowed_and_closes_with_the_last() -> None:
    # The odd lot sets no price; the first-only trade opens, and a later one does not close.
    trades = [(90, 5, 2), (10, 100, 1), (12, 100, 0), (11, 200, 0), (15, 100, 1), (20, 7, 3)]
    num = 10 * 100 + 12 * 100 + 11 * 200 + 15 * 100
    assert tallied(*trades).bar() == BarContent(10, 20, 10, 20, 505, 5, num, 500)
    assert tallied(*trades[:-1]).bar() == BarContent(10, 15, 10, 11, 505, 5, num, 500)


def test_bar_of_first_only_trades_opens_and_closes_with_the_first() -> None:
    bar = tallied((10, 1, 1), (12, 1, 1)).bar()
    assert bar is not None
    assert (bar.open, bar.high, bar.low, bar.close) == (10, 12, 10, 10)


@pytest.mark.parametrize("trades", [[], [(10, 5, 2)], [(10, 0, 0)], [(10, 100, 3)]])
def test_bar_without_price_or_volume_is_not_made(trades: list[tuple[int, int, int]]) -> None:
    assert tallied(*trades).bar() is None


def test_tally_of_two_parts_is_that_of_the_whole() -> None:
    trades = [(10, 5, 2), (11, 100, 1), (9, 100, 0), (14, 3, 3), (12, 50, 1), (13, 100, 0)]
    for cut in range(len(trades) + 1):
        assert tallied(*trades[:cut]).plus(tallied(*trades[cut:])) == tallied(*trades)


def test_bar_of_quotes_has_the_mids_and_no_volume() -> None:
    bids, asks = np.array([10, 20, 4, 8]), np.array([12, 30, 6, 10])
    assert quoted_bar(bids, asks) == BarContent(11, 25, 5, 9, 0, 0, 0, 0)
    assert quoted_bar(bids[:0], asks[:0]) is None


def test_vwap_is_rounded_half_to_even() -> None:
    assert [half_even(num, 2) for num in (1, 3, 5, -1)] == [0, 2, 2, 0]
    assert half_even(2, 3) == 1
    # 1/3 to six decimals for stocks, to nine for crypto; sizes are nanos as prices are.
    bar = BarContent(NANO, NANO, NANO, NANO, 3 * NANO, 2, NANO * NANO, 3 * NANO)
    assert b'"vw":0.333333}' in BarMessage("b", "F", 0, bar, "stocks").encode("json")
    assert b'"vw":0.333333333}' in BarMessage("b", "A/B", 0, bar, "crypto").encode("json")
