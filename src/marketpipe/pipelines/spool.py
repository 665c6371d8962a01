"""Sessions that a long run has put aside, on disk, so that memory stays bounded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars.state import EngineState
from marketpipe.domain.schemas import BARS
from marketpipe.normalize import SessionIds

_Item = TypeVar("_Item", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Aside:
    state: EngineState
    until_ns: int
    dates: frozenset[int]


class SessionSpool:
    """Keeps detached bars, sealed ids and revisions in a folder.

    Parameters
    ----------
    folder : an empty folder of its own; the caller removes it
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bars: list[_Aside] = []
        self._ids: dict[int, SessionIds] = {}
        self._events: pa.ipc.RecordBatchStreamWriter | None = None
        self._count = 0

    # -- bars ----------------------------------------------------------------------------------

    def put(self, state: EngineState) -> None:
        """Put detached bars aside."""
        if not len(state.rows):
            return
        rows = self._store("bars", state.rows)
        aux = self._store("aux", state.aux) if len(state.aux) else state.aux
        self._bars.append(
            _Aside(
                replace(state, rows=rows, aux=aux),
                int(state.rows["confirm_at"].max()),
                frozenset(int(d) for d in np.unique(state.rows["session_date"])),
            )
        )

    def take_after(self, ts_ns: int) -> Iterator[EngineState]:
        """Yield, and forget, what was put aside and ends after an instant."""
        due = [aside for aside in self._bars if aside.until_ns > ts_ns]
        self._bars = [aside for aside in self._bars if aside.until_ns <= ts_ns]
        for aside in due:
            yield aside.state

    def dates(self) -> frozenset[int]:
        """Session dates of which there are bars here."""
        return frozenset().union(*(aside.dates for aside in self._bars))

    def of_date(self, date: int) -> Iterator[EngineState]:
        """Yield the bars of one session date; they stay here."""
        for aside in self._bars:
            if date in aside.dates:
                rows = aside.state.rows
                mine = np.flatnonzero(rows["session_date"] == date)
                aux = aside.state.aux
                yield replace(aside.state, rows=rows[mine], aux=aux[mine] if len(aux) else aux)

    # -- ids -----------------------------------------------------------------------------------

    def put_ids(self, sessions: tuple[SessionIds, ...]) -> None:
        """Put sealed ids aside."""
        for ids in sessions:
            self._ids[ids.date] = replace(
                ids,
                scope=self._store("scope", ids.scope),
                id_hi=self._store("id_hi", ids.id_hi),
                id_lo=self._store("id_lo", ids.id_lo),
                content=self._store("content", ids.content),
                row=self._store("row", ids.row),
            )

    def take_ids(self, dates: tuple[int, ...]) -> tuple[SessionIds, ...]:
        """Return, and forget, the ids of some dates."""
        return tuple(self._ids.pop(date) for date in dates if date in self._ids)

    # -- revisions -----------------------------------------------------------------------------

    def put_events(self, events: pa.Table) -> None:
        """Append revisions."""
        if not len(events):
            return
        if self._events is None:
            self._events = pa.ipc.new_stream(str(self._folder / "events.arrows"), BARS)
        self._events.write_table(events)

    def events(self) -> pa.Table:
        """Return every revision put here, in order, mapped from disk."""
        if self._events is None:
            return BARS.empty_table()
        self._events.close()
        with pa.memory_map(str(self._folder / "events.arrows")) as source:
            return pa.ipc.open_stream(source).read_all()

    def _store(self, name: str, array: npt.NDArray[_Item]) -> npt.NDArray[_Item]:
        if not len(array):
            return array
        self._count += 1
        path = self._folder / f"{self._count:06d}-{name}.npy"
        np.save(path, array)
        stored: npt.NDArray[_Item] = np.load(path, mmap_mode="r")
        return stored
