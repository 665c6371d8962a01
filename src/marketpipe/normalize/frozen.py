"""Identities that no longer change, sorted, in a file without a name.

A run keeps every id whole, so nothing is taken for what it is not. In memory are, by scope, where
its ids begin and the least and the greatest of them: vendors count upwards, so a new id is above
all bounds and the file is not looked at. A file is mapped only while ids are looked up in it.
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


class FrozenRun:
    """Some identities of a session date, sorted by scope and id, on disk.

    Parameters
    ----------
    entries : all distinct
    scopes : codes of scopes are below this number
    folder : where the file is made; it takes 40 bytes an id, has no name, and is gone when the
        run is, or the process, however it ends

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, entries: Entries, scopes: int, folder: Path) -> None:
        order = _order(entries, scopes)
        self._count = len(order)
        self._starts = np.searchsorted(entries.scope[order], np.arange(scopes + 1)).astype(np.int64)
        columns = (entries.id_hi, entries.id_lo, entries.content.view(np.int64), entries.row)
        sorted_ids = [column[order] for column in columns[:2]]
        self.low, self.high = np.empty((scopes, 2), np.int64), np.empty((scopes, 2), np.int64)
        kernel.bounds(self._starts, *sorted_ids, self.low, self.high)
        self._fd = _nameless(folder)
        self.close = weakref.finalize(self, os.close, self._fd)
        """Give the file back; otherwise that happens with the run's end."""
        with os.fdopen(self._fd, "wb", closefd=False) as file:
            for column in (*sorted_ids, *(c[order] for c in columns[2:]), order):
                file.write(np.ascontiguousarray(column, np.int64).data)

    def __len__(self) -> int:
        return self._count

    def find(self, rows: I64, scope: I32, id_hi: I64, id_lo: I64) -> Hits:
        """Look batch positions up; those that are not there are not in the answer."""
        near = kernel.within(rows, scope, id_hi, id_lo, self.low, self.high)
        if not len(near):
            none = np.zeros(0, np.int64)
            return Hits(none, none.view(np.uint64), none)
        columns = self._columns()
        found = np.empty(len(near), np.int64)
        kernel.search(near, scope, id_hi, id_lo, self._starts, columns[_HI], columns[_LO], found)
        here = found >= 0
        places = found[here]
        return Hits(near[here], columns[_CONTENT][places].view(np.uint64), columns[_ROW][places])

    def entries(self) -> Entries:
        """Read everything back, in order of arrival."""
        columns = self._columns()
        scope = np.repeat(np.arange(len(self.low), dtype=np.int32), np.diff(self._starts))
        order = np.argsort(columns[_PLACE])
        return Entries(
            scope[order],
            columns[_HI][order],
            columns[_LO][order],
            columns[_CONTENT][order].view(np.uint64),
            columns[_ROW][order],
        )

    def _columns(self) -> I64:
        # Mapped anew each time: pages that were looked at do not stay in memory.
        mapped = mmap.mmap(self._fd, _COLUMNS * 8 * self._count, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.int64).reshape(_COLUMNS, self._count)


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
