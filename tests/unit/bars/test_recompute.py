"""Cancels and corrections: bars rebuilt from the trades that are left."""

from collections.abc import Sequence

import pytest

from barkit import Print, alpaca, bars, full, life, ns, ohlc, stream, ticks
from marketpipe.bars import BarEngine, BarEvents
from marketpipe.bars.repair import RepairCause
from marketpipe.domain.bars import BarEvent
from marketpipe.domain.ticks import CLOSING_AUCTION, OFFICIAL_CLOSE, PLAIN
from marketpipe.errors import EngineError

KNOWN = "2024-01-02T18:00:00Z"


def repair(
    engine: BarEngine, at: str, left: Sequence[Print], cause: RepairCause = "cancel"
) -> list[BarEvent]:
    """Answer every request for the trade at ``at`` with those of ``left`` that lie in the bar."""
    out: list[BarEvent] = []
    for request in engine.request_recompute(stream(), ns(at), cause):
        until = max(request.ts_close, request.confirm_at)
        inside = [p for p in left if request.ts_open <= ns(p.at) < until]
        out.extend(engine.recompute(request, ticks(inside), ns(KNOWN)))
    return out


def engine_of(
    prints: Sequence[Print], timeframes: Sequence[str], rules: str = "plain"
) -> BarEngine:
    engine = BarEngine(timeframes, rule_set=rules)
    engine.apply(ticks(prints))
    engine.advance(ns("2024-01-02T17:00:00Z"))
    return engine


A = Print("2024-01-02T15:00:01Z", "10", "1")
HIGH = Print("2024-01-02T15:00:02Z", "90", "2")
B = Print("2024-01-02T15:00:03Z", "12", "3")
LATER = Print("2024-01-02T15:01:03Z", "11", "4")


def test_recompute_cancel_of_the_trade_that_was_the_high_restores_the_next_high() -> None:
    engine = engine_of([A, HIGH, B, LATER], ["1m", "1h"])
    events = repair(engine, HIGH.at, [A, B, LATER])
    assert [(e.bar.timeframe, full(e.bar)) for e in events] == [
        ("1m", "10 12 10 12 4 2 11.5"),  # (10 + 36) / 4
        ("1h", "10 12 10 11 8 3 11.25"),  # (10 + 36 + 44) / 8
    ]
    assert {(e.kind, e.bar.revision, e.bar.cause, e.bar.known_at) for e in events} == {
        ("revised", 1, "cancel", ns(KNOWN))
    }


def test_recompute_cancel_names_the_bars_of_the_trade_finest_first() -> None:
    engine = engine_of([A, HIGH, B, LATER], ["1h", "1m", "1d"])
    requests = engine.request_recompute(stream(), ns(HIGH.at), "cancel")
    assert [r.timeframe for r in requests] == ["1m", "1h", "1d"]
    assert requests[0].ts_open == ns("2024-01-02T15:00:00Z")
    assert requests[0].ts_close == ns("2024-01-02T15:01:00Z")


def test_recompute_bar_emptied_by_cancels_becomes_void() -> None:
    engine = engine_of([HIGH, LATER], ["1m"])
    (event,) = repair(engine, HIGH.at, [])
    bar = event.bar
    assert (event.kind, bar.revision, bar.cause, bar.coverage) == ("revised", 1, "cancel", "void")
    assert full(bar) == "- - - - - 0 -"
    assert bar.notional is None
    assert bar.state == "confirmed"
    assert [ohlc(b) for b in bars(engine.bars())] == ["11 11 11 11"]


def test_recompute_void_bar_is_revived_by_a_late_trade() -> None:
    engine = engine_of([HIGH, LATER], ["1m"])
    repair(engine, HIGH.at, [])
    (event,) = engine.apply(ticks([B]))
    assert life([event]) == [("revised", "1m", 2, "late", "12 12 12 12")]
    assert event.bar.coverage == "traded"
    assert [b.revision for b in bars(engine.bars())] == [2, 0]


def test_recompute_cancel_of_what_is_void_already_is_no_revision() -> None:
    engine = engine_of([HIGH, LATER], ["1m"])
    assert len(repair(engine, HIGH.at, [])) == 1
    assert repair(engine, HIGH.at, []) == []


