"""How an engine is asked for, and how it refuses; batches, single trades and workers agree."""

from typing import Any

import numpy as np
import pytest

from barkit import MINUTE, SECOND, Print, bars, full, life, ns, ticks
from marketpipe.bars import BarEngine, EngineState
from marketpipe.domain.ticks import DAY_SHIFT, HIGH_LOW, LAST, PLAIN, VOLUME
from marketpipe.domain.timeframe import Timeframe
from marketpipe.errors import (
    CalendarError,
    EngineError,
    MarketPipeError,
    RuleSetError,
    StateError,
    TimeframeError,
)

NO_VWAP = (LAST | HIGH_LOW | VOLUME) * (1 + (1 << DAY_SHIFT))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"timeframes": []}, TimeframeError, "no timeframe was given"),
        ({"timeframes": ["1x"]}, TimeframeError, "was '1x'"),
        ({"timeframes": ["25h"]}, TimeframeError, "too long"),
        ({"calendar": "NYSEE"}, CalendarError, "was 'NYSEE'"),
        ({"calendar": "XNYS", "session": "night"}, CalendarError, "was 'night'; expected regular"),
        ({"calendar": "XTKS", "session": "extended"}, CalendarError, "no extended hours"),
        ({"rule_set": "plane"}, RuleSetError, "valid are alpaca-v1, plain"),
        ({"price_type": "last"}, EngineError, "was 'last'; expected one of trade, bid, ask, mid"),
        ({"watermark": "wall"}, EngineError, "was 'wall'; expected one of event, receipt, clock"),
        ({"workers": 0}, EngineError, "workers: was 0; expected at least 1"),
        ({"rule_set": "alpaca-v1", "session": "regular"}, CalendarError, "leave the session out"),
        ({"rule_set": "alpaca-v1", "timeframes": ["1s"]}, TimeframeError, "no bars under 1m"),
    ],
)
def test_engine_argument_that_cannot_be_used_is_refused_by_name(
    arguments: dict[str, Any], error: type[MarketPipeError], words: str
) -> None:
    with pytest.raises(error, match=words):
        BarEngine(**arguments).apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))


def test_engine_timeframes_may_be_values_or_one_text_and_repeat() -> None:
    engine = BarEngine([Timeframe.parse("60m"), "1h", "1m"])
    assert [str(tf) for tf in engine.plan.timeframes] == ["1m", "1h"]
    assert BarEngine("1h,1m").plan.timeframes == engine.plan.timeframes


def test_engine_default_session_follows_the_calendar() -> None:
    assert BarEngine(["1m"]).session == "continuous"
    assert BarEngine(["1m"], calendar="XNYS").session == "regular"
    assert BarEngine(["1m"], rule_set="alpaca-v1").session == "continuous"


def market(seed: int, count: int = 400) -> list[Print]:
    """Trades of two symbols in and around a session, a tenth of them late."""
    rng = np.random.default_rng(seed)
    stamps = np.sort(rng.integers(0, 90 * MINUTE, count)) + ns("2024-01-02T14:25:00Z")
    stamps[::10] -= 12 * MINUTE
    return [
        Print(iso(int(ts)), f"{rng.integers(1, 5000)}.{rng.integers(100):02d}", str(size), symbol)
        for ts, size, symbol in zip(
            stamps, rng.integers(0, 500, count), rng.choice(["AAA", "BBB"], count), strict=True
        )
    ]


def iso(ts_ns: int) -> str:
    seconds, fraction = divmod(ts_ns - ns("2024-01-02T00:00:00Z"), SECOND)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"2024-01-02T{clock}.{fraction:09d}Z"


TIMEFRAMES = ["1s", "1m", "7m", "1h", "1d"]


@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
def test_engine_single_trades_equal_the_batch(calendar: str) -> None:
    prints = market(1)
    batch, single = (
        BarEngine(TIMEFRAMES, calendar=calendar),
        BarEngine(TIMEFRAMES, calendar=calendar),
    )
    in_batch = life(batch.apply(ticks(prints, ("AAA", "BBB")))) + life(batch.flush())
    one_by_one = []
    columns = ticks(prints, ("AAA", "BBB"))
    for i, p in enumerate(prints):
        one_by_one += life(
            single.apply_trade(
                p.symbol, int(columns.ts_event[i]), int(columns.price[i]), int(columns.size[i])
            )
        )
    one_by_one += life(single.flush())
    assert sorted(one_by_one) == sorted(in_batch)
    ours, theirs = batch.bars().drop(["source"]), single.bars().drop(["source"])
    assert theirs == ours


