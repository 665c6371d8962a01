"""Rows for lakes in tests: whole records from the few columns that matter, written for real."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from marketpipe.lake.layout import TABLES, LakeLayout, TableSpec
from marketpipe.lake.table import LakeTable

DAY = date(2026, 1, 5)
T0 = 1_767_623_400_000_000_000
"""2026-01-05T14:30:00Z, by `date -u -d 2026-01-05T14:30:00Z +%s`, in ns."""
S = 1_000_000_000

_DEFAULTS: dict[str, Any] = {
    "source": "alpaca",
    "feed": "sip",
    "symbol": "AAPL",
    "venue": "V",
    "tape": "C",
    "journal_id": "alpaca",
    "session_date": DAY,
    "received_date": DAY,
    "schema_version": 1,
    "key_major": 1,
    "key_mid": 0,
    "key_minor": 0,
    "offset": 0,
    "flags": 0,
    "level": 0,
    "price_type": "trade",
    "rule_set": "plain",
    "session": "regular",
    "timeframe": "1m",
    "trade_count": 1,
    "state": "confirmed",
    "coverage": "traded",
    "partial": False,
    "revision": 0,
    "cause": "first",
    "price": Decimal(100),
    "size": Decimal(1),
    "kind": "",
    "stream": "",
    "conn_id": 1,
    "conn_started_ns": 0,
    "frame_seq": 0,
    "msg_index": 0,
    "frame_len": 0,
    "ts_recv": T0,
    "payload": b"",
    "reason": "bad_json",
    "field": "",
    "raw_bytes": 0,
}


def row(**values: Any) -> dict[str, Any]:
    """Complete a record: what is known when is derived from the event unless it is said."""
    at = values.get("ts_event", values.get("ts_open", T0))
    times = {"ts_event": at, "ts_open": at, "ts_close": at + 60 * S, "ts_recv": at}
    values = {**_DEFAULTS, **times, **values}
    values.setdefault("known_at", values["ts_recv"])
    values.setdefault("recorded_at", values["known_at"])
    return values


def table_of(name: str, rows: list[dict[str, Any]], spec: TableSpec | None = None) -> pa.Table:
    schema = (spec or TABLES[name]).rows
    return pa.Table.from_pylist(
        [{k: v for k, v in row(**values).items() if k in schema.names} for values in rows],
        schema=schema,
    )


class Lakeside:
    """Appends to the tables of one lake, each call a commit of its own."""

    def __init__(self, root: Path, buckets: int = 16) -> None:
        self.root = root
        self._layout = LakeLayout(root, buckets)
        self._through = 0

    def put(self, name: str, *rows: dict[str, Any], spec: TableSpec | None = None) -> None:
        self._through += 1
        LakeTable.open(self._layout, name, spec=spec).append(
            table_of(name, list(rows), spec),
            app_id=f"test/{name}/{self._through}",
            through=1 << 60,
            offsets=np.arange(len(rows)),
        )
