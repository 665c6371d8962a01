"""Frames to messages and back, byte for byte.

A feed sends frames; most hold an array of messages. `split` cuts a frame into its elements
without re-encoding them, `join` puts it together again. What lay between the elements is the
*envelope*: one byte for the usual forms, else a tag and the gaps themselves.
"""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Raw

Encoding: TypeAlias = Literal["json", "msgpack"]

WHOLE: Final = b"w"
"""Envelope of a frame that is its only message."""
PLAIN_JSON: Final = b""
"""Envelope of ``[a,b,c]`` without blanks."""
PLAIN_MSGPACK: Final = b"m"
"""Envelope of elements behind the shortest msgpack array header."""
_GAPS: Final = b"g"

MAX_MESSAGES: Final = 1 << 20
"""A frame of more is not split: a message's place must fit 20 bits."""

_OPEN = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*")
_BETWEEN = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")

_json_elements = msgspec.json.Decoder(list[Raw]).decode
_msgpack_elements = msgspec.msgpack.Decoder(list[Raw]).decode
_encode_gaps = msgspec.msgpack.Encoder().encode
_decode_gaps = msgspec.msgpack.Decoder(list[bytes]).decode


class Split(NamedTuple):
    """A frame in parts.

    Attributes
    ----------
    payloads : bytes-like messages, one or more, without the bytes between them
    envelope : what `join` needs besides
    """

    payloads: "list[bytes | Raw]"
    envelope: bytes

    @property
    def is_whole(self) -> bool:
        """Whether the frame is no array of messages, and so its own only message."""
        return self.envelope == WHOLE


def split(frame: bytes, encoding: Encoding = "json") -> Split:
    """Cut a frame into the elements of its array; never raises.

    An empty array, anything but an array, and what does not decode is one whole message.
    """
    try:
        if encoding == "json":
            parts = _json_elements(frame)
            envelope = PLAIN_JSON
        else:
            parts = _msgpack_elements(frame)
            envelope = PLAIN_MSGPACK
    except (msgspec.DecodeError, RecursionError):
        return Split([frame], WHOLE)
    if not 0 < len(parts) <= MAX_MESSAGES:
        return Split([frame], WHOLE)
    payloads: list[bytes | Raw] = list(parts)
    if join(payloads, envelope) == frame:
        return Split(payloads, envelope)
    gaps = _json_gaps(frame, payloads) if encoding == "json" else _msgpack_gaps(frame, payloads)
    envelope = envelope_of(gaps)
    if join(payloads, envelope) != frame:
        return Split([frame], WHOLE)
    return Split(payloads, envelope)


def join(payloads: "list[bytes | Raw]", envelope: bytes) -> bytes:
    """Put a frame together again.

    Raises
    ------
    ValueError
        If ``envelope`` is none that `split` gives, or does not belong to these messages.
    """
    if envelope == PLAIN_JSON:
        return b"[" + b",".join(payloads) + b"]"
    if envelope == WHOLE and len(payloads) == 1:
        return bytes(payloads[0])
    if envelope == PLAIN_MSGPACK:
        return _msgpack_header(len(payloads)) + b"".join(payloads)
    if envelope[:1] == _GAPS:
        gaps = _decode_gaps(envelope[1:])
        if len(gaps) == len(payloads) + 1:
            pairs = zip(gaps[1:], payloads, strict=True)
            return gaps[0] + b"".join(bytes(payload) + gap for gap, payload in pairs)
    raise ValueError(f"envelope was {envelope[:40]!r}, which is none of {len(payloads)} messages")


def envelope_of(gaps: list[bytes]) -> bytes:
    """Make the envelope of messages with these bytes before, between and behind them."""
    return _GAPS + _encode_gaps(gaps)


def json_gaps(split: Split) -> list[bytes]:
    """Return the bytes before, between and behind the messages of a JSON frame that was split."""
    if split.envelope != PLAIN_JSON:
        return _decode_gaps(split.envelope[1:])
    return [b"[", *[b","] * (len(split.payloads) - 1), b"]"]


def _json_gaps(frame: bytes, payloads: "list[bytes | Raw]") -> list[bytes]:
    gaps = []
    at = 0
    for number, payload in enumerate(payloads):
        match = (_BETWEEN if number else _OPEN).match(frame, at)
        begin = match.end() if match else at
        gaps.append(frame[at:begin])
        at = begin + len(payload)
    return [*gaps, frame[at:]]


def _msgpack_gaps(frame: bytes, payloads: "list[bytes | Raw]") -> list[bytes]:
    # Only the header can differ: msgpack has nothing between elements.
    header = len(frame) - sum(map(len, payloads))
    return [frame[:header], *(b"" for _ in payloads)]


def _msgpack_header(count: int) -> bytes:
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
