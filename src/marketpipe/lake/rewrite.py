"""Several files of a partition, written anew as one in the table's order."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from marketpipe.errors import LakeError
from marketpipe.lake.layout import TableSpec, in_order
from marketpipe.lake.table import ROW_GROUP, Compression

_LONGEST_TEXT: Final = 32
_UNIQUE: Final = "trade_id"
_PACKED: Final = (pa.int32(), pa.int64())
_COUNTED: Final = (pa.int16(), pa.int32(), pa.int64())


Action: TypeAlias = AddAction | RemoveAction


class LiveFile(NamedTuple):
    """A file of a table's snapshot.

    ``path`` is as on disk, relative to the table (the log percent-encodes it once more);
    ``partition`` holds the values of the partition columns as the log has them.
    """

    path: str
    size_bytes: int
    rows: int
    partition: tuple[tuple[str, str], ...]


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
    path = (
        f"{files[0].path.rpartition('/')[0]}/part-00000-{uuid.uuid4()}-c000.{compression}.parquet"
    )
    written = table / path
    _write(in_order(rows, spec.sort_by), written, compression)
    there = pq.read_metadata(written).num_rows
    if not expected == rows.num_rows == there:
        written.unlink()
        raise LakeError(
            f"table {spec.name}: {expected} rows should be in the {len(files)} files from "
            f"'{files[0].path}' on, {rows.num_rows} were read and {there} written; nothing was "
            "changed; check the files"
        )
    size = written.stat().st_size
    new = LiveFile(path, size, rows.num_rows, files[0].partition)
    return new, [_add(new, written, rows), *removals(files, _modified_ms(written), change=False)]


def removals(files: Sequence[LiveFile], now_ms: int, *, change: bool) -> list[Action]:
    """Return the actions that take files out; ``change`` tells whether rows go with them."""
    return [
        RemoveAction(f.path, change, now_ms, size=f.size_bytes, partition_values=dict(f.partition))
        for f in files
    ]


def _write(rows: pa.Table, path: Path, compression: Compression) -> None:
    # Sorted whole numbers as differences: half the size of dictionaries, and faster to read.
    pq.write_table(
        rows,
        path,
        compression=compression,
        row_group_size=ROW_GROUP,
        use_dictionary=[f.name for f in rows.schema if f.type == pa.string() and f.name != _UNIQUE],
        column_encoding={f.name: "DELTA_BINARY_PACKED" for f in rows.schema if f.type in _PACKED},
        store_schema=False,
        store_decimal_as_integer=True,
    )


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


def _add(file: LiveFile, written: Path, rows: pa.Table) -> AddAction:
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values=dict(file.partition),
        modification_time=_modified_ms(written),
        data_change=False,
        stats=_stats(rows),
    )


def _modified_ms(path: Path) -> int:
    # The file system's own clock: the same that says later how old a file is.
    return path.stat().st_mtime_ns // 1_000_000


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
