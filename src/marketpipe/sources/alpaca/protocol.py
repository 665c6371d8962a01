"""What is said around the data on Alpaca's stream: requests, answers, and errors by number.

Source: docs.alpaca.markets, "Real-time stock data", and the sources of Alpaca's own SDKs.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from marketpipe.errors import (
    AuthError,
    EntitlementError,
    RateLimitError,
    RefusedError,
    UnreachableError,
    VendorError,
)
from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.values import DECODE_ERRORS, instants, is_packed
from marketpipe.sources.framing import Encoding, split

Symbols: TypeAlias = Mapping[str, tuple[str, ...]]
"""Symbols by channel."""

STOCK_CHANNELS: Final = (
    "trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds",
)  # fmt: skip
CRYPTO_CHANNELS: Final = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
EXTRA_CHANNELS: Final = ("imbalances",)
"""What can be asked for, but is kept raw."""
WITH_TRADES: Final = ("corrections", "cancelErrors")
"""What is subscribed with trades, never alone."""

_CHANNEL_OF: Final[Mapping[str, str]] = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "c": "corrections",
    "x": "cancelErrors",
    "o": "orderbooks",
    "i": "imbalances",
}


class Policy(Enum):
    """What is done about an error."""

    IGNORE = auto()
    AUTH_AGAIN = auto()
    RECONNECT = auto()
    BACK_OFF = auto()
    SLOW = auto()
    KEEP = auto()
    """The request failed; what was subscribed before stays."""
    GIVE_UP = auto()


class Rule(NamedTuple):
    """How an error is met: what is done, the type of error, and words that help."""

    policy: Policy
    error: type[VendorError]
    remedy: str


RULES: Final[Mapping[int, Rule]] = {
    400: Rule(
        Policy.KEEP, RefusedError, "A symbol is malformed, or not one of this feed: check them"
    ),
    401: Rule(Policy.AUTH_AGAIN, UnreachableError, "The keys were sent twice and not heard"),
    402: Rule(
        Policy.GIVE_UP,
        AuthError,
        "The key or the secret is wrong, or of another environment (live, paper, sandbox). Set "
        "ALPACA_API_KEY and ALPACA_SECRET_KEY to a pair from Alpaca's dashboard",
    ),
    403: Rule(Policy.IGNORE, UnreachableError, "Nothing need be done"),
    404: Rule(Policy.RECONNECT, UnreachableError, "The keys came too late: the network is slow"),
    405: Rule(
        Policy.KEEP,
        EntitlementError,
        "The plan allows fewer symbols (the basic one 30 on trades and quotes). Ask for fewer, or "
        "for fewer channels",
    ),
    406: Rule(
        Policy.BACK_OFF,
        RateLimitError,
        "Another program is connected with these keys, and most plans allow one connection an "
        "endpoint. Stop the other, or give this one keys of its own",
    ),
    407: Rule(
        Policy.SLOW,
        UnreachableError,
        "Messages came faster than they were taken. Subscribe to less, or give it more CPU",
    ),
    409: Rule(
        Policy.GIVE_UP,
        EntitlementError,
        "The plan does not include this feed. v2/iex is free; v2/sip needs a paid plan",
    ),
    410: Rule(Policy.KEEP, RefusedError, "This feed does not have one of the channels"),
    500: Rule(Policy.RECONNECT, UnreachableError, "The fault is Alpaca's"),
}
"""By Alpaca's number. Other numbers are noted and passed over."""


def failure(path: str, code: int, msg: str) -> VendorError:
    """Make the error for a number of Alpaca's, with what to do about it."""
    rule = RULES[code]
    return rule.error(f"Alpaca {path}: error {code}, '{msg}'. {rule.remedy}")


Control: TypeAlias = wire.Success | wire.Failure | wire.Subscription

_HEAD_BYTES: Final = 200


class _Kind(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="T")


_decode_json = msgspec.json.Decoder(Control)
_decode_msgpack = msgspec.msgpack.Decoder(Control)
_any_json = msgspec.json.Decoder(dict[str, Any])
_any_msgpack = msgspec.msgpack.Decoder(dict[str, Any])
_kind_json = msgspec.json.Decoder(_Kind).decode
_kind_msgpack = msgspec.msgpack.Decoder(_Kind).decode
_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


class Echo(NamedTuple):
    """All that is subscribed, by channel, as the server said it: channels that are new too."""

    channels: dict[str, list[str]]


def is_control(frame: bytes) -> bool:
    """Whether a frame may hold a success, an error or an echo; market data may look so too.

    Such messages come alone, so the head of the frame tells.
    """
    head = frame[:_HEAD_BYTES]
    return b"error" in head or b"success" in head or b"subscription" in head


