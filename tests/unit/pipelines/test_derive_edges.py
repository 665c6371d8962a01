"""Edge cases that no source settles, as decision 11 settles them, from raw messages to bars."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from livekit import (
    OPEN_NS,
    Message,
    cancel,
    correction,
    derive_settings,
    derived,
    encode,
    framed,
    numbered,
    trade,
)
from marketpipe.domain.units import NANOS, format_ns
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.derive import Derived
from marketpipe.sources.records import RecordBuilder

DAY = 86_400


class Seen(NamedTuple):
    """A bar event: seconds after the open, prices, size, how many, and why."""

    timeframe: str
    at: int
    prices: str
    volume: str
    trades: int
    revision: int
    cause: str
    known: float


def at(seconds: float) -> int:
    """Return the instant so many seconds after the open, ns."""
    return OPEN_NS + int(seconds * NANOS)


def one(number: int, seconds: float, price: str, size: int = 100, **more: Any) -> Message:
    """Make a trade that happened so many seconds after the open."""
    return trade(number, at(seconds), price, size, **more)


def run(
    events: Iterable[tuple[float, Message | None]], timeframes: str = "1m", **changes: Any
) -> Derived:
    """Derive messages received at some seconds after the open; None is a tick of the clock."""
    feed = [(at(seconds), message) for seconds, message in events]
    settings = replace(derive_settings(timeframes), **changes)
    return derived(settings, numbered(framed(feed)))


def seen(done: Derived) -> list[Seen]:
    """Return bar events in the order in which they became known."""
    return [
        Seen(
            row["timeframe"],
            (row["ts_open"] - OPEN_NS) // NANOS,
            " ".join(_short(row[name]) for name in ("open", "high", "low", "close")),
            _short(row["volume"]),
            row["trade_count"],
            row["revision"],
            row["cause"] if row["coverage"] == "traded" else f"{row['cause']}, {row['coverage']}",
            (row["known_at"] - OPEN_NS) / NANOS,
        )
        for row in done.bars.to_pylist()
    ]


def _short(value: Decimal | None) -> str:
    return "-" if value is None else f"{value.normalize():f}"


def test_correction_before_its_original_lets_only_its_content_in() -> None:
    original = one(1, 1, "10")
    fixed = correction(original, at(2), new_id=9, price="12", size=50)
    done = run([(2, fixed), (3, original), (62, None)])
    assert seen(done) == [Seen("1m", 0, "12 12 12 12", "50", 1, 0, "first", 62)]
    assert done.tables["trades"]["price"].to_pylist() == [Decimal(10)]
    assert done.tables["corrections"]["trade_ts_event"].to_pylist() == [None]


def test_cancel_before_its_original_keeps_it_out() -> None:
    original, other = one(1, 1, "10"), one(2, 2, "11")
    done = run([(2, cancel(original, at(2))), (3, original), (4, other), (62, None)])
    assert seen(done) == [Seen("1m", 0, "11 11 11 11", "100", 1, 0, "first", 62)]
    assert len(done.tables["trades"]) == 2


def test_correction_before_its_original_that_comes_late_makes_a_late_revision() -> None:
    original, other = one(1, 1, "10"), one(2, 2, "11")
    fixed = correction(original, at(3), new_id=9, price="12")
    done = run([(3, other), (4, fixed), (62, None), (70, original), (71, None)])
    assert seen(done) == [
        Seen("1m", 0, "11 11 11 11", "100", 1, 0, "first", 62),
        Seen("1m", 0, "12 12 11 11", "200", 2, 1, "late", 70),
    ]


def test_correction_of_a_correction_counts_at_the_originals_time() -> None:
    original, after = one(1, 1, "10"), one(2, 2, "11")
    first = correction(original, at(63), new_id=9, price="12")
    second = correction({**original, "i": 9}, at(64), new_id=10, price="9", size=7)
    done = run([(1, original), (2, after), (62, None), (63, first), (64, second), (65, None)])
    assert seen(done) == [
        Seen("1m", 0, "10 11 10 11", "200", 2, 0, "first", 62),
        Seen("1m", 0, "12 12 11 11", "200", 2, 1, "correction", 63),
        Seen("1m", 0, "9 11 9 11", "107", 2, 2, "correction", 64),
    ]
    assert done.tables["corrections"]["trade_ts_event"].to_pylist() == [at(1), at(1)]


def test_chain_gives_the_same_bar_in_every_order_of_its_messages() -> None:
    original, other = one(1, 1, "10"), one(2, 2, "11")
    first = correction(original, at(3), new_id=9, price="12")
    second = correction({**original, "i": 9}, at(4), new_id=10, price="9")
    bars = set()
    for order in permutations([original, first, second]):
        done = run([*((n + 3, m) for n, m in enumerate([other, *order])), (62, None)])
        bars.add(tuple(seen(done)))
    assert bars == {(Seen("1m", 0, "9 11 9 11", "200", 2, 0, "first", 62),)}


def test_cancel_of_a_corrected_trade_takes_the_whole_chain_out() -> None:
    original, other = one(1, 1, "10"), one(2, 2, "11")
    first = correction(original, at(3), new_id=9, price="12")
    gone = cancel({**original, "i": 9}, at(4))
    for order in permutations([original, first, gone]):
        done = run([*((n + 3, m) for n, m in enumerate([other, *order])), (62, None)])
        assert seen(done) == [Seen("1m", 0, "11 11 11 11", "100", 1, 0, "first", 62)]


def test_corrected_trade_that_is_also_sent_as_a_trade_counts_once() -> None:
    original, again = one(1, 1, "10"), one(9, 1, "12")
    fixed = correction(original, at(3), new_id=9, price="12")
    for order in permutations([original, again, fixed]):
        done = run([*((n + 3, m) for n, m in enumerate(order)), (62, None)])
        assert seen(done) == [Seen("1m", 0, "12 12 12 12", "100", 1, 0, "first", 62)]


def test_cancel_of_the_high_restores_the_next_high() -> None:
    high = one(2, 2, "15")
    events = [(1, one(1, 1, "10")), (2, high), (3, one(3, 3, "12")), (62, None)]
    done = run([*events, (63, cancel(high, at(63))), (64, None)])
    assert seen(done) == [
        Seen("1m", 0, "10 15 10 12", "300", 3, 0, "first", 62),
        Seen("1m", 0, "10 12 10 12", "200", 2, 1, "cancel", 63),
    ]


def test_cancel_before_the_bar_is_confirmed_makes_no_revision() -> None:
    high = one(2, 2, "15")
    done = run([(1, one(1, 1, "10")), (2, high), (3, cancel(high, at(3))), (62, None)])
    assert seen(done) == [Seen("1m", 0, "10 10 10 10", "100", 1, 0, "first", 62)]


def test_bar_emptied_by_cancels_is_void_and_revived_by_a_late_trade() -> None:
    only = one(1, 1, "10")
    events = [(1, only), (62, None), (63, cancel(only, at(63))), (64, one(2, 5, "11")), (65, None)]
    assert seen(run(events)) == [
        Seen("1m", 0, "10 10 10 10", "100", 1, 0, "first", 62),
        Seen("1m", 0, "- - - -", "-", 0, 1, "cancel, void", 63),
        Seen("1m", 0, "11 11 11 11", "100", 1, 2, "late", 64),
    ]


def test_message_that_changes_nothing_makes_no_revision() -> None:
    only, other = one(1, 1, "10"), one(2, 2, "11")
    same = correction(only, at(63), new_id=9, price="10")
    unknown = cancel(one(77, 1, "10"), at(64))
    gone = cancel(other, at(65))
    done = run(
        [
            (1, only),
            (2, other),
            (62, None),
            (63, same),
            (64, unknown),
            (65, gone),
            (66, gone),
            (67, None),
        ]
    )
    assert [(bar.revision, bar.cause) for bar in seen(done)] == [(0, "first"), (1, "cancel")]


def test_id_used_again_the_next_day_is_another_trade() -> None:
    done = run([(1, one(1, 1, "10")), (DAY + 1, one(1, DAY + 1, "20")), (DAY + 62, None)])
    assert [(bar.at, bar.prices) for bar in seen(done)] == [
        (0, "10 10 10 10"),
        (DAY, "20 20 20 20"),
    ]


def test_cancel_of_an_id_used_on_two_days_is_of_the_day_it_names() -> None:
    old, new = one(1, 1, "10"), one(1, DAY + 1, "20")
    done = run(
        [
            (1, old),
            (DAY + 1, new),
            (DAY + 62, None),
            (DAY + 63, cancel(new, at(DAY + 63))),
            (DAY + 64, None),
        ]
    )
    assert [(bar.at, bar.cause) for bar in seen(done)] == [
        (0, "first"),
        (DAY, "first"),
        (DAY, "cancel, void"),
    ]


def test_cancel_for_an_earlier_session_revises_that_session() -> None:
    old = one(1, 1, "10")
    done = run(
        [
            (1, old),
            (62, None),
            (DAY, one(2, DAY, "11")),
            (DAY + 1, cancel(old, at(DAY + 1))),
            (DAY + 2, None),
        ]
    )
    assert seen(done)[1] == Seen("1m", 0, "- - - -", "-", 0, 1, "cancel, void", DAY + 1)
    dates = done.tables["corrections"]["session_date"].to_pylist()
    assert [str(date) for date in dates] == ["2026-01-05"]


def test_cancel_of_an_earlier_session_that_came_before_its_trade_waits_for_ever() -> None:
    old = one(1, 1, "10")
    done = run([(DAY, cancel(old, at(DAY))), (DAY + 1, old), (DAY + 2, None)])
    assert [(bar.prices, bar.cause) for bar in seen(done)] == [("10 10 10 10", "first")]
    assert done.tables["corrections"]["trade_ts_event"].to_pylist() == [None]


def test_duplicates_after_a_reconnect_are_left_out_by_id_and_kept_without() -> None:
    known, nameless = one(1, 1, "10"), one(2, 2, "11")
    del nameless["i"]
    parts = []
    for conn in (1, 2):
        builder = RecordBuilder(
            source="alpaca", feed="sip", stream="t", conn_id=conn, conn_started_ns=at(conn)
        )
        frame = f"[{encode(known)},{encode(nameless)}]".encode()
        builder.add_frame(frame, at(conn + 2))
        parts.append(builder.take())
    builder.add_clock(at(62))
    done = derived(derive_settings("1m"), numbered(pa.Table.from_batches([*parts, builder.take()])))
    assert seen(done) == [Seen("1m", 0, "10 11 10 11", "300", 3, 0, "first", 62)]
    assert done.findings.counts == {"duplicate": 1}


def test_equal_times_across_venues_are_ordered_alike_in_any_arrival() -> None:
    first, second = one(5, 1, "10", venue="Q"), one(1, 1, "11", venue="V")
    for order in ((first, second), (second, first)):
        done = run([(1, order[0]), (2, order[1]), (62, None)])
        assert seen(done)[0].prices == "10 11 10 11"


def test_trade_stamped_in_the_future_closes_nothing() -> None:
    ahead, now = one(1, 300, "20"), one(2, 30, "10")
    done = run([(1, ahead), (31, now), (40, None), (62, None), (362, None)])
    assert seen(done) == [
        Seen("1m", 0, "10 10 10 10", "100", 1, 0, "first", 62),
        Seen("1m", 300, "20 20 20 20", "100", 1, 0, "first", 362),
    ]


def test_late_trade_revises_minute_and_hour_in_one_interval() -> None:
    prints = [{**one(n, s, p), "z": "C"} for n, s, p in ((1, 1, "10"), (2, 2, "11"), (3, 3, "20"))]
    rules = RuleSet.load("alpaca-v1")
    events = [(1, prints[0]), (2, prints[1]), (1802, None), (1803, prints[2]), (1804, None)]
    done = run(events, "1m,1h", rule_set=rules)
    late = [bar for bar in seen(done) if bar.revision == 1]
    assert [(bar.timeframe, bar.prices, bar.cause, bar.known) for bar in late] == [
        ("1m", "10 20 10 20", "late", 1803),
        ("1h", "10 20 10 20", "late", 1803),
    ]
    assert len(set(done.bar_offsets[-2:].tolist())) == 1


def quote(seconds: float, bid: float, ask: float) -> tuple[float, Message]:
    """Make a quote, received when it happened."""
    sides = {"bx": "V", "bp": bid, "bs": 1, "ax": "Q", "ap": ask, "as": 2}
    return seconds, {
        "T": "q",
        "S": "AAPL",
        **sides,
        "c": ["R"],
        "z": "A",
        "t": format_ns(at(seconds)),
    }


@pytest.mark.parametrize(
    ("price_type", "prices"),
    [("bid", "10 12 10 11"), ("ask", "11 11 11 11"), ("mid", "10.5 11 10.5 11")],
)
def test_crossed_quotes_are_left_out_of_mid_and_locked_ones_kept(
    price_type: str, prices: str
) -> None:
    events = [quote(1, 10, 11), quote(2, 12, 11), quote(3, 11, 11), (62, None)]
    done = run(events, price_types=(price_type,))
    assert [bar.prices for bar in seen(done)] == [prices]
    assert len(done.tables["quotes"]) == 3


def test_book_delta_before_its_snapshot_is_kept_as_received() -> None:
    events: list[tuple[float, Message | None]] = [
        (
            n,
            {
                "T": "o",
                "S": "BTC/USD",
                "t": format_ns(at(n)),
                "r": n == 2,
                "a": [],
                "b": [{"p": n, "s": 1}],
            },
        )
        for n in (1, 2)
    ]
    done = run([*events, (62, None)])
    rows = done.tables["book"].select(["is_snapshot", "price", "offset"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(False, Decimal(1), 1), (True, Decimal(2), 2)]
    assert not done.findings


def test_cancel_of_a_trade_whose_id_is_a_text_takes_it_out() -> None:
    odd = {**one(1, 1, "12"), "i": "abc"}
    done = run([(1, odd), (2, one(2, 2, "10")), (3, cancel(odd, at(3))), (62, None)])
    assert seen(done)[0].prices == "10 10 10 10"


def test_correction_without_a_price_is_quarantined_and_takes_nothing_out() -> None:
    bad = correction(one(1, 1, "12"), at(3), new_id=9, price="12")
    del bad["cp"]
    done = run([(1, one(1, 1, "12")), (3, bad), (62, None)])
    assert seen(done)[0].prices == "12 12 12 12"
    assert "quarantine" in done.tables


def test_correction_to_a_price_below_zero_is_quarantined_and_takes_nothing_out() -> None:
    bad = correction(one(1, 1, "12"), at(3), new_id=9, price="-3")
    done = run([(1, one(1, 1, "12")), (3, bad), (62, None)])
    assert seen(done)[0].prices == "12 12 12 12"
    assert "quarantine" in done.tables


def test_correction_without_original_is_a_finding_when_its_session_settles() -> None:
    done = run(
        [(1, one(1, 1, "12")), (2, cancel(one(77, 1, "10"), at(2))), (62, None), (3 * DAY, None)]
    )
    assert done.findings.count("unmatched_correction") == 1
    assert done.findings.examples("unmatched_correction")[0].detail == "cancel of 77 of AAPL"
