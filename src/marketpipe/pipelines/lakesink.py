"""Everything derived, and the records themselves, on their way into the lake."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import CANONICAL
from marketpipe.lake import LakeTable
from marketpipe.pipelines.derive import Derived
from marketpipe.pipelines.lakeorder import lake_order

TABLES: Final = ("raw", *CANONICAL, "quarantine", "bars")
"""In the order in which they are written: a row's raw message is there before the row is."""


@dataclass(slots=True)
class _Line:
    """Rows in line, all of them up to the offset ``through`` (inclusive)."""

    rows: dict[str, list[pa.Table]] = field(default_factory=lambda: {name: [] for name in TABLES})
    bar_offsets: list[I64] = field(default_factory=list)
    waiting: int = 0
    through: int = -1
    mark: bool = False


class LakeSink:
    """Collects rows and appends them to the lake, exactly once.

    Rows may be added in one thread while another one flushes what was there before.

    Parameters
    ----------
    tables : the tables, by name
    writer : name of the writer, unique to the pipeline and its journal
    at_boundary : called before and after each table is written

    Attributes
    ----------
    locks : by table, held while it is written; a table serves one thread at a time, and who
        reads one of ``tables`` holds its lock
    """

    def __init__(
        self,
        tables: Mapping[str, LakeTable],
        writer: str,
        at_boundary: Callable[[str], None],
    ) -> None:
        self._at_boundary = at_boundary
        self._tables = tables
        self._writer = writer
        self.locks = {name: threading.Lock() for name in tables}
        self._line = _Line()
        self._leaving: list[_Line] = []

    @property
    def waiting(self) -> int:
        """Rows that no flush has taken yet."""
        return self._line.waiting

    def add(self, records: pa.Table, derived: Derived) -> None:
        """Put records and what was derived of them in line."""
        line = self._line
        for name, table in (("raw", records), *derived.tables.items(), ("bars", derived.bars)):
            if len(table):
                line.rows[name].append(table)
                line.waiting += len(table)
        line.bar_offsets.append(derived.bar_offsets)
        line.through = derived.through

    def close_line(self, mark_through: int | None = None) -> None:
        """Let the next flush take what is in line now, and nothing that is added later.

        Parameters
        ----------
        mark_through : offset that every table is then to say it goes to, with rows or without;
            that of the last row in line, if there is one
        """
        if mark_through is not None:
            self._line.through, self._line.mark = mark_through, True
        if self._line.waiting or self._line.mark:
            self._leaving.append(self._line)
            self._line = _Line()

    def flush(self) -> int:
        """Append what was in line at `close_line`; return the offset (inclusive) reached.

        The offset is that of the last flush that had rows, -1 if there was none.

        Raises
        ------
        LakeError, FullError
            If a table cannot be written: what is in line stays there, and nothing is doubled
            when it is tried again.
        """
        through = -1
        while self._leaving:
            self._write(self._leaving[0])
            through = self._leaving.pop(0).through
        return through

    def _write(self, line: _Line) -> None:
        for name in TABLES:
            if not line.rows[name]:
                if line.mark:
                    self._mark(name, line.through)
                continue
            rows, offsets = self._ordered(name, line)
            self._at_boundary(f"{name}:before")
            with self.locks[name]:
                self._tables[name].append(
                    rows, app_id=f"{self._writer}/{name}", through=line.through, offsets=offsets
                )
                line.rows[name] = []
            self._at_boundary(f"{name}:after")

    def _mark(self, name: str, through: int) -> None:
        table = self._tables[name]
        with self.locks[name]:
            none = table.spec.rows.empty_table()
            table.append(none, app_id=f"{self._writer}/{name}", through=through, mark=True)

    def _ordered(self, name: str, line: _Line) -> tuple[pa.Table, I64 | None]:
        table = self._tables[name]
        rows = pa.concat_tables(line.rows[name])
        offsets = np.concatenate(line.bar_offsets) if name == "bars" else None
        order = lake_order(rows, table.spec, table.buckets)
        if order is None:
            return rows, offsets
        # In one piece: Arrow gathers from many far slower. The rows as they came are let go of.
        rows = rows.combine_chunks().take(pa.array(order))
        line.rows[name] = [rows]
        if offsets is not None:
            offsets = offsets[order]
            line.bar_offsets = [offsets]
        return rows, offsets

    def holding(
        self, name: str, read: Callable[[LakeTable], pa.Table]
    ) -> tuple[pa.Table, list[pa.Table]]:
        """Return what is read of a table, and the rows that wait to be appended to it."""
        with self.locks[name]:
            waiting = [rows for line in (*self._leaving, self._line) for rows in line.rows[name]]
            return read(self._tables[name]), waiting

    def versions(self) -> dict[str, int | None]:
        """Return how far each table has come."""
        return {
            name: table.version_of(f"{self._writer}/{name}") for name, table in self._tables.items()
        }
