"""What is wrong with the rows of one record batch, and how such a row is shown."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.tables.numbers import Faults, Mask


class Rows:
    """What is wrong with the rows of a batch: the first fault of each counts.

    Parameters
    ----------
    size : rows of the batch
    """

    def __init__(self, size: int) -> None:
        self._judged: npt.NDArray[np.int16] | None = None
        self._size = size
        # The reason "" is the filter's: such a row is neither good nor bad.
        self._names: list[tuple[str, str]] = [("ok", "")]

    def fault(self, mask: Mask, reason: str, field: str) -> None:
        """Note one fault of the rows of a mask."""
        if not mask.any():
            return
        if self._judged is None:
            self._judged = np.zeros(self._size, np.int16)
        self._judged[mask & (self._judged == 0)] = len(self._names)
        self._names.append((reason, field))

    def faults(self, faults: Faults, field: str) -> None:
        """Note several faults of one field, the weightiest first."""
        for mask, reason in faults:
            self.fault(mask, reason, field)

    def good(self) -> Mask | None:
        """Tell which rows are without fault; None if all are."""
        return None if self._judged is None else self._judged == 0

    def bad_places(self) -> npt.NDArray[np.int64]:
        """Return the places, from 0 and ascending, of rows for quarantine."""
        if self._judged is None:
            return np.zeros(0, np.int64)
        bad = np.array([reason not in ("ok", "") for reason, _ in self._names])
        return np.flatnonzero(bad[self._judged])

    def judgement(self, place: int) -> tuple[str, str]:
        """Return the reason and the field of the row's fault."""
        return ("ok", "") if self._judged is None else self._names[self._judged[place]]


def shown(column: Any) -> list[str | None]:
    """Return each value as text, for the raw bytes of a bad row."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    if not pa.types.is_floating(column.type) and not pa.types.is_decimal(column.type):
        found = column.cast(pa.string()).cast(pa.binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "replace") for text in found]
    return [None if value is None else str(value) for value in column.to_pylist()]
