"""What rows must be like before a table takes them: deltalake itself casts what it can."""

import pyarrow as pa

from marketpipe.errors import LakeError
from marketpipe.lake.layout import TableSpec


def check_rows(rows: pa.Table, spec: TableSpec) -> None:
    """Hold rows against ``spec.rows``: names, order, types, nulls, partition values.

    Raises
    ------
    LakeError
        Naming the first column that does not fit.
    """
    if rows.column_names != spec.rows.names:
        raise LakeError(f"table {spec.name}: {_names(rows.column_names, spec.rows.names)}")
    for field, column in zip(spec.rows, rows.columns, strict=True):
        where = f"table {spec.name}: column {field.name}"
        if column.type != field.type:
            raise LakeError(f"{where} was '{column.type}'; valid is {field.type}; cast it")
        if column.null_count and not field.nullable:
            raise LakeError(f"{where} has {column.null_count} nulls; valid is none")
        if field.name in spec.partition_by and field.type == pa.string() and "" in _words(column):
            # Readers do not agree on an empty folder name: null for some, '' for others.
            raise LakeError(f"{where} was '' in a row; it names a folder and may not be empty")


def _names(given: list[str], valid: list[str]) -> str:
    for name in valid:
        if given.count(name) != 1:
            return f"column {name} was there {given.count(name)} times; valid is once"
    extra = [name for name in given if name not in valid]
    if extra:
        return f"column {extra[0]} was given; the schema does not have it; leave it out"
    return f"columns were in the order {', '.join(given)}; valid is {', '.join(valid)}"


def _words(column: pa.ChunkedArray) -> set[str]:
    return set(column.unique().to_pylist())
