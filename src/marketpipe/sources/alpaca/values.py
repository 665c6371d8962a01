"""Raw values of Alpaca's messages, JSON or msgpack, to columns of integers and texts."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Raw

from marketpipe.domain.batches import I8, I64
from marketpipe.domain.units import MAX_TS_NS, NANOS, format_ns
from marketpipe.sources import numbers
from marketpipe.sources.numbers import reasons

DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on bytes that are not what they should be."""

FIRST_PACKED: Final = 0x80
"""First bytes from here on begin a msgpack map or array; JSON begins with ASCII."""

Packed: TypeAlias = "list[bool] | None"
"""Which messages of a group are msgpack; None if none is."""

EXACT_BELOW: Final = 4_000_000.0
"""Below, a float64 has neighbours nearer than 1e-9: one multiple of 1e-9 at most reads as it."""

_NANO: Final = Decimal("1e-9")
_WIDE: Final = Context(prec=40)
_number = msgspec.msgpack.Decoder(float).decode
_from_msgpack = msgspec.msgpack.Decoder().decode
_json_words = msgspec.json.Decoder(list[str] | None).decode
_msgpack_words = msgspec.msgpack.Decoder(list[str] | None).decode


def is_packed(raw: bytes) -> bool:
    """Tell whether a message is msgpack, by its first byte."""
    return raw[:1] >= b"\x80"


def decimals(raws: Sequence[Raw], packed: Packed) -> tuple[I64, I8]:
    """Read numbers as nanos, each with its reason code; a float stands for its shortest decimal."""
    if packed is None:
        return numbers.decimals(raws)
    if all(packed):
        quick = _usual_numbers(raws)
        if quick is not None:
            return quick, np.zeros(len(raws), np.int8)
    return numbers.decimals(
        [_number_text(raw) if p else raw for raw, p in zip(raws, packed, strict=True)]
    )


def instants(raws: Sequence[Raw], packed: Packed) -> tuple[I64, I8]:
    """Read instants as ns since the epoch, each with its reason code."""
    if packed is None:
        return numbers.instants(raws)
    pairs = zip(raws, packed, strict=True)
    if not all(packed):
        return numbers.instants([_instant_text(raw) if p else raw for raw, p in pairs])
    joined = b"".join(raws)
    if len(joined) == 10 * len(raws) and set(map(len, raws)) == {10}:
        quick = _usual_instants(joined)
        if quick is not None:
            return quick, np.zeros(len(raws), np.int8)
    read = [_packed_instant(bytes(raw)) for raw in raws]
    return np.array([ns for _, ns in read], np.int64), np.array([r for r, _ in read], np.int8)


def wide_decimals(
    raws: Sequence[Raw], packed: Packed, *, rounded: bool = False
) -> tuple[list[Decimal | None], I8]:
    """Read numbers of up to 29 whole digits and nine decimals, as DECIMAL(38,9) has them.

    More decimals are below the resolution, or if ``rounded`` are rounded, half to even.
    """
    read = [
        _wide(bytes(_number_text(raw) if packed is not None and packed[k] else raw), rounded)
        for k, raw in enumerate(raws)
    ]
    return [value for _, value in read], np.array([reason for reason, _ in read], np.int8)


def condition_text(raw: bytes) -> str | None:
    """Read a list of condition codes as text separated by spaces; None if it is no such list.

    Codes that are blank leave nothing behind: a trade whose only code is the CTA's blank regular
    sale reads as one without codes, which every rule table rules alike.
    """
    if not raw:
        return ""
    packed = raw[0] >= FIRST_PACKED
    try:
        words = (_msgpack_words if packed else _json_words)(raw)
    except DECODE_ERRORS:
        return None
    return " ".join(" ".join(words or ()).split())


def _number_text(raw: Raw) -> bytes | Raw:
    if not raw:
        return raw
    try:
        value = _from_msgpack(raw)
    except (*DECODE_ERRORS, OverflowError):
        return b"?"
    if value is None:
        return b""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return repr(value).encode() if is_number else b"?"


