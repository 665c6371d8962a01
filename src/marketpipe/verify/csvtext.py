"""Bars as CSV text: exact decimals, RFC 3339 instants, the same bytes on every machine."""

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

SLICE_ROWS: Final = 65_536
"""Rows rendered at a time; bounds the memory that the text takes."""


def csv_chunks(table: pa.Table, columns: tuple[tuple[str, str], ...]) -> Iterator[memoryview]:
    r"""Render rows as CSV bytes, header first, in the order of the table.

    Parameters
    ----------
    table : the rows
    columns : pairs (name in the header, name in the table); the type of the table's column
        decides the rendering: int64 columns named ``ts_*`` or ``known_at`` are instants in
        ns since the epoch, decimals lose their trailing zeros, null is the empty field

    Yields
    ------
    memoryview
        Consecutive pieces of the file; lines end with ``\n``.
    """
    yield memoryview((",".join(header for header, _ in columns) + "\n").encode())
    line = ", ".join(_expression(table.schema.field(name)) for _, name in columns)
    query = f"SELECT concat_ws(',', {line}) || chr(10) AS line FROM piece"  # noqa: S608
    with duckdb.connect(config={"threads": 1}) as connection:
        for start in range(0, len(table), SLICE_ROWS):
            connection.register("piece", table.slice(start, SLICE_ROWS))
            for batch in connection.sql(query).to_arrow_reader(SLICE_ROWS):
                yield _text_bytes(batch.column(0))


def _expression(field: pa.Field) -> str:
    name = f'"{field.name}"'
    if pa.types.is_decimal(field.type):
        text = f"rtrim(rtrim({name}::VARCHAR, '0'), '.')"
    elif pa.types.is_integer(field.type):
        instant = field.name.startswith("ts_") or field.name == "known_at"
        text = _instant(name) if instant else f"{name}::VARCHAR"
    else:
        text = (
            f"CASE WHEN regexp_matches({name}, '[,\"\\r\\n]') "
            f"THEN '\"' || replace({name}, '\"', '\"\"') || '\"' ELSE {name} END"
        )
    return f"coalesce({text}, '')"


def _instant(name: str) -> str:
    nanos = f"(({name} % 1000000000) + 1000000000) % 1000000000"
    # by way of microseconds: as a count of ns the last instant would stand for infinity
    seconds = f"strftime(make_timestamp(({name} - {nanos}) // 1000), '%Y-%m-%dT%H:%M:%S')"
    return (
        f"{seconds} || CASE WHEN {nanos} = 0 THEN 'Z' "
        f"ELSE rtrim('.' || lpad(({nanos})::VARCHAR, 9, '0'), '0') || 'Z' END"
    )


def _text_bytes(column: pa.Array) -> memoryview:
    """Return the bytes of a text column, one value after the other, without copying."""
    text = column.cast(pa.large_string())
    offsets = memoryview(text.buffers()[1]).cast("q")[text.offset : text.offset + len(text) + 1]
    return memoryview(text.buffers()[2])[offsets[0] : offsets[-1]]
