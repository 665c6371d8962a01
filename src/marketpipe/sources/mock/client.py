"""`MockConnector`: a connector without a vendor, for tests and demonstrations."""

from collections import deque
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import BadRow, QuoteBatch, TradeBatch
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.units import MAX_NANOS, MAX_TS_NS, NANOS
from marketpipe.errors import UsageError
from marketpipe.sources.base import Source

_SLICE = 1 << 14


class MockTick(NamedTuple):
    """One trade.

    Attributes
    ----------
    symbol : as in the source
    ts_event_ns : ns since the epoch, UTC
    price_nanos, size_nanos : 1e-9 of a unit
    row : line or row of the source, from 1; 0 if injected
    """

    symbol: str
    ts_event_ns: int
    price_nanos: int
    size_nanos: int
    row: int


class MockConnector:
    """Replays loaded trades in event order, in this process; holds them in memory.

    Trades of equal time keep the order of loading. A source loaded later joins in by time.

    Parameters
    ----------
    sleep : waits that many seconds, such as ``time.sleep``; needed for a replay at a ``speed``
    """

    def __init__(self, *, sleep: Callable[[float], object] | None = None) -> None:
        self._sleep = sleep
        self._loaded: list[tuple[npt.NDArray[Any], ...]] = []
        self._injected: deque[MockTick] = deque()
        self._bad: list[BadRow] = []

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """Rows of the loaded sources that could not be read as trades."""
        return tuple(self._bad)

    def load_from_csv(
        self, path: str | PathLike[str], *, symbols: frozenset[str] | None = None
    ) -> int:
        """Load the trades of a tick CSV, plain, gzip or zstd; return how many.

        Raises
        ------
        InputError
            If the file cannot be opened, has a bad header or ends early.
        UsageError
            If it holds quotes.
        """
        # Here and not above: compiled code comes with it, and other sources do without.
        from marketpipe.sources.csvfile import CsvSource

        return self.load(CsvSource(path, symbols=symbols))

    def load(self, source: Source) -> int:
        """Load the trades of any source, then close it; return how many.

        Raises
        ------
        UsageError
            If it holds quotes.
        """
        loaded: list[tuple[npt.NDArray[Any], ...]] = []
        bad: list[BadRow] = []
        try:
            for batch in source.batches():
                loaded.append(_columns(batch, source))
                bad.extend(batch.bad)
        finally:
            source.close()
        self._loaded.extend(loaded)
        self._bad.extend(bad)
        return sum(len(columns[0]) for columns in loaded)

    def inject_tick(
        self, symbol: str, ts_event_ns: int, price_nanos: int, size_nanos: int
    ) -> MockTick:
        """Hand out this trade next, even if its time has passed: so a late print is made.

        Raises
        ------
        UsageError
            If the symbol is malformed or a number is out of range.
        """
        if not is_valid_symbol(symbol):
            raise UsageError(f"symbol was '{symbol}', valid is a name such as AAPL or BTC/USD")
        for name, value, high in (
            ("ts_event_ns", ts_event_ns, MAX_TS_NS),
            ("price_nanos", price_nanos, MAX_NANOS),
            ("size_nanos", size_nanos, MAX_NANOS),
        ):
            if not 0 <= value <= high:
                raise UsageError(f"{name} was '{value}', valid is 0 to {high}")
        tick = MockTick(symbol, ts_event_ns, price_nanos, size_nanos, 0)
        self._injected.append(tick)
        return tick

    def ticks(self, *, speed: float | None = None) -> Iterator[MockTick]:
        """Iterate over what is loaded in event order, and over what is injected meanwhile.

        Parameters
        ----------
        speed : seconds of event time in a second of waiting; None never waits

        Raises
        ------
        UsageError
            If ``speed`` is not above 0, or is given to a connector without ``sleep``.
        """
        if speed is None:
            return self._in_order()
        if not speed > 0:
            raise UsageError(f"speed was '{speed}', valid is above 0, or None for no waiting")
        if self._sleep is None:
            raise UsageError(
                f"speed was '{speed}' but the connector has no way to wait: make it with "
                "MockConnector(sleep=time.sleep), or leave speed out"
            )
        return _paced(self._in_order(), speed, self._sleep)

    def replay_ticks(
        self, on_tick: Callable[[MockTick], object], *, speed: float | None = None
    ) -> int:
        """Call ``on_tick`` with everything that `ticks` gives; return how many.

        ``on_tick`` may itself inject. What it raises ends the replay.
        """
        count = 0
        for count, tick in enumerate(self.ticks(speed=speed), 1):  # noqa: B007  # the last count
            on_tick(tick)
        return count

    def _in_order(self) -> Iterator[MockTick]:
        columns = [np.concatenate(parts) for parts in zip(*self._loaded, strict=True)]
        order = np.argsort(columns[1], kind="stable") if columns else np.empty(0, np.int64)
        for start in range(0, len(order), _SLICE):
            rows = order[start : start + _SLICE]
            for values in zip(*(column[rows].tolist() for column in columns), strict=True):
                yield from self._drained()
                yield MockTick(*values)
        yield from self._drained()

    def _drained(self) -> Iterator[MockTick]:
        while self._injected:
            yield self._injected.popleft()


def _columns(batch: TradeBatch | QuoteBatch, source: Source) -> tuple[npt.NDArray[Any], ...]:
    if isinstance(batch, QuoteBatch):
        raise UsageError(
            f"{source.describe()}: holds quotes; a mock connector replays trades, so give it a "
            "file with price and size"
        )
    names = np.array([key.symbol for key in batch.dictionaries.streams], object)
    return names[batch.stream], batch.ts_event, batch.price, batch.size, batch.row


def _paced(
    ticks: Iterator[MockTick], speed: float, sleep: Callable[[float], object]
) -> Iterator[MockTick]:
    latest: int | None = None
    for tick in ticks:
        if latest is not None and tick.ts_event_ns > latest:
            sleep((tick.ts_event_ns - latest) / NANOS / speed)
        latest = tick.ts_event_ns if latest is None else max(latest, tick.ts_event_ns)
        yield tick
