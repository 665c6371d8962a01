"""Compiles what a feed of Alpaca runs, before it connects: the first use may take half a minute."""

import threading
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa

from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.derive import Derivation, DeriveSettings
from marketpipe.pipelines.history import TradeHistory, no_lake
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.alpaca.pages import add_page, stream_of
from marketpipe.sources.framing import Encoding
from marketpipe.sources.records import RecordBuilder, as_stored

_SOURCE: Final = "warm-up"
_SYMBOL: Final = "AAPL"
_OPEN: Final = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
_OPEN_NS: Final = int(_OPEN.timestamp()) * NANOS
_PAGE: Final = msgspec.json.encode(
    {
        "trades": {
            _SYMBOL: [{"t": _OPEN, "x": "V", "p": 1.25, "s": 2, "c": ["@"], "i": 2, "z": "C"}]
        },
        "next_page_token": None,
    }
)
_one_by_one = threading.Lock()


def warm_up(encoding: Encoding) -> None:
    """Derive trades and a quote that nobody sent, and forget them; to be called in a thread."""
    settings = DeriveSettings(
        journal_id=_SOURCE,
        timeframes=parse_many("1m,5m"),
        rule_set=RuleSet.load("alpaca-v1"),
        price_types=("trade", "mid"),
    )
    with _one_by_one:
        derivation = Derivation(settings, AlpacaParser(), TradeHistory(no_lake, 0))
        at = 0
        for records in (_streamed(encoding), _fetched()):
            derivation.apply(pa.Table.from_batches([as_stored(records, _SOURCE, at)]))
            at += len(records)
        derivation.save()


def _streamed(encoding: Encoding) -> pa.RecordBatch:
    trade = {"T": "t", "S": _SYMBOL, "i": 1, "x": "V", "p": 1.5, "s": 1, "c": ["@"], "z": "C"}
    quote = {"T": "q", "S": _SYMBOL, "bp": 1.0, "bs": 1, "ap": 2.0, "as": 1}
    builder = _builder(_SOURCE)
    frame: list[dict[str, Any]] = [{**message, "t": _OPEN} for message in (trade, quote)]
    encode = msgspec.json.encode if encoding == "json" else msgspec.msgpack.encode
    builder.add_frame(encode(frame), _OPEN_NS, encoding)
    builder.add_clock(_OPEN_NS + 600 * NANOS)
    return builder.take()


def _fetched() -> pa.RecordBatch:
    builder = _builder(stream_of("trades"))
    at_ns = _OPEN_NS + 700 * NANOS
    add_page(builder, _PAGE, at_ns)
    builder.add_clock(at_ns)
    return builder.take()


def _builder(stream: str) -> RecordBuilder:
    return RecordBuilder(
        source=_SOURCE, feed=_SOURCE, stream=stream, conn_id=0, conn_started_ns=_OPEN_NS
    )
