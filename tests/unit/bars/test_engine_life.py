"""The life of a bar: what opens, confirms and revises it, and what does not."""

import pytest

from barkit import HOUR, MINUTE, SECOND, Print, bars, build, full, life, ns, ohlc, ticks
from marketpipe.bars import BarEngine
from marketpipe.domain.bars import BarEvent
from marketpipe.domain.units import DAY_NS


def test_engine_trade_of_the_next_minute_confirms_the_one_before() -> None:
    engine = BarEngine(["1m"])
    assert life(engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))) == []
    events = engine.apply(ticks([Print("2024-01-02T15:01:00Z", "11")]))
    assert life(events) == [("confirmed", "1m", 0, "first", "10 10 10 10")]
    (event,) = events
    assert event.bar.known_at == event.bar.ts_close == ns("2024-01-02T15:01:00Z")
    assert event.bar.recorded_at is None  # a file without receipt times


def test_engine_events_of_one_batch_come_in_order_of_their_ends() -> None:
    engine = BarEngine(["1m", "2m"])
    engine.apply(ticks([Print(f"2024-01-02T15:0{m}:10Z", f"1{m}") for m in range(5)]))
    done = engine.apply(ticks([Print("2024-01-02T15:05:10Z", "15")]))
    assert life(done) == [("confirmed", "1m", 0, "first", "14 14 14 14")]
    engine = BarEngine(["1m", "2m"])
    prints = [Print(f"2024-01-02T15:0{m}:10Z", f"1{m}") for m in range(5)]
    assert [(tf, p) for _, tf, _, _, p in life(engine.apply(ticks(prints)))] == [
        ("1m", "10 10 10 10"),
        ("1m", "11 11 11 11"),
        ("2m", "10 11 10 11"),
        ("1m", "12 12 12 12"),
        ("1m", "13 13 13 13"),
        ("2m", "12 13 12 13"),
    ]


def test_engine_late_trade_revises_and_keeps_what_was_said_before() -> None:
    engine = BarEngine(["1m"])
    first = engine.apply(
        ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:01:00Z", "11")])
    )
    late = engine.apply(ticks([Print("2024-01-02T15:00:50Z", "12")]))
    later = engine.apply(ticks([Print("2024-01-02T15:00:05Z", "9")]))
    assert life(first) + life(late) + life(later) == [
        ("confirmed", "1m", 0, "first", "10 10 10 10"),
        ("revised", "1m", 1, "late", "10 12 10 12"),
        ("revised", "1m", 2, "late", "9 12 9 12"),
    ]
    assert engine.counts["late"] == 2
    engine.flush()
    minute, _ = bars(engine.bars())
    assert (ohlc(minute), minute.revision, minute.cause) == ("9 12 9 12", 2, "late")


def test_engine_late_trade_is_known_when_the_watermark_says() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:07:30Z", "11")]))
    (event,) = engine.apply(ticks([Print("2024-01-02T15:00:50Z", "12")]))
    assert event.bar.known_at == ns("2024-01-02T15:07:30Z")


def test_engine_late_trade_into_a_quiet_interval_makes_its_first_revision() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:05:00Z", "11")]))
    events = engine.apply(ticks([Print("2024-01-02T15:02:30Z", "12")]))
    assert life(events) == [("confirmed", "1m", 0, "late", "12 12 12 12")]


def test_engine_late_trade_that_changes_nothing_but_volume_is_a_revision() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:01:00Z", "11")]))
    (event,) = engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10", "7", key=(0, 0, 1))]))
    assert (event.bar.revision, full(event.bar)) == (1, "10 10 10 10 107 2 10")


def test_engine_late_trade_far_back_finds_its_bar() -> None:
    start = ns("2024-01-02T00:00:30Z")
    engine = BarEngine(["1m"])
    for i in range(300):
        engine.apply_trade("AAA", start + i * MINUTE, 100, 1)
    for i in (3, 150, 3):
        (event,) = engine.apply_trade("AAA", start + i * MINUTE, 200, 1)
        assert (event.bar.high, event.bar.ts_open) == (200, start + i * MINUTE - 30 * SECOND)
    engine.flush()
    found = bars(engine.bars())
    assert [b.revision for b in found] == [2 if i == 3 else int(i == 150) for i in range(300)]


