"""What the simulated vendor says, in exact integers, and how it writes that.

Prices and sizes are nanos, instants ns since the epoch (UTC). Messages of the stream are written
through the typed messages of `marketpipe.sources.alpaca.wire`; `row` writes the same facts as
Alpaca's history has them, without ``T`` and ``S``.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from marketpipe.domain.units import NANOS
from marketpipe.simulator.market import Kind
from marketpipe.sources.alpaca import wire
from marketpipe.sources.framing import Encoding

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode
_number: Final = lru_cache(maxsize=1 << 16)(wire.number)
_texts: Final = lru_cache(maxsize=1 << 10)(
    lambda words, encoding: wire.texts(list(words), encoding)
)
_ABSENT: Final = wire.Trade("").conditions
_STOCK_VWAP_UNIT: Final = NANOS // 10**6


@lru_cache(maxsize=1 << 12)
def _second(seconds: int) -> bytes:
    return bytes(wire.instant(seconds * NANOS))[:-2]


def _instant(ts_ns: int, encoding: Encoding = "json") -> Raw:
    if encoding == "msgpack":
        return wire.instant(ts_ns, encoding)
    seconds, fraction = divmod(ts_ns, NANOS)
    digits = b".%09d" % fraction if fraction else b""
    return Raw(_second(seconds) + digits.rstrip(b"0") + b'Z"')


def _write(message: Any, encoding: Encoding) -> bytes:
    return _json(message) if encoding == "json" else _msgpack(message)


class Print(NamedTuple):
    """A trade. Crypto has a taker's side (B, S or -) and neither venue, conditions nor tape."""

    symbol: str
    ts_ns: int
    price: int
    size: int
    trade_id: int
    venue: str | None
    conditions: tuple[str, ...] | None
    tape: str | None
    taker_side: str | None

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``t``."""
        words = _ABSENT if self.conditions is None else _texts(self.conditions, encoding)
        return _write(
            wire.Trade(
                self.symbol,
                self.trade_id,
                self.venue,
                _number(self.price, encoding),
                _number(self.size, encoding),
                words,
                self.tape,
                _instant(self.ts_ns, encoding),
                self.taker_side,
            ),
            encoding,
        )

    def row(self, mark: str | None) -> bytes:
        """Write the record of the history; ``mark`` is its ``u``."""
        at, price, size = _row_numbers(self.ts_ns, self.price, self.size)
        if self.conditions is None:
            return _json(_CryptoTradeRow(self.trade_id, price, size, at, self.taker_side))
        words = _texts(self.conditions, "json")
        return _json(_TradeRow(at, self.venue, price, size, words, self.trade_id, self.tape, mark))


class TopOfBook(NamedTuple):
    """A quote: the best bid and offer."""

    symbol: str
    ts_ns: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int
    bid_venue: str | None
    ask_venue: str | None
    tape: str | None

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``q``."""
        words = _ABSENT if self.tape is None else _texts(("R",), encoding)
        return _write(
            wire.Quote(
                self.symbol,
                self.bid_venue,
                _number(self.bid, encoding),
                _number(self.bid_size, encoding),
                self.ask_venue,
                _number(self.ask, encoding),
                _number(self.ask_size, encoding),
                words,
                self.tape,
                _instant(self.ts_ns, encoding),
            ),
            encoding,
        )

    def row(self) -> bytes:
        """Write the record of the history."""
        at, bid, bid_size = _row_numbers(self.ts_ns, self.bid, self.bid_size)
        ask, ask_size = _number(self.ask, "json"), _number(self.ask_size, "json")
        if self.tape is None:
            return _json(_CryptoQuoteRow(ask, ask_size, bid, bid_size, at))
        words = _texts(("R",), "json")
        return _json(
            _QuoteRow(
                at, self.ask_venue, ask, ask_size, self.bid_venue, bid, bid_size, words, self.tape
            )
        )


class BarContent(NamedTuple):
    """A bar. ``vwap_num / vwap_den`` is its exact VWAP; both are 0 where nothing was traded."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    trade_count: int
    vwap_num: int
    vwap_den: int


class BarMessage(NamedTuple):
    """A bar as sent; ``tag`` is b, u or d, ``ts_ns`` the begin of its interval."""

    tag: str
    symbol: str
    ts_ns: int
    bar: BarContent
    kind: Kind

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message."""
        bar = self.bar
        make = _BARS[self.tag]
        prices = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        return _write(
            make(
                self.symbol,
                *(wire.number(nanos, encoding) for nanos in prices),
                _instant(self.ts_ns, encoding),
                bar.trade_count,
                self._vwap(encoding),
            ),
            encoding,
        )

    def row(self) -> bytes:
        """Write the record of the history."""
        bar = self.bar
        prices = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        open_, high, low, close, volume = (wire.number(nanos) for nanos in prices)
        begin, vwap = _instant(self.ts_ns), self._vwap("json")
        return _json(_BarRow(begin, open_, high, low, close, volume, bar.trade_count, vwap))

    def _vwap(self, encoding: Encoding) -> Raw:
        vwap = vwap_nanos(self.bar.vwap_num, self.bar.vwap_den, self.kind)
        return wire.number(vwap, encoding)


