"""The simulated vendor's bars, by the published rules of Alpaca's, in exact integers.

A second reading of those rules: nothing here is shared with `marketpipe.normalize` or
`marketpipe.bars`, so that a comparison of both means something.

Source: Alpaca, market data FAQ, "How are bars aggregated?". A bar is made of the trades whose
timestamp is in its interval, begin inclusive, end exclusive. What a trade may set depends on its
conditions; the strictest wins. A bar is sent only if its prices and its volume are not zero.

Not documented, and so decided here:

- A condition that the tables do not list for the tape lets a trade set nothing.
- A trade that may set the open or close only as the first of the bar does so if no trade before
  it, in order of time, has set them.
- Crypto bars "include quote mid-prices". Here they do where a minute has quotes and no trade:
  the prices are those of the mid, and volume, count and VWAP are 0. Whether mids also move the
  prices of a minute with trades is not known; here they do not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64
from marketpipe.simulator.messages import BarContent

Span: TypeAlias = Literal["minute", "day"]
"""Which of the two tables: bars of minutes, or of days."""


class Effect(NamedTuple):
    """What a trade may set: ``last`` is open and close: 2 always, 1 as the first, 0 never."""

    last: int
    high_low: bool
    volume: bool


_ALL: Final = Effect(2, True, True)
_FIRST: Final = Effect(1, True, True)
_VOLUME: Final = Effect(0, False, True)
_PRICE: Final = Effect(2, True, False)
_NONE: Final = Effect(0, False, False)

# The tapes on which a condition is listed, "" for all of them.
_BOTH: Final[tuple[tuple[Effect, dict[str, str]], ...]] = (
    (_ALL, {" ": "AB", "@": "CO", "A": "C", "B": "C", "D": "C", "E": "AB", "Y": "C"}),
    (_ALL, dict.fromkeys("FKLOX56", "")),
    (_VOLUME, {"B": "AB", "W": "CO", **dict.fromkeys("CHINRUV7", "")}),
    (_NONE, dict.fromkeys("MQ", "")),
)
_TABLES: Final[dict[Span, tuple[tuple[Effect, dict[str, str]], ...]]] = {
    "minute": (*_BOTH, (_ALL, {"T": ""}), (_VOLUME, dict.fromkeys("GPZ4", "")), (_NONE, {"9": ""})),
    "day": (
        *_BOTH,
        (_VOLUME, {"T": ""}),
        (_FIRST, {"G": "C", **dict.fromkeys("PZ4", "")}),
        (_PRICE, {"9": ""}),
    ),
}


def effect(conditions: Iterable[str] | None, tape: str | None, span: Span) -> Effect:
    """Return what a trade may set; one without conditions may set everything.

    The strictest of its conditions counts, component by component.
    """
    found = [_of_code(code, tape or "", span) for code in conditions or ()]
    if not found:
        return _ALL
    return Effect(
        min(one.last for one in found),
        all(one.high_low for one in found),
        all(one.volume for one in found),
    )


def _of_code(code: str, tape: str, span: Span) -> Effect:
    for result, tapes_of in _TABLES[span]:
        tapes = tapes_of.get(code)
        if tapes == "" or (tapes and tape and tape in tapes):
            return result
    return _NONE


@dataclass(frozen=True, slots=True)
class Tally:
    """What the trades of an interval set so far; None where none set it.

    Attributes
    ----------
    open : price of the first trade that may set it
    first : price of the first trade that may set open and close as the first only
    last : price of the last trade that may set open and close
    high, low : of the trades that may set them
    volume, count : of the trades that have volume
    num, den : sums of price times size, and size, of the trades that may set both
    """

    open: int | None = None
    first: int | None = None
    last: int | None = None
    high: int | None = None
    low: int | None = None
    volume: int = 0
    count: int = 0
    num: int = 0
    den: int = 0

    def plus(self, later: "Tally") -> "Tally":
        """Add what later trades set."""
        highs = [high for high in (self.high, later.high) if high is not None]
        lows = [low for low in (self.low, later.low) if low is not None]
        return Tally(
            later.open if self.open is None else self.open,
            later.first if self.first is None else self.first,
            self.last if later.last is None else later.last,
            max(highs, default=None),
            min(lows, default=None),
            self.volume + later.volume,
            self.count + later.count,
            self.num + later.num,
            self.den + later.den,
        )

    def bar(self) -> BarContent | None:
        """Return the bar; None if a price or the volume is zero or not set."""
        close = self.first if self.last is None else self.last
        if not (self.open and self.high and self.low and close and self.volume):
            return None
        return BarContent(
            self.open, self.high, self.low, close, self.volume, self.count, self.num, self.den
        )


class Effects:
    """What the trades of each code may set, for whole columns of codes.

    Parameters
    ----------
    trades : the conditions and the tape behind each code
    """

    def __init__(self, trades: Iterable[tuple[tuple[str, ...] | None, str | None]]) -> None:
        pairs = list(trades)
        self._columns: dict[Span, tuple[npt.NDArray[np.int8], ...]] = {}
        for span in _TABLES:
            found = [effect(conditions, tape, span) for conditions, tape in pairs]
            columns = np.array(found, np.int8).reshape(-1, 3)
            self._columns[span] = tuple(np.ascontiguousarray(columns[:, k]) for k in range(3))

    def tally(self, span: Span, price: I64, size: I64, code: npt.NDArray[np.int64]) -> Tally:
        """Count trades; the columns (nanos, nanos, codes) are in order of time."""
        last, high_low, volume = (column[code] for column in self._columns[span])
        sets_open = price[last > 0]
        sets_last = price[last == 2]
        sets_first = price[last == 1]
        extremes = price[high_low > 0]
        counted = size[volume > 0]
        both = (high_low > 0) & (volume > 0)
        prices, sizes = price[both].tolist(), size[both].tolist()
        return Tally(
            int(sets_open[0]) if len(sets_open) else None,
            int(sets_first[0]) if len(sets_first) else None,
            int(sets_last[-1]) if len(sets_last) else None,
            int(extremes.max()) if len(extremes) else None,
            int(extremes.min()) if len(extremes) else None,
            sum(counted.tolist()),
            len(counted),
            sum(map(mul, prices, sizes)),
            sum(sizes),
        )


def quoted_bar(bids: I64, asks: I64) -> BarContent | None:
    """Return a crypto bar of a minute without trades, of its quotes in order of time."""
    mids = (bids + asks) // 2
    if not len(mids):
        return None
    first, high, low, last = (int(mid) for mid in (mids[0], mids.max(), mids.min(), mids[-1]))
    return BarContent(first, high, low, last, 0, 0, 0, 0)
