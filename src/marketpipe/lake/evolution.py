"""Tables of earlier schema versions, brought forward."""

from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Field

from marketpipe.errors import LakeError, NewerVersionError
from marketpipe.lake.layout import TableSpec

SCHEMA_VERSION: Final = "marketpipe.schema_version"
"""Table property: version of the schema that the table's columns have."""
BUCKET_COUNT: Final = "marketpipe.buckets"
"""Table property: instrument buckets that the table was made with."""
DROPPED_BEFORE: Final = "marketpipe.dropped_before"
"""Table property: first day that old days were not dropped of; absent where none ever were."""


def version_of_table(handle: DeltaTable, spec: TableSpec) -> int:
    """Return the schema version of a table.

    Raises
    ------
    NewerVersionError
        If it is above what this version of MarketPipe knows.
    LakeError
        If the table was not made by MarketPipe.
    """
    text = handle.metadata().configuration.get(SCHEMA_VERSION, "")
    if not text.isdigit():
        raise LakeError(
            f"table {spec.name} has no property {SCHEMA_VERSION} (was '{text}'): MarketPipe did "
            "not make it; move the folder away"
        )
    if int(text) > spec.version:
        raise NewerVersionError(
            f"table {spec.name} has schema version '{text}'; this version of MarketPipe knows up "
            f"to {spec.version}; upgrade MarketPipe"
        )
    return int(text)


def evolve(handle: DeltaTable, spec: TableSpec) -> None:
    """Bring a table of an earlier version forward: new columns are null in what is there.

    Nothing is rewritten. A process killed in between leaves a table that the next one brings
    forward.

    Raises
    ------
    NewerVersionError
        If the table is of a later version.
    LakeError
        If its columns are not those of an earlier version: columns only ever come.
    """
    there = pa.schema(handle.schema().to_arrow())
    version = version_of_table(handle, spec)
    new = _missing(there, spec)
    if new:
        handle.alter.add_columns([Field.from_arrow(field) for field in new])
    if version < spec.version:
        handle.alter.set_table_properties(
            {SCHEMA_VERSION: str(spec.version)}, raise_if_not_exists=False
        )


def _missing(there: pa.Schema, spec: TableSpec) -> list[pa.Field]:
    schema = spec.schema
    for field in there:
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            raise LakeError(
                f"table {spec.name}: column {field.name} was '{field.type}', which version "
                f"{spec.version} of its schema does not have; rebuild the table"
            )
    new = [field for field in schema if field.name not in there.names]
    for field in new:
        if not field.nullable:
            raise LakeError(
                f"table {spec.name}: column {field.name} may not be null, and is absent from "
                "what is there; rebuild the table"
            )
    return new