def test_recompute_correction_takes_the_new_price_at_the_old_time() -> None:
    engine = engine_of([A, HIGH, B], ["1m"])
    corrected = HIGH._replace(price="11", size="5")
    (event,) = repair(engine, HIGH.at, [A, corrected, B], "correction")
    # (10 + 55 + 36) / 9 = 11.222…
    assert full(event.bar) == "10 12 10 12 9 3 11.222222222"
    assert (event.bar.revision, event.bar.cause) == (1, "correction")


def test_recompute_correction_of_a_correction_counts_on() -> None:
    engine = engine_of([A, HIGH, B], ["1m"])
    repair(engine, HIGH.at, [A, HIGH._replace(price="11"), B], "correction")
    (event,) = repair(engine, HIGH.at, [A, HIGH._replace(price="13"), B], "correction")
    assert life([event]) == [("revised", "1m", 2, "correction", "10 13 10 12")]


def test_recompute_correction_back_to_the_first_content_is_a_revision() -> None:
    engine = engine_of([A, HIGH, B], ["1m"])
    repair(engine, HIGH.at, [A, HIGH._replace(price="11"), B], "correction")
    (event,) = repair(engine, HIGH.at, [A, HIGH, B], "correction")
    assert life([event]) == [("revised", "1m", 2, "correction", "10 90 10 12")]


def test_recompute_same_content_twice_is_no_revision() -> None:
    engine = engine_of([A, HIGH, B], ["1m", "1h", "1d"])
    assert repair(engine, HIGH.at, [A, HIGH, B], "correction") == []
    assert {b.revision for b in bars(engine.bars())} == {0}
    first = repair(engine, HIGH.at, [A, B])
    assert {e.bar.revision for e in first} == {1}
    assert repair(engine, HIGH.at, [A, B]) == []


def test_recompute_open_bar_changes_without_a_revision() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([A, HIGH, B]))
    assert repair(engine, HIGH.at, [A, B]) == []
    (event,) = engine.advance(ns("2024-01-02T15:01:00Z"))
    assert life([event]) == [("confirmed", "1m", 0, "first", "10 12 10 12")]


def test_recompute_open_bar_emptied_never_becomes_one() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([HIGH]))
    assert repair(engine, HIGH.at, []) == []
    assert len(engine.advance(ns("2024-01-02T15:01:00Z"))) == 0
    assert len(engine.bars()) == 0


def test_recompute_cancel_for_an_earlier_session_revises_that_session() -> None:
    old = Print("2023-12-29T20:00:00Z", "50", "1")
    older = Print("2023-12-29T19:00:00Z", "40", "1")
    engine = BarEngine(["1m", "1d"], calendar="XNYS")
    engine.apply(ticks([older, old, A, HIGH, B]))
    events = repair(engine, old.at, [older])
    assert [(e.bar.timeframe, e.bar.coverage, ohlc(e.bar)) for e in events] == [
        ("1m", "void", "- - - -"),
        ("1d", "traded", "40 40 40 40"),
    ]
    days = bars(engine.bars(), "1d")
    assert [ohlc(b) for b in days] == ["40 40 40 40"]  # the new session is still open


