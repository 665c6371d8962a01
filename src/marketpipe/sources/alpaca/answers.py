"""What the answers of Alpaca's API mean: data, the next page, or an error in words that help."""

from collections.abc import Generator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx
import msgspec
from msgspec import Raw, field
from pydantic import SecretStr

from marketpipe.domain.units import NANOS
from marketpipe.errors import (
    AuthError,
    ConnectError,
    EntitlementError,
    RateLimitError,
    RefusedError,
    UsageError,
    VendorError,
)
from marketpipe.sources import numbers
from marketpipe.sources.alpaca.pages import PageKind
from marketpipe.sources.alpaca.values import DECODE_ERRORS
from marketpipe.sources.numbers.reasons import OK

NO_RECENT_SIP: Final = 42210000
"""The vendor's code: the plan does not include the last 15 minutes of SIP data."""
LONGEST_RESET_SECONDS: Final = 65.0
"""Limits are per minute: a reset further off is not believed."""

_MOST_WORDS: Final = 200
_SYMBOLS_NAMED: Final = 3


class Answer(NamedTuple):
    """A complete answer; ``url`` is what was asked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Keys(httpx.Auth):
    """The keys, which go into the headers of requests.

    Raises
    ------
    UsageError
        If only one is given, or one holds what no header can; it is not repeated.
    """

    def __init__(self, key: SecretStr | None, secret: SecretStr | None) -> None:
        if (key is None) != (secret is None):
            missing = "secret" if secret is None else "key"
            raise UsageError(f"Alpaca: the {missing} is missing; give key and secret, or neither")
        for name, value in (("key", key), ("secret", secret)):
            text = value.get_secret_value() if value is not None else "x"
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise UsageError(
                    f"Alpaca: the {name} is empty, or has blanks or characters that no key has; "
                    "copy it again from the vendor's page"
                )
        self._key, self._secret = key, secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign one request."""
        if self._key is not None and self._secret is not None:
            request.headers["APCA-API-KEY-ID"] = self._key.get_secret_value()
            request.headers["APCA-API-SECRET-KEY"] = self._secret.get_secret_value()
        yield request

    @property
    def are_given(self) -> bool:
        """Whether there are any."""
        return self._key is not None

    def scrub(self, text: str) -> str:
        """Take the keys out of a text."""
        for value in (self._secret, self._key):
            if value is not None:
                text = text.replace(value.get_secret_value(), "***")
        return text


class _Head(msgspec.Struct):
    next_page_token: str | None = None


class _Refusal(msgspec.Struct):
    code: int | None = None
    message: str = ""


class _Dated(msgspec.Struct):
    ts: Raw = field(name="t", default=Raw())


class _Latest(msgspec.Struct):
    trades: dict[str, _Dated | None] | None = None
    quotes: dict[str, _Dated | None] | None = None
    bars: dict[str, _Dated | None] | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_refusal = msgspec.json.Decoder(_Refusal).decode
_decode_latest = msgspec.json.Decoder(_Latest).decode


def next_page_token(body: bytes) -> str | None:
    """Return where the next page begins; None for the last."""
    return _decode_head(body).next_page_token or None


def latest_times(body: bytes, kind: PageKind) -> dict[str, int]:
    """Return the times of the latest of a kind by symbol, ns; unreadable ones are absent."""
    try:
        found = _decode_latest(body)
    except DECODE_ERRORS:
        return {}
    latest = {"trades": found.trades, "quotes": found.quotes, "bars": found.bars}[kind] or {}
    names = [name for name, one in latest.items() if one is not None]
    times, reasons = numbers.instants([one.ts for one in latest.values() if one is not None])
    told = zip(names, times.tolist(), reasons.tolist(), strict=True)
    return {name: ts for name, ts, reason in told if reason == OK}


def asked(params: Mapping[str, str]) -> str:
    """Say what was asked, in words."""
    symbols = params["symbols"].split(",")
    more = f" and {len(symbols) - _SYMBOLS_NAMED:,} more" if len(symbols) > _SYMBOLS_NAMED else ""
    span = f" from {params['start']} to {params['end']}" if "start" in params else ""
    feed = f", feed {params['feed']}" if "feed" in params else ""
    return f"history of {', '.join(symbols[:_SYMBOLS_NAMED])}{more}{span}{feed}"


