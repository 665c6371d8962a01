"""The identities of one session date: those in memory, and runs of them on disk."""

from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I8, I64
from marketpipe.normalize import _dedup_kernel as kernel
from marketpipe.normalize.frozen import Entries, FrozenRun

_SMALLEST: Final = 512
_SLOTS_PER_5_IDS: Final = 8
_T = TypeVar("_T", bound=np.generic)


class SessionSet:
    """An exact set of identities, of which the older ones may be on disk."""

    def __init__(self) -> None:
        self._ids = _IdSet()
        self._runs: list[FrozenRun] = []
        # Over all runs, by scope; none is below a least that is above the greatest.
        self._low, self._high = _no_bounds(0)

    @property
    def in_memory(self) -> int:
        """How many identities are in memory."""
        return self._ids.count

    def admit(self, rows: I64, batch: Entries, verdict: I8) -> None:
        """Enter batch positions in their order; ``verdict`` gets NEW, DUPLICATE or CONFLICT."""
        self._ids.admit(self._unfrozen(rows, batch, verdict), batch, verdict)

    def _unfrozen(self, rows: I64, batch: Entries, verdict: I8) -> I64:
        """Judge the rows that are on disk and return the others."""
        ids = (batch.scope, batch.id_hi, batch.id_lo)
        near = kernel.within(rows, *ids, self._low, self._high) if self._runs else rows[:0]
        if not len(near):
            return rows
        frozen = np.zeros(len(batch.scope), np.bool_)
        for run in self._runs:
            hits = run.find(near, *ids)
            alike = hits.content == batch.content[hits.rows]
            verdict[hits.rows] = np.where(alike, kernel.DUPLICATE, kernel.CONFLICT)
            frozen[hits.rows] = True
        return rows[~frozen[rows]]

    def first_row(self, scope: int, id_hi: int, id_lo: int) -> int:
        """Row of the first trade with an identity that has been entered."""
        entry = self._ids.entry(scope, id_hi, id_lo)
        if entry >= 0:
            return int(self._ids.row[entry])
        one = [np.array([value], np.int64) for value in (id_hi, id_lo)]
        place = np.zeros(1, np.int64)
        found = (run.find(place, np.array([scope], np.int32), *one) for run in self._runs)
        return next(int(hits.row[0]) for hits in found if len(hits.rows))

    def entries(self) -> Entries:
        """Copy everything, in order of arrival."""
        parts = [*(run.entries() for run in self._runs), self._ids.entries()]
        return Entries(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def freeze(self, scopes: int, folder: Path) -> None:
        """Move what is in memory to disk; where there is no room on it, leave it in memory.

        ``scopes`` is the number of scopes there are.
        """
        try:
            run = FrozenRun(self._ids.entries(), scopes, folder)
        except OSError:
            return
        self._runs.append(run)
        self._ids.clear()
        low, high = _no_bounds(scopes)
        low[: len(self._low)], high[: len(self._high)] = self._low, self._high
        run_low, run_high = run.bounds()
        absent, new = high[:, 0] < 0, run_high[:, 0] >= 0
        lower = new & (absent | _before(run_low, low))
        higher = new & (absent | _before(high, run_high))
        low[lower], high[higher] = run_low[lower], run_high[higher]
        self._low, self._high = low, high

    def close(self) -> None:
        """Give the files back."""
        for run in self._runs:
            run.close()


def _no_bounds(scopes: int) -> tuple[I64, I64]:
    high = np.zeros((scopes, 2), np.int64)
    high[:, 0] = -1
    return np.zeros((scopes, 2), np.int64), high


def _before(a: I64, b: I64) -> npt.NDArray[np.bool_]:
    less: npt.NDArray[np.bool_] = (a[:, 0] < b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] < b[:, 1]))
    return less


class _IdSet:
    """Growable arrays around the kernel's set."""

    def __init__(self) -> None:
        self.count = 0
        self.slots = np.zeros(2 * _SMALLEST, np.int32)
        self.scope = np.empty(_SMALLEST, np.int32)
        self.id_hi = np.empty(0, np.int64)
        self.id_lo = np.empty(_SMALLEST, np.int64)
        self.content = np.empty(_SMALLEST, np.uint64)
        self.row = np.empty(_SMALLEST, np.int64)

    def admit(self, rows: I64, batch: Entries, verdict: I8) -> None:
        wide = len(rows) > 0 and int(batch.id_hi.max()) > 0
        self._reserve(self.count + len(rows), wide=wide)
        self.count = int(
            kernel.admit(
                rows, *batch, self.count,
                self.slots, self.scope, self.id_hi, self.id_lo, self.content, self.row, verdict,
            )
        )  # fmt: skip

    def entry(self, scope: int, id_hi: int, id_lo: int) -> int:
        found, _ = kernel.find(self.slots, self.scope, self.id_hi, self.id_lo, scope, id_hi, id_lo)
        return int(found)

    def entries(self) -> Entries:
        used = slice(self.count)
        id_lo = self.id_lo[used].copy()
        return Entries(
            self.scope[used].copy(),
            self.id_hi[used].copy() if len(self.id_hi) else np.zeros_like(id_lo),
            id_lo,
            self.content[used].copy(),
            self.row[used].copy(),
        )

    def clear(self) -> None:
        # The arrays stay: what fills them again takes no more memory.
        self.count = 0
        self.slots[:] = 0

    def _reserve(self, count: int, *, wide: bool) -> None:
        if wide and not len(self.id_hi):
            self.id_hi = np.zeros(len(self.id_lo), np.int64)
        if count > len(self.id_lo):
            capacity = 1 << (count - 1).bit_length()
            self.scope = _grown(self.scope, self.count, capacity)
            self.id_lo = _grown(self.id_lo, self.count, capacity)
            self.content = _grown(self.content, self.count, capacity)
            self.row = _grown(self.row, self.count, capacity)
            if len(self.id_hi):
                self.id_hi = _grown(self.id_hi, self.count, capacity)
        if count * _SLOTS_PER_5_IDS > len(self.slots) * 5:
            slots = 1 << (count * _SLOTS_PER_5_IDS // 5).bit_length()
            self.slots = np.zeros(slots, np.int32)
            kernel.fill_slots(self.slots, self.scope, self.id_hi, self.id_lo, self.count)


def _grown(array: npt.NDArray[_T], count: int, capacity: int) -> npt.NDArray[_T]:
    # Pages past `count` are not touched, so the head room takes no memory yet.
    larger = np.empty(capacity, array.dtype)
    larger[:count] = array[:count]
    return larger
