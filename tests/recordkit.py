"""Journal records for tests: RECORDS as a journal stores them."""

import pyarrow as pa

from marketpipe.domain.records import STORED


def stored(records: pa.RecordBatch, journal_id: str = "test", first: int = 0) -> pa.RecordBatch:
    """Number records from ``first`` on, as a journal does."""
    offsets = pa.array(range(first, first + len(records)), pa.int64())
    names = pa.array([journal_id] * len(records), pa.string())
    return pa.RecordBatch.from_arrays([names, offsets, *records.columns], schema=STORED)


def data_records(
    payloads: list[bytes], source: str = "alpaca", feed: str = "sip", first: int = 0
) -> pa.RecordBatch:
    """Make stored data records of payloads, one frame each, received a second apart."""
    count = len(payloads)
    columns = {
        "journal_id": ["test"] * count,
        "offset": range(first, first + count),
        "kind": ["data"] * count,
        "source": [source] * count,
        "feed": [feed] * count,
        "stream": [""] * count,
        "symbol": [""] * count,
        "conn_id": [7] * count,
        "conn_started_ns": [1_000] * count,
        "frame_seq": range(count),
        "msg_index": [0] * count,
        "frame_len": [len(payload) for payload in payloads],
        "ts_recv": [k * 1_000_000_000 for k in range(count)],
        "payload": payloads,
        "envelope": [b"w"] * count,
    }
    arrays = [pa.array(columns[field.name], field.type) for field in STORED]
    return pa.RecordBatch.from_arrays(arrays, schema=STORED)
