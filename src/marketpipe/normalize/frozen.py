"""Identities that no longer change, sorted, in a file without a name.

A run keeps every id whole, so nothing is taken for what it is not. In the file too are, by scope,
where its ids begin and the least and the greatest of them. Nothing of a run stays in memory: a file
is mapped only while ids are looked up in it.
"""

import mmap
import os
import weakref
from pathlib import Path
from tempfile import mkstemp
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I32, I64
from marketpipe.normalize import _dedup_kernel as kernel

_HI, _LO, _CONTENT, _ROW, _PLACE = range(5)
_COLUMNS: Final = 5
_NARROW: Final = 1 << 15


class Entries(NamedTuple):
    """Identities in order of arrival; ``content`` is uint64, ``scope`` int32, the rest int64."""

    scope: I32
    id_hi: I64
    id_lo: I64
    content: npt.NDArray[np.uint64]
    row: I64


class Hits(NamedTuple):
    """Which positions of a batch a run holds, and content and row of the first trade of each."""

    rows: I64
    content: npt.NDArray[np.uint64]
    row: I64


class _Mapped(NamedTuple):
    """What the file holds: bounds of each scope (hi and lo of the id), and the columns."""

    starts: I64
    low: I64
    high: I64
    columns: I64


class FrozenRun:
    """Some identities of a session date, sorted by scope and id, on disk.

    Parameters
    ----------
    entries : all distinct
    scopes : codes of scopes are below this number
    folder : where the file is made; it takes 40 bytes an id and as many a scope, has no name, and
        is gone when the run is, or the process, however it ends

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, entries: Entries, scopes: int, folder: Path) -> None:
        order = _order(entries, scopes)
        self._count, self._scopes = len(order), scopes
        starts = np.searchsorted(entries.scope[order], np.arange(scopes + 1)).astype(np.int64)
        columns = (entries.id_hi, entries.id_lo, entries.content.view(np.int64), entries.row)
        sorted_ids = [column[order] for column in columns[:2]]
        low, high = np.empty((scopes, 2), np.int64), np.empty((scopes, 2), np.int64)
        kernel.bounds(starts, *sorted_ids, low, high)
        self._fd = _nameless(folder)
        self.close = weakref.finalize(self, os.close, self._fd)
        """Give the file back; otherwise that happens with the run's end."""
        with os.fdopen(self._fd, "wb", closefd=False) as file:
            for part in (starts, low, high, *sorted_ids, *(c[order] for c in columns[2:]), order):
                file.write(np.ascontiguousarray(part, np.int64).data)

    def __len__(self) -> int:
        return self._count

    def bounds(self) -> tuple[I64, I64]:
        """Return the least and the greatest id of each scope, (scopes, 2); hi is -1 for none."""
        mapped = self._mapped()
        return mapped.low, mapped.high

    def find(self, rows: I64, scope: I32, id_hi: I64, id_lo: I64) -> Hits:
        """Look batch positions up; those that are not there are not in the answer."""
        mapped = self._mapped()
        near = kernel.within(rows, scope, id_hi, id_lo, mapped.low, mapped.high)
        if not len(near):
            none = np.zeros(0, np.int64)
            return Hits(none, none.view(np.uint64), none)
        columns = mapped.columns
        found = np.empty(len(near), np.int64)
        kernel.search(near, scope, id_hi, id_lo, mapped.starts, columns[_HI], columns[_LO], found)
        here = found >= 0
        places = found[here]
        return Hits(near[here], columns[_CONTENT][places].view(np.uint64), columns[_ROW][places])

    def entries(self) -> Entries:
        """Read everything back, in order of arrival."""
        mapped = self._mapped()
        columns = mapped.columns
        scope = np.repeat(np.arange(self._scopes, dtype=np.int32), np.diff(mapped.starts))
        order = np.argsort(columns[_PLACE])
        return Entries(
            scope[order],
            columns[_HI][order],
            columns[_LO][order],
            columns[_CONTENT][order].view(np.uint64),
            columns[_ROW][order],
        )

    def _mapped(self) -> _Mapped:
        # Mapped anew each time: pages that were looked at do not stay in memory.
        ends = np.cumsum([self._scopes + 1, 2 * self._scopes, 2 * self._scopes])
        size = int(ends[-1]) + _COLUMNS * self._count
        whole = np.frombuffer(mmap.mmap(self._fd, 8 * size, access=mmap.ACCESS_READ), np.int64)
        starts, low, high, columns = np.split(whole, ends)
        # Copies where the kernels are compiled for arrays that can be written.
        return _Mapped(
            starts.copy(),
            low.reshape(self._scopes, 2).copy(),
            high.reshape(self._scopes, 2).copy(),
            columns.reshape(_COLUMNS, self._count),
        )


def _nameless(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    fd, name = mkstemp(dir=folder)
    Path(name).unlink()
    return fd


def _order(entries: Entries, scopes: int) -> I64:
    scope = entries.scope.astype(np.int16) if scopes < _NARROW else entries.scope
    order = np.argsort(scope, kind="stable")
    hi, lo, same = entries.id_hi[order], entries.id_lo[order], np.diff(scope[order]) == 0
    rising = (hi[1:] > hi[:-1]) | ((hi[1:] == hi[:-1]) & (lo[1:] > lo[:-1]))
    if bool((rising | ~same).all()):
        return order
    return np.lexsort((entries.id_lo, entries.id_hi, entries.scope))
