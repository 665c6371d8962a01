"""Rule tables: every condition of alpaca-v1 by hand, strictest wins, auctions, bad tables."""

from pathlib import Path

import pytest

from marketpipe.domain.ticks import (
    ALL,
    CLOSING_AUCTION,
    DAY_SHIFT,
    FIRST_ONLY,
    HIGH_LOW,
    LAST,
    OFFICIAL_CLOSE,
    OFFICIAL_OPEN,
    PLAIN,
    VOLUME,
    VWAP,
)
from marketpipe.errors import RuleSetError
from marketpipe.normalize import RuleSet

ALPACA = RuleSet.load("alpaca-v1")
PLAIN_RULES = RuleSet.load("plain")
AUCTION_BITS = OFFICIAL_OPEN | OFFICIAL_CLOSE | CLOSING_AUCTION

# The vendor's signs: open/close, high/low, volume; trades that allow both high/low and volume
# count in vwap as well. "o" is its half circle: only if first in the bar.
SIGNS = {
    "yyy": LAST | HIGH_LOW | VOLUME | VWAP,
    "nny": VOLUME,
    "oyy": FIRST_ONLY | HIGH_LOW | VOLUME | VWAP,
    "nnn": 0,
    "yyn": LAST | HIGH_LOW,
}

# Copied by hand from the vendor's page: condition, then minute and day per tape A, B, C, O.
# "?" marks what the page does not list: unknown there, sets nothing.
VENDOR_TABLE = """
(none)  A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
@       A ??? ???  B ??? ???  C yyy yyy  O yyy yyy
A       A ??? ???  B ??? ???  C yyy yyy  O ??? ???
B       A nny nny  B nny nny  C yyy yyy  O ??? ???
C       A nny nny  B nny nny  C nny nny  O nny nny
D       A ??? ???  B ??? ???  C yyy yyy  O ??? ???
E       A yyy yyy  B yyy yyy  C ??? ???  O ??? ???
F       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
G       A nny ???  B nny ???  C nny oyy  O nny ???
H       A nny nny  B nny nny  C nny nny  O nny nny
I       A nny nny  B nny nny  C nny nny  O nny nny
K       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
L       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
M       A nnn nnn  B nnn nnn  C nnn nnn  O nnn nnn
N       A nny nny  B nny nny  C nny nny  O nny nny
O       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
P       A nny oyy  B nny oyy  C nny oyy  O nny oyy
Q       A nnn nnn  B nnn nnn  C nnn nnn  O nnn nnn
R       A nny nny  B nny nny  C nny nny  O nny nny
T       A yyy nny  B yyy nny  C yyy nny  O yyy nny
U       A nny nny  B nny nny  C nny nny  O nny nny
V       A nny nny  B nny nny  C nny nny  O nny nny
W       A ??? ???  B ??? ???  C nny nny  O nny nny
X       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
Y       A ??? ???  B ??? ???  C yyy yyy  O ??? ???
Z       A nny oyy  B nny oyy  C nny oyy  O nny oyy
4       A nny oyy  B nny oyy  C nny oyy  O nny oyy
5       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
6       A yyy yyy  B yyy yyy  C yyy yyy  O yyy yyy
7       A nny nny  B nny nny  C nny nny  O nny nny
9       A nnn yyn  B nnn yyn  C nnn yyn  O nnn yyn
J       A ??? ???  B ??? ???  C ??? ???  O ??? ???
S       A ??? ???  B ??? ???  C ??? ???  O ??? ???
1       A ??? ???  B ??? ???  C ??? ???  O ??? ???
8       A ??? ???  B ??? ???  C ??? ???  O ??? ???
"""
CASES = [
    (code.replace("(none)", ""), *words[i : i + 3])
    for code, *words in (line.split() for line in VENDOR_TABLE.split("\n") if line)
    for i in range(0, 12, 3)
]


