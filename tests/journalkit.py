"""Records for the tests of journals."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from marketpipe.domain.records import RECORDS, STORED, Kind

T0 = 1_700_000_000_000_000_000


def record(number: int, *, kind: Kind = "data", **changes: Any) -> dict[str, Any]:
    """A record that can be told from any other by its number."""
    row: dict[str, Any] = {
        "kind": kind,
        "source": "alpaca",
        "feed": "iex",
        "stream": "trades",
        "symbol": f"S{number % 7}",
        "conn_id": 1,
        "conn_started_ns": T0,
        "frame_seq": number,
        "msg_index": 0,
        "frame_len": 20,
        "ts_recv": T0 + number,
        "payload": b'{"n":%d}' % number,
        "envelope": None,
    }
    return row | changes


def batch(rows: Iterable[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=RECORDS)


def numbered(start: int, stop: int) -> pa.RecordBatch:
    """Records of the numbers from `start` up to `stop`."""
    return batch(record(number) for number in range(start, stop))


def rows_of(batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Rows as read, with the schema checked on the way."""
    rows: list[dict[str, Any]] = []
    for part in batches:
        assert part.schema.equals(STORED)
        part.validate(full=True)
        rows.extend(part.to_pylist())
    return rows


def offsets_of(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [row["offset"] for row in rows_of(batches)]


def expected(rows: Sequence[dict[str, Any]], journal_id: str) -> list[dict[str, Any]]:
    """What a journal must give back for rows that were appended in this order."""
    stored, latest = [], rows[0]["ts_recv"] if rows else 0
    for offset, row in enumerate(rows):
        latest = max(latest, row["ts_recv"])
        stored.append({"journal_id": journal_id, "offset": offset, **row, "ts_recv": latest})
    return stored
