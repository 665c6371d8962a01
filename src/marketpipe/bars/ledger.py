"""The bars that an engine keeps: shards, their streams, their state as a value."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars.grid import SessionGrid
from marketpipe.bars.layout import (
    ALL_NON_ZERO,
    AUX,
    CONFIRMED,
    GRACE,
    I64_MIN,
    LATE,
    OUTSIDE,
    SLOT,
    blank_aux,
)
from marketpipe.bars.output import Naming, Records, Slots, bars_table, emittable
from marketpipe.bars.plan import Plan
from marketpipe.bars.relink import refill, take_out
from marketpipe.bars.shard import Shard
from marketpipe.bars.state import EngineState
from marketpipe.domain.batches import I32, I64, StreamKey
from marketpipe.domain.sessions import SessionTable
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import EngineError, StateError
from marketpipe.normalize.ruleset import RuleSet


class BarLedger:
    """Bars of any number of streams, dealt out among shards.

    `marketpipe.bars.BarEngine` adds how ticks come in and events go out.

    Parameters
    ----------
    plan, grid : timeframes, and where sessions lie
    rule_set, price_type, session : parts of the series
    watermark : ``event``, ``receipt`` or ``clock``
    settings : positions and values of the kernel's configuration
    workers : number of shards, one thread each
    """

    def __init__(
        self,
        plan: Plan,
        grid: SessionGrid,
        *,
        rule_set: RuleSet,
        price_type: str,
        session: str,
        watermark: str,
        settings: dict[int, int],
        workers: int,
    ) -> None:
        self.plan, self.grid = plan, grid
        self.rule_set, self.price_type, self.session = rule_set, price_type, session
        self.watermark = watermark
        self._settings = settings
        self._shards = self._new_shards(workers)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._streams: tuple[StreamKey, ...] = ()
        self._codes: dict[str, int] = {}
        self._row = 0
        self._fed = ""
        self._named: tuple[SessionTable | None, Naming] | None = None

    def _new_shards(self, n: int) -> list[Shard]:
        return [Shard(self.plan, self._settings, shard=i, shards=n) for i in range(n)]

    def bars(self, *, forming: bool = False, session_date: int | None = None) -> pa.Table:
        """Return every bar kept, its latest revision, as a table of the schema `BARS`.

        Sorted by symbol, timeframe and time.

        Parameters
        ----------
        forming : whether to add the bars that are still open
        session_date : only bars of this date, days since 1970-01-01
        """
        parts = [shard.used() for shard in self._shards]
        return self._table(parts, forming=forming, session_date=session_date)

    def session_dates(self) -> I32:
        """Return the session dates of the bars kept, days since 1970-01-01, ascending."""
        dates: I32 = np.unique(self._gather()[0]["session_date"])
        return dates

    def dates_of(self, ts_event: I64) -> I32:
        """Return the session date (days since 1970-01-01) whose bars each instant (ns) is in.

        Of an instant between two sessions, that of the later one.
        """
        if not len(ts_event):
            return np.zeros(0, np.int32)
        self._see(int(ts_event.min()), int(ts_event.max()))
        table = self.grid.table
        if table is None:
            return (ts_event // DAY_NS).astype(np.int32)
        at = np.searchsorted(table.auction_end_ns, ts_event, side="right")
        dates: I32 = table.date[np.minimum(at, len(table.date) - 1)]
        return dates

    def _table(
        self, parts: Sequence[Slots], *, forming: bool = False, session_date: int | None = None
    ) -> pa.Table:
        return bars_table(
            parts,
            self.plan,
            self.naming,
            self._watermarks(),
            all_non_zero=bool(self._settings[ALL_NON_ZERO]),
            forming=forming,
            session_date=session_date,
            pool=self._pool,
        )

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Streams seen so far, by code."""
        return self._streams

    @property
    def counts(self) -> dict[str, int]:
        """Ticks outside the session, late ones (once per timeframe), and bars in memory."""
        return {
            "outside_session": sum(int(s.cfg[OUTSIDE]) for s in self._shards),
            "late": sum(int(s.cfg[LATE]) for s in self._shards),
            "bars": sum(len(s.used()[0]) for s in self._shards),
        }

    @property
    def naming(self) -> Naming:
        """What turns slots into rows: the series, the timeframes, the ends of sessions."""
        table = self.grid.table
        if self._named and self._named[0] is table and self._named[1].streams is self._streams:
            return self._named[1]
        naming = Naming(
            streams=self._streams,
            timeframes=self.plan.timeframes,
            price_type=self.price_type,
            rule_set=self.rule_set.name,
            session=self.session,
            timed=self.watermark != "event",
            dates=table.date if table is not None else np.zeros(0, np.int32),
            closes=table.close_ns if table is not None else np.zeros(0, np.int64),
            strict=(self.plan.levels["derived"] == 0) & bool(self._settings[ALL_NON_ZERO]),
        )
        self._named = table, naming
        return naming

    # -- state ---------------------------------------------------------------------------------

    @property
    def signature(self) -> str:
        """What two engines must share to share their state."""
        parts = (
            ",".join(str(tf) for tf in self.plan.timeframes),
            *(self.grid.calendar, self.session, self.price_type, self.watermark),
            *(self.rule_set.name, self.rule_set.digest, str(self._settings[GRACE])),
        )
        return "|".join(parts)

    def save(self) -> EngineState:
        """Return the whole state as a value."""
        rows, aux = self._gather()
        counts = self.counts
        return EngineState.of(
            self.signature,
            self._streams,
            self._watermarks(),
            rows,
            aux,
            (counts["outside_session"], counts["late"], self._row),
            resumable=self._fed != "tables",
        )

    def load(self, state: EngineState) -> None:
        """Become what was saved; what this engine held is forgotten.

        Raises
        ------
        StateError
            If the state is of an engine with other settings.
        """
        self._check(state)
        if not state.resumable:
            raise StateError(
                "engine state: was of an engine that was given tables, which cannot go on from "
                "it (the trade ids it has seen are not in it); give Ticks of a TickNormalizer and "
                "save both, or merge the state into another engine"
            )
        self._streams = ()
        self._codes = {k.symbol: i for i, k in enumerate(state.streams) if k.source == "local"}
        self._shards = self._new_shards(len(self._shards))
        self._name(state.streams)
        if self.grid.table is not None:
            for shard in self._shards:
                shard.set_table(*self.grid.records())
        self._take(state, keep=False)
        outside, late, self._row = state.counters
        self._shards[0].cfg[OUTSIDE], self._shards[0].cfg[LATE] = outside, late

    def merge(self, state: EngineState) -> None:
        """Take in what another engine made of other ticks of the same streams.

        The final bars are those of one engine that saw all ticks. Numbers of revisions are not:
        only the owner of a stream counts them.

        Raises
        ------
        StateError
            If the other engine's settings differ, or bars are rolled up from emitted bars, which
            two halves of a minute cannot make.
        """
        self._check(state)
        if self.plan.derived:
            raise StateError(
                "merge: this rule set rolls bars up from emitted ones; merge the ticks instead"
            )
        place = {key: code for code, key in enumerate(self._streams)}
        for key in state.streams:
            place.setdefault(key, len(place))
        self._name(tuple(place))
        codes = np.array([place[key] for key in state.streams], np.int32)
        rows = state.rows.copy()
        rows["stream"] = codes[rows["stream"]]
        watermarks = np.full(len(place), I64_MIN)
        watermarks[codes] = state.watermarks
        self._take(replace(state, rows=rows, watermarks=watermarks), keep=True)
        self._shards[0].cfg[OUTSIDE] += state.counters[0]
        self._shards[0].cfg[LATE] += state.counters[1]

    def detach(self, before_date: int) -> EngineState:
        """Take out the confirmed bars of sessions before a date, to be kept elsewhere.

        Parameters
        ----------
        before_date : days since 1970-01-01, exclusive. Bars of several sessions stay
        """
        single = np.array(
            [tf.is_intraday or str(tf) == "1d" for tf in self.plan.timeframes], np.bool_
        )
        return self._detach(
            lambda rows: single[rows["level"]] & (rows["session_date"] < before_date)
        )

    def detach_ended(self, by_ns: I64) -> EngineState:
        """Take out the confirmed bars that have ended by an instant, to be kept elsewhere.

        A tick of a stream at or after that instant changes none of them.

        Parameters
        ----------
        by_ns : ns per stream, inclusive

        Returns
        -------
        EngineState
            Its rows stand by session date and stream where there is one worker.
        """
        return self._detach(lambda rows: rows["confirm_at"] <= by_ns[rows["stream"]])

    def _detach(self, which: Callable[[Records], npt.NDArray[np.bool_]]) -> EngineState:
        taken = []
        for shard in self._shards:
            rows, _ = shard.used()
            taken.append(take_out(shard, which(rows) & (rows["status"] == CONFIRMED)))
        rows, aux = join_slots(taken)
        return EngineState(
            self.signature,
            self._streams,
            self._watermarks().copy(),
            rows,
            np.empty(0, AUX) if aux is None else aux,
            (0, 0, 0),
        )

    def attach(self, state: EngineState) -> None:
        """Put detached bars back."""
        self._check(state)
        self._take(state, keep=True)

    def table(self, state: EngineState) -> pa.Table:
        """Return the bars of a detached state, as `bars` does."""
        return self._table([(state.rows, state.aux if len(state.aux) else None)])

    def _check(self, state: EngineState) -> None:
        if state.signature != self.signature:
            raise StateError(
                f"engine state: was of an engine {state.signature!r}, this one is "
                f"{self.signature!r}; use the same settings"
            )

    def _take(self, state: EngineState, *, keep: bool) -> None:
        rows, aux = state.rows, state.aux if len(state.aux) else None
        if keep:
            rows, aux = join_slots([self._gather(), (rows, aux)])
        for shard in self._shards:
            marks = shard.streams["watermark"][: len(state.watermarks)]
            np.maximum(marks, state.watermarks, out=marks)
        self._refill(rows, aux)

    def _refill(self, rows: Records, aux: Records | None) -> None:
        n = len(self._shards)
        for i, shard in enumerate(self._shards):
            mine = rows["stream"] % n == i
            refill(shard, rows[mine], None if aux is None else aux[mine])

    # -- inside --------------------------------------------------------------------------------

    def _feed(self, kind: str) -> None:
        """Hold an engine to one way in: rows are numbered, and streams named, by that way."""
        if self._fed not in ("", kind):
            raise EngineError(
                f"ticks: this engine was given {self._fed} before, now {kind}; use one engine for "
                "each way in"
            )
        self._fed = kind

    def _name(self, streams: tuple[StreamKey, ...]) -> None:
        known = len(self._streams)
        if streams[:known] != self._streams[: len(streams)]:
            raise EngineError(
                "the streams of this batch do not continue those before it; use one engine per "
                "source, and codes that only ever grow"
            )
        if len(streams) > known:
            self._streams = streams
            for shard in self._shards:
                shard.add_streams(len(streams))

    def _see(self, first_ns: int, last_ns: int) -> None:
        if self.grid.widen(first_ns, last_ns):
            records = self.grid.records()
            for shard in self._shards:
                shard.set_table(*records)

    def _gather(self) -> tuple[Records, Records | None]:
        return join_slots([shard.used() for shard in self._shards])

    def _watermarks(self) -> I64:
        if len(self._shards) == 1:
            marks: I64 = self._shards[0].streams["watermark"]
        else:
            marks = np.max([shard.streams["watermark"] for shard in self._shards], axis=0)
        return marks

    def _emittable(self, rows: Records, aux: Records | None) -> npt.NDArray[np.bool_]:
        return emittable(rows, aux, bool(self._settings[ALL_NON_ZERO]), self.plan)


def join_slots(parts: Sequence[tuple[Records, Records | None]]) -> tuple[Records, Records | None]:
    """Put slots together; where only some parts have aux records, the others' are neutral."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([np.empty(0, SLOT), *(rows for rows, _ in parts)])
    if all(aux is None for _, aux in parts):
        return rows, None
    return rows, np.concatenate(
        [blank_aux(np.empty(len(rows), AUX)) if aux is None else aux for rows, aux in parts]
    )
