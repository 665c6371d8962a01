"""Several files of a partition, written anew as one in the table's order."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import RemoveAction

from marketpipe.errors import LakeError
from marketpipe.lake.datafiles import (
    Action,
    Compression,
    LiveFile,
    discard,
    write_file,
)
from marketpipe.lake.layout import TableSpec, in_order


def live_files(handle: DeltaTable) -> list[LiveFile]:
    """Return the files of a snapshot in the order of their paths."""
    columns = ["path", "size_bytes", "num_records", "partition"]
    actions = pa.table(handle.get_add_actions(flatten=False)).select(columns).to_pylist()
    return sorted(
        LiveFile(
            path=unquote(action["path"]),
            size_bytes=action["size_bytes"],
            rows=action["num_records"],
            partition=tuple((name, str(value)) for name, value in action["partition"].items()),
        )
        for action in actions
    )


def rewrite(
    table: Path, files: Sequence[LiveFile], spec: TableSpec, compression: Compression
) -> tuple[LiveFile, list[Action]]:
    """Write the rows of some files of one partition as one sorted file.

    Returns
    -------
    The new file, and the actions that put it in the place of the old ones. Until they are
    committed nobody sees it.

    Raises
    ------
    LakeError
        If what was read or written is not as many rows as the log says.
    """
    rows = _read(table, files, spec)
    expected = sum(file.rows for file in files)
    written = write_file(
        table,
        in_order(rows, spec.sort_by),
        dict(files[0].partition),
        compression,
        change=False,
    )
    place = table / written.file.path
    there = pq.read_metadata(place).num_rows
    if not expected == rows.num_rows == there:
        discard(table, [written])
        raise LakeError(
            f"table {spec.name}: {expected} rows should be in the {len(files)} files from "
            f"'{files[0].path}' on, {rows.num_rows} were read and {there} written; nothing was "
            "changed; check the files"
        )
    return written.file, [
        written.action,
        *removals(files, written.action.modification_time, change=False),
    ]


def removals(files: Sequence[LiveFile], now_ms: int, *, change: bool) -> list[Action]:
    """Return the actions that take files out; ``change`` tells whether rows go with them."""
    return [
        RemoveAction(f.path, change, now_ms, size=f.size_bytes, partition_values=dict(f.partition))
        for f in files
    ]


def _read(table: Path, files: Sequence[LiveFile], spec: TableSpec) -> pa.Table:
    schema = spec.file_schema
    parts = [_as(pq.ParquetFile(table / file.path).read(), schema) for file in files]
    return pa.concat_tables(parts).combine_chunks()


def _as(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a file's rows the columns of today: those that came since are null."""
    columns = [
        part[field.name].cast(field.type)
        if field.name in part.column_names
        else pa.nulls(part.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
