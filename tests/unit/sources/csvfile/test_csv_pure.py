"""The compiled kernel and the same functions as plain Python give the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

from numpy.random import default_rng

READ = """
import json, sys
from marketpipe.sources.csvfile import CsvSource
found = []
for path in sys.argv[1:]:
    with CsvSource(path, batch_rows=7, block_bytes=97) as source:
        for batch in source.batches():
            columns = [getattr(batch, name) for name in batch.__slots__[1:-1]]
            found.append([None if c is None else c.tolist() for c in columns])
            found.append([[list(s) for s in batch.dictionaries.streams],
                          batch.dictionaries.venues, batch.dictionaries.conditions])
            found.append([[*bad[:3], bad.raw.hex()] for bad in batch.bad])
json.dump(found, sys.stdout)
"""
PRICES = ["1", "-2.5", "0.123456789", "1e-3", "1e300", "x", "", "12345678.12345678900", '"7"']
TIMES = ["2026-01-05T14:30:00Z", "1969-01-01T00:00:00+01:00", "2026-01-05 14:30:00.25-05:00", "x"]
NAMES = ["A", "BTC/USD", "../x", "", "LONGER-THAN-SEVEN", '"A"', "é", "B" * 40, "..", "LONGER-X"]


def corpus(folder: Path) -> list[str]:
    rng = default_rng(7)
    headers = [
        "symbol,ts_ns,price,size,trade_id,venue,conditions,side,source",
        "symbol,timestamp,bid,ask,ts_recv_ns,feed",
    ]
    fields = {
        "symbol": NAMES,
        "ts_ns": ["1", "1767623400000000000", "9223372036854775808", "-1", "z", "99999999999"],
        "timestamp": TIMES,
        "ts_recv_ns": ["", "5", "q"],
        "trade_id": ["", "12", "012", "a-b"],
        "venue": ["", "V", "é"],
        "conditions": ["", "@ I", '"a""b"', '"open'],
        "side": ["", "buy", "Sell", "?"],
        "source": ["", "x", "y y"],
        "feed": ["", "sip", "sip-long-name"],
    }
    paths = []
    for k, header in enumerate(headers):
        columns = header.split(",")
        lines = [header, ""]
        for _ in range(150):
            picks = [fields.get(column, PRICES) for column in columns]
            lines.append(",".join(pick[rng.integers(0, len(pick))] for pick in picks))
        path = folder / f"{k}.csv"
        path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n\0\nA\r\n")
        paths.append(str(path))
    return paths


def run(paths: list[str], *, jit: bool) -> object:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0" if jit else "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, *paths],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_csv_kernel_and_plain_python_give_equal_batches(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    compiled = run(paths, jit=True)
    assert isinstance(compiled, list)
    assert sum(len(rows) for rows in compiled) > 50
    assert compiled == run(paths, jit=False)
