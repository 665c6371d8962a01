"""A value per combination of dictionary codes, worked out once and then gathered.

Batches carry venues, tapes and conditions as int32 codes into dictionaries that only grow. What
depends on such codes is computed when a combination first appears; after that a batch costs
one look-up per row.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I32

DENSE_LIMIT: Final = 1 << 22
"""Combinations up to which a table of all of them is kept; past it, each batch is sorted."""


class CodeTable:
    """Look-up table over the codes of one source's dictionaries.

    The table empties itself when it meets dictionaries that do not continue those it knows.

    Parameters
    ----------
    compute : gives the value (0 to 2**31 - 1) of a combination of codes, one int per dictionary
    """

    def __init__(self, compute: Callable[..., int]) -> None:
        self._compute = compute
        self._dictionaries: tuple[tuple[Any, ...], ...] = ()
        self._values: npt.NDArray[np.int32] = np.full(0, -1, np.int32)

    def gather(
        self, columns: Sequence[I32 | None], dictionaries: Sequence[tuple[Any, ...]]
    ) -> npt.NDArray[np.int32]:
        """Look up each row's value.

        Parameters
        ----------
        columns : int32 codes, one column per dictionary, the first never None; None means code
            0 throughout
        dictionaries : what the codes mean; only their growth is looked at

        Returns
        -------
        int32, one per row
        """
        self._follow(tuple(dictionaries))
        shape = _capacities(self._dictionaries)
        keys = _keys(columns, shape)
        if prod(shape) > DENSE_LIMIT:
            distinct, inverse = np.unique(keys, return_inverse=True)
            sparse: npt.NDArray[np.int32] = self._computed(distinct, shape)[inverse]
            return sparse
        values = self._values.ravel()
        found: npt.NDArray[np.int32] = values[keys]
        if found.size and found.min() < 0:
            missing = np.unique(keys[found < 0])
            values[missing] = self._computed(missing, shape)
            found = values[keys]
        return found

    def _computed(self, keys: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
        codes = np.stack(np.unravel_index(keys, shape), axis=-1).tolist()
        return np.array([self._compute(*row) for row in codes], np.int32)

    def _follow(self, dictionaries: tuple[tuple[Any, ...], ...]) -> None:
        """Make room for dictionaries that have grown, or forget those of another source."""
        known = self._dictionaries
        if all(new is old for new, old in zip(dictionaries, known, strict=False)) and known:
            return
        continues = bool(known) and all(
            new[: len(old)] == old for new, old in zip(dictionaries, known, strict=True)
        )
        shape = _capacities(dictionaries)
        self._dictionaries = dictionaries
        if continues and shape == self._values.shape:
            return
        grown = np.full(shape if prod(shape) <= DENSE_LIMIT else (0,) * len(shape), -1, np.int32)
        if continues and grown.size:
            grown[tuple(slice(0, n) for n in self._values.shape)] = self._values
        self._values = grown


def _capacities(dictionaries: tuple[tuple[Any, ...], ...]) -> tuple[int, ...]:
    return tuple(1 << (len(d) - 1).bit_length() if d else 1 for d in dictionaries)


def _keys(columns: Sequence[I32 | None], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Give each row's combination of codes a number, in row-major order of ``shape``."""
    narrow = prod(shape) <= np.iinfo(np.int32).max
    keys: npt.NDArray[Any] | None = None
    for axis, column in enumerate(columns):
        if column is None:
            continue
        stride = prod(shape[axis + 1 :])
        part = column if narrow else column.astype(np.int64)
        part = part if stride == 1 else part * part.dtype.type(stride)
        keys = part if keys is None else keys + part
    if keys is None:
        raise ValueError("columns were all None; the first is needed for the number of rows")
    return keys
