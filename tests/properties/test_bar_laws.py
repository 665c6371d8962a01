"""The laws of the bar algebra; a child process repeats them with the kernel uncompiled."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from marketpipe.bars.engine import BarEngine
from marketpipe.bars.events import bars_of
from marketpipe.bars.state import EngineState
from marketpipe.domain.bars import OHLCVBar, SymbolBarsAggregate
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.sessions import session_table
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import DAY_NS, NULL_I64

Trades = list[oracle.Trade]
Grid = tuple[str, str]

SECOND = 1_000_000_000
OPEN = 1_704_205_800 * SECOND  # 2024-01-02 14:30Z, Tuesday, the open of XNYS
SYMBOLS = ("AAA", "BTC/USD", "C")
I64_MAX = 2**63 - 1
STREAMS = tuple(StreamKey("test", "", s) for s in SYMBOLS)


def ticks(trades: Sequence[oracle.Trade]) -> Ticks:
    """Pack trades into columns."""
    n = len(trades)
    zeros = np.zeros(n, np.int64)

    def column(name: str) -> np.ndarray:
        return np.array([getattr(t, name) for t in trades], np.int64)

    return Ticks(
        streams=STREAMS,
        stream=np.array([SYMBOLS.index(t.symbol) for t in trades], np.int32),
        ts_event=column("ts"),
        price=column("price"),
        size=column("size"),
        key_major=zeros,
        key_mid=zeros,
        key_minor=column("seq"),
        flags=np.full(n, PLAIN, np.uint16),
        known_at=np.full(n, NULL_I64),
    )


def content(table: pa.Table) -> dict[tuple[str, str, int], tuple[int | None, ...]]:
    """Return the table in the oracle's form."""
    return {
        (b.symbol, b.timeframe, b.ts_open): (
            b.ts_close,
            b.open,
            b.high,
            b.low,
            b.close,
            b.volume,
            b.notional,
            -1 if b.vwap is None else b.vwap,
            b.trade_count,
        )
        for b in bars_of(table)
    }


@st.composite
def sessions_of_trades(draw: st.DrawFn, size: int = 40) -> list[oracle.Trade]:
    """Trades around a session's open, often in the same second, sometimes huge."""
    spread = draw(st.sampled_from([3, 200, 9_000, 400_000]))
    return [
        oracle.Trade(
            draw(st.sampled_from(SYMBOLS)),
            OPEN + draw(st.integers(-spread, spread)) * SECOND + draw(st.integers(0, SECOND - 1)),
            seq,
            draw(st.one_of(st.integers(1, 1000), st.integers(1, 10**18 - 1))),
            draw(st.one_of(st.integers(0, 10), st.integers(0, 10**18 - 1))),
        )
        for seq in range(1, draw(st.integers(1, size)) + 1)
    ]


TIMEFRAMES = st.lists(
    st.sampled_from(["1s", "7s", "1m", "5m", "7m", "1h", "4h", "1d", "2d", "1w"]),
    min_size=1,
    max_size=6,
    unique=True,
)
GRIDS = st.sampled_from([("24/7", "continuous"), ("XNYS", "regular"), ("XNYS", "extended")])


