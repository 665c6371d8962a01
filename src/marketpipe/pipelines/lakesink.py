"""Everything derived, and the records themselves, on their way into the lake."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import CANONICAL
from marketpipe.lake import LakeTable
from marketpipe.pipelines.derive import Derived

TABLES: Final = ("raw", *CANONICAL, "quarantine", "bars")
"""In the order in which they are written: a row's raw message is there before the row is."""


class LakeSink:
    """Collects rows and appends them to the lake, exactly once.

    Parameters
    ----------
    tables : the tables, by name
    writer : name of the writer, unique to the pipeline and its journal
    at_boundary : called before and after each table is written
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
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
        self._bar_offsets: list[I64] = []
        self.waiting = 0
        self._through = -1

    def add(self, records: pa.Table, derived: Derived) -> None:
        """Put records and what was derived of them in line."""
        for name, table in (("raw", records), *derived.tables.items(), ("bars", derived.bars)):
            if len(table):
                self._rows[name].append(table)
                self.waiting += len(table)
        self._bar_offsets.append(derived.bar_offsets)
        self._through = derived.through

    def flush(self) -> int:
        """Append what is in line; return the offset (inclusive) that the lake now goes to.

        Raises
        ------
        LakeError, FullError
            If a table cannot be written: what is in line stays there, and nothing is doubled
            when it is tried again.
        """
        for name in TABLES:
            waiting = self._rows[name]
            if not waiting:
                continue
            rows = pa.concat_tables(waiting)
            offsets = np.concatenate(self._bar_offsets) if name == "bars" else None
            self._at_boundary(f"{name}:before")
            self._tables[name].append(
                rows, app_id=f"{self._writer}/{name}", through=self._through, offsets=offsets
            )
            self._at_boundary(f"{name}:after")
            self._rows[name] = []
        self._bar_offsets = []
        self.waiting = 0
        return self._through

    def mark(self, through: int) -> None:
        """Note in every table that it has all rows up to an offset, those without any row too."""
        for name, table in self._tables.items():
            self._at_boundary(f"{name}:mark")
            table.append(
                table.spec.rows.empty_table(),
                app_id=f"{self._writer}/{name}",
                through=through,
                mark=True,
            )

    def versions(self) -> dict[str, int | None]:
        """Return how far each table has come."""
        return {
            name: table.version_of(f"{self._writer}/{name}") for name, table in self._tables.items()
        }
