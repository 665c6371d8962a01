"""What a long run has put aside, on disk, so that memory stays bounded."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars.layout import AUX, I64_MIN, SLOT
from marketpipe.bars.ledger import join_slots
from marketpipe.bars.output import Records, Slots
from marketpipe.bars.state import EngineState
from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import BARS
from marketpipe.normalize import SessionIds

PIECE_BARS: Final = 1 << 17
"""Bars of one piece of the results: about 1 KiB each while they are a table and are hashed."""

_Item = TypeVar("_Item", bound=np.generic)
_Runs: TypeAlias = npt.NDArray[np.void]
_RUN: Final = np.dtype(
    [
        ("date", "<i4"),
        ("stream", "<i4"),
        ("count", "<i8"),
        ("row", "<i8"),
        ("aux", "<i8"),
        ("until", "<i8"),
    ]
)
"""Bars of one stream and session date that lie together: their places in the files of rows and of
aux records (-1: none), and the instant from which on no tick changes them."""


class SessionSpool:
    """Keeps detached bars, sealed ids and revisions in a folder.

    What is read comes by ordinary reads, piece by piece: a mapped file would count as memory in
    use for as long as it is mapped.

    Parameters
    ----------
    folder : an empty folder of its own; the caller removes it
    piece_bars : how many bars `pieces` reads at a time, more only where one stream has more on
        one session date
    """

    def __init__(self, folder: Path, piece_bars: int = PIECE_BARS) -> None:
        self._folder = folder
        self.piece_bars = piece_bars
        self._runs: _Runs = np.empty(0, _RUN)
        self._template: EngineState | None = None
        self._rows = self._aux = 0
        self._writer = ThreadPoolExecutor(1, "spool")  # writing need not hold up the engine
        self._writing: Future[None] | None = None
        self._ids: dict[int, SessionIds] = {}
        self._events: pa.ipc.RecordBatchStreamWriter | None = None
        self._count = 0

    # -- bars ----------------------------------------------------------------------------------

    @property
    def bars(self) -> int:
        """How many bars are here, hidden ones included."""
        return int(self._runs["count"].sum())

    @property
    def until_ns(self) -> int:
        """The instant from which on no tick changes a bar that is here."""
        return int(self._runs["until"].max(initial=I64_MIN))

    def put(self, state: EngineState) -> None:
        """Put detached bars aside, quickest where they stand by session date and stream."""
        rows, aux = state.rows, state.aux
        if not len(rows):
            return
        key = rows["session_date"].astype(np.int64) << 32 | rows["stream"]
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            rows, key, aux = rows[order], key[order], aux[order] if len(aux) else aux
        starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        runs = np.empty(len(starts), _RUN)
        runs["date"] = rows["session_date"][starts]
        runs["stream"] = rows["stream"][starts]
        runs["count"] = np.diff(starts, append=len(rows))
        runs["row"] = self._rows + starts
        runs["aux"] = self._aux + starts if len(aux) else -1
        runs["until"] = np.maximum.reduceat(rows["confirm_at"], starts)
        self.settle()
        self._writing = self._writer.submit(self._write, rows, aux)
        self._rows += len(rows)
        self._aux += len(aux)
        self._runs = np.concatenate([self._runs, runs])
        self._template = replace(state, rows=rows[:0].copy(), aux=aux[:0].copy())

    def take_after(self, first_ns: I64) -> Iterator[EngineState]:
        """Yield, and forget, the bars that may change from now on.

        Parameters
        ----------
        first_ns : per stream, the first instant (ns) of the ticks to come; the largest int64 for
            none. Streams beyond its end have none
        """
        known = self._runs["stream"] < len(first_ns)
        due = known.copy()
        due[known] = self._runs["until"][known] > first_ns[self._runs["stream"][known]]
        if due.any():
            taken, self._runs = self._runs[due], self._runs[~due]
            yield self._read(taken)

    def pieces(self, rank: I64) -> Iterator[EngineState]:
        """Yield all bars; they stay here.

        Piece by piece, sorted by session date and stream; what is of one stream and date is in
        one piece.

        Parameters
        ----------
        rank : per stream, its place among the streams
        """
        runs = self._runs[np.lexsort((rank[self._runs["stream"]], self._runs["date"]))]
        owner = runs[["date", "stream"]]
        starts = np.flatnonzero(np.concatenate([[len(runs) > 0], owner[1:] != owner[:-1]]))
        before = np.cumsum(runs["count"]) - runs["count"]
        piece = 0
        for start, stop in pairwise([*starts.tolist(), len(runs)]):
            if (
                start > piece
                and before[stop - 1] + runs["count"][stop - 1] - before[piece] > self.piece_bars
            ):
                yield self._read(runs[piece:start])
                piece = start
        if len(runs):
            yield self._read(runs[piece:])

    def _write(self, rows: Records, aux: Records) -> None:
        for path, records in ((self._rows_path, rows), (self._aux_path, aux)):
            with path.open("ab") as file:
                file.write(np.ascontiguousarray(records).view(np.uint8).data)

    def _read(self, runs: _Runs) -> EngineState:
        """Read runs back, in the order given."""
        self.settle()
        assert self._template is not None  # noqa: S101 - there are runs, so something was put
        parts: list[Slots] = []
        for bare in (True, False):
            mine = runs[(runs["aux"] < 0) == bare]
            if len(mine):
                rows = _gather(self._rows_path, SLOT, mine["row"], mine["count"])
                aux = None if bare else _gather(self._aux_path, AUX, mine["aux"], mine["count"])
                parts.append((rows, aux))
        rows, joined = join_slots(parts)
        return replace(
            self._template, rows=rows, aux=np.empty(0, AUX) if joined is None else joined
        )

    @property
    def _rows_path(self) -> Path:
        return self._folder / "bars.bin"

    @property
    def _aux_path(self) -> Path:
        return self._folder / "aux.bin"

    def settle(self) -> None:
        """Wait until what was put aside is in its files; before that, the folder must stay.

        Raises
        ------
        OSError
            If it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

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


def _gather(path: Path, kind: np.dtype[Any], starts: I64, counts: I64) -> Records:
    """Read stretches of a file of records, given in records, one after the other."""
    records: Records = np.empty(int(counts.sum()), kind)
    room = memoryview(records.view(np.uint8).data)
    at = 0
    with path.open("rb", buffering=0) as file:
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            size = count * kind.itemsize
            file.seek(start * kind.itemsize)
            if file.readinto(room[at : at + size]) != size:
                raise OSError(f"'{path}' is shorter than what was written to it")
            at += size
    return records
