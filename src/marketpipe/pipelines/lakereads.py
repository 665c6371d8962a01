"""Rows of the lake's tables as Arrow tables, pruned by partition: for stages, not for users."""

from collections.abc import Collection
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.buckets import bucket_of
from marketpipe.lake import LakeTable
from marketpipe.lake.faults import told_as_ours

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

    Raises
    ------
    LakeError
        If a file is missing or cannot be read; `marketpipe.lake.LakeTable.check` names it.
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
    where = None
    for part in parts:
        where = part if where is None else where & part
    with told_as_ours(f"reading table {table.spec.name} at {table.path}"):
        dataset = ds.dataset(
            files,
            schema=schema,
            format="parquet",
            # a bare pyarrow dataset of a Delta table can abort the process at its exit
            filesystem=pafs.LocalFileSystem(),
            partitioning=ds.partitioning(keys, flavor="hive"),
        )
        found = dataset.to_table(columns=table.spec.rows.names, filter=where)
    return found.cast(table.spec.rows)


def live_spans(
    trades: LakeTable, streams: Collection[StreamKey], loads: str
) -> dict[StreamKey, tuple[int, int]]:
    """Return when feeds had the first and the last trade (ts_event, ns) of some streams.

    Streams without one are not in the result.

    Parameters
    ----------
    loads : name of the journal that is no feed's
    """
    symbols = sorted({stream.symbol for stream in streams})
    buckets = sorted({bucket_of(symbol, trades.buckets) for symbol in symbols})
    files = trades.files([("bucket", "in", buckets)]) if buckets else []
    if not files:
        return {}
    found = (
        pl.scan_parquet(files, hive_partitioning=False)
        .filter(pl.col("symbol").is_in(symbols) & (pl.col("journal_id") != loads))
        .group_by("source", "feed", "symbol")
        .agg(first=pl.col("ts_event").min(), last=pl.col("ts_event").max())
        .collect()
    )
    return {StreamKey(*row[:3]): (row[3], row[4]) for row in found.iter_rows()}