def may_pass(answer: Answer) -> bool:
    """Tell whether the same request may succeed a little later."""
    return answer.status >= 500 or answer.status == 408 or _is_damaged(answer)


def failure(answer: Answer, what: str, keys: Keys) -> VendorError | None:
    """Make the error that an answer is; None if it holds data."""
    status = answer.status
    if status == 200 and _is_page(answer.body):
        return None
    code, words = _refusal(answer.body)
    said = keys.scrub(f"{status} {words}".strip())
    if status == 429:
        return RateLimitError(
            f"Alpaca: {what}: more requests than the plan allows ({said}), for longer than a "
            "limit lasts; wait a minute, stop other programs that use the same keys, or get a "
            "plan with more requests"
        )
    if status == 407 or 300 <= status < 400 or (status < 500 and _is_html(answer)):
        return ConnectError(
            f"Alpaca: {what}: what answered is not Alpaca ({said}), but a web page or a proxy "
            f"between us and {httpx.URL(answer.url).host}; check proxy settings, log in where the "
            "network asks for it, and check the address"
        )
    if code == NO_RECENT_SIP or (status == 403 and "subscription" in words):
        return EntitlementError(
            f"Alpaca: {what}: the plan does not include this ({said}). The free plan has feed "
            "iex, and SIP data that is older than 15 minutes: ask for feed iex, for an earlier "
            "end, or get a plan with SIP (Algo Trader Plus)"
        )
    if status in (401, 403):
        why = "it refuses the key" if keys.are_given else "it wants a key"
        return AuthError(
            f"Alpaca: {what}: {why} ({said}). Check that key and secret belong together, are "
            "still valid, and are of this environment (sandbox or not)"
        )
    if _is_damaged(answer):
        return ConnectError(
            f"Alpaca: {what}: the answer is damaged, it is no page of JSON; ask again later"
        )
    if may_pass(answer):
        return ConnectError(
            f"Alpaca: {what}: the server cannot answer now ({said}); ask again later"
        )
    return RefusedError(
        f"Alpaca: {what}: it refuses what was asked ({said}). Check symbols, times and feed"
    )


def server_ns(answer: Answer) -> int | None:
    """Return what time it is at the server, ns, cut to the second; None if it does not say."""
    try:
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
        return int(told.timestamp()) * NANOS
    except (ValueError, OverflowError):
        return None


def per_minute(answer: Answer) -> int | None:
    """Return how many requests the plan allows in a minute; None if the server does not say."""
    limit = answer.headers.get("X-RateLimit-Limit", "")
    return int(limit) if limit.isascii() and limit.isdecimal() and len(limit) < 10 else None


def seconds_to_reset(answer: Answer, real_ns: int) -> float:
    """Return how long a limit lasts in real time, by the server's clock if it tells its time.

    Else by ``real_ns``: where a feed's clock is another, as a simulator's is, limits do not follow
    it. 0 if it does not say, or what it says cannot be so.
    """
    try:
        reset = int(answer.headers.get("X-RateLimit-Reset", ""))
    except ValueError:
        return 0.0
    there_ns = server_ns(answer)
    wait = reset - (real_ns if there_ns is None else there_ns) / NANOS
    return wait if 0 < wait <= LONGEST_RESET_SECONDS else 0.0


def _is_page(body: bytes) -> bool:
    try:
        _decode_head(body)
    except DECODE_ERRORS:
        return False
    return True


def _refusal(body: bytes) -> tuple[int | None, str]:
    try:
        refusal = _decode_refusal(body)
    except DECODE_ERRORS:
        text = body[:_MOST_WORDS].decode("utf-8", "replace")
        refusal = _Refusal(None, " ".join(text.split()))
    shown = "".join(c for c in refusal.message[:_MOST_WORDS] if c.isprintable())
    return refusal.code, f"{refusal.code} {shown}" if refusal.code is not None else shown


def _is_damaged(answer: Answer) -> bool:
    return answer.status == 200 and not _is_page(answer.body) and not _is_html(answer)


def _is_html(answer: Answer) -> bool:
    kind = answer.headers.get("Content-Type", "")
    return "html" in kind.lower() or answer.body.lstrip()[:1] == b"<"
