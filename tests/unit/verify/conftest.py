"""Bars made by hand, one row of defaults at a time."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from marketpipe.domain.schemas import BARS

OPEN_NS = 1_767_623_400_000_000_000
"""2026-01-05T14:30:00Z."""

_DEFAULTS: dict[str, Any] = {
    "source": "csv",
    "feed": "file",
    "symbol": "AAPL",
    "price_type": "trade",
    "rule_set": "plain",
    "session": "continuous",
    "timeframe": "1m",
    "session_date": date(2026, 1, 5),
    "ts_open": OPEN_NS,
    "open": Decimal("189.37"),
    "high": Decimal("190"),
    "low": Decimal("189.000000001"),
    "close": Decimal("189.5"),
    "volume": Decimal("1200"),
    "notional": Decimal("227244.000000000000000001"),
    "vwap": Decimal("189.37"),
    "trade_count": 12,
    "official_open": None,
    "official_close": None,
    "state": "confirmed",
    "coverage": "traded",
    "partial": False,
    "revision": 0,
    "cause": "first",
    "recorded_at": None,
}


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., pa.Table]:
    """Table of one bar per mapping given; what a mapping leaves out has a default."""

    def make(*rows: dict[str, Any]) -> pa.Table:
        filled = []
        for given in rows:
            row = {**_DEFAULTS, **given}
            row.setdefault("ts_close", row["ts_open"] + 60_000_000_000)
            row.setdefault("known_at", row["ts_close"])
            filled.append(row)
        return pa.Table.from_pylist(filled, schema=BARS)

    return make
