"""NautilusTrader's `TimeBarAggregator`: one for every symbol and timeframe, fed trade by trade.

Given every advantage: ticks are built beforehand, each symbol has a clock of its own with only
its own six timers, and the clock is moved only when a second has passed. Bars are right-open
and intervals without a trade are skipped. Counted is what the aggregators do with the trades.
"""

from collections import defaultdict
from typing import Final

import numpy as np
from nautilus_trader.common.component import TestClock
from nautilus_trader.data.aggregation import TimeBarAggregator
from nautilus_trader.model.data import Bar, BarSpecification, BarType, TradeTick
from nautilus_trader.model.enums import AggregationSource, AggressorSide, BarAggregation, PriceType
from nautilus_trader.model.identifiers import InstrumentId, TradeId
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Currency, Price, Quantity

from bench.bars import TIMEFRAMES, Answer, Bars
from bench.data import SECOND, SYMBOLS, Trades
from bench.peers import Formulation, Ready

TRADES: Final = 200_000
"""Enough to time: the first of the session, so that trades are as dense as in the whole set."""

_UNITS: Final = {"s": "SECOND", "m": "MINUTE", "h": "HOUR", "d": "DAY"}
_RAW_PER_NANO: Final = Price.from_str("1").raw // SECOND
_CENT: Final = SECOND // 100


class _Desk:
    """The clock and the six aggregators of one symbol."""

    def __init__(self, instrument: Equity, start_ns: int, bars: list[Bar]) -> None:
        self.clock = TestClock()
        self.clock.set_time(start_ns)
        self.aggregators = [
            TimeBarAggregator(
                instrument,
                _bar_type(instrument.id, timeframe),
                bars.append,
                self.clock,
                interval_type="right-open",
                build_with_no_updates=False,
            )
            for timeframe in TIMEFRAMES
        ]
        self.handlers = [aggregator.handle_trade_tick for aggregator in self.aggregators]

    def advance(self, ts_ns: int) -> None:
        for event in self.clock.advance_time(ts_ns):
            event.handle()

    def close(self, ts_ns: int) -> None:
        """Close each timeframe's last bar; finer timers stop first, so none runs on idly."""
        for aggregator, seconds in zip(self.aggregators, TIMEFRAMES.values(), strict=True):
            end_ns = (ts_ns // (seconds * SECOND) + 1) * seconds * SECOND
            self.advance(max(end_ns, self.clock.timestamp_ns()))
            aggregator.stop()


def _bar_type(instrument: InstrumentId, timeframe: str) -> BarType:
    unit = getattr(BarAggregation, _UNITS[timeframe[-1]])
    specification = BarSpecification(int(timeframe[:-1]), unit, PriceType.LAST)
    return BarType(instrument, specification, AggregationSource.INTERNAL)


def load(trades: Trades) -> Ready:
    """Build the ticks; every run needs fresh aggregators, whose building is not timed."""
    if np.any(trades.price % _CENT) or np.any(trades.size % SECOND):
        raise ValueError("prices must be whole cents and sizes whole units")
    currency = Currency.from_str("USD")
    names = [InstrumentId.from_str(f"{symbol}.SIM") for symbol in SYMBOLS]
    instruments = [
        Equity(name, name.symbol, currency, 2, Price.from_str("0.01"), Quantity.from_int(1), 0, 0)
        for name in names
    ]
    symbols, times = trades.symbol.tolist(), trades.ts.tolist()
    ticks = [
        TradeTick(
            names[symbol],
            Price.from_raw(price * _RAW_PER_NANO, 2),
            Quantity.from_raw(size * _RAW_PER_NANO, 0),
            AggressorSide.NO_AGGRESSOR,
            TradeId(str(number)),
            ts,
            ts,
        )
        for number, (symbol, ts, price, size) in enumerate(
            zip(symbols, times, trades.price.tolist(), trades.size.tolist(), strict=True)
        )
    ]
    start_ns, last_ns = min(times) // SECOND * SECOND, max(times)
    bars: list[Bar] = []

    desks: list[_Desk] = []

    def reset() -> None:
        bars.clear()
        desks[:] = [_Desk(instrument, start_ns, bars) for instrument in instruments]

    def run() -> None:
        handlers = [desk.handlers for desk in desks]
        next_second = [start_ns + SECOND] * len(desks)
        for symbol, ts, tick in zip(symbols, times, ticks, strict=True):
            if ts >= next_second[symbol]:
                desks[symbol].advance(ts)
                next_second[symbol] = (ts // SECOND + 1) * SECOND
            for handle in handlers[symbol]:
                handle(tick)
        for desk in desks:
            desk.close(last_ns)

    return Ready(run, lambda: _answer(bars), reset)


def _answer(bars: list[Bar]) -> Answer:
    """Read the bars; their label goes stale after a quiet interval, so it is put right here."""
    seconds_of = {
        str(_bar_type(InstrumentId.from_str("S000.SIM"), timeframe).spec): timeframe
        for timeframe in TIMEFRAMES
    }
    code_of = {symbol: code for code, symbol in enumerate(SYMBOLS)}
    rows: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for bar in bars:
        timeframe = seconds_of[str(bar.bar_type.spec)]
        numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        rows[timeframe].append(
            (
                code_of[bar.bar_type.instrument_id.symbol.value],
                bar.ts_init - TIMEFRAMES[timeframe] * SECOND,
                *(number.raw // _RAW_PER_NANO for number in numbers),
            )
        )
    return {timeframe: _bars(rows[timeframe]) for timeframe in TIMEFRAMES}


def _bars(rows: list[tuple[int, ...]]) -> Bars:
    symbol, *others = np.array(rows, np.int64).reshape(-1, 7).T
    return Bars(symbol.astype(np.int16), *others)


FORMULATION: Final = Formulation("NautilusTrader", "TimeBarAggregator", load)
