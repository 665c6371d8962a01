"""Rows for the quarantine table: what was refused, with its bytes as received."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import RAW_CUT_BYTES, BadRow
from marketpipe.domain.columns import i64_of
from marketpipe.domain.schemas import QUARANTINE, schema_version
from marketpipe.domain.units import DAY_NS


def quarantined(refused: Sequence[BadRow], records: pa.Table) -> pa.Table:
    """Turn refused rows into a table of schema QUARANTINE, by offset.

    Parameters
    ----------
    refused : their ``row`` is the offset of the record
    records : data records of schema STORED, by offset, among them those refused
    """
    if not refused:
        return QUARANTINE.empty_table()
    bad = sorted(refused)
    at = np.searchsorted(i64_of(records["offset"]), [row.row for row in bad])
    found = records.take(pa.array(at))
    received = i64_of(found["ts_recv"])
    columns = {
        "source": found["source"],
        "feed": found["feed"],
        "symbol": found["symbol"],
        "received_date": pa.array((received // DAY_NS).astype(np.int32)).cast(pa.date32()),
        "ts_recv": found["ts_recv"],
        "journal_id": found["journal_id"],
        "offset": found["offset"],
        "reason": pa.array([row.reason for row in bad], pa.string()),
        "field": pa.array([row.field for row in bad], pa.string()),
        "raw": pa.array([p[:RAW_CUT_BYTES] for p in found["payload"].to_pylist()], pa.binary()),
        "raw_bytes": pc.binary_length(found["payload"]).cast(pa.int64()),
        "schema_version": pa.array([schema_version(QUARANTINE)] * len(bad), pa.int16()),
    }
    return pa.table([columns[name] for name in QUARANTINE.names], schema=QUARANTINE)
