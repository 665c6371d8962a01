"""The laws of the bar algebra; a child process repeats them with the kernel uncompiled."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from marketpipe.bars.engine import BarEngine
from marketpipe.bars.events import bars_of
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.sessions import session_table
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64

SECOND = 1_000_000_000
OPEN = 1_704_205_800 * SECOND  # 2024-01-02 14:30Z, Tuesday, the open of XNYS
SYMBOLS = ("AAA", "BTC/USD", "C")
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
            b.ts_close, b.open, b.high, b.low, b.close, b.volume, b.notional,
            -1 if b.vwap is None else b.vwap, b.trade_count,
        )  # fmt: skip
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
    for lo, hi in zip(edges, edges[1:], strict=False):
        engine.apply(ticks(trades[lo:hi]))
    engine.flush()
    return content(engine.bars())


@settings(deadline=None)
@given(sessions_of_trades(), TIMEFRAMES, GRIDS, st.lists(st.integers(0, 40), max_size=4), st.data())
def test_bars_any_order_and_split_equal_the_oracle(trades, timeframes, grid, cuts, data):
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
