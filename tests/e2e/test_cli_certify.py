"""`marketpipe verify --against-vendor`: our bars beside the vendor's own, as a user meets it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from certifykit import Found, bar, heard, print_of, recorded, replaced, session, without
from e2e.conftest import Command, Done
from feedkit import ticks

CHECK = ("verify", "--against-vendor")
Certified = Callable[..., Done]
EQUAL = "open 5 · high 5 · low 5 · close 5 · volume 5 · trade_count 5 · vwap 5, each of 5"


@pytest.fixture
def certified(marketpipe: Command, tmp_path: Path) -> Certified:
    """Stream messages under the vendor's rules, then compare."""

    def call(found: Iterable[Found], *words: str, rules: str = "alpaca-v1", **edges: float) -> Done:
        path = recorded(tmp_path / "frames.txt", found, **edges)
        mock = ("stream", "--mode", "mock", "--frames", path, "--feed", "sip", "--quiet")
        done = marketpipe(*mock, "--rules", rules, "--timeframes", "1m,1d")
        assert done.code == 0, done.err
        return marketpipe(*CHECK, *words)

    return call


def test_certify_session_by_the_published_rules_agrees(certified: Certified) -> None:
    done = certified(session())
    assert done.code == 0, done.out
    assert done.line("rules") == "alpaca-v1; vwap to the 6 decimals that the vendor gives"
    assert done.line("day") == (
        "alpaca/sip AAPL@1m 2026-01-05: 5 of 5 bars, 35 of 35 cells; apart: revised since 1"
    )
    assert done.line("bars") == "5 of 5 matched equal"
    assert done.line("cells") == EQUAL
    assert done.line("apart") == "revised since 1"
    assert "first " not in done.out


def test_certify_wrong_cells_of_an_update_are_named_and_explained(certified: Certified) -> None:
    done = certified(replaced(session(), "u", 60, h=105.5, v=45))
    assert done.code == 1
    assert done.line("bars") == "4 of 5 matched equal"
    assert done.line("cells") == EQUAL.replace("high 5", "high 4").replace("volume 5", "volume 4")
    assert done.line("first") == (
        "AAPL@1m 2026-01-05T14:31:00Z of alpaca/sip: high was 104, the vendor's 105.5, volume was "
        "40, the vendor's 45"
    )
    assert "the vendor's is updated, received 2026-01-05T14:32:30.5Z as mock-alpaca:" in done.out
    assert "our revision 1 late, known 2026-01-05T14:32:10.1Z: open 102, high 104" in done.out
    assert "high: no trade at the vendor's 105.5 was received for it" in done.out
    assert "volume: the vendor's is 5 more\n" in done.out
    assert "messages: 3 of 3 count; 3 shown" in done.out


def test_certify_cells_that_one_trade_accounts_for_name_it_and_its_rule(
    certified: Certified,
) -> None:
    # a vendor that let the odd lot of 14:30 set the low
    done = certified(replaced(session(), "b", 0, l=99.5))
    assert done.code == 1
    assert done.line("first").startswith(
        "AAPL@1m 2026-01-05T14:30:00Z of alpaca/sip: low was 99.75"
    )
    assert "low: the vendor's 99.5 is the price of trade 3 [@ I], which sets volume\n" in done.out
    assert "+ 2026-01-05T14:30:20Z trade 99.5 × 7 id 3 [@ I] sets volume" in done.out


def test_certify_size_that_was_left_out_is_named(certified: Certified) -> None:
    done = certified(replaced(session(), "b", 360, v=15))
    assert "volume: the vendor's is 5 more; of that size is trade 17 [@ 9], which sets nothing" in (
        done.out
    )
    assert "- 2026-01-05T14:36:10Z trade 200 × 5 id 17 [@ 9] sets nothing under alpaca-v1" in (
        done.out
    )


def test_certify_bar_that_the_vendor_never_sent_is_a_difference(certified: Certified) -> None:
    done = certified(without(session(), "b", 120))
    assert done.code == 1
    assert done.line("bars") == "4 of 4 matched equal, 1 only ours"
    assert done.line("first") == "AAPL@1m 2026-01-05T14:32:00Z of alpaca/sip: only ours"
    assert "the vendor sent no bar of it, although it was connected" in done.out
    assert "- 2026-01-05T14:32:10Z trade 110 × 10 id 9 [@] gone: cancelled" in done.out


def test_certify_bar_of_the_vendor_alone_says_why_we_have_none(certified: Certified) -> None:
    lone = (360.5, bar("b", 300, "112 112 112 112 5 1 112"))
    done = certified([*session(), lone])
    assert done.code == 1
    assert done.line("bars") == "5 of 5 matched equal, 1 only the vendor's"
    assert done.line("first").endswith("14:35:00Z of alpaca/sip: only the vendor's")
    assert "none of the 1 trades received may set open and close" in done.out
    assert "+ 2026-01-05T14:35:05Z trade 112 × 5 id 15 [@ I] sets volume" in done.out


def test_certify_bar_without_a_trade_says_so(certified: Certified, tmp_path: Path) -> None:
    none = (480.5, bar("b", 420, "114 114 114 114 10 1 114"))
    done = certified([*session(), none])
    assert done.code == 1
    assert "no trade of it was received" in done.out


