"""Edge cases that no source settles, as decided in docs/decisions/0004-edge-cases-of-bars.md."""

from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
import pytest

from barkit import SECOND, Print, alpaca, bars, build, full, life, nanos, ns, ohlc, stream, ticks
from marketpipe.bars import BarEngine, roll_up
from marketpipe.domain.batches import Dictionaries, QuoteBatch, StreamKey, TradeBatch
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import StateError
from marketpipe.normalize import RuleSet, TickNormalizer

PLAIN_RULES = RuleSet.load("plain")
AT = "2024-01-02T15:00:10Z"


class Row(NamedTuple):
    """A trade as a vendor sends it; no id is -1."""

    at: str
    price: str
    size: str = "100"
    trade_id: int = -1
    venue: str = ""


def batch(rows: list[Row], first_row: int = 1) -> TradeBatch:
    venues = ("", *sorted({r.venue for r in rows} - {""}))
    n = len(rows)
    return TradeBatch(
        dictionaries=Dictionaries(streams=(stream(),), venues=venues),
        stream=np.zeros(n, np.int32),
        row=np.arange(first_row, first_row + n),
        ts_event=np.array([ns(r.at) for r in rows], np.int64),
        price=np.array([nanos(r.price) for r in rows], np.int64),
        size=np.array([nanos(r.size) for r in rows], np.int64),
        id_hi=np.array([0 if r.trade_id >= 0 else -1 for r in rows], np.int64),
        id_lo=np.array([max(r.trade_id, 0) for r in rows], np.int64),
        venue=np.array([venues.index(r.venue) for r in rows], np.int32),
    )


def run(*batches: TradeBatch) -> tuple[BarEngine, dict[str, int]]:
    normalizer, engine = TickNormalizer(rule_set=PLAIN_RULES), BarEngine(["1m", "1d"])
    counts: dict[str, int] = {}
    for one in batches:
        done = normalizer.apply(one)
        for code, count in done.findings.counts.items():
            counts[code] = counts.get(code, 0) + count
        engine.apply(done.ticks)
    engine.flush()
    return engine, counts


def test_edge_equal_times_across_venues_are_ordered_alike_in_any_arrival() -> None:
    rows = [
        Row(AT, "11", trade_id=7, venue="Q"),
        Row(AT, "12", trade_id=3, venue="N"),
        Row(AT, "13", trade_id=5, venue="N"),
    ]
    # by the venue's name first (N before Q), then by id
    for order in permutations(rows):
        engine, _ = run(batch(list(order)))
        assert [ohlc(b) for b in bars(engine.bars(), "1m")] == ["12 13 11 11"]


def test_edge_id_used_again_the_next_day_is_another_trade() -> None:
    rows = [
        Row("2024-01-02T23:59:59Z", "10", trade_id=1),
        Row("2024-01-03T00:00:00Z", "11", trade_id=1),
        Row("2024-01-03T00:00:01Z", "12", trade_id=1),
    ]
    engine, counts = run(batch(rows))
    assert counts == {"conflicting_duplicate": 1}
    assert [full(b) for b in bars(engine.bars(), "1d")] == [
        "10 10 10 10 100 1 10",
        "11 11 11 11 100 1 11",
    ]


def test_edge_duplicates_after_a_reconnect_with_ids_are_left_out_and_counted() -> None:
    rows = [Row(f"2024-01-02T15:00:0{i}Z", str(10 + i), trade_id=i) for i in range(6)]
    engine, counts = run(batch(rows[:4]), batch(rows[2:], first_row=5))
    assert counts == {"duplicate": 2}
    assert [full(b) for b in bars(engine.bars(), "1m")] == ["10 15 10 15 600 6 12.5"]


def test_edge_identical_prints_without_ids_are_both_real() -> None:
    engine, counts = run(batch([Row(AT, "10")] * 2), batch([Row(AT, "10")], first_row=3))
    assert counts == {}
    assert [full(b) for b in bars(engine.bars(), "1m")] == ["10 10 10 10 300 3 10"]


