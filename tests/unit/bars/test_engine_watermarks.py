"""What closes bars: event time in files, receipt times in files that have them, clocks live."""

import pytest

from barkit import MINUTE, SECOND, Print, bars, build, life, ns, ohlc, ticks
from marketpipe.bars import BarEngine


def test_engine_event_time_each_symbol_closes_by_its_own_ticks() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    other = engine.apply(ticks([Print("2024-01-02T18:00:10Z", "20", symbol="BBB")]))
    assert life(other) == []
    own = engine.apply(ticks([Print("2024-01-02T15:01:00Z", "11")]))
    assert life(own) == [("confirmed", "1m", 0, "first", "10 10 10 10")]


def test_engine_clock_future_print_closes_nothing() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    assert life(engine.apply(ticks([Print("2031-01-01T00:00:00Z", "11")]))) == []
    more = engine.apply(ticks([Print("2024-01-02T15:00:40Z", "12")]))
    assert life(more) == []
    closed = engine.advance(ns("2024-01-02T15:01:00Z"))
    assert life(closed) == [("confirmed", "1m", 0, "first", "10 12 10 12")]
    assert engine.counts["late"] == 0


def test_engine_event_time_future_print_in_a_file_makes_the_others_late() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2031-01-01T00:00:00Z", "11")]))
    engine.apply(ticks([Print("2024-01-02T15:00:40Z", "12")]))
    engine.flush()
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 12 10 12", "11 11 11 11"]
    assert engine.counts["late"] == 1


def test_engine_clock_closes_a_quiet_symbols_bar() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    assert len(engine.advance(ns("2024-01-02T15:00:59.999999999Z"))) == 0
    (event,) = engine.advance(ns("2024-01-02T15:01:00Z"), known_at=ns("2024-01-02T15:01:01.2Z"))
    assert (event.kind, event.bar.state) == ("confirmed", "confirmed")
    assert event.bar.known_at == event.bar.recorded_at == ns("2024-01-02T15:01:01.2Z")


def test_engine_clock_tick_after_a_timed_confirm_is_a_revision() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    engine.advance(ns("2024-01-02T15:01:00Z"), known_at=ns("2024-01-02T15:01:01Z"))
    late = Print("2024-01-02T15:00:59.998Z", "12", known="2024-01-02T15:01:03Z")
    (event,) = engine.apply(ticks([late]))
    assert life([event]) == [("revised", "1m", 1, "late", "10 12 10 12")]
    assert event.bar.known_at == ns("2024-01-02T15:01:03Z")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("known", [("AAA",), ("AAA", "BBB")])
def test_engine_clock_is_that_of_a_symbol_first_heard_of_later(
    workers: int, known: tuple[str, ...]
) -> None:
    first = BarEngine(["1m"], watermark="clock", workers=workers)
    first.apply(ticks([Print("2024-01-02T15:01:10Z", "10")], known))
    first.advance(ns("2024-01-02T15:01:00Z"))
    engine = BarEngine(["1m"], watermark="clock", workers=workers)
    engine.load(first.save())
    late = ticks([Print("2024-01-02T15:00:20Z", "20", symbol="BBB")])
    assert life(engine.apply(late)) == [("confirmed", "1m", 0, "late", "20 20 20 20")]


def test_engine_clock_never_steps_back() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    engine.advance(ns("2024-01-02T15:01:00Z"))
    assert len(engine.advance(ns("2024-01-02T15:00:30Z"))) == 0
    (event,) = engine.apply(ticks([Print("2024-01-02T15:00:20Z", "11")]))
    assert event.kind == "revised"


def test_engine_clock_closes_at_the_same_instant_whatever_the_speed() -> None:
    start = ns("2024-01-02T15:00:00Z")
    trades = [(start + i * SECOND // 3, 1 + i % 7) for i in range(500)]

    def revisions(step: int) -> list[tuple[str, str, int, str, str]]:
        engine = BarEngine(["1m"], watermark="clock")
        out = []
        clock = start
        for ts, price in trades:
            while clock + step <= ts:
                clock += step
                out += life(engine.advance(clock))
            engine.apply_trade("AAA", ts, price, 1)
        return out + life(engine.advance(start + 10 * MINUTE))

    assert revisions(SECOND) == revisions(MINUTE) == revisions(7 * SECOND)


def test_engine_receipt_time_closes_less_the_grace() -> None:
    engine = BarEngine(["1m"], watermark="receipt", grace_ns=2 * SECOND)
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10", known="2024-01-02T15:00:10.1Z")]))
    almost = Print("2024-01-02T15:01:01Z", "11", known="2024-01-02T15:01:01.9Z")
    assert len(engine.apply(ticks([almost]))) == 0
    passed = Print("2024-01-02T15:01:02Z", "12", known="2024-01-02T15:01:02Z")
    (event,) = engine.apply(ticks([passed]))
    assert life([event]) == [("confirmed", "1m", 0, "first", "10 10 10 10")]
    assert event.bar.known_at == ns("2024-01-02T15:01:02Z")


def test_engine_receipt_time_takes_event_time_for_the_bar() -> None:
    # the local clock runs 1.2 s slow: received before it happened, and no reason to reject
    prints = [
        Print("2024-01-02T15:00:59.9Z", "10", known="2024-01-02T15:00:58.7Z"),
        Print("2024-01-02T15:01:00.1Z", "11", known="2024-01-02T15:00:58.9Z"),
    ]
    engine = build(prints, watermark="receipt")
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 10 10 10", "11 11 11 11"]


def test_engine_receipt_time_future_print_closes_nothing() -> None:
    engine = BarEngine(["1m"], watermark="receipt")
    prints = [
        Print("2024-01-02T15:00:10Z", "10", known="2024-01-02T15:00:10Z"),
        Print("2024-01-02T19:00:00Z", "99", known="2024-01-02T15:00:11Z"),
    ]
    assert len(engine.apply(ticks(prints))) == 0


def test_engine_bars_settled_by_the_clock_stay_open_to_revisions() -> None:
    engine = BarEngine(["1m"], calendar="XNYS", watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    engine.advance(ns("2024-01-02T22:00:00Z"))
    (bar,) = bars(engine.bars())
    assert bar.state == "settled"
    (event,) = engine.apply(ticks([Print("2024-01-02T15:00:20Z", "9")]))
    assert life([event]) == [("revised", "1m", 1, "late", "10 10 9 9")]


def test_engine_quiet_symbol_confirms_while_another_trades() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(
        ticks(
            [Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:00:10Z", "20", symbol="BBB")]
        )
    )
    engine.apply(ticks([Print("2024-01-02T15:01:05Z", "21", symbol="BBB")]))
    closed = [e.bar.symbol for e in engine.advance(ns("2024-01-02T15:01:00Z"))]
    assert closed == ["AAA", "BBB"]
