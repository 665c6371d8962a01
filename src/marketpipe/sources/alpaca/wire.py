"""Alpaca's stream protocol, both ways: typed messages in JSON and msgpack.

Names are ours, keys on the wire are Alpaca's: what a key means depends on the message's ``T``.
Numbers and instants stay raw, as the wire has them, so that nothing passes through a float or
is cut to microseconds; `number` and `instant` make raw values, the parser reads them. Unknown
keys are skipped. ``T`` is written first, as Alpaca's own SDKs need it.

Source: docs.alpaca.markets, "Real-time stock data" and "Real-time crypto data".
"""

from typing import Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

from marketpipe.domain.units import NANOS, format_nanos, format_ns
from marketpipe.sources.framing import Encoding

_NONE: Final = Raw()

TradeId: TypeAlias = int | str


class Trade(Struct, tag_field="T", tag="t", frozen=True, gc=False, omit_defaults=True):
    """A trade; ``taker_side`` (B, S or -) is sent for crypto only."""

    symbol: str = msgspec.field(name="S")
    trade_id: TradeId | None = msgspec.field(name="i", default=None)
    venue: str | None = msgspec.field(name="x", default=None)
    price: Raw = msgspec.field(name="p", default=_NONE)
    size: Raw = msgspec.field(name="s", default=_NONE)
    conditions: Raw = msgspec.field(name="c", default=_NONE)
    tape: str | None = msgspec.field(name="z", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)
    taker_side: str | None = msgspec.field(name="tks", default=None)


class Quote(Struct, tag_field="T", tag="q", frozen=True, gc=False, omit_defaults=True):
    """The best bid and offer; a price of 0 is an absent side."""

    symbol: str = msgspec.field(name="S")
    bid_venue: str | None = msgspec.field(name="bx", default=None)
    bid: Raw = msgspec.field(name="bp", default=_NONE)
    bid_size: Raw = msgspec.field(name="bs", default=_NONE)
    ask_venue: str | None = msgspec.field(name="ax", default=None)
    ask: Raw = msgspec.field(name="ap", default=_NONE)
    ask_size: Raw = msgspec.field(name="as", default=_NONE)
    conditions: Raw = msgspec.field(name="c", default=_NONE)
    tape: str | None = msgspec.field(name="z", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)


class _AnyBar(Struct, frozen=True, gc=False, omit_defaults=True):
    symbol: str = msgspec.field(name="S")
    open: Raw = msgspec.field(name="o", default=_NONE)
    high: Raw = msgspec.field(name="h", default=_NONE)
    low: Raw = msgspec.field(name="l", default=_NONE)
    close: Raw = msgspec.field(name="c", default=_NONE)
    volume: Raw = msgspec.field(name="v", default=_NONE)
    ts: Raw = msgspec.field(name="t", default=_NONE)
    trade_count: int | None = msgspec.field(name="n", default=None)
    vwap: Raw = msgspec.field(name="vw", default=_NONE)


class Bar(_AnyBar, tag_field="T", tag="b", frozen=True, gc=False, omit_defaults=True):
    """A minute bar, sent after its minute."""


class UpdatedBar(_AnyBar, tag_field="T", tag="u", frozen=True, gc=False, omit_defaults=True):
    """A minute bar again, because a late trade changed it."""


class DailyBar(_AnyBar, tag_field="T", tag="d", frozen=True, gc=False, omit_defaults=True):
    """The day's bar so far."""


class Status(Struct, tag_field="T", tag="s", frozen=True, gc=False, omit_defaults=True):
    """A halt or resumption."""

    symbol: str = msgspec.field(name="S")
    status_code: str | None = msgspec.field(name="sc", default=None)
    status_message: str | None = msgspec.field(name="sm", default=None)
    reason_code: str | None = msgspec.field(name="rc", default=None)
    reason_message: str | None = msgspec.field(name="rm", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)
    tape: str | None = msgspec.field(name="z", default=None)


class Luld(Struct, tag_field="T", tag="l", frozen=True, gc=False, omit_defaults=True):
    """A limit-up, limit-down band: ``u`` and ``d`` are prices here."""

    symbol: str = msgspec.field(name="S")
    limit_up: Raw = msgspec.field(name="u", default=_NONE)
    limit_down: Raw = msgspec.field(name="d", default=_NONE)
    indicator: str | None = msgspec.field(name="i", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)
    tape: str | None = msgspec.field(name="z", default=None)


