"""Bar events in columns: what one call to the engine confirmed and revised."""

from collections.abc import Iterator, Sequence
from decimal import Context
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars.layout import AUX, OPEN, blank_aux
from marketpipe.bars.output import Naming, Records, to_table
from marketpipe.domain.bars import BarEvent, EventKind, OHLCVBar
from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import BARS

_NANO_SCALED = {"open", "high", "low", "close", "volume", "vwap", "official_open", "official_close"}
_EXACT = Context(prec=60)
_NOTHING: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class BarEvents:
    """Confirmed and revised bars in the order they became so; a sequence of `BarEvent`.

    Nothing is converted until it is asked for.
    """

    __slots__ = ("_aux", "_naming", "_rows", "_watermarks")

    def __init__(
        self,
        rows: Records,
        aux: Records | None,
        naming: Naming | None,
        watermarks: I64 = _NOTHING,
    ) -> None:
        self._rows, self._aux, self._naming, self._watermarks = rows, aux, naming, watermarks

    @classmethod
    def join(cls, parts: Sequence["BarEvents"]) -> "BarEvents":
        """Put the events of one engine together, in the order given."""
        full = [part for part in parts if len(part)]
        if len(full) < 2:
            return full[0] if full else NO_EVENTS
        auxes = [_neutral(part) if part._aux is None else part._aux for part in full]
        used = any(part._aux is not None for part in full)
        last = full[-1]
        return cls(
            np.concatenate([part._rows for part in full]),
            np.concatenate(auxes) if used else None,
            last._naming,
            last._watermarks,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[BarEvent]:
        for kind, bar in zip(self.kinds(), bars_of(self.to_arrow()), strict=True):
            yield BarEvent(kind, bar)

    def kinds(self) -> list[EventKind]:
        """Return each event's kind."""
        return [_kind(r["status"], r["revision"]) for r in self._rows]

    def to_arrow(self) -> pa.Table:
        """Return the bars as a table of the schema `BARS`, one row per event."""
        if self._naming is None:
            return BARS.empty_table()
        return to_table(self._rows, self._aux, self._naming, self._watermarks)


def _neutral(part: BarEvents) -> Records:
    return blank_aux(np.empty(len(part), AUX))


NO_EVENTS = BarEvents(np.zeros(0, np.int8), None, None)


def _kind(status: int, revision: int) -> EventKind:
    if status == OPEN:
        return "forming"
    return "confirmed" if revision == 0 else "revised"


def bars_of(table: pa.Table) -> Iterator[OHLCVBar]:
    """Turn a table of the schema `BARS` into values, row by row.

    Prices, volumes and notionals become integers of their last decimal place.
    """
    for row in table.to_pylist():
        yield OHLCVBar(**{name: _plain(name, value) for name, value in row.items()})


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _NANO_SCALED:
        return int(value.scaleb(9, _EXACT))
    if name == "notional":
        return int(value.scaleb(18, _EXACT))
    if name == "session_date":
        return int(np.datetime64(value, "D").astype(np.int64))
    return value
