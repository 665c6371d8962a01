"""Bars by hand for tests of the store: rows as plain dictionaries, and tables of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from marketpipe.domain.schemas import BARS
from marketpipe.store import BarRepository

MINUTE = 60_000_000_000
DAY = 86_400_000_000_000
OPEN = 1_767_623_400_000_000_000  # 2026-01-05T14:30:00Z, a Monday
FIRST_DAY = date(2026, 1, 5)

Row = dict[str, Any]
NewUrl = Callable[[], str]
"""Gives the URL of an empty database with every call."""


def bar(minute: int = 0, revision: int = 0, **other: Any) -> Row:
    """Make one minute bar; ``minute`` counts from `OPEN`, and its content follows from it."""
    ts_open = OPEN + minute * MINUTE
    cents = 10_000 + (minute * 7 + revision * 3) % 500
    close_cents = cents + minute % 5
    size = Decimal(100 + minute % 900) + Decimal(revision)
    row: Row = {
        "source": "test",
        "feed": "iex",
        "symbol": "AAA",
        "price_type": "trade",
        "rule_set": "plain",
        "session": "regular",
        "timeframe": "1m",
        "session_date": date.fromordinal(FIRST_DAY.toordinal() + (ts_open - OPEN) // DAY),
        "ts_open": ts_open,
        "ts_close": ts_open + MINUTE,
        "open": Decimal(cents).scaleb(-2),
        "high": Decimal(close_cents + 3).scaleb(-2),
        "low": Decimal(cents - 2).scaleb(-2),
        "close": Decimal(close_cents).scaleb(-2),
        "volume": size + Decimal("0.000000001"),
        "notional": size * Decimal(cents).scaleb(-2),
        "vwap": Decimal(cents).scaleb(-2) + Decimal("0.003333333"),
        "trade_count": 1 + minute % 40,
        "official_open": None,
        "official_close": None,
        "state": "confirmed",
        "coverage": "traded",
        "partial": minute % 7 == 0,
        "revision": revision,
        "cause": "first" if revision == 0 else "late",
        "recorded_at": ts_open + MINUTE + 1_000 + revision * 500,
        "known_at": ts_open + MINUTE + 900 + revision * 500,
    }
    return row | other


def void(minute: int, revision: int, **other: Any) -> Row:
    """Make a revision that says: there is no such bar."""
    nothing = dict.fromkeys(("open", "high", "low", "close", "vwap"))
    zero = {"volume": Decimal(0), "notional": Decimal(0), "trade_count": 0}
    row = bar(minute, revision, coverage="void", cause="cancel")
    return row | nothing | zero | other


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Pack rows into a table of the bars schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=BARS)


def rows_of(bars: pa.Table) -> list[Row]:
    """Take a table of bars apart."""
    rows: list[Row] = bars.select(BARS.names).to_pylist()
    return rows


def run(url: str, work: Callable[[BarRepository], Awaitable[Any]]) -> Any:
    """Open the database, work with it, close it."""

    async def whole() -> Any:
        async with await BarRepository.open(url) as repository:
            return await work(repository)

    return asyncio.run(whole())
