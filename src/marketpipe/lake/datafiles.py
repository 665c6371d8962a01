"""Parquet files of a table, as they are written, and what its log is told of them.

Rows are written here and only committed by the library below, whose own writer takes more than
twice the CPU for the same rows, and whose files are larger (decision 16 has the figures).
"""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from marketpipe.lake.layout import TableSpec

Compression: TypeAlias = Literal["zstd", "snappy", "lz4"]
Action: TypeAlias = AddAction | RemoveAction

COMPRESSIONS: Final[tuple[Compression, ...]] = ("zstd", "snappy", "lz4")
ROW_GROUP: Final = 65_536

_LONGEST_TEXT: Final = 32
_UNIQUE: Final = "trade_id"
_PACKED: Final = (pa.int32(), pa.int64())
_COUNTED: Final = (pa.int16(), pa.int32(), pa.int64())


class LiveFile(NamedTuple):
    """A file of a table's snapshot.

    ``path`` is as on disk, relative to the table (the log percent-encodes it once more);
    ``partition`` holds the values of the partition columns as the log has them.
    """

    path: str
    size_bytes: int
    rows: int
    partition: tuple[tuple[str, str], ...]


class Written(NamedTuple):
    """A file that nobody sees before ``action`` is committed."""

    file: LiveFile
    action: AddAction


def write_partitions(
    table: Path, rows: pa.Table, spec: TableSpec, compression: Compression
) -> list[Written]:
    """Write rows to one new file for each partition that they are of.

    Parameters
    ----------
    rows : columns of ``spec.schema``, by partition

    Raises
    ------
    OSError
        If a file cannot be written; what was is gone again.
    """
    edges = _edges(rows, spec.partition_by)
    written: list[Written] = []
    try:
        for start, stop in pairwise(edges):
            part = rows.slice(start, stop - start)
            partition = {name: str(part[name][0].as_py()) for name in spec.partition_by}
            inside = part.select(spec.file_schema.names)
            written.append(write_file(table, inside, partition, compression, change=True))
    except BaseException:
        discard(table, written)
        raise
    return written


def discard(table: Path, written: Sequence[Written]) -> None:
    """Delete files that will not be committed."""
    for one in written:
        (table / one.file.path).unlink(missing_ok=True)


def write_file(
    table: Path,
    rows: pa.Table,
    partition: Mapping[str, str],
    compression: Compression,
    *,
    change: bool,
) -> Written:
    """Write rows, in the table's order, as a new file of a partition.

    Parameters
    ----------
    rows : without the partition columns
    partition : values of the partition columns, as the log has them
    change : whether the rows are new in the table

    Raises
    ------
    OSError
        If the file cannot be written; nothing of it is left.
    """
    folder = "/".join(f"{name}={quote(value, safe='')}" for name, value in partition.items())
    path = f"{folder}/part-00000-{uuid.uuid4()}-c000.{compression}.parquet"
    # No path of pathlib: it interns every name, and Python's table of those never shrinks.
    place = f"{table}/{path}"
    (table / folder).mkdir(parents=True, exist_ok=True)
    try:
        # Sorted whole numbers as differences: half the size of dictionaries, and faster to read.
        pq.write_table(
            rows,
            place,
            compression=compression,
            row_group_size=ROW_GROUP,
            use_dictionary=[
                f.name for f in rows.schema if f.type == pa.string() and f.name != _UNIQUE
            ],
            column_encoding={
                f.name: "DELTA_BINARY_PACKED" for f in rows.schema if f.type in _PACKED
            },
            store_schema=False,
            store_decimal_as_integer=True,
        )
    except BaseException:
        Path(place).unlink(missing_ok=True)
        raise
    there = os.stat(place)  # noqa: PTH116 - see above
    # When it was written by the file system's own clock, which says its age later.
    action = AddAction(
        path=path,
        size=there.st_size,
        partition_values=dict(partition),
        modification_time=there.st_mtime_ns // 1_000_000,
        data_change=change,
        stats=_stats(rows),
    )
    return Written(LiveFile(path, there.st_size, rows.num_rows, tuple(partition.items())), action)


def _edges(rows: pa.Table, columns: Sequence[str]) -> list[int]:
    """Return where partitions begin, and the number of rows."""
    turns = np.zeros(max(rows.num_rows - 1, 0), np.bool_)
    for name in columns:
        column = rows[name].combine_chunks()
        turns |= np.asarray(pc.not_equal(column[1:], column[:-1]))
    return [0, *(np.flatnonzero(turns) + 1).tolist(), rows.num_rows]


def _stats(rows: pa.Table) -> str:
    """Least and greatest values of whole numbers and short texts, as Delta keeps them."""
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    for name in rows.column_names:
        if rows.schema.field(name).type not in (*_COUNTED, pa.string()):
            continue
        ends = pc.min_max(rows[name]).as_py()
        if ends["min"] is None or len(str(ends["max"])) > _LONGEST_TEXT:
            continue
        if len(str(ends["min"])) <= _LONGEST_TEXT:
            least[name], greatest[name] = ends["min"], ends["max"]
    nulls = {name: rows[name].null_count for name in rows.column_names}
    return json.dumps(
        {
            "numRecords": rows.num_rows,
            "minValues": least,
            "maxValues": greatest,
            "nullCount": nulls,
        }
    )