def test_engine_quiet_intervals_have_no_bars() -> None:
    engine = build([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:09:00Z", "11")])
    assert [b.ts_open for b in bars(engine.bars())] == [
        ns("2024-01-02T15:00:00Z"),
        ns("2024-01-02T15:09:00Z"),
    ]


def test_engine_without_ticks_has_no_bars_and_flushes_nothing() -> None:
    engine = BarEngine()
    assert len(engine.flush()) == 0
    assert len(engine.advance(ns("2024-01-02T15:00:00Z"))) == 0
    assert len(engine.bars()) == 0


def test_engine_outage_of_an_hour_never_yields_a_bar() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    closed = [
        e
        for minute in range(1, 61)
        for e in engine.advance(ns("2024-01-02T15:00:00Z") + minute * MINUTE)
    ]
    assert life(closed) == [("confirmed", "1m", 0, "first", "10 10 10 10")]
    assert len(engine.bars()) == 1


def test_engine_next_day_gives_nothing_to_the_last_bar_before_it() -> None:
    engine = build(
        [Print("2024-01-02T20:59:10Z", "10"), Print("2024-01-03T14:30:00Z", "99")],
        ["1m", "1d"],
        calendar="XNYS",
    )
    last, _ = bars(engine.bars(), "1m")
    assert (ohlc(last), last.ts_close) == ("10 10 10 10", ns("2024-01-02T21:00:00Z"))
    assert last.session_date * DAY_NS == ns("2024-01-02T00:00:00Z")
    assert [ohlc(b) for b in bars(engine.bars(), "1d")] == ["10 10 10 10", "99 99 99 99"]


def test_engine_ticks_on_each_boundary_start_their_own_bars() -> None:
    engine = build([Print(f"2024-01-02T15:0{m}:00Z", f"1{m}") for m in range(4)])
    assert [ohlc(b) for b in bars(engine.bars())] == [f"1{m} 1{m} 1{m} 1{m}" for m in range(4)]


def test_engine_last_nanosecond_of_a_minute_is_its_own() -> None:
    engine = build(
        [
            Print("2024-01-02T15:00:00Z", "10"),
            Print("2024-01-02T15:00:59.999999999Z", "11"),
            Print("2024-01-02T15:01:00Z", "12"),
        ]
    )
    assert [ohlc(b) for b in bars(engine.bars())] == ["10 11 10 11", "12 12 12 12"]


@pytest.mark.parametrize("first", ["2024-01-02T15:00:00Z", "2024-01-02T15:00:37.5Z"])
def test_engine_first_bar_on_the_edge_or_mid_minute_is_whole_and_kept(first: str) -> None:
    engine = build([Print(first, "10"), Print("2024-01-02T15:00:59Z", "11")])
    (bar,) = bars(engine.bars())
    assert (bar.ts_open, bar.ts_close) == (
        ns("2024-01-02T15:00:00Z"),
        ns("2024-01-02T15:01:00Z"),
    )
    assert ohlc(bar) == "10 11 10 11"


@pytest.mark.parametrize("start", ["2024-01-02T14:30:00Z", "2024-01-02T14:41:13Z"])
def test_engine_edges_do_not_depend_on_where_the_data_starts(start: str) -> None:
    engine = build(
        [Print(start, "10"), Print("2024-01-02T16:00:00Z", "11")],
        ["7m", "4h"],
        calendar="XNYS",
    )
    # 14:30 + 12 * 7 min = 15:54; + 7 = 16:01
    edges = {(b.timeframe, b.ts_open) for b in bars(engine.bars())}
    assert ("7m", ns("2024-01-02T15:54:00Z")) in edges
    assert ("4h", ns("2024-01-02T14:30:00Z")) in edges


def test_engine_identical_prints_in_one_nanosecond_both_count() -> None:
    twin = Print("2024-01-02T15:00:10.000000001Z", "10", "3")
    (bar,) = bars(build([twin, twin]).bars())
    assert full(bar) == "10 10 10 10 6 2 10"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_engine_equal_timestamps_are_ordered_by_their_keys(order: tuple[int, ...]) -> None:
    at = "2024-01-02T15:00:10Z"
    same = [
        Print(at, "11", key=(1, 5, 0)),
        Print(at, "12", key=(2, 0, 9)),
        Print(at, "13", key=(2, 1, 0)),
    ]
    (bar,) = bars(build([same[i] for i in order]).bars())
    assert ohlc(bar) == "11 13 11 13"


def test_engine_size_0_prints_set_prices_and_count_without_volume() -> None:
    (bar,) = bars(
        build(
            [
                Print("2024-01-02T15:00:10Z", "12", "0"),
                Print("2024-01-02T15:00:20Z", "10", "4"),
                Print("2024-01-02T15:00:30Z", "9", "0"),
            ]
        ).bars()
    )
    assert full(bar) == "12 12 9 9 4 3 10"


def test_engine_bar_of_size_0_prints_alone_has_no_vwap() -> None:
    (bar,) = bars(build([Print("2024-01-02T15:00:10Z", "12", "0")]).bars())
    assert full(bar) == "12 12 12 12 0 1 -"


def test_engine_split_of_a_minute_over_two_posts_is_the_same_bar() -> None:
    prints = [Print(f"2024-01-02T15:00:{s:02d}Z", str(10 + s % 7), "2") for s in range(0, 60, 5)]
    whole = build(prints).bars()
    engine = BarEngine(["1m"])
    engine.apply(ticks(prints[:5]))
    engine.apply(ticks([p._replace(key=(0, 0, 6 + i)) for i, p in enumerate(prints[5:])]))
    engine.flush()
    assert engine.bars() == whole


def test_engine_symbols_never_mix() -> None:
    engine = build(
        [
            Print("2024-01-02T15:00:10Z", "10"),
            Print("2024-01-02T15:00:11Z", "20", symbol="BBB"),
            Print("2024-01-02T15:00:12Z", "11"),
        ]
    )
    assert [(b.symbol, ohlc(b)) for b in bars(engine.bars())] == [
        ("AAA", "10 11 10 11"),
        ("BBB", "20 20 20 20"),
    ]


def test_engine_forming_bars_show_what_is_open_and_confirm_nothing() -> None:
    engine = BarEngine(["1m", "1h"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:01:10Z", "11")]))
    forming = engine.forming()
    assert sorted(life(forming)) == [
        ("forming", "1h", 0, "first", "10 11 10 11"),
        ("forming", "1m", 0, "first", "11 11 11 11"),
    ]
    assert {e.bar.state for e in forming} == {"forming"}
    assert len(engine.bars()) == 1
    assert len(engine.bars(forming=True)) == 3


def test_engine_callbacks_see_forming_confirmed_and_revised() -> None:
    seen: list[BarEvent] = []
    engine = BarEngine(["1m"])
    engine.on_bar(seen.append)
    engine.apply_trade("AAA", ns("2024-01-02T15:00:10Z"), 10 * SECOND, SECOND)
    engine.apply_trade("AAA", ns("2024-01-02T15:01:10Z"), 11 * SECOND, SECOND)
    engine.apply_trade("AAA", ns("2024-01-02T15:00:20Z"), 12 * SECOND, SECOND)
    assert [(k, p) for k, _, _, _, p in life(seen)] == [
        ("forming", "10 10 10 10"),
        ("confirmed", "10 10 10 10"),
        ("forming", "11 11 11 11"),
        ("revised", "10 12 10 12"),
        ("forming", "11 11 11 11"),
    ]


def test_engine_flush_confirms_all_and_settles_what_the_watermark_has_left_behind() -> None:
    engine = BarEngine(["1m", "1h", "1d", "1w"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    assert [tf for _, tf, _, _, _ in life(engine.flush())] == ["1m", "1h", "1d", "1w"]
    assert {b.state for b in bars(engine.bars())} == {"settled"}
    assert len(engine.flush()) == 0


def test_engine_session_settles_fifteen_minutes_after_its_close() -> None:
    engine = BarEngine(["1m"], calendar="XNYS")
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:30:00Z", "10")]))
    engine.advance(ns("2024-01-02T21:14:59.999999999Z"))
    assert {b.state for b in bars(engine.bars())} == {"confirmed"}
    engine.advance(ns("2024-01-02T21:15:00Z"))
    assert {b.state for b in bars(engine.bars())} == {"settled"}


def test_engine_whole_hours_agree_with_the_trades_of_their_minutes() -> None:
    engine = build(
        [
            Print(f"2024-01-02T{h}:{m:02d}:00Z", str(m + 1), "2")
            for h in (15, 16)
            for m in range(60)
        ],
        ["1m", "1h"],
    )
    # vwap of 1..60 with equal sizes: 61 / 2
    assert [full(b) for b in bars(engine.bars(), "1h")] == ["1 60 1 60 120 60 30.5"] * 2
    assert all(b.ts_close - b.ts_open == HOUR for b in bars(engine.bars(), "1h"))
