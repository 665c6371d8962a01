"""The arrays behind an engine, and the calls into its kernel. The only door to the kernel."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.bars import _apply_kernel as kernel
from marketpipe.bars._grid_kernel import index_all, place
from marketpipe.bars.layout import (
    AUX,
    CFG_SIZE,
    CLOCK,
    DERIVED,
    DONE,
    GROW_OUT,
    GROW_SLOTS,
    HAS_TABLE,
    I64_MAX,
    I64_MIN,
    INDEXED,
    MODE,
    N_OUT,
    N_SLOTS,
    OVERFLOW,
    ROOTS_END,
    SHARD,
    SHARDS,
    SLOT,
    STATUS,
    STREAM,
    blank,
    blank_aux,
    empty_slots,
)
from marketpipe.bars.plan import Plan
from marketpipe.domain.batches import I64
from marketpipe.domain.ticks import Ticks
from marketpipe.errors import BarOverflowError

Records: TypeAlias = npt.NDArray[np.void]
Columns: TypeAlias = tuple[npt.NDArray[Any], ...]

SEGMENT = np.dtype([("open", "<i8"), ("close", "<i8"), ("session", "<i8")])
SESSION = np.dtype([("date", "<i8"), ("close", "<i8"), ("auction_end", "<i8")])

_FIRST_SLOTS = 1 << 16
"""At least 256: the smallest hash index is made for so many. What is not used takes no memory."""
_BLOCK = 1 << 14
"""Rows dealt out among shards at a time: few enough to stay in the cache."""
_ROOMY = 1 << 24
"""Records to ask for at the first growth. Memory that is asked for and not written costs address
space only; asking once means that nothing is ever copied, short of this many."""


class Shard:
    """One share of an engine's streams (all of those with ``stream % shards == shard``)."""

    def __init__(self, plan: Plan, settings: dict[int, int], *, shard: int, shards: int) -> None:
        self.plan = plan
        self.cfg = np.zeros(CFG_SIZE, np.int64)
        for position, value in settings.items():
            self.cfg[position] = value
        self.cfg[SHARD], self.cfg[SHARDS] = shard, shards
        self.cfg[ROOTS_END] = 1 + int(np.flatnonzero(plan.levels["feed"] < 0).max())
        self.cfg[DERIVED] = int(plan.derived)
        self.streams = np.zeros(0, STREAM)
        self.slots = empty_slots(_FIRST_SLOTS)
        self.aux = np.empty(0, AUX)
        self.runs = np.zeros(0, SLOT)
        self.run_aux = np.empty(0, AUX)
        self.last = np.empty(0, np.int32)
        self.index = np.zeros(4 * _FIRST_SLOTS, np.int32)
        self.out = empty_slots(_FIRST_SLOTS)
        self.out_aux = np.empty(0, AUX)
        self.dirty = np.empty(0, np.int32)
        self.mine = np.empty(0, np.bool_)
        self.rows = np.empty(_BLOCK, np.int32)
        self.seg = np.zeros(0, SEGMENT)
        self.ses = np.zeros(0, SESSION)
        self.grp = np.zeros((1, 1, 4), np.int64)
        self._bind()
        if plan.derived:
            self.need_aux()

    def _bind(self) -> None:
        self.st = (
            self.cfg, self.plan.levels, self.streams, self.slots, self.aux, self.runs,
            self.run_aux, self.last, self.seg, self.ses, self.grp, self.index, self.out,
            self.out_aux,
        )  # fmt: skip

    # -- room ---------------------------------------------------------------------------------

    def add_streams(self, n: int) -> None:
        """Make room for streams 0 to ``n - 1``."""
        more = n - len(self.streams)
        if more <= 0:
            return
        new = np.zeros(more, STREAM)
        # The clock is that of all streams: when one was first heard of must not show.
        by_clock = self.cfg[MODE] == CLOCK
        new["watermark"] = self.streams["watermark"].max(initial=I64_MIN) if by_clock else I64_MIN
        new["next_close"] = I64_MAX
        new["open_head"] = -1
        new["run_open"], new["run_close"] = I64_MIN, I64_MAX
        self.streams = np.concatenate([self.streams, new])
        levels = len(self.plan.levels)
        self.runs = np.concatenate([self.runs, blank(np.empty(more * levels, SLOT))])
        if len(self.aux):
            self.run_aux = np.concatenate([self.run_aux, blank_aux(np.empty(more * levels, AUX))])
        self.last = np.concatenate([self.last, np.full(more * levels, -1, np.int32)])
        self.dirty = np.concatenate([self.dirty, np.zeros(more, np.int32)])
        self.mine = np.arange(n) % self.cfg[SHARDS] == self.cfg[SHARD]
        self._bind()

    def need_aux(self) -> None:
        """Keep aux records from now on; those of what went before are neutral."""
        if len(self.aux):
            return
        self.aux = np.empty(len(self.slots), AUX)
        blank_aux(self.aux[: self.cfg[N_SLOTS]])  # the kernel clears those it takes later
        self.run_aux = blank_aux(np.empty(len(self.runs), AUX))
        self.out_aux = np.empty(len(self.out), AUX)
        blank_aux(self.out_aux[: self.cfg[N_OUT]])
        self._bind()

    def set_table(self, seg: Records, ses: Records, grp: I64) -> None:
        """Use a session table; what was placed by an earlier, narrower one stays valid."""
        self.seg, self.ses, self.grp = seg, ses, grp
        self.cfg[HAS_TABLE] = 1
        self._bind()

    def reserve(self, slots: int) -> None:
        """Make room for at least this many slots."""
        if slots <= len(self.slots):
            return
        n = int(self.cfg[N_SLOTS])
        self.slots = _grown(self.slots, n, slots)
        if len(self.aux):
            self.aux = _grown(self.aux, n, len(self.slots))
        self.index = np.zeros(1 << (2 * len(self.slots) - 1).bit_length(), np.int32)
        if self.cfg[INDEXED]:
            index_all(self.cfg, self.index, self.slots)
        self._bind()

    def _room(self) -> int:
        """Return how many slots or events one tick may take: it may confirm all open bars."""
        levels = len(self.plan.levels)
        waiting = int(self.streams["n_open"].max(initial=0))
        return 8 * levels + waiting * (levels if self.plan.derived else 1)

    def _grow(self) -> None:
        need = self._room()
        if self.cfg[STATUS] == GROW_SLOTS:
            self.reserve(len(self.slots) + 2 * need)
        elif self.cfg[STATUS] == GROW_OUT:
            n = int(self.cfg[N_OUT])
            self.out = _grown(self.out, n, len(self.out) + 2 * need)
            if len(self.aux):
                self.out_aux = _grown(self.out_aux, n, len(self.out))
            self._bind()

    # -- ticks --------------------------------------------------------------------------------

    def apply(self, columns: Columns) -> None:
        """Apply rows: (stream, ts, price, size, key a, b, c, flags, known), one length."""
        n = len(columns[0])
        at = 0
        while at <= n:
            at = kernel.apply_rows(self.st, self.dirty, self.mine, self.rows, *columns, at)
            self._check(at)

    def apply_one(self, *tick: int) -> None:
        """Apply one tick: the same nine values as scalars."""
        while kernel.apply_one(self.st, *tick) != DONE:
            self._check(0)

    def advance(self, watermark: int, known: int) -> None:
        """Raise every stream's watermark (ns, inclusive) and confirm what is due."""
        at = 0
        while at < len(self.streams):
            at = kernel.advance_all(self.st, watermark, known, at)
            self._check(at)

    def _check(self, at: int) -> None:
        if self.cfg[STATUS] == OVERFLOW:
            raise BarOverflowError(
                f"a bar's sum of price × size no longer fits: it is limited to 4e18 whole units "
                f"(row {at + 1} of this batch). The engine cannot go on; check the sizes of the "
                "feed, or choose shorter timeframes"
            )
        if self.cfg[STATUS] != DONE:
            self._grow()

    def take(self) -> tuple[Records, Records | None]:
        """Return what was emitted since the last call, in order, and forget it."""
        n = int(self.cfg[N_OUT])
        self.cfg[N_OUT] = 0
        return _copied(self.out[:n]), _copied(self.out_aux[:n]) if len(self.aux) else None

    def as_one_change(self, cause: int) -> None:
        """Make of the revisions that are out one for each bar, its last, as its next revision."""
        n = int(self.cfg[N_OUT])
        if not n:
            return
        rows = self.out[:n]
        order = np.lexsort((rows["revision"], rows["ts_open"], rows["level"], rows["stream"]))
        ordered = rows[order]
        first = np.ones(n, np.bool_)
        first[1:] = False
        for name in ("stream", "level", "ts_open"):
            first[1:] |= ordered[name][1:] != ordered[name][:-1]
        starts = np.flatnonzero(first)
        last = order[np.append(starts[1:], n) - 1]
        kept = rows[last]
        kept["revision"], kept["cause"] = ordered["revision"][starts], cause
        for row in kept:
            slot = self.slots[self.place(row)]
            slot["revision"], slot["cause"] = row["revision"], cause
        if len(self.aux):
            self.out_aux[: len(last)] = self.out_aux[last]
        self.out[: len(last)] = kept
        self.cfg[N_OUT] = len(last)

    # -- slots --------------------------------------------------------------------------------

    def used(self) -> tuple[Records, Records | None]:
        """Return every slot (views), hidden levels included."""
        n = int(self.cfg[N_SLOTS])
        return self.slots[:n], self.aux[:n] if len(self.aux) else None

    def forming(self, stream: int) -> Iterator[int]:
        """Yield a stream's open slots."""
        at = int(self.streams[stream]["open_head"])
        while at >= 0:
            yield at
            at = int(self.slots[at]["next_open"])

    def place(self, row: np.void) -> int:
        """Return the slot of a row's identity, a new open one if there is none."""
        self.reserve(int(self.cfg[N_SLOTS]) + 8)
        at: int = place(
            self.st, int(row["stream"]), int(row["level"]), int(row["ts_open"]),
            int(row["ts_close"]), int(row["confirm_at"]), int(row["session_date"]), False,
        )  # fmt: skip
        return at

    def columns_of(self, ticks: Ticks) -> Columns:
        """Return a batch's columns in the order the kernel takes them."""
        return (
            ticks.stream, ticks.ts_event, ticks.price, ticks.size, ticks.key_major,
            ticks.key_mid, ticks.key_minor, ticks.flags, ticks.known_at,
        )  # fmt: skip


def _grown(old: Records, used: int, need: int) -> Records:
    """Return an array of ``need`` records, mostly many more, that starts as ``old`` does."""
    try:
        new = _empty(max(need, 2 * len(old), _ROOMY), old.dtype)
    except MemoryError:  # address space is limited
        new = _empty(max(need, 2 * len(old)), old.dtype)
    new[:used] = old[:used]
    return new


def _copied(records: Records) -> Records:
    """Return a copy that cannot be written; NumPy's own goes field by field, ten times slower."""
    return np.frombuffer(records.tobytes(), records.dtype)


def _empty(n: int, dtype: np.dtype[np.void]) -> Records:
    return empty_slots(n) if dtype == SLOT else np.empty(n, dtype)
