"""One price type on its way through a derivation: its normalizer, its engine, the ticks at hand."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars import BarEngine
from marketpipe.bars.events import NO_EVENTS, BarEvents
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.findings import Findings
from marketpipe.domain.ticks import Ticks
from marketpipe.normalize import TickNormalizer
from marketpipe.normalize.restored import chosen
from marketpipe.pipelines.aside import Aside

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Lane:
    """One price type: its normalizer, its engine, and the ticks at hand."""

    price_type: str
    normalizer: TickNormalizer
    engine: BarEngine
    ticks: Ticks | None = None
    offsets: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    fed: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    aside: Aside | None = None

    in_line: Mask | None = None
    filling: Mask | None = None
    shut_out: int = 0

    def give(
        self,
        ticks: Ticks,
        offsets: I64,
        closed: Mapping[StreamKey, frozenset[int]],
        filling: Mask | None = None,
    ) -> None:
        """Put ticks in line, to be fed piece by piece, with the bars at hand that they change.

        Those of closed sessions stay out; ``in_line`` says which do not, None for all.
        ``filling`` says which came to fill a gap, None for none.
        """
        self.in_line = self._open(ticks, closed) if closed else None
        if self.in_line is not None:
            self.shut_out += len(ticks) - int(self.in_line.sum())
            ticks, offsets = chosen(ticks, self.in_line), offsets[self.in_line]
            filling = None if filling is None else filling[self.in_line]
        self.ticks, self.offsets, self.filling, self.fed = ticks, offsets, filling, 0
        self.bring_back(ticks.ts_event)

    def _open(self, ticks: Ticks, closed: Mapping[StreamKey, frozenset[int]]) -> Mask | None:
        shut = np.zeros(len(ticks), np.bool_)
        dates = self.engine.dates_of(ticks.ts_event)
        for code, key in enumerate(ticks.streams):
            if key in closed:
                shut |= (ticks.stream == code) & np.isin(dates, sorted(closed[key]))
        return ~shut if shut.any() else None

    def bring_back(self, ts_event: I64) -> None:
        """Have the bars at hand that some instants (ns) are in."""
        if self.aside is not None:
            self.aside.bring_back(self.engine, ts_event)

    def feed(self, to: int) -> BarEvents:
        """Feed the ticks in line up to a row (exclusive)."""
        if self.ticks is None or to <= self.fed:
            return NO_EVENTS
        start, self.fed = self.fed, to
        if self.filling is None:
            return self.engine.apply(chosen(self.ticks, slice(start, to)))
        return BarEvents.join([*_runs(self.engine, self.ticks, self.filling, start, to)])

    def row_of(self, offset: int) -> int:
        """Return the first row in line at or after an offset."""
        return int(np.searchsorted(self.offsets, offset))

    def noticed(self) -> Findings:
        """Return what was counted since the last time."""
        now = Counter({name: self.engine.counts[name] for name in ("late", "outside_session")})
        found = [Findings.of(name, count) for name, count in (now - self.counted).items()]
        found.append(Findings.of("late_after_load", self.shut_out))
        self.counted, self.shut_out = now, 0
        return Findings.merge(found)


def trades_in_line(lanes: Iterable[Lane], trades: pa.Table | None) -> pa.Table | None:
    """Return the canonical trades whose ticks are in line."""
    masks = [lane.in_line for lane in lanes if lane.price_type == "trade"]
    if trades is None or not masks or masks[0] is None:
        return trades
    return trades.filter(pa.array(masks[0]))


def _runs(
    engine: BarEngine, ticks: Ticks, filling: Mask, start: int, to: int
) -> Iterator[BarEvents]:
    """Feed ticks [start, to): what fills a gap is one change, however many ticks it has."""
    turns = 1 + np.flatnonzero(filling[start + 1 : to] != filling[start : to - 1])
    edges = [start, *(start + turns).tolist(), to]
    for low, high in pairwise(edges):
        take = engine.backfill if filling[low] else engine.apply
        yield take(chosen(ticks, slice(low, high)))