def _usual_numbers(raws: Sequence[Raw]) -> I64 | None:
    """Read floats and integers below `EXACT_BELOW`; None if one is not such, or not of 1e-9.

    The multiple of 1e-9 that reads as a float is its shortest decimal.
    """
    try:
        values = np.fromiter(map(_number, raws), np.float64, len(raws))
    except (*DECODE_ERRORS, TypeError, ValueError, OverflowError):
        return None
    if not (np.abs(values) < EXACT_BELOW).all():
        return None
    nanos = np.rint(values * NANOS)
    if (nanos / NANOS != values).any():
        return None
    whole: I64 = nanos.astype(np.int64)
    return whole


def _usual_instants(joined: bytes) -> I64 | None:
    """Read 64-bit timestamps that lie end to end; None if one is not such or is out of range."""
    cells = np.frombuffer(joined, np.dtype([("head", ">u2"), ("both", ">u8")]))
    nanos = cells["both"] >> 34
    seconds = cells["both"] & ((1 << 34) - 1)
    if (
        (cells["head"] != 0xD7FF).any()
        or nanos.max() >= NANOS
        or seconds.max() >= MAX_TS_NS // NANOS
    ):
        return None
    times: I64 = seconds.astype(np.int64) * NANOS + nanos.astype(np.int64)
    return times


def _packed_instant(raw: bytes) -> tuple[int, int]:
    # The three forms of msgpack's timestamp, extension type -1.
    if raw in (b"", b"\xc0"):
        return reasons.MISSING_VALUE, 0
    if raw[:2] == b"\xd7\xff" and len(raw) == 10:
        both = int.from_bytes(raw[2:], "big")
        seconds, nanos = both & (1 << 34) - 1, both >> 34
    elif raw[:2] == b"\xd6\xff" and len(raw) == 6:
        seconds, nanos = int.from_bytes(raw[2:], "big"), 0
    elif raw[:3] == b"\xc7\x0c\xff" and len(raw) == 15:
        seconds = int.from_bytes(raw[7:], "big", signed=True)
        nanos = int.from_bytes(raw[3:7], "big")
    else:
        return reasons.BAD_TIMESTAMP, 0
    if nanos >= NANOS:
        return reasons.BAD_TIMESTAMP, 0
    ts_ns = seconds * NANOS + nanos
    return (reasons.OK, ts_ns) if 0 <= ts_ns <= MAX_TS_NS else (reasons.OUT_OF_RANGE, 0)


def _instant_text(raw: Raw) -> bytes:
    reason, ts_ns = _packed_instant(bytes(raw))
    if reason == reasons.OUT_OF_RANGE:
        return b'"9999-01-01T00:00:00Z"'
    if reason:
        return b"" if reason == reasons.MISSING_VALUE else b"?"
    return f'"{format_ns(ts_ns)}"'.encode()


def _wide(text: bytes, rounded: bool) -> tuple[int, Decimal | None]:
    if text in (b"", b"null"):
        return reasons.MISSING_VALUE, None
    try:
        value: Any = Decimal(text.decode("ascii"))
    except (InvalidOperation, UnicodeDecodeError):
        return reasons.BAD_NUMBER, None
    if not value.is_finite():
        return reasons.BAD_NUMBER, None
    if not value:
        return reasons.OK, Decimal(0)
    if value.adjusted() >= 29:
        return reasons.OUT_OF_RANGE, None
    sign, digits, exponent = value.as_tuple()
    spare = -9 - exponent
    if spare <= 0:
        return reasons.OK, value
    if any(digits[-spare:]):
        if rounded:
            value = value.quantize(_NANO, ROUND_HALF_EVEN, _WIDE)
            fits = value.adjusted() < 29
            return (reasons.OK, value) if fits else (reasons.OUT_OF_RANGE, None)
        return reasons.BELOW_RESOLUTION, None
    return reasons.OK, Decimal((sign, digits[:-spare], -9))
