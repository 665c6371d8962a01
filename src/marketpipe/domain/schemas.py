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
    _ns("recorded_at"),
    _ns("known_at"),
    _field("key_major", pa.int64(), "order key, see domain.ticks", nullable=False),
    _field("key_mid", pa.int64(), "order key", nullable=False),
    _field("key_minor", pa.int64(), "order key", nullable=False),
    _field("journal_id", pa.string(), nullable=False),
    _field("offset", pa.int64(), "record of the journal it came from", nullable=False),
    _field("schema_version", pa.int16(), nullable=False),
]

BACKFILLED: Final = 0x1
"""Of ``flags``: loaded after the fact, to fill a gap of the live feed."""


def _canonical(kind: str, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(
        [*_TICK_HEAD, *fields],
        metadata={"marketpipe.schema": kind, "marketpipe.version": "1"},
    )


TRADES: Final = _canonical(
    "trades",
    [
        _field("trade_id", pa.string()),
        _field("price", PRICE, "currency", nullable=False),
        _field("size", PRICE, "units of the instrument", nullable=False),
        _field("conditions", pa.string(), "separated by spaces"),
        _field("tape", pa.string()),
        _field("side", pa.string()),
        _field("flags", pa.int32(), "bit BACKFILLED", nullable=False),
    ],
)

QUOTES: Final = _canonical(
    "quotes",
    [
        _field("bid", PRICE, "currency"),
        _field("ask", PRICE, "currency"),
        _field("bid_size", PRICE, "units of the instrument"),
        _field("ask_size", PRICE, "units of the instrument"),
        _field("bid_venue", pa.string()),
        _field("ask_venue", pa.string()),
        _field("conditions", pa.string(), "separated by spaces"),
        _field("tape", pa.string()),
    ],
)

BOOK: Final = _canonical(
    "book",
    [
        _field("is_snapshot", pa.bool_(), "whether the message replaces the whole book"),
        _field("side", pa.string(), "bid or ask; empty for a snapshot without levels"),
        _field("level", pa.int32(), "place in the message, from 0", nullable=False),
        _field("price", PRICE, "currency"),
        _field("size", PRICE, "units of the instrument; 0 removes the level"),
    ],
)

STATUSES: Final = _canonical(
    "statuses",
    [
        _field("kind", pa.string(), "status or luld", nullable=False),
        _field("status_code", pa.string()),
        _field("status_message", pa.string()),
        _field("reason_code", pa.string()),
        _field("reason_message", pa.string()),
        _field("limit_up", PRICE, "currency"),
        _field("limit_down", PRICE, "currency"),
        _field("indicator", pa.string()),
        _field("tape", pa.string()),
    ],
)

VENDOR_BARS: Final = _canonical(
    "vendor_bars",
    [
        _field("kind", pa.string(), "bar, updated or daily", nullable=False),
        _field("timeframe", pa.string(), nullable=False),
        _ns("ts_open"),
        _field("open", PRICE, "currency"),
        _field("high", PRICE, "currency"),
        _field("low", PRICE, "currency"),
        _field("close", PRICE, "currency"),
        _field("volume", VOLUME, "units of the instrument"),
        _field("vwap", VOLUME, "currency, as the vendor rounded it"),
        _field("trade_count", pa.int64(), "trades"),
    ],
)

CORRECTIONS: Final = _canonical(
    "corrections",
    [
        _field("kind", pa.string(), "cancel or correction", nullable=False),
        _field("trade_id", pa.string(), "of the trade it is about", nullable=False),
        _field("tape", pa.string()),
        _field("action", pa.string(), "the vendor's word for it"),
        _field("price", PRICE, "currency, of that trade as the message repeats it"),
        _field("size", PRICE, "units, of that trade as the message repeats it"),
        _field("conditions", pa.string(), "of that trade as the message repeats it"),
        _field("new_trade_id", pa.string(), "of the corrected trade"),
        _field("new_price", PRICE, "currency"),
        _field("new_size", PRICE, "units of the instrument"),
        _field("new_conditions", pa.string()),
        _field("trade_ts_event", pa.int64(), "ns, when the trade happened; null while unknown"),
    ],
)

REPLACED: Final = "incorrect"
"""``action`` of a cancel by a vendor's history that says only that another trade took the place
of this one. Where a correction of the same trade is known, which says by what, it says nothing."""

QUARANTINE: Final = pa.schema(
    [
        _field("source", pa.string(), nullable=False),
        _field("feed", pa.string(), nullable=False),
        _field("symbol", pa.string(), "empty where it cannot be read", nullable=False),
        _field("received_date", pa.date32(), "UTC date of ts_recv", nullable=False),
        _ns("ts_recv"),
        _field("journal_id", pa.string(), nullable=False),
        _field("offset", pa.int64(), "record of the journal", nullable=False),
        _field("reason", pa.string(), "a finding code", nullable=False),
        _field("field", pa.string(), "empty for the whole message", nullable=False),
        _field("raw", pa.binary(), "bytes as received, at most 4,096"),
        _field("raw_bytes", pa.int64(), "full length", nullable=False),
        _field("schema_version", pa.int16(), nullable=False),
    ],
    metadata={"marketpipe.schema": "quarantine", "marketpipe.version": "1"},
)

CANONICAL: Final = {
    "trades": TRADES,
    "quotes": QUOTES,
    "book": BOOK,
    "statuses": STATUSES,
    "vendor_bars": VENDOR_BARS,
    "corrections": CORRECTIONS,
}
"""Kinds of canonical records and their schemas."""


def schema_version(schema: pa.Schema) -> int:
    """Return the version that a schema carries."""
    return int(schema.metadata[b"marketpipe.version"])