@pytest.mark.parametrize(("code", "tape", "minute", "day"), CASES)
def test_alpaca_condition_on_tape_sets_what_the_vendor_says(
    code: str, tape: str, minute: str, day: str
) -> None:
    verdict = ALPACA.judge(code, tape, "XX")
    expected = SIGNS.get(minute, 0) | SIGNS.get(day, 0) << DAY_SHIFT
    assert verdict.flags == expected
    assert verdict.unknown == ((code,) if "???" in (minute, day) else ())
    assert verdict.missing_tape == ()


@pytest.mark.parametrize(
    ("conditions", "tape", "minute", "day"),
    [
        ("@ I", "C", "nny", "nny"),  # an odd lot alone gives volume only
        ("@ F T", "C", "yyy", "nny"),  # Form T in minutes but not in days
        ("T 9", "A", "nnn", "nnn"),  # yyy+nnn; nny+yyn: nothing is allowed by both
        ("Z 9", "C", "nnn", "o-yn"),  # days: oyy + yyn = first only, high/low, no volume
        ("4 T", "C", "nny", "nny"),
        ("P 6", "A", "nny", "oyy"),
        ("@ Q", "C", "nnn", "nnn"),
        ("F B", "C", "yyy", "yyy"),
        ("F B", "A", "nny", "nny"),
        ("@ S", "C", "nnn", "nnn"),  # one unknown code is enough
        ("  T  I ", "A", "nny", "nny"),  # blanks of the CTA's regular sale vanish
    ],
)
def test_alpaca_combination_strictest_component_wins(
    conditions: str, tape: str, minute: str, day: str
) -> None:
    signs = {**SIGNS, "o-yn": FIRST_ONLY | HIGH_LOW}
    assert ALPACA.flags_for(conditions, tape, "XX") == signs[minute] | signs[day] << DAY_SHIFT


def test_alpaca_without_tape_takes_the_strictest_listed_reading() -> None:
    verdict = ALPACA.judge("B", "")
    assert verdict.flags == VOLUME | VOLUME << DAY_SHIFT
    assert verdict.missing_tape == ("B",)
    assert ALPACA.judge("@ F").missing_tape == ()
    assert ALPACA.flags_for("@ F") == PLAIN


def test_alpaca_on_unlisted_tape_knows_only_rules_of_all_tapes() -> None:
    assert ALPACA.judge("I", "X").unknown == ()
    assert ALPACA.judge("B", "X") == (0, ("B",), ())


@pytest.mark.parametrize("rules", [ALPACA, PLAIN_RULES])
@pytest.mark.parametrize(
    ("tape", "venue", "primary"),
    [
        ("A", "N", True), ("A", "Q", False), ("B", "P", True), ("B", "A", True), ("B", "Z", True),
        ("B", "N", False), ("C", "Q", True), ("C", "P", False), ("C", "", True), ("", "P", True),
        ("", "D", False), ("", "", True), ("O", "", False), ("O", "Q", False),
    ],
)  # fmt: skip
def test_auction_bit_only_where_known_parts_fit_the_primary_venue(
    rules: RuleSet, tape: str, venue: str, primary: bool
) -> None:
    for code, bit in (("Q", OFFICIAL_OPEN), ("M", OFFICIAL_CLOSE), ("6", CLOSING_AUCTION)):
        flags = rules.flags_for(f"@ {code}", tape, venue)
        assert flags & AUCTION_BITS == (bit if primary else 0)


def test_regular_sale_has_no_auction_bits() -> None:
    assert ALPACA.flags_for("", "", "") == PLAIN


def test_plain_any_condition_counts_everywhere_and_nothing_is_unknown() -> None:
    for conditions in ("", "I", "9", "Q", "12 24", "nonsense"):
        verdict = PLAIN_RULES.judge(conditions, "C", "D")
        assert verdict.flags == PLAIN == ALL | ALL << DAY_SHIFT
        assert verdict.unknown == ()


def test_policies_are_those_of_the_vendor() -> None:
    assert RuleSet.names() == ("alpaca-v1", "plain")
    assert (ALPACA.anchoring, ALPACA.rollup, ALPACA.emission) == ("ny_day", "bars", "all_non_zero")
    assert (ALPACA.base_timeframes, ALPACA.min_timeframe) == (("1m", "1d"), "1m")
    assert (PLAIN_RULES.anchoring, PLAIN_RULES.rollup) == ("session", "ticks")
    assert (PLAIN_RULES.emission, PLAIN_RULES.base_timeframes) == ("any", ())


