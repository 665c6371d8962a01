"""Replay: a source of ticks through normalizer and engine, to bars, findings and roots."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from marketpipe.bars import BarEngine
from marketpipe.bars.layout import I64_MAX
from marketpipe.domain.batches import I64, BadRow, Batch
from marketpipe.domain.findings import Example, Findings
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.schemas import BARS
from marketpipe.domain.ticks import Ticks
from marketpipe.domain.timeframe import Timeframe
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.normalize.dates import identity_dates
from marketpipe.pipelines.prefetch import Prefetch
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.sources.base import Source
from marketpipe.verify.digest import DigestTree, LeafPath

MAX_BARS = 500_000
"""Bars (192 bytes each) kept in memory before those that have ended are put aside."""
MAX_IDS = 6_000_000
"""Trade ids kept in memory (about 35 bytes each) before finished sessions are put aside."""

Quarantine = Callable[[tuple[BadRow, ...]], None]
Progress = Callable[[int, int | None, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """What shapes the bars of a replay.

    Attributes
    ----------
    timeframes : those to build
    calendar, session, overrides : the grid; ``session`` None for the calendar's usual one
    rule_set, price_type : which ticks count, and what of them
    history : whether to keep every revision
    workers : threads of the engine
    """

    timeframes: tuple[Timeframe, ...]
    calendar: str = "24/7"
    session: str | None = None
    overrides: Overrides | None = None
    rule_set: RuleSet
    price_type: str = "trade"
    history: bool = False
    workers: int = 1
    max_bars: int = MAX_BARS
    max_ids: int = MAX_IDS


@dataclass(slots=True)
class Replay:
    """One run over one source.

    Parameters
    ----------
    source : trades or quotes, as the price type needs
    settings : what to build
    spool : where finished sessions wait
    quarantine : called with the rows that were refused, in order
    progress : called after each batch with (bytes done, bytes in all or None, rows)
    """

    source: Source
    settings: ReplaySettings
    spool: SessionSpool
    quarantine: Quarantine | None = None
    progress: Progress | None = None
    engine: BarEngine = field(init=False)
    findings: Findings = field(init=False, default_factory=Findings)
    rows: int = field(init=False, default=0)
    ticks: int = field(init=False, default=0)
    quarantined: int = field(init=False, default=0)
    first_ns: int | None = field(init=False, default=None)
    last_ns: int | None = field(init=False, default=None)
    _ids_since_seal: int = field(init=False, default=0)
    _normalizer: TickNormalizer = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        self.engine = BarEngine(
            s.timeframes,
            calendar=s.calendar,
            session=s.session,
            rule_set=s.rule_set,
            price_type=s.price_type,
            events=s.history,
            workers=s.workers,
            overrides=s.overrides,
        )
        self._normalizer = TickNormalizer(
            rule_set=s.rule_set,
            price_type=s.price_type,
            session_dates=identity_dates(
                s.calendar, new_york=s.rule_set.anchoring == "ny_day", overrides=s.overrides
            ),
        )

    def run(self) -> None:
        """Read the source to its end and close every bar; `tables` and `bars` have them all.

        Raises
        ------
        MarketPipeError
            What the source, the normalizer or the engine raise. What was read before stays
            in ``findings`` and the counts.
        """
        batches = Prefetch(self.source.batches())
        try:
            for batch in batches:
                self._take(batch)
            self._put_events(self.engine.flush().to_arrow())
            if self.spool.bars or self.engine.counts["bars"] > self.spool.piece_bars:
                ever = np.full(len(self.engine.streams), I64_MAX)
                self.spool.put(self.engine.detach_ended(ever))
        finally:
            batches.close()
            self.spool.settle()
        self.findings += self._engine_findings()

    def _take(self, batch: Batch) -> None:
        self.rows += len(batch) + len(batch.bad)
        sealed = self._normalizer.sealed_dates_of(batch)
        if sealed:
            self._normalizer.unseal(self.spool.take_ids(sealed))
        done = self._normalizer.apply(batch)
        self.findings += done.findings
        self.quarantined += len(done.quarantined)
        if self.quarantine is not None and done.quarantined:
            self.quarantine(done.quarantined)
        ticks = done.ticks
        if len(ticks):
            first, last = int(ticks.ts_event.min()), int(ticks.ts_event.max())
            self.first_ns = first if self.first_ns is None else min(first, self.first_ns)
            self.last_ns = last if self.last_ns is None else max(last, self.last_ns)
            self._bring_back(ticks, first)
            self.ticks += len(ticks)
            self._ids_since_seal += len(ticks)
            self._put_events(self.engine.apply(ticks).to_arrow())
            self._make_room(ticks)
        if self.progress is not None:
            self.progress(*self.source.progress(), self.rows)

    def _put_events(self, events: pa.Table) -> None:
        if self.settings.history:
            self.spool.put_events(events)

    def _bring_back(self, ticks: Ticks, first_ns: int) -> None:
        """Take back the bars that these ticks may change, if any were put aside."""
        if self.spool.until_ns > first_ns:
            for state in self.spool.take_after(_firsts(ticks)):
                self.engine.attach(state)

    def _make_room(self, ticks: Ticks) -> None:
        """Put what has ended aside where memory would grow; a late tick brings it back.

        Bars that ended before the batch at hand began are left alone by ticks that are late by
        less than a batch.
        """
        if self.engine.counts["bars"] > self.settings.max_bars:
            self.spool.put(self.engine.detach_ended(_firsts(ticks)))
        if self._ids_since_seal > self.settings.max_ids:
            held = self._normalizer.held_dates
            if len(held) > 1:
                self.spool.put_ids(self._normalizer.seal(held[-1]))
            self._ids_since_seal = 0

    def _engine_findings(self) -> Findings:
        outside = self.engine.counts["outside_session"]
        late = self.engine.counts["late"]
        example = (Example(0, "", f"session {self.engine.session} of {self.settings.calendar}"),)
        return Findings.of("outside_session", outside, example if outside else ()) + Findings.of(
            "late", late
        )

    # -- results -------------------------------------------------------------------------------

    def tables(self) -> Iterator[pa.Table]:
        """Yield the final bars, some 100,000 at a time, so that memory stays bounded.

        All bars of a series and session date are in one table. Tables are in order of date, then
        symbol.
        """
        if not self.spool.bars:
            yield self.engine.bars()
            return
        streams = self.engine.streams
        rank = np.empty(len(streams), np.int64)
        rank[sorted(range(len(streams)), key=lambda i: streams[i][::-1])] = range(len(streams))
        for state in self.spool.pieces(rank):
            yield self.engine.table(state)

    def bars(self) -> pa.Table:
        """Return all final bars as one table."""
        return pa.concat_tables([BARS.empty_table(), *self.tables()])

    def history(self) -> pa.Table:
        """Return every revision; needs ``settings.history``."""
        return self.spool.events()

    def digest(self) -> tuple[DigestTree, dict[str, int]]:
        """Return the digest tree of the final bars, and their number by timeframe."""
        leaves: dict[LeafPath, str] = {}
        counts = {str(tf): 0 for tf in sorted(self.settings.timeframes)}
        with ThreadPoolExecutor(1) as pool:  # one piece is hashed while the next is put together
            hashed: list[Future[DigestTree]] = []
            for table in self.tables():
                hashed.append(pool.submit(DigestTree.build, table))
                for entry in table["timeframe"].value_counts():
                    counts[entry["values"].as_py()] += entry["counts"].as_py()
                if len(hashed) > 1:
                    leaves.update(hashed.pop(0).result().leaves)
            for last in hashed:
                leaves.update(last.result().leaves)
        return DigestTree(leaves), counts


def _firsts(ticks: Ticks) -> I64:
    """Return each stream's first instant among some ticks, the largest int64 for none."""
    firsts = np.full(len(ticks.streams), I64_MAX)
    np.minimum.at(firsts, ticks.stream, ticks.ts_event)
    return firsts
