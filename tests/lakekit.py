"""Rows for tables of the lake, and processes that write them."""

import json
import os
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from marketpipe.domain import schemas
from marketpipe.domain.records import STORED
from marketpipe.lake import TABLES, LakeLayout, LakeTable, compact

DAY_NS = 86_400_000_000_000
FIRST_DAY = date(2026, 1, 5)
FIRST_NS = 20_458 * DAY_NS
"""2026-01-05T00:00Z: 20,458 days after 1970-01-01."""
SYMBOLS = ("AAPL", "MSFT", "BTC/USD", "SPY", "QQQ", "TSLA", "NVDA", "META", "AMD", "F", "GE", "T")
RECORD: dict[str, Any] = {
    "journal_id": "alpaca", "offset": 0, "kind": "data", "source": "alpaca", "feed": "sip",
    "stream": "trades", "symbol": "AAPL", "conn_id": 1, "conn_started_ns": FIRST_NS,
    "frame_seq": 0, "msg_index": 0, "frame_len": 2, "ts_recv": FIRST_NS, "payload": b"{}",
    "envelope": None,
}  # fmt: skip
TICK: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "AAPL", "venue": "V",
    "session_date": FIRST_DAY, "ts_event": FIRST_NS, "ts_recv": FIRST_NS,
    "recorded_at": FIRST_NS, "known_at": FIRST_NS, "key_major": 1, "key_mid": 0, "key_minor": 0,
    "journal_id": "alpaca", "offset": 0, "schema_version": 1,
}  # fmt: skip
OF_KIND: dict[str, dict[str, Any]] = {
    "trades": {"trade_id": "7", "price": Decimal("189.37"), "size": Decimal(100), "flags": 0},
    "quotes": {"bid": Decimal("189.36"), "ask": Decimal("189.38")},
    "book": {"is_snapshot": True, "side": "bid", "level": 0, "price": Decimal(9)},
    "statuses": {"kind": "status", "status_code": "T"},
    "vendor_bars": {"kind": "bar", "timeframe": "1m", "ts_open": FIRST_NS, "open": Decimal(1)},
    "corrections": {"kind": "cancel", "trade_id": "7", "action": "C"},
}
BAR: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "AAPL", "price_type": "trade",
    "rule_set": "plain", "session": "regular", "timeframe": "1m", "session_date": FIRST_DAY,
    "ts_open": FIRST_NS, "ts_close": FIRST_NS + 60_000_000_000, "open": Decimal(2),
    "high": Decimal(4), "low": Decimal(1), "close": Decimal(3), "volume": Decimal(9),
    "notional": Decimal(20), "vwap": Decimal("2.222222222"), "trade_count": 2,
    "state": "confirmed", "coverage": "traded", "partial": False, "revision": 0,
    "cause": "first", "known_at": FIRST_NS,
}  # fmt: skip
BAD: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "", "received_date": FIRST_DAY,
    "ts_recv": FIRST_NS, "journal_id": "alpaca", "offset": 0, "reason": "bad_number",
    "field": "price", "raw": b"{", "raw_bytes": 1, "schema_version": 1,
}  # fmt: skip


def rows(name: str, *changes: dict[str, Any]) -> pa.Table:
    """Rows of any table of the lake, each a good one with some columns changed."""
    good, schema = {
        "raw": (RECORD, STORED),
        "bars": (BAR, schemas.BARS),
        "quarantine": (BAD, schemas.QUARANTINE),
        **{kind: ({**TICK, **own}, schemas.CANONICAL[kind]) for kind, own in OF_KIND.items()},
    }[name]
    return pa.Table.from_pylist([{**good, **change} for change in changes], schema=schema)


def records(offsets: Iterable[int], *, per_day: int = 1_000_000) -> pa.Table:
    """Raw records, one an offset; the symbol and the time follow from the offset."""
    numbers = np.array(list(offsets), np.int64)
    count = len(numbers)
    columns = {name: pa.array([RECORD[name]] * count, STORED.field(name).type) for name in RECORD}
    columns["offset"] = pa.array(numbers)
    columns["symbol"] = pa.array([SYMBOLS[n * 7 % len(SYMBOLS)] for n in numbers], pa.string())
    columns["ts_recv"] = pa.array(FIRST_NS + numbers // per_day * DAY_NS + numbers % per_day)
    columns["payload"] = pa.array([f'{{"n":{n}}}'.encode() for n in numbers], pa.binary())
    return pa.table([columns[name] for name in STORED.names], schema=STORED)


def stored(table: LakeTable, columns: str = '"offset"', order: str = "ALL") -> list[Any]:
    """What another reader finds in the live files, one row as a tuple (one column: its value)."""
    files = table.files()
    if not files:
        return []
    found = query(
        f"SELECT {columns} FROM read_parquet({files!r}, hive_partitioning=true, "
        f"hive_types={{'{table.spec.date_column}': DATE}}, union_by_name=true) ORDER BY {order}"
    )
    return [row[0] if len(row) == 1 else row for row in found]


def query(sql: str) -> list[tuple[Any, ...]]:
    """Ask DuckDB."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def append_all(root: str, app_id: str, first: int, last: int, seed: int, started: Any) -> None:
    """Append offsets first to last (exclusive), going on where ``app_id`` stopped, a bit before.

    Batches are cut differently by every seed, as after a restart from an older checkpoint.
    """
    chance = np.random.default_rng(seed)
    table = LakeTable.open(LakeLayout(Path(root)), "raw")
    done = table.version_of(app_id)
    at = first if done is None else max(first, done - int(chance.integers(300)))
    started.set()
    while at < last:
        end = min(at + int(chance.integers(20, 200)), last)
        table.append(records(range(at, end)), app_id=app_id, through=end - 1)
        at = end


def compact_until_done(root: str, started: Any, results: Any, runs: int) -> None:
    """Compact again and again, waiting for others; report how many files went in."""
    table = LakeTable.open(LakeLayout(Path(root)), "raw")
    started.set()
    for _ in range(runs):
        results.put((os.getpid(), compact(table, wait=True).files_before))


def open_and_count(root: str, gate: Any, results: Any) -> None:
    """Open (and make) a table at the same moment as others."""
    gate.wait()
    results.put(LakeTable.open(LakeLayout(Path(root)), "raw").count())


def write_golden(root: Path) -> None:
    """Write two rows into every table, and as text what any later version must read of them."""
    expected = {}
    for name in TABLES:
        table = LakeTable.open(LakeLayout(root), name)
        key = "revision" if name == "bars" else "offset"
        two = rows(name, {key: 0, "symbol": "AAPL"}, {key: 1, "symbol": "BTC/USD"})
        table.append(two, app_id="golden", through=1, offsets=np.arange(2))
        expected[name] = texts(two.to_pylist())
    (root / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def texts(found: list[dict[str, Any]]) -> list[dict[str, str | None]]:
    """Values as text, so that they can be kept in a file and compared."""
    return [{k: None if v is None else str(v) for k, v in row.items()} for row in found]
