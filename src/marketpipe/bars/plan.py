"""Turns timeframes into levels: which builds which, on what grid.

Every level is built from ticks (a *root*), from the runs of a finer level that nests in it
(one merge where there were many ticks), or, where the rule set says so, from the emitted
minute or day bars (*derived*).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from marketpipe.bars.layout import DAYS, INTRADAY, LEVEL, WEEKS
from marketpipe.domain.ticks import DAY_SHIFT
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import TimeframeError

MINUTE = Timeframe.parse("1m")
DAY = Timeframe.parse("1d")


@dataclass(frozen=True, slots=True)
class Plan:
    """The levels of an engine, finest first.

    ``timeframes[i]`` is level ``i``; hidden levels (``visible`` 0) feed others and are never
    emitted.
    """

    timeframes: tuple[Timeframe, ...]
    levels: npt.NDArray[np.void]

    @property
    def derived(self) -> bool:
        """Whether any level is built from emitted bars."""
        return bool(self.levels["derived"].any())

    @classmethod
    def make(
        cls,
        timeframes: Sequence[Timeframe],
        *,
        rollup: Literal["ticks", "bars"],
        split_days: bool,
        tables: bool,
    ) -> "Plan":
        """Lay out the levels.

        Parameters
        ----------
        timeframes : the ones to emit, any order
        rollup : ``ticks``: bars merge their trades; ``bars``: all but 1m and 1d merge the
            emitted minute or day bars
        split_days : day bars admit other trades than intraday ones, so are never merged from them
        tables : the grid comes from a session table, not from UTC
        """
        wanted = sorted(set(timeframes))
        if not wanted:
            raise TimeframeError("no timeframe was given; name at least one, such as 1m")
        every = list(wanted)
        if rollup == "bars":
            small = [tf for tf in wanted if tf < MINUTE]
            if small:
                raise TimeframeError(
                    f"this rule set defines no bars under 1m, was {str(small[0])!r}; "
                    "its bars start at minutes"
                )
            bases = {MINUTE if tf.is_intraday else DAY for tf in wanted}
            every = sorted(bases | set(wanted))
        levels = np.zeros(len(every), LEVEL)
        for i, tf in enumerate(every):
            levels[i] = cls._level(i, tf, every, wanted, rollup, split_days, tables)
        for i in range(len(every)):
            feed = levels[i]["feed"]
            levels[i]["root"] = i if feed < 0 or levels[i]["derived"] else levels[feed]["root"]
        return cls(tuple(every), levels)

    @staticmethod
    def _level(
        i: int,
        tf: Timeframe,
        every: Sequence[Timeframe],
        wanted: Sequence[Timeframe],
        rollup: str,
        split_days: bool,
        tables: bool,
    ) -> tuple[int, ...]:
        days = not tf.is_intraday
        kind = INTRADAY if tf.is_intraday else WEEKS if tf.unit == "w" else DAYS
        day_number = sum(1 for other in every[:i] if not other.is_intraday)
        if tf.is_intraday:
            length = tf.duration_ns
        elif tables:
            length = day_number
        else:
            length = tf.n * DAY_NS * (7 if tf.unit == "w" else 1)
        shift = DAY_SHIFT if days and split_days else 0
        derived = rollup == "bars" and tf not in (MINUTE, DAY)
        if derived:
            feed = every.index(MINUTE if tf.is_intraday else DAY)
        elif rollup == "bars":
            feed = -1
        else:
            feed = next(
                (
                    j
                    for j in range(i - 1, -1, -1)
                    if nests(every[j], tf, tables=tables, split_days=split_days)
                ),
                -1,
            )
        return kind, length, shift, feed, 0, int(derived), int(tf in wanted)


def nests(fine: Timeframe, coarse: Timeframe, *, tables: bool, split_days: bool = False) -> bool:
    """Say whether every interval of ``fine`` lies in one of ``coarse``; see `Plan.make`."""
    if fine.is_intraday != coarse.is_intraday:
        if split_days:
            return False
        # on a session's grid the last bar is cut at the close; on UTC's it must divide the day
        return tables or DAY_NS % fine.duration_ns == 0
    if fine.is_intraday:
        return coarse.duration_ns % fine.duration_ns == 0
    if fine.unit == coarse.unit:
        return coarse.n % fine.n == 0
    return fine.unit == "d" and fine.n == 1
