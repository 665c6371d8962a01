"""Tables in someone else's program, on their way into the engine."""

from typing import Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from marketpipe.domain.batches import BATCH_ROWS, Batch
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
        self._price_type = price_type
        self._reader: TableReader | None = None
        self.findings = Findings()

    def read(self, table: Columnar) -> list[Ticks]:
        """Return the admitted ticks of a table, in batches.

        Raises
        ------
        InputError
            If it is no table, not of ticks, of other columns than the one before, or damaged.
        """
        table = _arrow_table(table)
        reader = self._reader_of(table.schema)
        ticks = []
        try:
            chosen = table.select(reader.needed).combine_chunks()
            for part in chosen.to_batches(max_chunksize=BATCH_ROWS):
                ticks += [self._admit(batch) for batch in reader.read(part)]
        except pa.ArrowException as error:
            raise InputError(
                f"ticks: the table is damaged: {error}. Arrow's table.validate(full=True) says more"
            ) from error
        return ticks

    def _reader_of(self, schema: pa.Schema) -> TableReader:
        if self._reader is not None:
            self._reader.accept(schema)
            return self._reader
        reader = TableReader(schema, where="ticks", default_source="local", default_feed="")
        if (reader.kind == "trades") != (self._price_type == "trade"):
            fits = "trade" if reader.kind == "trades" else "bid, ask or mid"
            raise InputError(
                f"ticks: the table holds {reader.kind} and price_type was '{self._price_type}'; "
                f"make an engine whose price_type is {fits}"
            )
        self._reader = reader
        return reader

    def _admit(self, batch: Batch) -> Ticks:
        done = self._normalizer.apply(batch)
        self.findings += done.findings
        return done.ticks


def _arrow_table(table: Columnar) -> pa.Table:
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if not isinstance(table, pa.Table) and isinstance(table, Frame):
        table = table.to_arrow()
    if not isinstance(table, pa.Table):
        raise InputError(
            f"ticks: was a {type(table).__name__}; expected an Arrow table or record batch, a "
            "Polars frame, or marketpipe.domain.ticks.Ticks"
        )
    return table
