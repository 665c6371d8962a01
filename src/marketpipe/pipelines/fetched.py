"""Which of the last records were fetched from a history, so that their repeats are known."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64

_REACH: Final = 1 << 20


class Fetched:
    """Runs of offsets ``[first, last]`` whose records came to fill a gap.

    Parameters
    ----------
    runs : as `save` returned them

    Attributes
    ----------
    reach : so many records after it was fetched a trade or quote may come by the stream, which was
        slower
    """

    reach = _REACH

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._runs = [(first, last) for first, last in runs]
        self._end = 0

    def note(self, offsets: I64, fills: npt.NDArray[np.bool_] | None) -> None:
        """Take note of the next records, and forget what is out of their reach."""
        if not len(offsets):
            return
        self._runs, self._end = self._reached(int(offsets[0])), int(offsets[-1]) + 1
        if fills is None:
            return
        edges = np.flatnonzero(np.diff(np.concatenate(([False], fills, [False]))))
        firsts, lasts = offsets[edges[::2]].tolist(), offsets[edges[1::2] - 1].tolist()
        if self._runs and firsts and self._runs[-1][1] + 1 == firsts[0]:
            firsts[0] = self._runs.pop()[0]
        self._runs += zip(firsts, lasts, strict=True)

    def _reached(self, offset: int) -> list[tuple[int, int]]:
        return [run for run in self._runs if run[1] + self.reach >= offset]

    def among(self, offsets: I64) -> npt.NDArray[np.bool_]:
        """Tell which offsets are of fetched records."""
        if not self._runs:
            return np.zeros(len(offsets), np.bool_)
        firsts, lasts = (np.array(column, np.int64) for column in zip(*self._runs, strict=True))
        at = np.searchsorted(firsts, offsets, side="right") - 1
        found: npt.NDArray[np.bool_] = (at >= 0) & (offsets <= lasts[np.maximum(at, 0)])
        return found

    def __bool__(self) -> bool:
        return bool(self._runs)

    def save(self) -> list[tuple[int, int]]:
        """Return the state as a value that JSON can hold; no cut of the journal shows in it."""
        return self._reached(self._end)