@pytest.mark.parametrize("rules", ["plain", "alpaca-v1"])
def test_engine_workers_change_nothing(rules: str) -> None:
    settings: dict[str, Any] = {"timeframes": ["1m", "5m", "1h", "1d"], "rule_set": rules}
    prints = market(2)
    one, two = BarEngine(**settings, workers=1), BarEngine(**settings, workers=2)
    for engine in (one, two):
        engine.apply(ticks(prints[:150]))
    assert two.apply(ticks(prints[150:])).to_arrow() == one.apply(ticks(prints[150:])).to_arrow()
    assert two.forming().to_arrow() == one.forming().to_arrow()
    assert two.flush().to_arrow() == one.flush().to_arrow()
    assert two.bars() == one.bars()
    assert two.save() == one.save()
    assert two.counts == one.counts


def test_engine_workers_with_flags_on_one_stream_alone_agree() -> None:
    tables = []
    for workers in (1, 2):
        engine = BarEngine(["1m"], workers=workers)
        at = ns("2024-01-02T15:00:10Z")
        engine.apply_trade("AAA", at, 10, 10, flags=NO_VWAP)
        engine.apply_trade("BBB", at, 20, 10)
        assert len(engine.forming()) == 2
        assert len(engine.bars(forming=True)) == 2
        assert [full(e.bar).split()[-1] for e in engine.flush()] == ["-", "0.00000002"]
        tables.append(engine.bars())
    assert tables[0] == tables[1]


def test_engine_batch_of_full_and_partial_trades_keeps_the_partial_out_of_vwap() -> None:
    engine = BarEngine(["1m"])
    engine.apply(
        ticks(
            [
                Print("2024-01-02T15:00:10Z", "10"),
                Print("2024-01-02T15:00:11Z", "20", flags=NO_VWAP),
            ]
        )
    )
    engine.flush()
    (bar,) = bars(engine.bars())
    assert full(bar) == "10 20 10 20 200 2 10"


def test_engine_partial_trades_after_many_full_ones_leave_their_bars_alone() -> None:
    engine = BarEngine(["1m", "1h"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10"), Print("2024-01-02T15:01:10Z", "11")]))
    engine.apply(ticks([Print("2024-01-02T15:01:20Z", "20", flags=NO_VWAP)]))
    engine.flush()
    assert [full(b) for b in bars(engine.bars())] == [
        "10 10 10 10 100 1 10",
        "11 20 11 20 200 2 11",
        "10 20 10 20 300 3 10.5",
    ]


def test_engine_streams_that_do_not_continue_are_refused() -> None:
    engine = BarEngine(["1m"])
    engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")], ("AAA", "BBB")))
    with pytest.raises(EngineError, match="streams of this batch do not continue"):
        engine.apply(ticks([Print("2024-01-02T15:00:10Z", "10")], ("BBB", "AAA")))


def test_engine_state_of_other_settings_is_refused() -> None:
    state = BarEngine(["1m"]).save()
    for other in (
        BarEngine(["1h"]),
        BarEngine(["1m"], calendar="XNYS"),
        BarEngine(["1m"], price_type="bid"),
    ):
        with pytest.raises(StateError, match="use the same settings"):
            other.load(state)


@pytest.mark.parametrize(
    "damage", [b"", b"{}\n", b"not json\n", BarEngine(["1m"]).save().to_bytes() + b"x"]
)
def test_engine_state_that_is_damaged_is_refused(damage: bytes) -> None:
    with pytest.raises(StateError, match="engine state"):
        EngineState.from_bytes(damage)


def test_engine_state_loads_where_flags_are_on_one_worker_alone() -> None:
    source = BarEngine(["1m"], workers=2)
    at = ns("2024-01-02T15:00:10Z")
    source.apply_trade("AAA", at, 10, 10, flags=NO_VWAP)
    target = BarEngine(["1m"], workers=2)
    target.load(EngineState.from_bytes(source.save().to_bytes()))
    for engine in (source, target):
        engine.apply_trade("BBB", at, 20, 10, flags=PLAIN)
    assert target.flush().to_arrow() == source.flush().to_arrow()
    assert target.bars() == source.bars()
    assert target.save() == source.save()


def test_engine_rule_sets_that_roll_up_bars_do_not_merge_states() -> None:
    engine = BarEngine(["1m", "1h"], rule_set="alpaca-v1")
    with pytest.raises(StateError, match="merge the ticks instead"):
        engine.merge(engine.save())


def test_engine_without_events_keeps_the_same_bars() -> None:
    prints = market(3)
    loud, quiet = BarEngine(TIMEFRAMES), BarEngine(TIMEFRAMES, events=False)
    assert len(loud.apply(ticks(prints))) > 0
    assert len(quiet.apply(ticks(prints))) == 0
    loud.flush()
    quiet.flush()
    assert quiet.bars() == loud.bars()