def test_edge_late_tick_of_a_second_venue_joins_the_bar_and_replaces_nothing() -> None:
    rows = [Row(f"2024-01-02T15:00:0{i}Z", "10", "1", i, "Q") for i in range(10)]
    normalizer, engine = TickNormalizer(rule_set=PLAIN_RULES), BarEngine(["1m"])
    engine.apply(
        normalizer.apply(batch([*rows, Row("2024-01-02T15:01:00Z", "9", "1", 10, "Q")])).ticks
    )
    late = batch([Row("2024-01-02T15:00:05Z", "10", "1", 0, "Q")._replace(venue="V")], 12)
    (event,) = engine.apply(normalizer.apply(late).ticks)
    assert (event.kind, full(event.bar)) == ("revised", "10 10 10 10 11 11 10")


def quotes(rows: list[tuple[str, str]], price_type: str) -> tuple[BarEngine, dict[str, int]]:
    n = len(rows)
    done = TickNormalizer(rule_set=PLAIN_RULES, price_type=price_type).apply(
        QuoteBatch(
            dictionaries=Dictionaries(streams=(StreamKey("test", "", "EUR/USD"),)),
            stream=np.zeros(n, np.int32),
            row=np.arange(1, n + 1),
            ts_event=ns(AT) + np.arange(n) * SECOND,
            bid=np.array([nanos(bid) for bid, _ in rows], np.int64),
            ask=np.array([nanos(ask) for _, ask in rows], np.int64),
        )
    )
    engine = BarEngine(["1m"], price_type=price_type)
    engine.apply(done.ticks)
    engine.flush()
    return engine, done.findings.counts


@pytest.mark.parametrize(
    ("price_type", "expected", "counts"),
    [
        # bid/ask: 1/3, crossed 9/5, locked 4/4, one-sided 7/-
        ("mid", "2 4 2 4 - 2 -", {"crossed_quote": 1, "locked_quote": 1, "one_sided_quote": 1}),
        ("bid", "1 9 1 7 - 4 -", {}),
        ("ask", "3 5 3 4 - 3 -", {"one_sided_quote": 1}),
    ],
)
def test_edge_crossed_quotes_are_left_out_of_mid_and_locked_ones_kept(
    price_type: str, expected: str, counts: dict[str, int]
) -> None:
    engine, found = quotes([("1", "3"), ("9", "5"), ("4", "4"), ("7", "0")], price_type)
    assert [full(b) for b in bars(engine.bars())] == [expected]
    assert found == counts


@pytest.mark.parametrize("rules", ["plain", "alpaca-v1"])
def test_edge_revision_racing_a_roll_up_never_shows_a_half(rules: str) -> None:
    """A late trade and the one that closes the hour, in either order or in one batch."""
    first = alpaca("2024-01-02T15:00:01Z", "10", "100")
    minute_over = alpaca("2024-01-02T15:59:01Z", "11", "100")
    late = alpaca("2024-01-02T15:00:02Z", "20", "100")
    closing = alpaca("2024-01-02T16:00:00Z", "12", "100")
    hours = []
    for order in ([[late], [closing]], [[closing], [late]], [[late, closing]], [[closing, late]]):
        engine = BarEngine(["1m", "1h"], rule_set=rules)
        events = list(engine.apply(ticks([first, minute_over])))
        for prints in order:
            events += engine.apply(ticks([p._replace(key=(1, 0, 0)) for p in prints]))
        seen = [e.bar for e in events if e.bar.timeframe == "1h"]
        assert [b.revision for b in seen] == list(range(len(seen)))
        hours.append(full(seen[-1]))
        minutes = [e.bar for e in events if e.bar.timeframe == "1m"]
        for bar in seen:
            # each revision of the hour agrees with minutes that were public by then
            assert full(bar) in {"10 11 10 11 200 2 10.5", "10 20 10 11 300 3 13.666666667"}
        assert {b.revision for b in minutes} == {0, 1}
    assert hours == ["10 20 10 11 300 3 13.666666667"] * 4