class Correction(Struct, tag_field="T", tag="c", frozen=True, gc=False, omit_defaults=True):
    """A trade replaced by another: ``o…`` the original, ``c…`` what is right."""

    symbol: str = msgspec.field(name="S")
    trade_id: TradeId = msgspec.field(name="oi")
    venue: str | None = msgspec.field(name="x", default=None)
    price: Raw = msgspec.field(name="op", default=_NONE)
    size: Raw = msgspec.field(name="os", default=_NONE)
    conditions: Raw = msgspec.field(name="oc", default=_NONE)
    new_trade_id: TradeId | None = msgspec.field(name="ci", default=None)
    new_price: Raw = msgspec.field(name="cp", default=_NONE)
    new_size: Raw = msgspec.field(name="cs", default=_NONE)
    new_conditions: Raw = msgspec.field(name="cc", default=_NONE)
    tape: str | None = msgspec.field(name="z", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)


class Cancel(Struct, tag_field="T", tag="x", frozen=True, gc=False, omit_defaults=True):
    """A trade taken back; ``action`` is C (cancel) or E (error)."""

    symbol: str = msgspec.field(name="S")
    trade_id: TradeId = msgspec.field(name="i")
    venue: str | None = msgspec.field(name="x", default=None)
    price: Raw = msgspec.field(name="p", default=_NONE)
    size: Raw = msgspec.field(name="s", default=_NONE)
    action: str | None = msgspec.field(name="a", default=None)
    tape: str | None = msgspec.field(name="z", default=None)
    ts: Raw = msgspec.field(name="t", default=_NONE)


class Level(Struct, frozen=True, gc=False, omit_defaults=True):
    """A level of a book; size 0 removes it."""

    price: Raw = msgspec.field(name="p", default=_NONE)
    size: Raw = msgspec.field(name="s", default=_NONE)


class Book(Struct, tag_field="T", tag="o", frozen=True, omit_defaults=True):
    """Levels of a crypto book: all of them if ``is_snapshot``, else those that changed."""

    symbol: str = msgspec.field(name="S")
    ts: Raw = msgspec.field(name="t", default=_NONE)
    bids: list[Level] | None = msgspec.field(name="b", default=None)
    asks: list[Level] | None = msgspec.field(name="a", default=None)
    is_snapshot: bool = msgspec.field(name="r", default=False)


class Success(Struct, tag_field="T", tag="success", frozen=True):
    """``connected`` or ``authenticated``: two steps, of which only the second lets us in."""

    msg: str = ""


class Failure(Struct, tag_field="T", tag="error", frozen=True):
    """An error of the protocol, by Alpaca's number for it."""

    code: int
    msg: str = ""


class Subscription(
    Struct, tag_field="T", tag="subscription", frozen=True, rename="camel", omit_defaults=True
):
    """All that is subscribed now, not only what changed."""

    trades: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    updated_bars: tuple[str, ...] = ()
    daily_bars: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    lulds: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    cancel_errors: tuple[str, ...] = ()
    orderbooks: tuple[str, ...] = ()
    imbalances: tuple[str, ...] = ()


MarketData: TypeAlias = (
    Trade | Quote | Bar | UpdatedBar | DailyBar | Status | Luld | Correction | Cancel | Book
)
Message: TypeAlias = MarketData | Success | Failure | Subscription

decode_json = msgspec.json.Decoder(Message).decode
"""One JSON message; raises `msgspec.DecodeError`."""
decode_msgpack = msgspec.msgpack.Decoder(Message).decode
"""One msgpack message; raises `msgspec.DecodeError`."""

_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


def encode(messages: "list[Message]", encoding: Encoding = "json") -> bytes:
    """Write a frame: the array that every server message is.

    Raw values must be of that encoding.
    """
    return _to_json(messages) if encoding == "json" else _to_msgpack(messages)


def number(nanos: int, encoding: Encoding = "json") -> Raw:
    """Write nanos as a number: exact in JSON; in msgpack an integer or the nearest float64."""
    if encoding == "json":
        return Raw(format_nanos(nanos).encode())
    whole, fraction = divmod(nanos, NANOS)
    return Raw(_to_msgpack(nanos / NANOS if fraction else whole))


def instant(ts_ns: int, encoding: Encoding = "json") -> Raw:
    """Write an instant (ns, UTC): RFC 3339 in JSON, a 64- or 96-bit timestamp in msgpack."""
    if encoding == "json":
        return Raw(f'"{format_ns(ts_ns)}"'.encode())
    seconds, nanos = divmod(ts_ns, NANOS)
    if seconds >> 34 == 0:
        return Raw(b"\xd7\xff" + (nanos << 34 | seconds).to_bytes(8, "big"))
    return Raw(b"\xc7\x0c\xff" + nanos.to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True))


def texts(words: "list[str] | None", encoding: Encoding = "json") -> Raw:
    """Write a list of condition codes, or null."""
    return Raw(_to_json(words) if encoding == "json" else _to_msgpack(words))
