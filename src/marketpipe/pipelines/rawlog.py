"""The records of a journal from any offset: the journal itself, and before it the raw lake."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa

from marketpipe.domain.columns import i64_of
from marketpipe.domain.records import STORED
from marketpipe.errors import JournalError, LakeError
from marketpipe.journal import JournalReader
from marketpipe.lake import LakeTable, spans
from marketpipe.pipelines.rawpieces import Piece, pieces


def records_from(
    offset: int, reader: JournalReader, raw: LakeTable | None
) -> Iterator[pa.RecordBatch]:
    """Yield a journal's records from an offset (inclusive) to what is durable at the call.

    Parameters
    ----------
    reader : of the journal
    raw : table ``raw`` of the lake, for what the journal no longer has; None if there is none

    Raises
    ------
    JournalError
        If records are in neither.
    """
    kept_from = reader.first_offset
    if offset < kept_from:
        if raw is None:
            raise JournalError(
                f"journal {reader.journal_id}: starts at offset {kept_from}, wanted {offset}; "
                "there is no raw table in the lake to read what came before: restore a backup"
            )
        for batch in raw_records(raw, reader.journal_id, offset, kept_from):
            offset = int(batch["offset"][-1].as_py()) + 1
            yield batch
        if offset < kept_from:
            raise JournalError(
                f"journal {reader.journal_id}: starts at offset {kept_from}, and the raw table of "
                f"the lake ends before offset {offset}; restore a backup of the data folder"
            )
    yield from reader.read(offset)


def raw_records(
    raw: LakeTable, journal_id: str, first: int, end: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield records of the raw lake in order of offset, from ``first`` to ``end`` (exclusive).

    Raises
    ------
    LakeError
        If offsets are missing or doubled, or a file cannot be read.
    """
    files = spans(raw, "offset", journal_id=journal_id)
    if not files:
        return
    with _reading() as connection:
        last = _last_offset(connection, [file.path for file in files], journal_id)
        stop = last + 1 if end is None else min(end, last + 1)
        for piece in pieces(files, first, stop):
            yield from _records(connection, journal_id, piece)


@contextmanager
def _reading() -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        with duckdb.connect() as connection:
            yield connection
    except duckdb.Error as problem:
        raise LakeError(
            f"table raw: cannot be read ({problem}); `marketpipe lake files raw` lists its files"
        ) from problem


def holds_start(raw: LakeTable, journal_id: str, end: int) -> bool:
    """Tell whether the raw lake has every record of a journal from offset 0 to ``end`` (exclusive).

    Raises
    ------
    LakeError
        If a file cannot be read.
    """
    files = raw.files()
    if end == 0 or not files:
        return end == 0
    query = """SELECT count(*) FROM read_parquet($files)
        WHERE journal_id = $journal AND "offset" < $end"""
    values = {"files": files, "journal": journal_id, "end": end}
    with _reading() as connection:
        return connection.execute(query, values).fetchall() == [(end,)]


def _last_offset(connection: duckdb.DuckDBPyConnection, files: list[str], journal_id: str) -> int:
    found = connection.execute(
        'SELECT max("offset") FROM read_parquet($files) WHERE journal_id = $journal',
        {"files": files, "journal": journal_id},
    ).fetchall()
    return -1 if found[0][0] is None else int(found[0][0])


def _records(
    connection: duckdb.DuckDBPyConnection, journal_id: str, piece: Piece
) -> Iterator[pa.RecordBatch]:
    start, stop, files = piece
    names = ", ".join(f'"{name}"' for name in STORED.names)
    table = (
        connection.sql(
            f"""SELECT {names} FROM read_parquet($files, hive_partitioning = true,
                hive_types = {{'source': VARCHAR}}, union_by_name = true)
            WHERE journal_id = $journal AND "offset" >= $start AND "offset" < $stop""",  # noqa: S608
            params={"files": files, "journal": journal_id, "start": start, "stop": stop},
        ).to_arrow_table()
        if files
        else STORED.empty_table()
    )
    places = i64_of(table["offset"]) - start
    seen = np.zeros(stop - start, np.bool_)
    seen[places] = True
    if len(table) != stop - start or not seen.all():
        raise LakeError(
            f"table raw: holds {len(table)} records of journal {journal_id} at offsets {start} to "
            f"{stop - 1}, expected each of {stop - start} once; `marketpipe doctor` says what is "
            "missing"
        )
    # Offsets are dense, so their order is no sort: DuckDB would move whole rows for it.
    order = np.empty(len(table), np.int64)
    order[places] = np.arange(len(table))
    yield from table.cast(STORED).combine_chunks().take(pa.array(order)).to_batches()
