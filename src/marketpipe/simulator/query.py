"""The parameters of a REST request, read as the vendor reads them."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.simulator.market import Kind
from marketpipe.simulator.rollup import ZONES, Timeframe

DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 10_000
FEEDS: Final = ("sip", "iex", "delayed_sip", "boats", "overnight", "otc")
EMPTY_FEEDS: Final = ("boats", "overnight", "otc")
"""Feeds that may be asked for, and in which the simulated market has nothing."""

_ADJUSTMENTS: Final = ("raw", "split", "dividend", "spin-off", "all")
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d))?"
)


class BadRequestError(Exception):
    """A request that is answered with 400; its argument is the message."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where a page begins: what ``page_token`` stands for.

    Attributes
    ----------
    symbol, index : the first record: of which symbol, and how many of its records come before
    known_ns : when the first page was asked for: all pages show what was known then
    """

    symbol: str
    index: int
    known_ns: int

    def token(self) -> str:
        """Write it as a token."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode()


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request for a range of history.

    Attributes
    ----------
    symbols : ascending, each once
    start_ns, end_ns : both inclusive
    limit : most records of a page, over all symbols
    descending : newest first within a symbol
    feed : of stocks, what was asked for, or None
    place : where the page begins, if it is not the first
    """

    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int | None
    limit: int
    descending: bool
    feed: str | None
    place: Place | None


def read_query(given: Mapping[str, str], kind: Kind, now_ns: int) -> Query:
    """Read the parameters of ``/bars``, ``/trades`` and ``/quotes``.

    Without ``start`` the range begins with the day of ``now_ns``, in New York for stocks and in
    UTC for crypto. A date stands for its midnight there.

    Raises
    ------
    BadRequestError
        A parameter is missing or malformed.
    """
    start, end = given.get("start"), given.get("end")
    day = datetime.fromtimestamp(now_ns // NANOS, ZONES[kind]).strftime("%Y-%m-%d")
    start_ns = _instant_ns(start or day, "start", kind)
    end_ns = _instant_ns(end, "end", kind) if end else None
    if end_ns is not None and end_ns < start_ns:
        raise BadRequestError("end should not be before start")
    limit = given.get("limit", str(DEFAULT_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
        raise BadRequestError(f"invalid limit: it must be between 1 and {MAX_LIMIT}")
    if given.get("sort", "asc") not in {"asc", "desc"}:
        raise BadRequestError("invalid sort: it must be asc or desc")
    return Query(
        symbols=read_symbols(given),
        start_ns=start_ns,
        end_ns=end_ns,
        limit=int(limit),
        descending=given.get("sort") == "desc",
        feed=_read_stock_words(given, kind),
        place=_place(given.get("page_token", "")),
    )


def read_symbols(given: Mapping[str, str]) -> tuple[str, ...]:
    """Read ``symbols``; raises `BadRequestError` where there is none."""
    symbols = {symbol.strip() for symbol in given.get("symbols", "").split(",") if symbol.strip()}
    if not symbols:
        raise BadRequestError("symbols is required")
    return tuple(sorted(symbols))


def read_feed(given: Mapping[str, str], kind: Kind) -> str | None:
    """Read ``feed``, which only stocks have; raises `BadRequestError` where it is none of them."""
    feed = given.get("feed") if kind == "stocks" else None
    if feed is not None and feed not in FEEDS:
        raise BadRequestError(f"invalid feed: {feed}")
    return feed


def read_timeframe(given: Mapping[str, str]) -> Timeframe:
    """Read ``timeframe``, 1Min where there is none; raises `BadRequestError` if it is none."""
    text = given.get("timeframe", "1Min")
    timeframe = Timeframe.read(text)
    if timeframe is None:
        raise BadRequestError(f"invalid timeframe: {text}")
    return timeframe


def _read_stock_words(given: Mapping[str, str], kind: Kind) -> str | None:
    """Check what only stocks have; prices are the same however they are adjusted."""
    if kind == "stocks":
        for word in given.get("adjustment", "raw").split(","):
            if word not in _ADJUSTMENTS:
                raise BadRequestError(f"invalid adjustment: {word}")
        asof = given.get("asof", "-")
        if asof not in ("", "-"):
            _instant_ns(asof, "asof", kind, only_days=True)
    return read_feed(given, kind)


def _place(token: str) -> Place | None:
    if not token:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(token), type=Place)
    except (ValueError, msgspec.MsgspecError):
        raise BadRequestError("invalid page_token") from None


def _instant_ns(text: str, name: str, kind: Kind, *, only_days: bool = False) -> int:
    match = _INSTANT.fullmatch(text)
    if match is None or (only_days and match[2]):
        raise BadRequestError(f"invalid {name}: {text}")
    day, clock, fraction, zone = match.groups()
    try:
        if clock is None:
            whole = datetime.fromisoformat(day).replace(tzinfo=ZONES[kind])
        else:
            whole = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError:
        raise BadRequestError(f"invalid {name}: {text}") from None
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    ns = (since.days * 86_400 + since.seconds) * NANOS + int((fraction or "0").ljust(9, "0"))
    return min(max(ns, 0), MAX_TS_NS)
