"""`BarEngine`: ticks in, bars and their revisions out; deterministic, without a clock."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from marketpipe.bars.columns import Columnar, TickReader
from marketpipe.bars.events import NO_EVENTS, BarEvents
from marketpipe.bars.grid import SessionGrid, uses_table
from marketpipe.bars.layout import (
    ALL_NON_ZERO,
    BACKFILL,
    CLOCK,
    EMIT,
    EVENT_TIME,
    GRACE,
    I64_MAX,
    I64_MIN,
    LATE,
    MODE,
    N_OUT,
    RECEIPT_TIME,
)
from marketpipe.bars.ledger import BarLedger, join_slots
from marketpipe.bars.plan import Plan
from marketpipe.bars.repair import Recompute, RepairCause, answer, requests
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
from marketpipe.domain.units import LAST_TICK_NS, MAX_NANOS, MAX_TS_NS
from marketpipe.errors import CalendarError, EngineError, InputError
from marketpipe.normalize.dates import identity_dates
from marketpipe.normalize.ruleset import RuleSet

Watermark: TypeAlias = Literal["event", "receipt", "clock"]
OnBar: TypeAlias = Callable[[BarEvent], None]

_MODES = {"event": EVENT_TIME, "receipt": RECEIPT_TIME, "clock": CLOCK}


class BarEngine(BarLedger):
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
        trades = price_type == "trade"
        own_grid = trades and rules.anchoring == "ny_day"
        session = _session(session, calendar, rules.name if own_grid else "")
        grid_session = NY_DAY if own_grid else session
        by_bars = trades and rules.rollup == "bars"
        plan = Plan.make(
            wanted,
            rollup="bars" if by_bars else "ticks",
            split_days=by_bars,
            tables=uses_table(calendar, grid_session),
        )
        super().__init__(
            plan,
            SessionGrid(calendar, grid_session, plan, overrides),
            rule_set=rules,
            price_type=price_type,
            session=session,
            watermark=watermark,
            settings={
                MODE: _MODES[watermark],
                GRACE: grace_ns,
                EMIT: int(events),
                ALL_NON_ZERO: int(trades and rules.emission == "all_non_zero"),
            },
            workers=workers,
        )
        self._callbacks: list[OnBar] = []
        self._never: I64 = np.empty(0, np.int64)

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
            self._feed("tables")
            return BarEvents.join([self._apply(batch) for batch in self._tick_reader.read(ticks)])
        self._feed("Ticks")
        return self._apply(ticks)

    def _apply(self, ticks: Ticks) -> BarEvents:
        self._put(ticks)
        return self._events(np.unique(ticks.stream) if self._callbacks else None)

    def _put(self, ticks: Ticks) -> None:
        if not len(ticks):
            return
        self._name(ticks.streams)
        self._see(int(ticks.ts_event.min()), int(ticks.ts_event.max()))
        if (ticks.flags != PLAIN).any():
            for shard in self._shards:
                shard.need_aux()
        columns = self._shards[0].columns_of(ticks)
        if self._pool is None:
            self._shards[0].apply(columns)
        else:
            list(self._pool.map(lambda shard: shard.apply(columns), self._shards))

    def backfill(self, ticks: Ticks) -> BarEvents:
        """Take ticks that fill a gap, all known at once; return what they revised.

        The bars are those of `apply`, but a confirmed one gets a single revision, of the cause
        ``backfill``, and none of the ticks counts as late.

        Raises
        ------
        EngineError
            If the watermark is not that of a clock: ticks that confirm bars fill no gap.
        """
        if self.watermark != "clock":
            raise EngineError(f"backfill: the watermark was '{self.watermark}'; valid is 'clock'")
        self._feed("Ticks")
        late = [shard.cfg[LATE] for shard in self._shards]
        self._put(ticks)
        for shard, before in zip(self._shards, late, strict=True):
            shard.as_one_change(BACKFILL)
            shard.cfg[LATE] = before
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
        if not (type(price) is type(size) is type(ts_event) is int):
            raise InputError(
                f"trade of {symbol!r}: price, size, ts_event were {price!r}, {size!r}, "
                f"{ts_event!r}; expected integers (nanos, nanos, ns), so 190.5 is 190_500_000_000"
            )
        if self._fed != "single trades":
            self._feed("single trades")
        code = self._codes.get(symbol)
        if code is None:
            code = self._add_symbol(symbol)
        if not (
            0 < price <= MAX_NANOS and 0 <= size <= MAX_NANOS and 0 <= ts_event <= LAST_TICK_NS
        ):
            raise InputError(
                f"trade of {symbol}: price, size, ts_event were {price}, {size}, {ts_event}; "
                f"expected nanos in 1..{MAX_NANOS} and 0..{MAX_NANOS}, and ns from 1970 to 2260"
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

    @property
    def findings(self) -> Findings:
        """What the normalizer found in tables given to `apply`."""
        return self._tick_reader.findings

    @cached_property
    def _tick_reader(self) -> TickReader:
        dates = identity_dates(
            self.grid.calendar,
            new_york=self.rule_set.anchoring == "ny_day",
            overrides=self.grid.overrides,
        )
        return TickReader(self.rule_set, self.price_type, dates)

    def on_bar(self, callback: OnBar) -> None:
        """Call back with every forming, confirmed and revised bar, after each `apply`."""
        self._callbacks.append(callback)

    # -- repairs -------------------------------------------------------------------------------

    def request_recompute(
        self, stream: StreamKey | str, ts_event: int, cause: RepairCause
    ) -> tuple[Recompute, ...]:
        """Name the bars that a cancelled or corrected trade was part of, finest first.

        Parameters
        ----------
        stream : the stream, or the symbol of an `apply_trade` stream
        ts_event : ns of the original trade
        """
        key = StreamKey("local", "", stream) if isinstance(stream, str) else stream
        code = self._code(key)
        return requests(self._shards[code % len(self._shards)], code, key, ts_event, cause)

    def recompute(self, request: Recompute, ticks: Ticks, known_at: int) -> BarEvents:
        """Rebuild a bar from all of its trades that are left; return its revisions, if any.

        Parameters
        ----------
        request : what `request_recompute` named
        ticks : every trade of that stream in the bar, none else; empty makes the bar void
        known_at : ns when the cancel or correction became known

        Raises
        ------
        EngineError
            If the bar is not here, or a trade is not of it.
        """
        code = self._code(request.stream)
        answer(self._shards[code % len(self._shards)], code, request, ticks, known_at)
        return self._events(None)

    # -- inside --------------------------------------------------------------------------------

    def _code(self, key: StreamKey) -> int:
        if key not in self._streams:
            raise EngineError(f"stream: was {tuple(key)}; this engine has seen no tick of it")
        return self._streams.index(key)

    def _add_symbol(self, symbol: str) -> int:
        if not isinstance(symbol, str) or not is_valid_symbol(symbol):
            raise InputError(
                f"symbol: was {symbol[:40]!r}; expected a name such as AAPL or BTC/USD"
            )
        code = len(self._streams)
        self._codes[symbol] = code
        self._name((*self._streams, StreamKey("local", "", symbol)))
        return code

    def _events(self, touched: I64 | None) -> BarEvents:
        taken = [shard.take() for shard in self._shards if shard.cfg[N_OUT]]
        events = NO_EVENTS
        if taken:
            rows, aux = join_slots(taken)
            if len(rows) > 1:
                order = np.lexsort(
                    (rows["revision"], rows["stream"], rows["level"], rows["confirm_at"])
                )
                rows, aux = rows[order], None if aux is None else aux[order]
            events = BarEvents(rows, aux, self.naming, self._unsettled())
        for callback in self._callbacks:
            for event in events:
                callback(event)
            if touched is not None:
                for event in self.forming(touched):
                    callback(event)
        return events

    def _unsettled(self) -> I64:
        """Watermarks under which no bar is settled: an event says what was so when it was made."""
        if len(self._never) != len(self._streams):
            self._never = np.full(len(self._streams), I64_MIN)
        return self._never

    def forming(self, streams: I64 | None = None) -> BarEvents:
        """Return the open bars as they are now, of all streams or some."""
        parts = []
        for code in range(len(self._streams)) if streams is None else streams:
            shard = self._shards[int(code) % len(self._shards)]
            at = sorted(shard.forming(int(code)))
            parts.append((shard.slots[at], shard.aux[at] if len(shard.aux) else None))
        rows, aux = join_slots(parts)
        ok = self._emittable(rows, aux) & (self.plan.levels["visible"][rows["level"]] != 0)
        return BarEvents(rows[ok], None if aux is None else aux[ok], self.naming, self._unsettled())


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
        raise CalendarError(f"session: was {session!r}; expected regular, extended or continuous")
    return chosen
