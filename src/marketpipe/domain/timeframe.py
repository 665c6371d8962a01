"""Timeframes: how long a bar is, and the one way to write it.

Intraday timeframes (s, m, h) are lengths of time; d and w count days and Monday weeks of a
calendar and have no fixed length. So ``24h`` and ``1d`` stay two timeframes: they agree on a
market that never closes and nowhere else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from typing import Final, Literal, TypeAlias, cast

from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.errors import TimeframeError

Unit: TypeAlias = Literal["s", "m", "h", "d", "w"]

MAX_INTRADAY_NS: Final = DAY_NS
MAX_DAYS: Final = 365
MAX_WEEKS: Final = 52

_UNIT_NS: Final[dict[str, int]] = {
    "s": NANOS,
    "m": 60 * NANOS,
    "h": 3_600 * NANOS,
    "d": DAY_NS,
    "w": 7 * DAY_NS,
}
# Seven days are a week, but 24 hours are no day: see the module's docstring.
_COARSER: Final[dict[str, tuple[int, Unit]]] = {"s": (60, "m"), "m": (60, "h"), "d": (7, "w")}
_SPELLING: Final = re.compile(r"([1-9][0-9]*)([smhdw])")
_EXPECTED: Final = "expected <n><s|m|h|d|w>, as in 1m, 15m, 4h, 1d or 1w"


@total_ordering
@dataclass(frozen=True, slots=True)
class Timeframe:
    """The nominal length of a bar, in its canonical spelling: 60 m is 1 h, 7 d is 1 w.

    Ordered by nominal length; 24h comes before 1d.

    Parameters
    ----------
    n : number of units, >= 1
    unit : s, m, h (together at most 24 hours), d (at most 365) or w (at most 52)

    Raises
    ------
    TimeframeError
        If the unit is unknown or ``n`` out of bounds.

    Examples
    --------
    >>> str(Timeframe.parse("60m")), str(Timeframe.parse("90m"))
    ('1h', '90m')
    """

    n: int
    unit: Unit

    def __post_init__(self) -> None:
        n, unit = self.n, self.unit
        if unit not in _UNIT_NS:
            raise TimeframeError(f"timeframe unit: was '{unit}'; {_EXPECTED}")
        if n < 1:
            raise TimeframeError(f"timeframe: was '{n}{unit}', but n must be at least 1")
        while unit in _COARSER and n % _COARSER[unit][0] == 0:
            factor, coarser = _COARSER[unit]
            n, unit = n // factor, coarser
        _check_bounds(n, unit, f"{self.n}{self.unit}")
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "unit", unit)

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """Read ``<n><s|m|h|d|w>``: ASCII digits without sign, leading zero or space.

        Raises
        ------
        TimeframeError
            If the spelling is another, or the timeframe out of bounds.
        """
        match = _SPELLING.fullmatch(text)
        if match is None:
            raise TimeframeError(f"timeframe: was {text[:40]!r}; {_EXPECTED}{_hint(text)}")
        digits, unit = match.groups()
        if len(digits) > len(str(MAX_INTRADAY_NS // NANOS)):
            raise TimeframeError(_too_long(f"{digits[:20]}…{unit}"))
        return cls(int(digits), cast("Unit", unit))

    @property
    def is_intraday(self) -> bool:
        """Whether it is a length of time (s, m, h) and not a count of days or weeks."""
        return self.unit in "smh"

    @property
    def duration_ns(self) -> int:
        """Length in ns of an intraday bar that no session or break cuts short.

        Raises
        ------
        TimeframeError
            For d and w, whose bars are as long as their sessions.
        """
        if not self.is_intraday:
            raise TimeframeError(f"timeframe: '{self}' has no fixed duration, only s, m and h have")
        return self.n * _UNIT_NS[self.unit]

    def __str__(self) -> str:
        return f"{self.n}{self.unit}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Timeframe):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[int, bool]:
        return self.n * _UNIT_NS[self.unit], not self.is_intraday


def parse_many(texts: str | Iterable[str]) -> tuple[Timeframe, ...]:
    """Read several timeframes: sorted, each once.

    Parameters
    ----------
    texts : strings, or one string with commas; spaces around the commas are allowed

    Raises
    ------
    TimeframeError
        If there is none, or one of them cannot be read.

    Examples
    --------
    >>> [str(timeframe) for timeframe in parse_many("1h,1m, 60m")]
    ['1m', '1h']
    """
    items = [item.strip() for item in texts.split(",")] if isinstance(texts, str) else texts
    timeframes = tuple(sorted({Timeframe.parse(item) for item in items}))
    if not timeframes:
        raise TimeframeError(f"timeframes: were empty; {_EXPECTED}, separated by commas")
    return timeframes


def _check_bounds(n: int, unit: Unit, written: str) -> None:
    longest = {"d": MAX_DAYS, "w": MAX_WEEKS}.get(unit, MAX_INTRADAY_NS // _UNIT_NS[unit])
    if n > longest:
        raise TimeframeError(_too_long(written))


def _too_long(written: str) -> str:
    return (
        f"timeframe: was '{written}', which is too long: s, m and h go up to 24 hours, "
        f"d up to {MAX_DAYS}, w up to {MAX_WEEKS}; for longer bars use d or w"
    )


def _hint(text: str) -> str:
    if re.fullmatch(r"[0-9]+(M|mo|mon|month|months)", text):
        return "; months and years have no timeframe, m is minutes"
    simpler = re.sub(r"\s", "", text).lower()
    simpler = re.sub(r"^0*([0-9]*)([smhdw])[a-z]*$", r"\1\2", simpler)
    if _SPELLING.fullmatch(simpler):
        return f"; did you mean '{simpler}'?"
    return ""


DEFAULT_TIMEFRAMES: Final = parse_many("1m,5m,15m,1h,1d")