def run(
    engine: BarEngine, trades: Sequence[oracle.Trade], cuts: Sequence[int]
) -> dict[tuple[str, str, int], tuple[int | None, ...]]:
    """Apply in batches cut at the given places, flush, and return the bars."""
    edges = sorted({0, len(trades), *(c % (len(trades) + 1) for c in cuts)})
    for lo, hi in pairwise(edges):
        engine.apply(ticks(trades[lo:hi]))
    engine.flush()
    return content(engine.bars())


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.lists(st.integers(0, 40), max_size=4), st.data())
def test_bars_any_order_and_split_equal_the_oracle(
    trades: Trades, timeframes: list[str], grid: Grid, cuts: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(trades))
    calendar, session = grid
    table = None
    if calendar != "24/7":
        stamps = [t.ts for t in trades]
        table = session_table(calendar, session, min(stamps), max(stamps))
    expected = oracle.bars(trades, timeframes, table)
    for arrival in (trades, sorted(trades, key=lambda t: t.ts), order):
        engine = BarEngine(timeframes, calendar=calendar, session=session)
        assert run(engine, arrival, cuts) == expected


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.integers(2, 3), st.data())
def test_bars_any_partition_merged_equal_the_whole(
    trades: Trades, timeframes: list[str], grid: Grid, parts: int, data: st.DataObject
) -> None:
    calendar, session = grid
    owners = data.draw(
        st.lists(st.integers(0, parts - 1), min_size=len(trades), max_size=len(trades))
    )
    whole = BarEngine(timeframes, calendar=calendar, session=session)
    expected = run(whole, trades, [])
    merged = BarEngine(timeframes, calendar=calendar, session=session)
    for part in data.draw(st.permutations(range(parts))):
        engine = BarEngine(timeframes, calendar=calendar, session=session)
        engine.apply(ticks([t for t, o in zip(trades, owners, strict=True) if o == part]))
        merged.merge(engine.save())
    merged.flush()
    assert content(merged.bars()) == expected


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.integers(0, 40), st.integers(1, 3))
def test_state_saved_and_loaded_anywhere_changes_nothing(
    trades: Trades, timeframes: list[str], grid: Grid, cut: int, workers: int
) -> None:
    calendar, session = grid
    cut %= len(trades) + 1

    def engine() -> BarEngine:
        return BarEngine(timeframes, calendar=calendar, session=session, workers=workers)

    straight, before, after = engine(), engine(), engine()
    straight.apply(ticks(trades[:cut]))
    before.apply(ticks(trades[:cut]))
    after.load(EngineState.from_bytes(before.save().to_bytes()))
    assert after.save() == before.save()
    first = straight.apply(ticks(trades[cut:])).to_arrow()
    second = after.apply(ticks(trades[cut:])).to_arrow()
    assert second == first
    assert after.flush().to_arrow() == straight.flush().to_arrow()
    assert after.save() == straight.save()
    assert after.bars() == straight.bars()


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.integers(0, 40))
def test_sessions_detached_and_attached_change_nothing(
    trades: Trades, timeframes: list[str], grid: Grid, cut: int
) -> None:
    calendar, session = grid
    cut %= len(trades) + 1
    straight = BarEngine(timeframes, calendar=calendar, session=session)
    expected = run(straight, trades, [])
    engine = BarEngine(timeframes, calendar=calendar, session=session)
    engine.apply(ticks(trades[:cut]))
    kept = engine.detach(before_date=OPEN // DAY_NS + 1)
    engine.attach(kept)
    engine.apply(ticks(trades[cut:]))
    engine.flush()
    assert content(engine.bars()) == expected


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.integers(1, 5), st.integers(1, 3), st.data())
def test_ended_bars_detached_and_attached_when_late_ticks_come_change_nothing(
    trades: Trades, timeframes: list[str], grid: Grid, step: int, workers: int, data: st.DataObject
) -> None:
    """What a replay does when memory is scarce, in any order of arrival, after every batch."""
    calendar, session = grid
    order = data.draw(st.permutations(trades))
    batches = [ticks(order[at : at + step]) for at in range(0, len(order), step)]
    straight = BarEngine(timeframes, calendar=calendar, session=session, workers=workers)
    scarce = BarEngine(timeframes, calendar=calendar, session=session, workers=workers)
    aside: list[EngineState] = []
    for batch in batches:
        first = np.full(len(STREAMS), I64_MAX)
        np.minimum.at(first, batch.stream, batch.ts_event)
        for state in aside:
            due = state.rows["confirm_at"] > first[state.rows["stream"]]
            if due.any():
                scarce.attach(replace(state, rows=state.rows[due]))
        aside = [
            replace(s, rows=s.rows[s.rows["confirm_at"] <= first[s.rows["stream"]]]) for s in aside
        ]
        assert scarce.apply(batch).to_arrow() == straight.apply(batch).to_arrow()
        aside.append(scarce.detach_ended(first))
        assert not (aside[-1].rows["confirm_at"] > first[aside[-1].rows["stream"]]).any()
    assert scarce.flush().to_arrow() == straight.flush().to_arrow()
    assert scarce.counts["late"] == straight.counts["late"]
    for state in aside:
        scarce.attach(state)
    assert scarce.bars() == straight.bars()


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.lists(st.integers(0, 40), max_size=4))
def test_events_any_split_are_the_same_and_end_in_the_bars(
    trades: Trades, timeframes: list[str], grid: Grid, cuts: list[int]
) -> None:
    calendar, session = grid

    def events(cuts: Sequence[int]) -> tuple[list[OHLCVBar], BarEngine]:
        engine = BarEngine(timeframes, calendar=calendar, session=session)
        out: list[OHLCVBar] = []
        edges = sorted({0, len(trades), *(c % (len(trades) + 1) for c in cuts)})
        for lo, hi in pairwise(edges):
            out.extend(e.bar for e in engine.apply(ticks(trades[lo:hi])))
        out.extend(e.bar for e in engine.flush())
        return out, engine

    whole, engine = events([])
    split, _ = events(cuts)

    def ordered(bars: list[OHLCVBar]) -> list[OHLCVBar]:
        return sorted(bars, key=lambda b: (b.identity, b.revision))

    assert ordered(split) == ordered(whole)
    days: dict[tuple[object, ...], SymbolBarsAggregate] = {}
    for bar in ordered(whole):
        days.setdefault((bar.symbol, bar.timeframe, bar.session_date), SymbolBarsAggregate()).add(
            bar
        )
        assert bar.cause == ("late" if bar.revision else bar.cause)
        assert bar.cause in {"first", "late"}
        assert bar.known_at >= bar.ts_close
    latest = {b.identity: b for b in ordered(whole)}
    kept = {b.identity: replace(b, state="confirmed") for b in bars_of(engine.bars())}
    assert latest == kept


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES)
def test_bars_rolled_up_conserve_volume_and_keep_their_bounds(
    trades: Trades, timeframes: list[str]
) -> None:
    engine = BarEngine([*timeframes, "1m", "1h", "1d"])
    bars = [*run(engine, trades, []).items()]
    for (_, _, ts_open), values in bars:
        ts_close, o, h, low, c = (v for v in values[:5] if v is not None)
        assert ts_open < ts_close
        assert low <= min(o, c) <= max(o, c) <= h
    for symbol in SYMBOLS:
        mine = [t for t in trades if t.symbol == symbol]
        for tf in ("1m", "1h", "1d"):
            rows = [v for (s, t, _), v in bars if (s, t) == (symbol, tf)]
            assert sum(v[5] or 0 for v in rows) == sum(t.size for t in mine)
            assert sum(v[6] or 0 for v in rows) == sum(t.size * t.price for t in mine)
            assert sum(v[8] or 0 for v in rows) == len(mine)


@settings(deadline=None)
@given(sessions_of_trades(), st.integers(-400, 400))
def test_live_only_the_clock_closes_bars(trades: Trades, offset: int) -> None:
    future = oracle.Trade("AAA", OPEN + 10**6 * SECOND, 10**6, 5, 5)
    engine = BarEngine(["1m", "1d"], watermark="clock")
    assert len(engine.apply(ticks([*trades, future]))) == 0
    clock = OPEN + offset * SECOND
    closed = [e.bar for e in engine.advance(clock, clock + 7)]
    assert all(bar.ts_close <= clock and bar.known_at == clock + 7 for bar in closed)
    still = {b.identity for b in bars_of(engine.forming().to_arrow())}
    assert all(identity[-1] > clock - DAY_NS for identity in still)
    expected = oracle.bars([*trades, future], ["1m", "1d"])
    assert {(b.symbol, b.timeframe, b.ts_open) for b in closed} == {
        key for key, value in expected.items() if value[0] <= clock
    }


def test_laws_hold_with_the_kernel_uncompiled() -> None:
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "HYPOTHESIS_PROFILE": "uncompiled"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