def is_message(frame: bytes) -> bool:
    """Tell whether a frame is one message, without an array around it."""
    try:
        (_kind_msgpack if is_packed(frame) else _kind_json)(frame)
    except DECODE_ERRORS:
        return False
    return True


def controls(frame: bytes, encoding: Encoding) -> list[wire.Success | wire.Failure | Echo]:
    """Return the messages of control in a frame, in order; passes over all else."""
    found: list[wire.Success | wire.Failure | Echo] = []
    decode = (_decode_json if encoding == "json" else _decode_msgpack).decode
    read = (_any_json if encoding == "json" else _any_msgpack).decode
    for payload in split(frame, encoding).payloads:
        try:
            message = decode(payload)
            if isinstance(message, wire.Subscription):
                said = read(payload)
                found.append(Echo({k: v for k, v in said.items() if isinstance(v, list)}))
            else:
                found.append(message)
        except DECODE_ERRORS:
            continue
    return found


def unread(frame: bytes, encoding: Encoding) -> str:
    """Say what came where an answer was due and none can be read; shows the frame's head."""
    return (
        f"{frame[:_HEAD_BYTES]!r}, which holds no answer in {encoding}; alpaca.encoding chooses "
        "json or msgpack"
    )


def request(action: str, channels: Symbols, encoding: Encoding) -> bytes | str:
    """Write a request to subscribe or unsubscribe."""
    return _written({"action": action, **channels}, encoding)


def credentials(key: str, secret: str, encoding: Encoding) -> bytes | str:
    """Write who we are."""
    return _written({"action": "auth", "key": key, "secret": secret}, encoding)


def _written(message: Mapping[str, Any], encoding: Encoding) -> bytes | str:
    # Text in a frame of text, msgpack in a binary one.
    return _to_json(message).decode() if encoding == "json" else _to_msgpack(message)


_JSON_HEAD: Final = b'{"T":"'
_MSGPACK_HEAD: Final = b"\xa1T\xa1"
_QUOTE: Final = ord('"')
_LOOKED_AT: Final = {"trades": 64, "quotes": 64}


class _Instant(msgspec.Struct, gc=False):
    ts: msgspec.Raw = msgspec.field(name="t", default=msgspec.Raw())


_instant_json = msgspec.json.Decoder(_Instant).decode
_instant_msgpack = msgspec.msgpack.Decoder(_Instant).decode


def newest_in(records: pa.RecordBatch) -> dict[str, int | None]:
    """Return as `newest_of` what data records hold, all of them in one encoding."""
    payloads = records.column("payload")
    is_msgpack = len(payloads) > 0 and is_packed(payloads[0].as_py())
    return newest_of(payloads, "msgpack" if is_msgpack else "json")


def newest_of(payloads: pa.BinaryArray, encoding: Encoding) -> dict[str, int | None]:
    """Return, by channel, when the newest of its messages happened (ns since the epoch, UTC).

    Channels are told by the first key, ``T``; messages whose ``T`` is not first, or not one letter,
    are not looked at. Of trades and quotes the last 64 are, as some come late or in another order
    than they happened, of other channels the last one.
    None stands for a channel whose messages tell no time that can be read.
    """
    _, ends, data = payloads.buffers()
    if data is None:
        return {}
    octets = np.frombuffer(data, np.uint8)
    bounds = np.frombuffer(ends, np.int32)[payloads.offset : payloads.offset + len(payloads) + 1]
    is_json = encoding == "json"
    head, skip = (_JSON_HEAD, 0) if is_json else (_MSGPACK_HEAD, 1)
    rows = np.flatnonzero(bounds[:-1] < len(octets) - skip - len(head) - is_json)
    for place, octet in enumerate(head, skip):
        rows = rows[octets[bounds[rows] + place] == octet]
    if is_json:
        # One letter and no more: not "success".
        rows = rows[octets[bounds[rows] + len(head) + 1] == _QUOTE]
    kinds = octets[bounds[rows] + skip + len(head)]
    whole = memoryview(data)
    found: dict[str, int | None] = {}
    for kind in sorted(set(kinds.tobytes())):
        channel = _CHANNEL_OF.get(chr(kind))
        if channel is not None:
            mine = rows[kinds == kind]
            chosen = mine[-_LOOKED_AT.get(channel, 1) :]
            cuts = zip(bounds[chosen].tolist(), bounds[chosen + 1].tolist(), strict=True)
            found[channel] = _newest([whole[start:end] for start, end in cuts], encoding)
    return found


def _newest(payloads: list[memoryview], encoding: Encoding) -> int | None:
    decode = _instant_json if encoding == "json" else _instant_msgpack
    raws = []
    for payload in payloads:
        try:
            raws.append(decode(payload).ts)
        except DECODE_ERRORS:
            continue
    times, faults = instants(raws, None if encoding == "json" else [True] * len(raws))
    times = times[faults == 0]
    return int(times.max()) if len(times) else None
