"""MarketPipe's `BarEngine` as a contender: exact notional, order keys and revisions included."""

from typing import Final

import numpy as np
import pyarrow as pa

from bench.bars import TIMEFRAMES, Answer, Bars
from bench.data import I64, SYMBOLS, Trades
from bench.peers import Formulation, Ready
from marketpipe.bars import BarEngine
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64

WORKERS: Final = 2
_VALUES: Final = ("open", "high", "low", "close", "volume")


def ticks(trades: Trades) -> Ticks:
    """Return the trades as the normalizer would hand them on."""
    n = len(trades)
    zeros = np.zeros(n, np.int64)
    return Ticks(
        streams=tuple(StreamKey("bench", "", symbol) for symbol in SYMBOLS),
        stream=trades.symbol.astype(np.int32),
        ts_event=trades.ts,
        price=trades.price,
        size=trades.size,
        key_major=zeros,
        key_mid=zeros,
        key_minor=np.arange(1, n + 1),
        flags=np.full(n, PLAIN, np.uint16),
        known_at=np.full(n, NULL_I64),
    )


def load(trades: Trades) -> Ready:
    """Hand the trades to a new engine before each run; the bars stay in the engine's memory."""
    given = ticks(trades)
    engines: list[BarEngine] = []

    def reset() -> None:
        engines[:] = [BarEngine(list(TIMEFRAMES), events=False, workers=WORKERS)]

    def run() -> None:
        engines[0].apply(given)
        engines[0].flush()

    def answer() -> Answer:
        table = engines[0].bars()
        code_of = {symbol: code for code, symbol in enumerate(SYMBOLS)}
        found = {}
        for timeframe in TIMEFRAMES:
            rows = table.filter(table["timeframe"].to_numpy() == timeframe)
            symbols = rows["symbol"].combine_chunks().dictionary_encode()
            codes = np.array([code_of[s] for s in symbols.dictionary.to_pylist()], np.int16)
            opened, high, low, close, volume = (_low_words(rows[name]) for name in _VALUES)
            found[timeframe] = Bars(
                codes[symbols.indices.to_numpy()],
                rows["ts_open"].to_numpy(),
                opened,
                high,
                low,
                close,
                volume,
                rows["trade_count"].to_numpy(),
            )
        return found

    return Ready(run, answer, reset)


def _low_words(column: pa.ChunkedArray) -> I64:
    chunk = column.combine_chunks()
    words = np.frombuffer(chunk.buffers()[1], np.int64)
    return np.ascontiguousarray(words[2 * chunk.offset : 2 * (chunk.offset + len(chunk)) : 2])


FORMULATION: Final = Formulation("MarketPipe", f"BarEngine, {WORKERS} threads", load)