_BARS: Final[dict[str, Any]] = {"b": wire.Bar, "u": wire.UpdatedBar, "d": wire.DailyBar}


def vwap_nanos(num: int, den: int, kind: Kind) -> int:
    """Return a VWAP in nanos, 0 where ``den`` is, rounded half to even.

    To 1e-6 for stocks, as all recorded answers have it. Those for crypto show up to ten digits;
    here they end at 1e-9.
    """
    unit = _STOCK_VWAP_UNIT if kind == "stocks" else 1
    return half_even(num, den * unit) * unit if den else 0


def half_even(num: int, den: int) -> int:
    """Divide integers, rounded to the nearest, ties to even; ``den`` is above 0."""
    whole, rest = divmod(num, den)
    return whole + (2 * rest > den or (2 * rest == den and whole % 2 == 1))


class Corrected(NamedTuple):
    """A print that is replaced by another one of the same instant, and when that was said."""

    ts_ns: int
    old: Print
    new: Print

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``c``."""
        old, new = self.old, self.new
        return _write(
            wire.Correction(
                old.symbol,
                old.trade_id,
                old.venue,
                _number(old.price, encoding),
                _number(old.size, encoding),
                _texts(old.conditions or (), encoding),
                new.trade_id,
                _number(new.price, encoding),
                _number(new.size, encoding),
                _texts(new.conditions or (), encoding),
                old.tape,
                _instant(self.ts_ns, encoding),
            ),
            encoding,
        )


class Cancelled(NamedTuple):
    """A print that is taken back; ``action`` is C or E."""

    ts_ns: int
    old: Print
    action: str

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``x``."""
        old = self.old
        return _write(
            wire.Cancel(
                old.symbol,
                old.trade_id,
                old.venue,
                _number(old.price, encoding),
                _number(old.size, encoding),
                self.action,
                old.tape,
                _instant(self.ts_ns, encoding),
            ),
            encoding,
        )


class Halted(NamedTuple):
    """A trading status."""

    symbol: str
    ts_ns: int
    code: str
    text: str
    reason_code: str
    reason: str
    tape: str

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``s``."""
        at = _instant(self.ts_ns, encoding)
        texts = (self.code, self.text, self.reason_code, self.reason)
        return _write(wire.Status(self.symbol, *texts, at, self.tape), encoding)


class Bands(NamedTuple):
    """A limit-up, limit-down band."""

    symbol: str
    ts_ns: int
    up: int
    down: int
    tape: str

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``l``."""
        up, down = wire.number(self.up, encoding), wire.number(self.down, encoding)
        at = _instant(self.ts_ns, encoding)
        return _write(wire.Luld(self.symbol, up, down, "B", at, self.tape), encoding)


class BookLevels(NamedTuple):
    """Levels of a crypto book, ``(price, size)``: all, or those that changed (size 0: gone)."""

    symbol: str
    ts_ns: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    is_snapshot: bool

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message ``o``."""
        bids, asks = (
            [wire.Level(_number(price, encoding), _number(size, encoding)) for price, size in side]
            for side in (self.bids, self.asks)
        )
        at = _instant(self.ts_ns, encoding)
        return _write(wire.Book(self.symbol, at, bids, asks, self.is_snapshot), encoding)


class _TradeRow(msgspec.Struct, gc=False, omit_defaults=True):
    t: Raw
    x: str | None
    p: Raw
    s: Raw
    c: Raw
    i: int
    z: str | None
    u: str | None = None


class _CryptoTradeRow(msgspec.Struct, gc=False):
    i: int
    p: Raw
    s: Raw
    t: Raw
    tks: str | None


class _QuoteRow(msgspec.Struct, gc=False):
    t: Raw
    ax: str | None
    ap: Raw
    as_: Raw = msgspec.field(name="as")
    bx: str | None
    bp: Raw
    bs: Raw
    c: Raw
    z: str | None


class _CryptoQuoteRow(msgspec.Struct, gc=False):
    ap: Raw
    as_: Raw = msgspec.field(name="as")
    bp: Raw
    bs: Raw
    t: Raw


class _BarRow(msgspec.Struct, gc=False):
    t: Raw
    o: Raw
    h: Raw
    l: Raw  # noqa: E741
    c: Raw
    v: Raw
    n: int
    vw: Raw


def _row_numbers(ts_ns: int, price: int, size: int) -> tuple[Raw, Raw, Raw]:
    return _instant(ts_ns), _number(price, "json"), _number(size, "json")
