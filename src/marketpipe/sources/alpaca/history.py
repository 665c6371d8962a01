"""Elements of pages of history to the messages that a stream would have sent.

They are what the streams send without ``T`` and ``S``: the record's ``stream`` says what they are,
its ``symbol`` about what. Trades have one key more, ``u``: a trade that was cancelled, or turned
out to be wrong, stays in the vendor's history and is marked there. It reads as the cancel of that
trade, and as no trade. What replaced a wrong one is a trade of its own there, of the same time.

Source: docs.alpaca.markets, "Historical trades".
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw, Struct, field

from marketpipe.domain.records import HISTORY, NOT_SPLIT
from marketpipe.domain.schemas import REPLACED
from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.decode import Fault, decode_all
from marketpipe.sources.alpaca.pages import is_empty_page
from marketpipe.sources.alpaca.values import DECODE_ERRORS
from marketpipe.sources.records import int64s

_NONE: Final = Raw()
_GONE: Final = ("canceled", REPLACED)
_COUNTS: Final = (None, "", "corrected")


class _Trade(Struct, gc=False):
    trade_id: wire.TradeId | None = field(name="i", default=None)
    venue: str | None = field(name="x", default=None)
    price: Raw = field(name="p", default=_NONE)
    size: Raw = field(name="s", default=_NONE)
    conditions: Raw = field(name="c", default=_NONE)
    tape: str | None = field(name="z", default=None)
    ts: Raw = field(name="t", default=_NONE)
    taker_side: str | None = field(name="tks", default=None)
    update: str | None = field(name="u", default=None)


class _Quote(Struct, gc=False):
    bid_venue: str | None = field(name="bx", default=None)
    bid: Raw = field(name="bp", default=_NONE)
    bid_size: Raw = field(name="bs", default=_NONE)
    ask_venue: str | None = field(name="ax", default=None)
    ask: Raw = field(name="ap", default=_NONE)
    ask_size: Raw = field(name="as", default=_NONE)
    conditions: Raw = field(name="c", default=_NONE)
    tape: str | None = field(name="z", default=None)
    ts: Raw = field(name="t", default=_NONE)


class _Bar(Struct, gc=False):
    open: Raw = field(name="o", default=_NONE)
    high: Raw = field(name="h", default=_NONE)
    low: Raw = field(name="l", default=_NONE)
    close: Raw = field(name="c", default=_NONE)
    volume: Raw = field(name="v", default=_NONE)
    ts: Raw = field(name="t", default=_NONE)
    trade_count: int | None = field(name="n", default=None)
    vwap: Raw = field(name="vw", default=_NONE)


_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
_decode_bar = msgspec.json.Decoder(_Bar).decode


def _trade(symbol: str, payload: bytes) -> wire.Message | None:
    t = _decode_trade(payload)
    if t.update in _COUNTS:
        words = _words(t.conditions)
        return wire.Trade(
            symbol, t.trade_id, t.venue, t.price, t.size, words, t.tape, t.ts, t.taker_side
        )
    if t.update not in _GONE or t.trade_id in (None, ""):
        return None
    return wire.Cancel(symbol, t.trade_id, t.venue, t.price, t.size, t.update, t.tape, t.ts)


def _quote(symbol: str, payload: bytes) -> wire.Message:
    q = _decode_quote(payload)
    bid, ask = (q.bid_venue, q.bid, q.bid_size), (q.ask_venue, q.ask, q.ask_size)
    return wire.Quote(symbol, *bid, *ask, _words(q.conditions), q.tape, q.ts)


def _bar(symbol: str, payload: bytes) -> wire.Message:
    b = _decode_bar(payload)
    return wire.Bar(symbol, b.open, b.high, b.low, b.close, b.volume, b.ts, b.trade_count, b.vwap)


def _words(conditions: Raw) -> Raw:
    # Of options there is one code, and no list around it.
    return Raw(b"[" + conditions + b"]") if bytes(conditions)[:1] == b'"' else conditions


_READERS: Final[dict[str, Callable[[str, bytes], wire.Message | None]]] = {
    "trades": _trade,
    "quotes": _quote,
    "bars": _bar,
}


def is_history(records: pa.RecordBatch) -> pa.BooleanArray | None:
    """Tell which records are of pages; None if none is."""
    found = pc.starts_with(records.column("stream"), HISTORY)
    return found if pc.any(found).as_py() else None


def decode_mixed(
    data: pa.RecordBatch, payloads: list[bytes], past: npt.NDArray[np.bool_]
) -> tuple[list[wire.Message | None], list[bool] | None]:
    """Decode data records of which some (``past``) are of pages; as `decode_all` returns."""
    rows = np.flatnonzero(past).tolist()
    streams, symbols = (data.column(name).to_pylist() for name in ("stream", "symbol"))
    found = [_read(streams[row], symbols[row], payloads[row]) for row in rows]
    if len(rows) == len(payloads):
        return found, None
    others = np.flatnonzero(~past).tolist()
    live, packed = decode_all([payloads[row] for row in others])
    messages: list[wire.Message | None] = [None] * len(payloads)
    for row, message in (*zip(rows, found, strict=True), *zip(others, live, strict=True)):
        messages[row] = message
    if packed is None:
        return messages, None
    flags = np.zeros(len(payloads), np.bool_)
    flags[others] = packed
    return messages, flags.tolist()


def _read(stream: str, symbol: str, payload: bytes) -> wire.Message | None:
    reader = _READERS.get(stream[len(HISTORY) :])
    try:
        return reader(symbol, payload) if reader is not None and symbol else None
    except DECODE_ERRORS:
        return None


def fault_of(data: pa.RecordBatch, row: int) -> Fault | None:
    """Say what is wrong with a record of a page that gave no message; None if it is of no page."""
    stream: str = data.column("stream")[row].as_py()
    if not stream.startswith(HISTORY):
        return None
    kind, payload = stream[len(HISTORY) :], data.column("payload")[row].as_py()
    if kind not in _READERS:
        return Fault(stream)
    if int64s(data.slice(row, 1), "msg_index")[0] == NOT_SPLIT:
        return Fault("page") if is_empty_page(payload, kind) else Fault("", "bad_record")
    if not data.column("symbol")[row].as_py():
        return Fault(kind, "bad_symbol", "S")
    update = _update_of(payload) if kind == "trades" else None
    if update in _GONE:
        return Fault(kind, "missing_value", "i")
    return Fault(kind, "bad_record") if update is None else Fault(kind, "unknown_value", "u")


def _update_of(payload: bytes) -> Any:
    try:
        return _decode_trade(payload).update
    except DECODE_ERRORS:
        return None
