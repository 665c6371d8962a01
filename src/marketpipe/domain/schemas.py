"""Arrow schemas: the columns users see, with units, and their versions.

Prices and sizes are DECIMAL(18,9), volumes DECIMAL(38,9), notionals DECIMAL(38,18), instants
int64 nanoseconds since the epoch, UTC (`ts_open` inclusive, `ts_close` exclusive). The version
of a schema rides in its metadata; a reader of version n reads every version <= n.
"""

from typing import Final

import pyarrow as pa

PRICE: Final = pa.decimal128(18, 9)
VOLUME: Final = pa.decimal128(38, 9)
NOTIONAL: Final = pa.decimal128(38, 18)

STATES: Final = ("forming", "confirmed", "settled")
COVERAGES: Final = ("traded", "quiet", "gap", "halted", "void")
CAUSES: Final = ("first", "late", "cancel", "correction", "backfill", "rule", "rebuild")
PRICE_TYPES: Final = ("trade", "bid", "ask", "mid")

_NS = {"unit": "ns since 1970-01-01T00:00:00Z"}


def _field(name: str, kind: pa.DataType, unit: str = "", *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit} if unit else None)


def _ns(name: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.int64(), nullable=nullable, metadata=_NS)


BARS: Final = pa.schema(
    [
        _field("source", pa.string(), nullable=False),
        _field("feed", pa.string(), nullable=False),
        _field("symbol", pa.string(), nullable=False),
        _field("price_type", pa.string(), nullable=False),
        _field("rule_set", pa.string(), nullable=False),
        _field("session", pa.string(), nullable=False),
        _field("timeframe", pa.string(), nullable=False),
        _field("session_date", pa.date32(), nullable=False),
        _ns("ts_open"),
        _ns("ts_close"),
        _field("open", PRICE, "currency"),
        _field("high", PRICE, "currency"),
        _field("low", PRICE, "currency"),
        _field("close", PRICE, "currency"),
        _field("volume", VOLUME, "units of the instrument"),
        _field("notional", NOTIONAL, "currency"),
        _field("vwap", PRICE, "currency"),
        _field("trade_count", pa.int64(), "trades (quotes for bid, ask, mid)", nullable=False),
        _field("official_open", PRICE, "currency"),
        _field("official_close", PRICE, "currency"),
        _field("state", pa.string(), nullable=False),
        _field("coverage", pa.string(), nullable=False),
        _field("partial", pa.bool_(), nullable=False),
        _field("revision", pa.int32(), nullable=False),
        _field("cause", pa.string(), nullable=False),
        _ns("recorded_at", nullable=True),
        _ns("known_at"),
    ],
    metadata={"marketpipe.schema": "bars", "marketpipe.version": "1"},
)

_TICK_HEAD = [
    _field("source", pa.string(), nullable=False),
    _field("feed", pa.string(), nullable=False),
    _field("symbol", pa.string(), nullable=False),
    _field("venue", pa.string(), nullable=False),
    _field("session_date", pa.date32(), nullable=False),
    _ns("ts_event"),
    _ns("ts_recv", nullable=True),
    _ns("known_at", nullable=True),
    _field("row", pa.int64(), "1-based row or line of the source", nullable=False),
]

TRADES: Final = pa.schema(
    [
        *_TICK_HEAD,
        _field("trade_id", pa.string()),
        _field("price", PRICE, "currency", nullable=False),
        _field("size", PRICE, "units of the instrument", nullable=False),
        _field("conditions", pa.string()),
        _field("tape", pa.string()),
        _field("side", pa.string()),
        _field("flags", pa.uint16(), "bits of domain.ticks", nullable=False),
    ],
    metadata={"marketpipe.schema": "trades", "marketpipe.version": "1"},
)

QUOTES: Final = pa.schema(
    [
        *_TICK_HEAD,
        _field("bid", PRICE, "currency"),
        _field("ask", PRICE, "currency"),
        _field("bid_size", PRICE, "units of the instrument"),
        _field("ask_size", PRICE, "units of the instrument"),
    ],
    metadata={"marketpipe.schema": "quotes", "marketpipe.version": "1"},
)
