"""Payloads to messages, and what is wrong with those that are none."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from marketpipe.domain.batches import MAX_TEXTS, BadRow, bad_row
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.values import DECODE_ERRORS, is_packed
from marketpipe.sources.framing import Encoding

_KNOWN: Final = frozenset((*"tqbudslcxo", "success", "error", "subscription"))
_MAX_KIND_CHARS: Final = 16
_OTHER: Final = "other"


class _Head(msgspec.Struct, gc=False):
    kind: msgspec.Raw = msgspec.field(name="T", default=msgspec.Raw())
    symbol: msgspec.Raw = msgspec.field(name="S", default=msgspec.Raw())


class _Symbol(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="S", default="")


_json_symbol = msgspec.json.Decoder(_Symbol)
_msgpack_symbol = msgspec.msgpack.Decoder(_Symbol)
_json_head = msgspec.json.Decoder(_Head).decode
_msgpack_head = msgspec.msgpack.Decoder(_Head).decode
_json_text = msgspec.json.Decoder(str).decode
_msgpack_text = msgspec.msgpack.Decoder(str).decode


def symbol_reader(encoding: Encoding) -> Callable[[Any], str]:
    """Make what names the symbol of one message (bytes-like) as it arrives; "" if it has none."""
    read = (_json_symbol if encoding == "json" else _msgpack_symbol).decode
    valid = _Valid()

    def symbol_of(payload: Any) -> str:
        try:
            return valid[read(payload).symbol]
        except DECODE_ERRORS:
            return ""

    return symbol_of


class Fault(NamedTuple):
    """What an unreadable message is: its kind; reason and key are "" where it is only unknown."""

    kind: str
    reason: str = ""
    field: str = ""


class _Valid(dict[str, str]):
    """Symbols as they are, and what cannot be one as ""; each is looked at once."""

    def __missing__(self, symbol: str) -> str:
        valid = symbol if is_valid_symbol(symbol) else ""
        if len(self) < MAX_TEXTS:
            self[symbol] = valid
        return valid


def decode_all(payloads: list[bytes]) -> tuple[list[wire.Message | None], list[bool] | None]:
    """Decode each message, None where it cannot be, and say which are msgpack (None: none)."""
    if not payloads:
        return [], None
    main = is_packed(payloads[0])
    decode = wire.decode_msgpack if main else wire.decode_json
    messages: list[wire.Message | None] = []
    strays: list[int] = []
    source = iter(payloads)
    while len(messages) < len(payloads):
        try:
            # What was decoded before a fault stays in the list; `source` stands behind the fault.
            messages.extend(map(decode, source))
        except DECODE_ERRORS:
            payload = payloads[len(messages)]
            if is_packed(payload) != main:
                strays.append(len(messages))
            messages.append(_decode_alone(payload))
    if not main and not strays:
        return messages, None
    packed = [main] * len(messages)
    for place in strays:
        packed[place] = not main
    return messages, packed


def _decode_alone(payload: bytes) -> wire.Message | None:
    decode: Callable[[bytes], wire.Message] = (
        wire.decode_msgpack if is_packed(payload) else wire.decode_json
    )
    try:
        return decode(payload)
    except DECODE_ERRORS:
        return None


def unreadable(
    data: pa.RecordBatch,
    payloads: list[bytes],
    places: list[int],
    unparsed: Counter[str],
    fault_of: Callable[[pa.RecordBatch, int], Fault | None],
) -> list[BadRow]:
    """Count messages of unknown kinds; return the faults of the others.

    ``fault_of`` says what is wrong with a row that is no message of a stream, None of others.
    """
    bad = []
    for place in places:
        payload = payloads[place]
        kind, reason, field = fault_of(data, place) or _fault(payload)
        if reason:
            bad.append(bad_row(data.column("offset")[place].as_py(), reason, field, payload))
        else:
            unparsed[kind if len(kind) <= _MAX_KIND_CHARS and kind.isprintable() else _OTHER] += 1
    return bad


def _fault(payload: bytes) -> Fault:
    """Return the kind of a message that does not decode, and the reason and key of its fault."""
    packed = is_packed(payload)
    text = _msgpack_text if packed else _json_text
    try:
        head = (_msgpack_head if packed else _json_head)(payload)
    except DECODE_ERRORS:
        return Fault("", "bad_record")
    try:
        kind = text(head.kind)
    except DECODE_ERRORS:
        return Fault("", "bad_record" if head.kind else "missing_value", "T")
    if kind not in _KNOWN:
        return Fault(kind)
    try:
        text(head.symbol)
    except DECODE_ERRORS:
        return Fault(kind, "bad_symbol" if head.symbol else "missing_value", "S")
    return Fault(kind, "bad_record")
