"""`BarEngine`: ticks in, bars and their revisions out; deterministic, without a clock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars.columns import Columnar, TickReader
from marketpipe.bars.events import NO_EVENTS, BarEvents
from marketpipe.bars.grid import SessionGrid, uses_table
from marketpipe.bars.layout import (
    ALL_NON_ZERO,
    CLOCK,
    EMIT,
    EVENT_TIME,
    GRACE,
    I64_MAX,
    I64_MIN,
    LATE,
    MODE,
    N_OUT,
    OPEN,
    OUTSIDE,
    RECEIPT_TIME,
    SLOT,
)
from marketpipe.bars.output import Naming, Records, emittable, to_table
from marketpipe.bars.plan import Plan
from marketpipe.bars.shard import Shard
from marketpipe.domain.bars import BarEvent
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.findings import Findings
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.schemas import PRICE_TYPES
from marketpipe.domain.sessions import (
    ALWAYS_OPEN,
    CONTINUOUS,
    EXTENDED,
    NY_DAY,
    REGULAR,
)
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.timeframe import DEFAULT_TIMEFRAMES, Timeframe
from marketpipe.domain.units import MAX_NANOS, MAX_TS_NS
from marketpipe.errors import CalendarError, EngineError, InputError
from marketpipe.normalize.ruleset import RuleSet

Watermark: TypeAlias = Literal["event", "receipt", "clock"]
OnBar: TypeAlias = Callable[[BarEvent], None]

_MODES = {"event": EVENT_TIME, "receipt": RECEIPT_TIME, "clock": CLOCK}


class BarEngine:
    """Builds bars of any set of timeframes for any number of symbols.

    The final bars depend on the set of ticks alone: not on their order, their batches, or how
    they were partitioned. Everything is integer arithmetic; no clock is read.

    Parameters
    ----------
    timeframes : spellings such as ``"1m"``, or `Timeframe`; any set, nested or not
    calendar : ``"24/7"`` or a name of `exchange_calendars`, such as ``"XNYS"``
    session : ``regular``, ``extended`` or ``continuous`` (days of UTC). By default
        ``continuous`` for 24/7 and ``regular`` for every other calendar
    rule_set : a name (``plain``, ``alpaca-v1``), a TOML file, or a `RuleSet`
    price_type : ``trade``, ``bid``, ``ask`` or ``mid``
    watermark : what closes bars. ``event``: each symbol's own largest ``ts_event`` (files);
        ``receipt``: its largest ``known_at`` less the grace (files with receipt times);
        ``clock``: nothing but `advance` (live)
    grace_ns : wait after a bar's end before it is confirmed (``receipt``; ``clock`` callers
        subtract it themselves), ns
    events : whether `apply` returns events; without, only `bars` is kept, and it is faster
    workers : threads; streams are dealt out among them, results do not depend on it
    overrides : corrections to the calendar

    Raises
    ------
    TimeframeError, CalendarError, RuleSetError, EngineError
        For an argument that cannot be used; the message says what would be valid.

    Examples
    --------
    >>> engine = BarEngine(timeframes=["1m", "1h"], calendar="XNYS", rule_set="plain")
    """

    def __init__(
        self,
        timeframes: Sequence[str | Timeframe] = DEFAULT_TIMEFRAMES,
        *,
        calendar: str = "24/7",
        session: str | None = None,
        rule_set: str | RuleSet = "plain",
        price_type: str = "trade",
        watermark: Watermark = "event",
        grace_ns: int = 0,
        events: bool = True,
        workers: int = 1,
        overrides: Overrides | None = None,
    ) -> None:
        rules = rule_set if isinstance(rule_set, RuleSet) else RuleSet.load(rule_set)
        _one_of("price_type", price_type, PRICE_TYPES)
        _one_of("watermark", watermark, tuple(_MODES))
        if workers < 1:
            raise EngineError(f"workers: was {workers}; expected at least 1")
        if isinstance(timeframes, str):
            timeframes = timeframes.split(",")
        wanted = [Timeframe.parse(tf) if isinstance(tf, str) else tf for tf in timeframes]
        self.rule_set = rules
        self.price_type = price_type
        self.watermark = watermark
        self.calendar = calendar
        trades = price_type == "trade"
        own_grid = trades and rules.anchoring == "ny_day"
        self.session = _session(session, calendar, rules.name if own_grid else "")
        grid_session = NY_DAY if own_grid else self.session
        by_bars = trades and rules.rollup == "bars"
        self.plan = Plan.make(
            wanted,
            rollup="bars" if by_bars else "ticks",
            split_days=by_bars,
            tables=uses_table(calendar, grid_session),
        )
        self.grid = SessionGrid(calendar, grid_session, self.plan, overrides)
        self._settings = {
            MODE: _MODES[watermark],
            GRACE: grace_ns,
            EMIT: int(events),
            ALL_NON_ZERO: int(trades and rules.emission == "all_non_zero"),
        }
        self._shards = [
            Shard(self.plan, self._settings, shard=i, shards=workers) for i in range(workers)
        ]
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._streams: tuple[StreamKey, ...] = ()
        self._codes: dict[str, int] = {}
        self._row = 0
        self._callbacks: list[OnBar] = []
        self._reader: TickReader | None = None

    # -- ticks in ------------------------------------------------------------------------------

    def apply(self, ticks: Ticks | Columnar) -> BarEvents:
        """Take a batch of ticks; return what it confirmed and revised.

        Parameters
        ----------
        ticks : `Ticks` of the normalizer, or an Arrow table or record batch, or a Polars frame
            (anything with ``to_arrow``), with the columns of the tick files: ``symbol``, a time
            (``ts_event``, ``ts_ns``, ``ts_us``, ``ts_ms``, ``timestamp``), ``price`` and
            ``size``, or ``bid`` and ``ask``. Decimals and integers are units; floats stand for
            their shortest decimal. What the normalizer does not admit is in `findings`

        Raises
        ------
        InputError
            If columns are missing or of a type that cannot be read exactly.
        BarOverflowError
            If a sum no longer fits; the engine cannot go on.
        """
        if not isinstance(ticks, Ticks):
            if self._reader is None:
                self._reader = TickReader(self.rule_set, self.price_type)
            ticks = self._reader.read(ticks)
        if not len(ticks):
            return NO_EVENTS
        self._name(ticks.streams)
        self._see(int(ticks.ts_event.min()), int(ticks.ts_event.max()))
        if np.bitwise_or.reduce(ticks.flags) != PLAIN:
            for shard in self._shards:
                shard.need_aux()
        columns = self._shards[0].columns_of(ticks)
        if self._pool is None:
            self._shards[0].apply(columns)
        else:
            list(self._pool.map(lambda shard: shard.apply(columns), self._shards))
        return self._events(np.unique(ticks.stream) if self._callbacks else None)

    def apply_trade(
        self,
        symbol: str,
        ts_event: int,
        price: int,
        size: int,
        *,
        key: tuple[int, int, int] | None = None,
        flags: int = PLAIN,
        known_at: int = I64_MIN,
    ) -> BarEvents:
        """Take one trade; return what it confirmed and revised (mostly nothing).

        Parameters
        ----------
        symbol : one per stream; the source is ``local``
        ts_event : ns since the epoch, UTC
        price, size : nanos, ``0 < price < 10**18``, ``0 <= size < 10**18``
        key : (major, mid, minor) of the order key; by default the order of calls
        flags : bits of `domain.ticks`
        known_at : ns when it became known

        Raises
        ------
        InputError
            If a value is out of its bounds.
        """
        code = self._codes.get(symbol)
        if code is None:
            code = self._add_symbol(symbol)
        if not (0 < price <= MAX_NANOS and 0 <= size <= MAX_NANOS and 0 <= ts_event <= MAX_TS_NS):
            raise InputError(
                f"trade of {symbol}: price, size, ts_event were {price}, {size}, {ts_event}; "
                f"expected nanos in 1..{MAX_NANOS} and 0..{MAX_NANOS}, and ns since 1970"
            )
        if key is None:
            self._row += 1
            key = (0, 0, self._row)
        self._see(ts_event, ts_event)
        shard = self._shards[code % len(self._shards)]
        if flags != PLAIN:
            shard.need_aux()
        shard.apply_one(code, ts_event, *key, price, size, flags, known_at)
        if shard.cfg[N_OUT] == 0 and not self._callbacks:
            return NO_EVENTS
        return self._events(np.array([code]) if self._callbacks else None)

    def advance(self, watermark_ns: int, known_at: int | None = None) -> BarEvents:
        """Raise the watermark of every stream: no bar that ends at or before it stays open.

        Parameters
        ----------
        watermark_ns : ns; a live caller passes a clock record's time less delay and grace
        known_at : ns of the clock record itself; by default the watermark
        """
        known = watermark_ns if known_at is None else known_at
        for shard in self._shards:
            shard.advance(watermark_ns, known)
        return self._events(None)

    def flush(self) -> BarEvents:
        """Confirm every bar, as the end of a file does."""
        return self.advance(I64_MAX, I64_MIN if self.watermark != "clock" else MAX_TS_NS)

    # -- bars out ------------------------------------------------------------------------------

    def bars(self, *, forming: bool = False) -> pa.Table:
        """Return every bar kept, its latest revision, as a table of the schema `BARS`.

        Sorted by symbol, timeframe and time.

        Parameters
        ----------
        forming : whether to add the bars that are still open
        """
        rows, aux = self._gather()
        ok = self._emittable(rows, aux) & (self.plan.levels["visible"][rows["level"]] != 0)
        ok &= (rows["revision"] >= 0) | (forming & (rows["status"] == OPEN))
        rows, aux = rows[ok], None if aux is None else aux[ok]
        rank = np.argsort(np.argsort([tuple(s) for s in self._streams], axis=0)[:, 2])
        order = np.lexsort((rows["ts_open"], rows["level"], rank[rows["stream"]]))
        return to_table(
            rows[order], None if aux is None else aux[order], self.naming, self._watermarks()
        )

    @property
    def counts(self) -> dict[str, int]:
        """Ticks outside the session, late ticks by timeframe touched, and slots kept."""
        return {
            "outside_session": sum(int(s.cfg[OUTSIDE]) for s in self._shards),
            "late": sum(int(s.cfg[LATE]) for s in self._shards),
            "bars": sum(len(s.used()[0]) for s in self._shards),
        }

    @property
    def findings(self) -> Findings:
        """What the normalizer found in tables given to `apply`."""
        return self._reader.findings if self._reader else Findings.none()

    def on_bar(self, callback: OnBar) -> None:
        """Call back with every forming, confirmed and revised bar, after each `apply`."""
        self._callbacks.append(callback)

    @property
    def naming(self) -> Naming:
        """What turns slots into rows: the series, the timeframes, the ends of sessions."""
        table = self.grid.table
        return Naming(
            streams=self._streams,
            timeframes=self.plan.timeframes,
            price_type=self.price_type,
            rule_set=self.rule_set.name,
            session=self.session,
            timed=self.watermark != "event",
            dates=table.date if table is not None else np.zeros(0, np.int32),
            closes=table.close_ns if table is not None else np.zeros(0, np.int64),
        )

    # -- inside --------------------------------------------------------------------------------

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

    def _add_symbol(self, symbol: str) -> int:
        if not is_valid_symbol(symbol):
            raise InputError(f"symbol: was {symbol[:40]!r}; expected a name such as AAPL or BTC/USD")
        code = len(self._streams)
        self._codes[symbol] = code
        self._name((*self._streams, StreamKey("local", "", symbol)))
        return code

    def _see(self, first_ns: int, last_ns: int) -> None:
        if self.grid.widen(first_ns, last_ns):
            records = self.grid.records()
            for shard in self._shards:
                shard.set_table(*records)

    def _events(self, touched: I64 | None) -> BarEvents:
        taken = [shard.take() for shard in self._shards if shard.cfg[N_OUT]]
        events = NO_EVENTS
        if taken:
            rows = np.concatenate([rows for rows, _ in taken])
            auxes = [aux for _, aux in taken if aux is not None]
            aux = np.concatenate(auxes) if auxes else None
            order = np.lexsort(
                (rows["revision"], rows["stream"], rows["level"], rows["confirm_at"])
            )
            events = BarEvents(
                rows[order], None if aux is None else aux[order], self.naming, self._watermarks()
            )
        for callback in self._callbacks:
            for event in events:
                callback(event)
            if touched is not None:
                for event in self.forming(touched):
                    callback(event)
        return events

    def forming(self, streams: I64 | None = None) -> BarEvents:
        """Return the open bars as they are now, of all streams or some."""
        parts = []
        for code in range(len(self._streams)) if streams is None else streams:
            shard = self._shards[int(code) % len(self._shards)]
            at = sorted(shard.forming(int(code)))
            parts.append((shard.slots[at], shard.aux[at] if len(shard.aux) else None))
        rows = np.concatenate([np.empty(0, SLOT), *(rows for rows, _ in parts)])
        auxes = [aux for _, aux in parts if aux is not None]
        aux = np.concatenate(auxes) if auxes else None
        ok = self._emittable(rows, aux) & (self.plan.levels["visible"][rows["level"]] != 0)
        return BarEvents(
            rows[ok], None if aux is None else aux[ok], self.naming, self._watermarks()
        )

    def _gather(self) -> tuple[Records, Records | None]:
        used = [shard.used() for shard in self._shards]
        auxes = [aux for _, aux in used if aux is not None]
        if len(used) == 1:
            return used[0]
        return (
            np.concatenate([rows for rows, _ in used]),
            np.concatenate(auxes) if auxes else None,
        )

    def _watermarks(self) -> I64:
        if len(self._shards) == 1:
            marks: I64 = self._shards[0].streams["watermark"]
            return marks
        return np.max([shard.streams["watermark"] for shard in self._shards], axis=0)

    def _emittable(self, rows: Records, aux: Records | None) -> npt.NDArray[np.bool_]:
        return emittable(rows, aux, bool(self._settings[ALL_NON_ZERO]), self.plan)


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise EngineError(f"{name}: was {value!r}; expected one of {', '.join(choices)}")


def _session(session: str | None, calendar: str, own_grid: str) -> str:
    """Settle the session that the caller left open, or refuse one that cannot be."""
    if own_grid:
        if session not in (None, CONTINUOUS):
            raise CalendarError(
                f"session: was {session!r}, but the rule set {own_grid} fixes its own grid "
                "(clock minutes, New York days, all hours); leave the session out"
            )
        return CONTINUOUS
    chosen = session or (CONTINUOUS if calendar == ALWAYS_OPEN else REGULAR)
    if chosen not in (REGULAR, EXTENDED, CONTINUOUS):
        raise CalendarError(
            f"session: was {session!r}; expected regular, extended or continuous"
        )
    return chosen