def test_certify_refused_trade_behind_a_bar_of_the_vendor_is_shown(certified: Certified) -> None:
    bad = heard({**print_of(18, 425, "114", 10), "p": -1}, 425)
    done = certified([*session(), bad, (480.5, bar("b", 420, "114 114 114 114 10 1 114"))])
    assert done.code == 1
    assert "none of the 1 trades received counts" in done.out
    assert "left out: in quarantine, non_positive_price" in done.out


def test_certify_bars_cut_by_the_feed_are_counted_apart(certified: Certified) -> None:
    # begins within 14:30 after its first trade; ends before the update of 14:36 was due
    found = [one for one in session() if one[0] >= 5]
    done = certified(found, start=5, end=430)
    assert done.code == 0, done.out
    assert done.line("bars") == "4 of 4 matched equal"
    assert done.line("apart") == "partial 1 (0 equal), revised since 1"


def test_certify_bars_that_came_before_or_after_the_feed_was_there_are_apart(
    certified: Certified,
) -> None:
    # the vendor's bar of 14:30 comes after the connect, that of 14:36 would after the end
    found = [one for one in session() if 60.2 <= one[0] < 420]
    done = certified(found, start=60.2, end=421)
    assert done.code == 0, done.out
    assert done.line("bars") == "2 of 2 matched equal"
    assert done.line("apart") == ("partial 1 (1 equal), revised since 1, where the feed was cut 2")


def test_certify_partial_bar_that_is_equal_is_counted_apart_too(certified: Certified) -> None:
    done = certified(session(), start=0.5)
    assert done.code == 0
    assert done.line("bars") == "4 of 4 matched equal"
    assert done.line("apart") == "partial 1 (1 equal), revised since 1"


def test_certify_symbol_without_bars_of_the_vendor_is_named(certified: Certified) -> None:
    other = heard(print_of(1, 5, "20", 10, symbol="MSFT"), 5)
    done = certified([*session(), other])
    assert done.code == 0
    assert done.line("left") == "out   no bars of the vendor for MSFT: subscribe to them"
    named = certified([*session(), other], "--symbols", "MSFT")
    assert (named.code, "subscribe to bars and updatedBars" in named.err) == (2, True)


def test_certify_nothing_to_compare_exits_two_and_says_why(
    marketpipe: Command, certified: Certified, tmp_path: Path
) -> None:
    assert "holds no feed" in marketpipe(*CHECK).err
    plain = certified(session(), rules="plain")
    assert plain.code == 2
    assert "of alpaca/sip our 1m bars were built with rules plain; stream with --rules" in plain.err
    wrong = (
        (("--symbols", "NOPE"), "no bars of the vendor for what was asked; subscribe to bars"),
        (("--symbols", ","), "symbols: was ',', no symbol"),
        (("--date", "monday"), "date: was 'monday'"),
        (("--journal", "none"), "are mock-alpaca"),
    )
    for words, named in wrong:
        done = marketpipe(*CHECK, *words)
        assert (done.code, named in done.err) == (2, True), done.err
    feed = ticks(tmp_path / "t.csv", 200)
    mock = ("stream", "--mode", "mock", "--rules", "alpaca-v1", "--timeframes", "1m")
    assert marketpipe(*mock, "--csv", feed, "--data-dir", "other").code == 0
    done = marketpipe(*CHECK, "--data-dir", "other")
    assert (done.code, "subscribe to bars and updatedBars" in done.err) == (2, True), done.err


def test_certify_options_choose(marketpipe: Command, certified: Certified) -> None:
    assert certified(session(), "--symbols", "AAPL", "--date", "2026-01-05").code == 0
    assert marketpipe(*CHECK, "--journal", "mock-alpaca").code == 0
    other = marketpipe(*CHECK, "--date", "2026-01-06")
    assert (other.code, "neither side has a bar of what was asked" in other.err) == (2, True)
    both = marketpipe(*CHECK, "--symbols", "AAPL,APPL")
    assert (both.code, "has no APPL; valid are AAPL" in both.err) == (2, True), both.err


def test_certify_all_apart_exits_two(certified: Certified) -> None:
    found = [one for one in session() if one[0] <= 62]
    done = certified(found, start=0.5, end=63)
    assert done.code == 2
    assert "no bar is whole on both sides (partial 1)" in done.err


def test_certify_crypto_is_left_out_unless_it_is_named(
    marketpipe: Command, certified: Certified
) -> None:
    pair = [
        heard(print_of(1, 5, "90000", 100, symbol="BTC/USD"), 5),
        (60.5, bar("b", 0, "90001 90001 90000 90000 100 1 90000", symbol="BTC/USD")),
    ]
    done = certified([*session(), *pair])
    assert done.code == 0
    assert "BTC/USD: the vendor's bars hold mid-prices of quotes" in done.line("left")
    named = marketpipe(*CHECK, "--symbols", "BTC/USD")
    assert named.code == 1
    assert "open was 90000, the vendor's 90001, high was 90000" in named.line("first")


def test_certify_crypto_alone_says_why_there_is_nothing(certified: Certified) -> None:
    pair = (60.5, bar("b", 0, "90001 90001 90000 90000 100 1 90000", symbol="BTC/USD"))
    done = certified([heard(print_of(1, 5, "90000", 100, symbol="BTC/USD"), 5), pair])
    assert done.code == 2
    assert "of crypto (BTC/USD), which hold mid-prices of quotes" in done.err