def test_recompute_cancel_for_a_session_put_aside_works_when_it_is_back() -> None:
    old = Print("2023-12-29T20:00:00Z", "50", "1")
    engine = BarEngine(["1m"])
    engine.apply(ticks([old, A, HIGH, B]))
    kept = engine.detach(before_date=ns("2024-01-02T00:00:00Z") // 86_400_000_000_000)
    assert engine.request_recompute(stream(), ns(old.at), "cancel") == ()
    engine.attach(kept)
    (event,) = repair(engine, old.at, [])
    assert (event.bar.coverage, event.bar.revision) == ("void", 1)


def test_recompute_day_keeps_its_closing_auction() -> None:
    last = Print("2024-01-02T20:59:59Z", "10", "1")
    closing = Print("2024-01-02T21:00:01Z", "11", "5", flags=0x8000 | last.flags)
    engine = BarEngine(["1d"], calendar="XNYS")
    engine.apply(ticks([A, last, closing]))
    engine.flush()
    (event,) = repair(engine, A.at, [last, closing])
    assert full(event.bar) == "10 11 10 11 6 2 10.833333333"
    (event,) = repair(engine, closing.at, [last])
    assert full(event.bar) == "10 10 10 10 1 1 10"


@pytest.mark.parametrize("timeframe", ["1d", "1w"])
def test_recompute_answer_may_hold_trades_between_the_sessions(timeframe: str) -> None:
    prints = [
        Print("2024-06-03T00:30:00Z", "10"),  # Monday, 09:30 in Tokyo
        Print("2024-06-03T03:00:00Z", "90"),  # the lunch break
        Print("2024-06-03T05:59:00Z", "11"),
        Print("2024-06-03T06:01:00Z", "95"),  # after the close
        Print("2024-06-03T06:02:00Z", "96", flags=PLAIN | OFFICIAL_CLOSE),
        Print("2024-06-03T06:03:00Z", "12", flags=PLAIN | CLOSING_AUCTION),
        Print("2024-06-03T06:10:00Z", "97", flags=PLAIN | CLOSING_AUCTION),
        Print("2024-06-03T08:00:00Z", "98"),
    ]
    engine = BarEngine([timeframe], calendar="XTKS")
    engine.apply(ticks(prints))
    engine.flush()
    (bar,) = bars(engine.bars())
    assert (full(bar), bar.official_close) == ("10 12 10 12 300 3 11", 96 * 10**9)
    assert repair(engine, prints[0].at, prints, "correction") == []
    (event,) = repair(engine, prints[0].at, prints[1:])
    assert (full(event.bar), event.bar.official_close) == ("11 12 11 12 200 2 11.5", 96 * 10**9)


def test_recompute_answer_with_trades_of_another_bar_is_refused() -> None:
    engine = engine_of([A, HIGH, B, LATER], ["1m"])
    (request,) = engine.request_recompute(stream(), ns(HIGH.at), "cancel")
    with pytest.raises(EngineError, match="not of Recompute"):
        engine.recompute(request, ticks([A, LATER]), ns(KNOWN))
    with pytest.raises(EngineError, match="not of Recompute"):
        engine.recompute(request, ticks([A._replace(symbol="BBB")]), ns(KNOWN))
    assert [b.revision for b in bars(engine.bars())] == [0, 0]


def test_recompute_stream_never_seen_is_refused() -> None:
    with pytest.raises(EngineError, match="this engine has seen no tick of it"):
        BarEngine(["1m"]).request_recompute("AAA", 0, "cancel")


def test_recompute_restated_bar_equals_one_built_without_the_trade() -> None:
    engine = engine_of([A, HIGH, B, LATER], ["1m", "5m", "1d"])
    repair(engine, HIGH.at, [A, B, LATER])
    engine.flush()
    clean = engine_of(
        [A, B._replace(key=(0, 0, 3)), LATER._replace(key=(0, 0, 4))], ["1m", "5m", "1d"]
    )
    clean.flush()
    left_out = ["revision", "cause", "known_at"]
    assert engine.bars().drop(left_out) == clean.bars().drop(left_out)


# -- under alpaca-v1, where other bars are rolled up from minutes and days ---------------------

FIRST = alpaca("2024-01-02T15:00:01Z", "10", "100")
PEAK = alpaca("2024-01-02T15:00:02Z", "90", "100")
NEXT = alpaca("2024-01-02T15:02:01Z", "12", "100")
THIRD = alpaca("2024-01-02T15:07:01Z", "13", "100")


def kinds(events: Sequence[BarEvent] | BarEvents) -> list[tuple[str, int, str, str]]:
    return [(e.bar.timeframe, e.bar.revision, e.bar.cause, full(e.bar)) for e in events]


def test_recompute_alpaca_hours_follow_their_minutes_once_each() -> None:
    engine = engine_of([FIRST, PEAK, NEXT, THIRD], ["1m", "5m", "1h"], "alpaca-v1")
    events = repair(engine, PEAK.at, [FIRST, NEXT, THIRD])
    assert kinds(events) == [
        ("1m", 1, "cancel", "10 10 10 10 100 1 10"),
        ("5m", 1, "cancel", "10 12 10 12 200 2 11"),
        ("1h", 1, "cancel", "10 13 10 13 300 3 11.666666667"),
    ]
    assert [full(b) for b in bars(engine.bars(), "5m")] == [
        "10 12 10 12 200 2 11",
        "13 13 13 13 100 1 13",
    ]


def test_recompute_alpaca_hour_follows_a_minute_that_becomes_void() -> None:
    engine = engine_of([FIRST, NEXT], ["1m", "5m", "1h"], "alpaca-v1")
    events = repair(engine, FIRST.at, [NEXT])
    assert kinds(events) == [
        ("1m", 1, "cancel", "- - - - - 0 -"),
        ("5m", 1, "cancel", "12 12 12 12 100 1 12"),
        ("1h", 1, "cancel", "12 12 12 12 100 1 12"),
    ]
    events = repair(engine, NEXT.at, [])
    assert [(e.bar.timeframe, e.bar.revision, e.bar.coverage) for e in events] == [
        ("1m", 1, "void"),
        ("5m", 2, "void"),
        ("1h", 2, "void"),
    ]
    assert len(engine.bars()) == 0


def test_recompute_alpaca_void_hour_is_revived_with_its_minute() -> None:
    engine = engine_of([FIRST], ["1m", "1h"], "alpaca-v1")
    repair(engine, FIRST.at, [])
    assert kinds(engine.apply(ticks([NEXT]))) == [
        ("1m", 0, "late", "12 12 12 12 100 1 12"),
        ("1h", 2, "late", "12 12 12 12 100 1 12"),
    ]


def test_recompute_alpaca_minute_that_only_a_correction_makes_a_bar_reaches_its_hour() -> None:
    odd = alpaca("2024-01-02T15:00:01Z", "10", "5", "@ I")
    engine = engine_of([odd], ["1m", "5m", "1h"], "alpaca-v1")
    assert len(engine.bars()) == 0
    events = repair(engine, odd.at, [FIRST], "correction")
    assert [(e.kind, *k) for e, k in zip(events, kinds(events), strict=True)] == [
        ("confirmed", tf, 0, "correction", "10 10 10 10 100 1 10") for tf in ("1m", "5m", "1h")
    ]


def test_recompute_alpaca_open_hour_takes_the_change_without_a_revision() -> None:
    engine = BarEngine(["1m", "1h"], rule_set="alpaca-v1", watermark="clock")
    engine.apply(ticks([FIRST, PEAK, NEXT]))
    engine.advance(ns("2024-01-02T15:01:00Z"))
    events = repair(engine, PEAK.at, [FIRST])
    assert kinds(events) == [("1m", 1, "cancel", "10 10 10 10 100 1 10")]
    closed = engine.advance(ns("2024-01-02T16:00:00Z"))
    assert kinds(closed) == [
        ("1m", 0, "first", "12 12 12 12 100 1 12"),
        ("1h", 0, "first", "10 12 10 12 200 2 11"),
    ]


def test_recompute_alpaca_answer_of_odd_lots_alone_keeps_them_out_of_vwap() -> None:
    odd = alpaca("2024-01-02T15:00:02Z", "90", "5", "@ I")
    engine = engine_of([FIRST], ["1m"], "alpaca-v1")
    engine.apply(ticks([odd]))
    (event,) = repair(engine, FIRST.at, [odd], "cancel")
    assert (event.bar.coverage, full(event.bar)) == ("void", "- - - - - 0 -")
    (event,) = engine.apply(ticks([PEAK]))
    assert kinds([event]) == [("1m", 3, "late", "90 90 90 90 105 2 90")]


def test_recompute_alpaca_answer_of_a_half_eligible_trade_alone_makes_the_day() -> None:
    engine = engine_of([FIRST], ["1d"], "alpaca-v1")
    engine.flush()
    half = alpaca(FIRST.at, "10", "100", "4")
    events = repair(engine, FIRST.at, [half._replace(price="11")], "correction")
    assert kinds(events) == [("1d", 1, "correction", "11 11 11 11 100 1 11")]


def test_recompute_alpaca_bar_left_without_volume_is_void() -> None:
    empty = alpaca("2024-01-02T15:00:02Z", "11", "0")
    engine = engine_of([FIRST, empty], ["1m"], "alpaca-v1")
    (event,) = repair(engine, FIRST.at, [empty])
    assert (event.bar.coverage, full(event.bar)) == ("void", "- - - - - 0 -")
    assert len(engine.bars()) == 0
