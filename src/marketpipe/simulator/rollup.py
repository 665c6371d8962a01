"""Bars of other timeframes, rolled up from the vendor's bars of minutes and days.

As the vendor has it, bars shorter than a day are made of those of minutes, those of weeks and
months of those of days, never of trades: the VWAP is the mean of theirs, weighted by volume.

Not documented, and so decided here: intervals are counted from midnight and months from January,
in New York for stocks and in UTC for crypto; weeks begin on Monday; a bar that has begun shows
what there is of it; a range holds the bars that begin in it.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Raw

from marketpipe.domain.units import NANOS
from marketpipe.simulator.market import Kind, Row
from marketpipe.simulator.messages import vwap_nanos
from marketpipe.sources.alpaca import wire

ZONES: Final[dict[Kind, tzinfo]] = {"stocks": ZoneInfo("America/New_York"), "crypto": UTC}
"""Where the days of a kind begin at midnight."""

View: TypeAlias = Callable[[str, int, int, int], Sequence[Row]]
"""A view of a `marketpipe.simulator.market.Market`."""

_SECONDS: Final = {"Min": 60, "Hour": 3_600, "Day": 86_400, "Week": 604_800, "Month": 31 * 86_400}
_COUNTS: Final = {
    "Min": range(1, 60),
    "Hour": range(1, 24),
    "Day": (1,),
    "Week": (1,),
    "Month": (1, 2, 3, 6, 12),
}
_SHORT: Final = {"T": "Min", "H": "Hour", "D": "Day", "W": "Week", "M": "Month"}
_SPELLED: Final = re.compile(r"([1-9]\d?)(Min|Hour|Day|Week|Month|[THDWM])")

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


class Timeframe(NamedTuple):
    """How long a bar is: ``n`` times Min, Hour, Day, Week or Month."""

    n: int
    unit: str

    @classmethod
    def read(cls, text: str) -> "Timeframe | None":
        """Read 1Min to 59Min, 1Hour to 23Hour, 1Day, 1Week, 1, 2, 3, 6 or 12Month; else None.

        >>> Timeframe.read("5T"), Timeframe.read("60Min")
        (Timeframe(n=5, unit='Min'), None)
        """
        found = _SPELLED.fullmatch(text)
        if found is None:
            return None
        n, unit = int(found[1]), _SHORT.get(found[2], found[2])
        return cls(n, unit) if n in _COUNTS[unit] else None

    @property
    def is_of_days(self) -> bool:
        """Whether its bars are made of days."""
        return self.unit not in ("Min", "Hour")

    @property
    def longest_ns(self) -> int:
        """No bar is longer, clocks that are put back included."""
        return (self.n * _SECONDS[self.unit] + 3_600) * NANOS

    def begin_ns(self, ts_ns: int, zone: tzinfo) -> int:
        """Return when the bar begins that an instant (ns) lies in."""
        local = datetime.fromtimestamp(ts_ns // NANOS, zone)
        day = local.replace(hour=0, minute=0, second=0, fold=0)
        if not self.is_of_days:
            midnight_ns, length_ns = _ns(day), self.n * _SECONDS[self.unit] * NANOS
            return midnight_ns + (ts_ns - midnight_ns) // length_ns * length_ns
        if self.unit == "Week":
            day -= timedelta(days=day.weekday())
        if self.unit == "Month":
            day = day.replace(month=(day.month - 1) // self.n * self.n + 1, day=1)
        return _ns(day)


def _ns(at: datetime) -> int:
    return int(at.timestamp()) * NANOS


def rolled(
    minutes: View,
    days: View,
    kind: Kind,
    timeframe: Timeframe,
    symbol: str,
    start_ns: int,
    end_ns: int,
    known_ns: int,
) -> Sequence[Row]:
    """Return the bars of a timeframe that begin in ``[start_ns, end_ns]``, as known then.

    Parameters
    ----------
    minutes, days : views of the bars that there are
    kind : says where a day begins
    timeframe : of the result
    symbol, start_ns, end_ns, known_ns : as of a view
    """
    view = days if timeframe.is_of_days else minutes
    if timeframe.n == 1 and timeframe.unit in ("Min", "Day"):
        return view(symbol, start_ns, end_ns, known_ns)
    zone = ZONES[kind]
    rows = view(symbol, start_ns, end_ns + timeframe.longest_ns, known_ns)
    groups = groupby(rows, key=lambda row: timeframe.begin_ns(row.ts_event_ns, zone))
    return [
        _merged(begin_ns, list(group), kind)
        for begin_ns, group in groups
        if start_ns <= begin_ns <= end_ns
    ]


def _merged(begin_ns: int, rows: list[Row], kind: Kind) -> Row:
    bars = [_fields(row.json) for row in rows]
    volumes = [_nanos(bar["v"]) for bar in bars]
    vwaps = [_nanos(bar["vw"]) if "vw" in bar else 0 for bar in bars]
    weighed = [(volume, vwap) for volume, vwap in zip(volumes, vwaps, strict=True) if vwap]
    total = sum(volume * vwap for volume, vwap in weighed)
    merged = {
        "t": wire.instant(begin_ns),
        "o": bars[0]["o"],
        "h": max((bar["h"] for bar in bars), key=_nanos),
        "l": min((bar["l"] for bar in bars), key=_nanos),
        "c": bars[-1]["c"],
        "v": wire.number(sum(volumes)),
        "n": sum(int(bytes(bar["n"])) for bar in bars if "n" in bar),
        "vw": wire.number(vwap_nanos(total, sum(volume for volume, _ in weighed), kind)),
    }
    return Row(begin_ns, _write(merged))


def _nanos(number: Raw) -> int:
    return int(Decimal(bytes(number).decode()).scaleb(9))