TABLE = """
name = "mine"
version = 3
source = "a test"
anchoring = "session"
rollup = "ticks"
base_timeframes = []
min_timeframe = "1s"
emission = "any"
unknown_condition = "all"
tapes = ["A", "B"]
conditions = [{ code = "x", tapes = ["A"], minute = "all", day = "all" }]
[effects.all]
last = "yes"
high_low = true
volume = true
vwap = true
[auctions]
official_open = "Q"
official_close = "M"
closing_auction = "6"
[auctions.primary_venues]
A = ["N"]
"""


def test_ruleset_from_file_reads_and_digest_ignores_layout(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)
    rules = RuleSet.load(path)
    assert (rules.name, rules.version) == ("mine", 3)
    assert rules.digest == RuleSet.parse("# a comment\n" + TABLE.replace(" = ", "=")).digest
    assert rules.digest != RuleSet.parse(TABLE.replace("version = 3", "version = 4")).digest
    assert len(rules.digest) == 64


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "mine"', 'name = "mine"\ncolour = 1', "unknown key 'colour'; valid are name"),
        ('name = "mine"', "", "name is missing"),
        ('name = "mine"', 'name = ""', "a name that is not empty"),
        ("version = 3", "version = true", "valid is an integer"),
        ("version = 3", "version = 0", "from 1 up"),
        ("volume = true", "volume = false", "vwap needs volume"),
        ('last = "yes"', 'last = "maybe"', "one of no, first_only, yes"),
        ('"session"', '"utc"', "one of session, ny_day"),
        ('"ticks"', '"trades"', "one of ticks, bars"),
        ('"ticks"', '"bars"', "base_timeframes was"),
        ('unknown_condition = "all"', 'unknown_condition = "some"', "one of all"),
        ('minute = "all"', 'minute = "some"', "minute was 'some'; valid is one of all"),
        (', minute = "all", day = "all"', "", "minute or day or both"),
        ('tapes = ["A"],', 'tapes = ["C"],', "one of A, B"),
        ('tapes = ["A"],', 'tapes = [""],', "texts that are not empty"),
        ('code = "x"', 'code = "x y"', "without spaces"),
        ('code = "x", ', "", "code is missing"),
        ("conditions = [{", 'conditions = [7, {', "valid is a table"),
        ('A = ["N"]', 'A = "N"', "a list of texts"),
        ("[effects.all]", "[effects.all]\nmore = 1", "unknown key 'more'"),
        ("version = 3", "version = = 3", "not TOML"),
    ],
)  # fmt: skip
def test_ruleset_malformed_table_error_says_what_is_valid(old: str, new: str, says: str) -> None:
    assert old in TABLE
    with pytest.raises(RuleSetError) as caught:
        RuleSet.parse(TABLE.replace(old, new), origin="mine.toml")
    assert says in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_ruleset_two_rows_for_one_code_on_one_tape_error() -> None:
    row = '{ code = "x", minute = "all" }, '
    with pytest.raises(RuleSetError, match="one row for a code on a tape"):
        RuleSet.parse(TABLE.replace("conditions = [", "conditions = [" + row))


def test_ruleset_effect_that_is_no_table_error() -> None:
    head, tail = TABLE.split("[effects.all]")
    with pytest.raises(RuleSetError, match="valid is a table"):
        RuleSet.parse(f"{head}[effects]\nall = 1\n[auctions]{tail.split('[auctions]')[1]}")


def test_ruleset_unknown_name_error_lists_names() -> None:
    with pytest.raises(RuleSetError, match=r"'sip'; valid are alpaca-v1, plain"):
        RuleSet.load("sip")


def test_ruleset_unreadable_file_error_names_it(tmp_path: Path) -> None:
    with pytest.raises(RuleSetError, match="cannot be read"):
        RuleSet.load(tmp_path / "absent.toml")
