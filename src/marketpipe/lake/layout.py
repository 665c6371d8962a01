"""Where the tables of the lake are, their columns, partitions and order."""

import re
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain import schemas
from marketpipe.domain.buckets import BUCKETS, bucket_of
from marketpipe.domain.records import STORED
from marketpipe.errors import LakeError

DAY_NS: Final = 86_400_000_000_000

_UNUSABLE: Final = re.compile(r"[\[\]]|%[0-9A-Fa-f]{2}")
_BUCKET: Final = pa.field("bucket", pa.int32(), nullable=False)
_RECEIVED_DATE: Final = pa.field("received_date", pa.date32(), nullable=False)
_ORDER: Final = ("symbol", "ts_event", "key_major", "key_mid", "key_minor")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """What a table of the lake is made of.

    Attributes
    ----------
    name : ``raw``, a kind of canonical record, ``bars`` or ``quarantine``
    folder : relative to the lake's root
    rows : columns that are appended; the lake adds those of ``partition_by`` that it lacks
    partition_by : columns that name the folders; the one of type date32 is the day
    sort_by : order of the rows within a file, ascending
    append_only : whether the table itself refuses deletes
    """

    name: str
    folder: str
    rows: pa.Schema
    partition_by: tuple[str, ...]
    sort_by: tuple[str, ...]
    append_only: bool = False

    @property
    def schema(self) -> pa.Schema:
        """All columns of the table: those of ``rows``, then the partition columns added."""
        added = [f for f in (_RECEIVED_DATE, _BUCKET) if f.name in self.partition_by]
        return pa.schema(
            [*self.rows, *(f for f in added if f.name not in self.rows.names)],
            metadata=self.rows.metadata,
        )

    @property
    def file_schema(self) -> pa.Schema:
        """The columns inside the files: all but the partition columns."""
        return pa.schema([f for f in self.schema if f.name not in self.partition_by])

    @property
    def date_column(self) -> str:
        """The partition column that holds the day."""
        return next(n for n in self.partition_by if n in ("session_date", "received_date"))

    @property
    def version(self) -> int:
        """Version of the schema."""
        return schemas.schema_version(self.rows)

    def with_rows(self, rows: pa.Schema) -> "TableSpec":
        """Return the same table with other columns."""
        return replace(self, rows=rows)


def _canonical(kind: str) -> TableSpec:
    return TableSpec(
        name=kind,
        folder=f"canonical/{kind}",
        rows=schemas.CANONICAL[kind],
        partition_by=("session_date", "bucket"),
        # The levels of one message of a book share their key.
        sort_by=(*_ORDER, "level") if kind == "book" else _ORDER,
    )


TABLES: Final = {
    spec.name: spec
    for spec in (
        TableSpec(
            name="raw",
            folder="raw",
            rows=STORED,
            partition_by=("source", "received_date", "bucket"),
            sort_by=("journal_id", "offset"),
            append_only=True,
        ),
        *map(_canonical, schemas.CANONICAL),
        TableSpec(
            name="bars",
            folder="bars",
            rows=schemas.BARS,
            partition_by=("session_date", "bucket"),
            sort_by=("symbol", "timeframe", "ts_open", "revision"),
        ),
        TableSpec(
            name="quarantine",
            folder="quarantine",
            rows=schemas.QUARANTINE,
            partition_by=("received_date",),
            sort_by=("journal_id", "offset"),
        ),
    )
}
"""Every table of the lake, by name."""


@dataclass(frozen=True, slots=True)
class LakeLayout:
    """The tables of the lake in one folder.

    Attributes
    ----------
    root : the lake's folder, ``<data>/lake``; made when a table is
    buckets : instrument buckets of *new* tables; a table keeps the number it was made with
    """

    root: Path
    buckets: int = BUCKETS

    def __post_init__(self) -> None:
        if self.buckets < 1:
            raise LakeError(f"buckets was '{self.buckets}'; valid is 1 or more; {BUCKETS} is usual")
        if _UNUSABLE.search(str(self.root.absolute())):
            raise LakeError(
                f"lake: was '{self.root.absolute()}'; Delta cannot keep tables below a folder with "
                "[, ] or an escape such as %20 in its name; choose another"
            )

    def spec(self, name: str) -> TableSpec:
        """Return what a table is made of.

        Raises
        ------
        LakeError
            If the lake has no table of that name.
        """
        if name not in TABLES:
            raise LakeError(f"table was {name!r}; valid are {', '.join(TABLES)}; choose one")
        return TABLES[name]

    def path(self, name: str) -> Path:
        """Return the folder of a table, absolute."""
        return self.root.absolute() / self.spec(name).folder

    def exists(self, name: str) -> bool:
        """Whether the table was made already."""
        return (self.path(name) / "_delta_log").is_dir()


def with_partitions(rows: pa.Table, spec: TableSpec, buckets: int) -> pa.Table:
    """Add the partition columns that the rows lack.

    Parameters
    ----------
    rows : columns of ``spec.rows``, without nulls in ``symbol`` and ``ts_recv``
    buckets : instrument buckets of the table

    Returns
    -------
    The columns of ``spec.schema``: ``received_date`` is the UTC date of ``ts_recv``, ``bucket``
    that of ``symbol``.
    """
    missing = [name for name in spec.schema.names if name not in rows.column_names]
    for name in missing:
        column = _received_dates(rows) if name == "received_date" else _buckets(rows, buckets)
        rows = rows.append_column(spec.schema.field(name), column)
    return rows


def partitioned_order(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """Sort by partition, then by ``spec.sort_by``; rows that tie keep their order."""
    return in_order(rows, (*spec.partition_by, *spec.sort_by))


def in_order(rows: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """Sort by the columns, ascending; rows that tie keep their order."""
    keys = pl.from_arrow(rows.select(list(dict.fromkeys(columns))))
    if not isinstance(keys, pl.DataFrame) or rows.num_rows < 2:
        return rows
    # The row number settles ties and makes the sort stable.
    place = keys.with_row_index("").select(pl.arg_sort_by([*keys.columns, ""])).to_series()
    indices = place.to_numpy()
    if bool(np.all(indices[1:] > indices[:-1])):
        return rows
    return rows.take(pa.array(indices))


def day_of(ts_ns: int) -> date:
    """Return the UTC date of an instant, in ns since the epoch."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + ts_ns // DAY_NS)


def _received_dates(rows: pa.Table) -> pa.Array:
    days = rows["ts_recv"].to_numpy() // DAY_NS
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def _buckets(rows: pa.Table, buckets: int) -> pa.Array:
    # Each distinct symbol is hashed once.
    coded = pa.chunked_array([pa.concat_arrays(rows["symbol"].chunks)] if rows.num_rows else [[]])
    coded = coded.cast(pa.string()).combine_chunks().dictionary_encode()
    numbers = [bucket_of(symbol, buckets) for symbol in coded.dictionary.to_pylist()]
    return pc.take(pa.array(numbers, pa.int32()), coded.indices)
