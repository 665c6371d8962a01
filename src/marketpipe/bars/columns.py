"""Tables in someone else's program, on their way into the engine."""

from typing import Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from marketpipe.domain.findings import Findings
from marketpipe.domain.tables import TableReader
from marketpipe.domain.ticks import Ticks
from marketpipe.errors import InputError
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.normalize.identity import SessionDates


@runtime_checkable
class Frame(Protocol):
    """A data frame that can become an Arrow table, as those of Polars can."""

    def to_arrow(self) -> pa.Table:
        """Return its columns as an Arrow table."""


Columnar: TypeAlias = pa.Table | pa.RecordBatch | Frame


class TickReader:
    """Turns tables into admitted ticks: the tick files' columns, then the normalizer.

    Attributes
    ----------
    findings : what the normalizer has found so far
    """

    def __init__(self, rule_set: RuleSet, price_type: str, session_dates: SessionDates) -> None:
        self._normalizer = TickNormalizer(
            rule_set=rule_set, price_type=price_type, session_dates=session_dates
        )
        self._reader: TableReader | None = None
        self._names: list[str] = []
        self._rows = 0
        self.findings = Findings()

    def read(self, table: Columnar) -> list[Ticks]:
        """Return the admitted ticks of a table, in batches.

        Raises
        ------
        InputError
            If it is no table, or not of ticks.
        """
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        elif not isinstance(table, pa.Table):
            if not isinstance(table, Frame):
                raise InputError(
                    f"ticks: was a {type(table).__name__}; expected an Arrow table or record "
                    "batch, a Polars frame, or marketpipe.domain.ticks.Ticks"
                )
            table = table.to_arrow()
        if self._reader is None:
            self._reader = TableReader(table.schema, where="ticks", default_source="local")
            self._names = table.schema.names
        elif sorted(table.schema.names) != sorted(self._names):
            raise InputError(
                f"ticks: the columns were {table.schema.names}, before they were {self._names}; "
                "give one engine tables of one form"
            )
        out = []
        for batch in table.combine_chunks().to_batches():
            done = self._normalizer.apply(self._reader.read(batch, self._rows + 1))
            self._rows += len(batch)
            self.findings += done.findings
            out.append(done.ticks)
        return out

