"""Rows of the lake's tables as Arrow tables, pruned by partition: for stages, not for users."""

from collections.abc import Collection
from datetime import date, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from marketpipe.domain.buckets import bucket_of
from marketpipe.lake import LakeTable

_EPOCH = date(1970, 1, 1)


class Days(NamedTuple):
    """Session dates, days since 1970-01-01, both inclusive."""

    first: int
    last: int


def read_rows(
    table: LakeTable,
    days: Days | None = None,
    symbols: Collection[str] | None = None,
    condition: ds.Expression | None = None,
) -> pa.Table:
    """Return rows of a table in its row schema, in no order.

    Parameters
    ----------
    days : of partitions by session date; None for all
    symbols : None for all
    condition : on any column
    """
    predicate: list[tuple[str, str, date | list[int]]] = []
    parts = [] if condition is None else [condition]
    if days is not None:
        first, last = (_EPOCH + timedelta(days=day) for day in days)
        predicate += [("session_date", ">=", first), ("session_date", "<=", last)]
        parts.append((ds.field("session_date") >= first) & (ds.field("session_date") <= last))
    if symbols is not None:
        buckets = sorted({bucket_of(symbol, table.buckets) for symbol in symbols})
        predicate.append(("bucket", "in", buckets))
        parts.append(ds.field("symbol").isin(sorted(symbols)))
    schema = table.spec.schema
    files = table.files(predicate)
    if not files:
        return table.spec.rows.empty_table()
    keys = pa.schema([schema.field(name) for name in table.spec.partition_by])
    dataset = ds.dataset(
        files,
        schema=schema,
        format="parquet",
        # a bare pyarrow dataset of a Delta table can abort the process at its exit
        filesystem=pafs.LocalFileSystem(),
        partitioning=ds.partitioning(keys, flavor="hive"),
    )
    where = None
    for part in parts:
        where = part if where is None else where & part
    found = dataset.to_table(columns=table.spec.rows.names, filter=where)
    return found.cast(table.spec.rows)
