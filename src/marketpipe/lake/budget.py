"""How much disk the lake uses, and the limit set for it."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from marketpipe.errors import FullError, LakeError
from marketpipe.lake.layout import TABLES, LakeLayout

PIECE_BYTES: Final = 16 << 20
"""An append of up to this many bytes, in memory, is not cut any smaller to fit."""


def usage(layout: LakeLayout) -> dict[str, int]:
    """Return the bytes on disk by table, of tables that exist; files not yet vacuumed count."""
    return {name: _bytes_below(layout.path(name)) for name in TABLES if layout.exists(name)}


class DiskBudget:
    """A limit for the whole lake, checked before anything is written.

    The folder is measured again when what was written since might have reached the limit, so an
    append does not cost a walk over all files. How small rows become in a file is known only
    afterwards, so they are counted as they are in memory; an append for which that is too much is
    written in pieces, with a measurement in between, as long as they fit.

    Parameters
    ----------
    layout : the lake
    limit_bytes : most bytes that its tables may take, in all
    piece_bytes : bytes in memory up to which rows are not cut

    Raises
    ------
    LakeError
        If the limit is not above 0.
    """

    def __init__(
        self, layout: LakeLayout, limit_bytes: int, *, piece_bytes: int = PIECE_BYTES
    ) -> None:
        if limit_bytes <= 0:
            raise LakeError(f"disk_budget_bytes was '{limit_bytes}'; valid is above 0; or set none")
        self._layout = layout
        self._limit = limit_bytes
        self._piece = piece_bytes
        self._used = limit_bytes

    def admit(self, size_bytes: int) -> None:
        """Take note of ``size_bytes`` about to be written (as in memory; files are smaller).

        Raises
        ------
        FullError
            If they could take the lake past its limit; nothing was written.
        """
        if not self._fits(size_bytes):
            raise FullError(
                f"disk_budget_bytes was '{self._limit}', the lake uses {self._used} bytes and up "
                f"to {size_bytes} were to be added; raise the budget, drop old days, or compact "
                "and vacuum; nothing of them was written"
            )
        self._used += size_bytes

    def cut(self, size_bytes: int, offsets: npt.NDArray[np.int64]) -> int | None:
        """Return where to cut an append in two that may not fit whole; None to leave it whole.

        Parameters
        ----------
        offsets : of its rows, in any order

        Returns
        -------
        The last offset (inclusive) of the first part; the other part is not empty.
        """
        if size_bytes <= self._piece or self._fits(size_bytes):
            return None
        below = offsets[offsets < offsets.max()]
        half = len(offsets) // 2
        return int(np.partition(offsets, half)[half].clip(max=below.max())) if len(below) else None

    def _fits(self, size_bytes: int) -> bool:
        if self._used + size_bytes > self._limit:
            self._used = sum(usage(self._layout).values())
        return self._used + size_bytes <= self._limit


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # vacuumed between listing and looking
            continue
    return total