def test_edge_correction_before_its_original_finds_no_bar_to_rebuild() -> None:
    engine = BarEngine(["1m", "1h"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    assert engine.request_recompute(stream(), ns("2024-01-02T18:00:00Z"), "correction") == ()
    assert len(engine.bars(forming=True)) == 2


def test_edge_trade_for_a_sealed_session_is_refused_until_its_ids_are_back() -> None:
    normalizer = TickNormalizer(rule_set=PLAIN_RULES)
    rows = [
        Row("2024-01-02T15:00:00Z", "10", trade_id=1),
        Row("2024-01-04T15:00:00Z", "11", trade_id=2),
    ]
    normalizer.apply(batch(rows))
    sealed = normalizer.seal(ns("2024-01-03T00:00:00Z") // DAY_NS)
    again = batch(rows[:1], first_row=3)
    with pytest.raises(StateError, match="sealed"):
        normalizer.apply(again)
    normalizer.unseal(sealed)
    assert normalizer.apply(again).findings.counts == {"duplicate": 1}


def test_edge_prices_of_nine_decimals_and_pairs_with_a_slash_survive() -> None:
    engine = BarEngine(["1m"])
    engine.apply_trade("BTC/USD", ns(AT), 1, 1)
    engine.apply_trade("BTC/USD", ns(AT), nanos("67123.123456789"), 1)
    engine.flush()
    (bar,) = bars(engine.bars())
    assert (bar.symbol, ohlc(bar)) == (
        "BTC/USD",
        "0.000000001 67123.123456789 0.000000001 67123.123456789",
    )


def test_edge_bars_stay_in_order_across_the_change_of_clocks() -> None:
    prints = [
        Print(f"2008-03-{d}T{t}:00Z", "10")
        for d, t in (("07", "14:30"), ("07", "20:59"), ("10", "13:30"), ("10", "19:59"))
    ]
    engine = build(prints, ["1h", "1d"], calendar="XNYS")
    for timeframe in ("1h", "1d"):
        found = bars(engine.bars(), timeframe)
        assert all(a.ts_close <= b.ts_open for a, b in pairwise(found))
    friday, monday = bars(engine.bars(), "1d")
    assert friday.ts_close - friday.ts_open == monday.ts_close - monday.ts_open
    assert (friday.ts_open, monday.ts_open) == (
        ns("2008-03-07T14:30:00Z"),
        ns("2008-03-10T13:30:00Z"),
    )


def test_edge_overnight_session_belongs_to_the_day_on_which_it_ends() -> None:
    # CME Globex: the session of Monday 2024-01-08 opens on Sunday, 17:00 in Chicago (UTC-6)
    prints = [Print("2024-01-07T23:00:00Z", "10"), Print("2024-01-08T20:00:00Z", "11")]
    (day,) = bars(build(prints, ["1d"], calendar="CMES").bars())
    assert day.ts_open == ns("2024-01-07T23:00:00Z")
    assert day.session_date * DAY_NS == ns("2024-01-08T00:00:00Z")
    assert ohlc(day) == "10 11 10 11"


def test_edge_hours_of_a_whole_day_all_reach_the_day() -> None:
    engine = build(
        [Print(f"2024-01-02T{h:02d}:59:59Z", str(h + 1), "1") for h in range(24)], ["1h", "1d"]
    )
    hours = bars(engine.bars(), "1h")
    assert len(hours) == 24
    for day in (
        bars(engine.bars(), "1d"),
        bars(roll_up(engine.bars().slice(0, 24), "1d")),
    ):
        assert [full(b) for b in day] == ["1 24 1 24 24 24 12.5"]


def test_edge_gaps_between_bars_change_no_later_bar() -> None:
    dense = [Print(f"2024-01-02T15:{m:02d}:30Z", str(10 + m)) for m in range(30)]
    sparse = [p for i, p in enumerate(dense) if not 5 <= i < 20]
    after = {b.ts_open: ohlc(b) for b in bars(build(dense, ["5m"]).bars())}
    with_gap = {b.ts_open: ohlc(b) for b in bars(build(sparse, ["5m"]).bars())}
    assert with_gap == {ts: p for ts, p in after.items() if ts in with_gap}
    assert len(with_gap) == 3


def test_edge_future_print_is_kept_in_its_own_bar_when_the_clock_comes_there() -> None:
    engine = BarEngine(["1m"], watermark="clock")
    engine.apply(ticks([Print("2024-01-02T18:00:10Z", "99"), Print(AT, "10")]))
    assert life(engine.advance(ns("2024-01-02T15:01:00Z"))) == [
        ("confirmed", "1m", 0, "first", "10 10 10 10")
    ]
    assert life(engine.advance(ns("2024-01-02T18:01:00Z"))) == [
        ("confirmed", "1m", 0, "first", "99 99 99 99")
    ]
