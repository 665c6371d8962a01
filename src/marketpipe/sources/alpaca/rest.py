"""Alpaca's history over HTTP: pages of trades, quotes and minute bars, and what is latest.

Retries what can mend itself (limits, overload, a lost connection), each a bounded number of
times; all else is an error that says what to do. The keys are in the headers of requests and
nowhere else.

Source: docs.alpaca.markets, "Historical API"; error 42210000 and the rate-limit headers as users
and SDKs report them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from random import Random  # noqa: TID251  # spreads retries; nothing is built of it
from typing import Final, NamedTuple

import httpx
from pydantic import SecretStr

from marketpipe.domain.batches import TradeBatch
from marketpipe.domain.closing import AsyncClosing
from marketpipe.domain.units import MAX_TS_NS, NANOS, format_ns
from marketpipe.errors import (
    ConnectError,
    RateLimitError,
    UsageError,
    VendorError,
)
from marketpipe.sources.alpaca import answers
from marketpipe.sources.alpaca.asking import checked, data_address, past, where
from marketpipe.sources.alpaca.config import DATA_URL
from marketpipe.sources.alpaca.pages import PageKind, add_page, stream_of
from marketpipe.sources.alpaca.parse import AlpacaParser
from marketpipe.sources.clocks import Clock, SystemClock
from marketpipe.sources.records import RecordBuilder, as_stored
from marketpipe.sources.supervision import Backoff

MAX_LIMIT: Final = 10_000
"""Elements of a page at most, counted over all symbols."""
SYMBOLS_PER_REQUEST: Final = 400
"""More make an address that servers may find too long."""
TRIES: Final = 5
"""How often a request is made that fails for a passing reason."""
LIMITED_TRIES: Final = 10
"""How often a request is made that the vendor's limit turns away."""
MAX_BODY_BYTES: Final = 1 << 26

_CONNECT_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 120.0
_LONGEST_WAIT_SECONDS: Final = 30.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_log = logging.getLogger("marketpipe.alpaca")


class Mark(NamedTuple):
    """How far pages have come: the group of symbols, from 0, and where its next page begins."""

    group: int
    token: str | None


class Page(NamedTuple):
    """One answer to a request for history.

    Attributes
    ----------
    body : as it came
    url : what was asked; holds no key
    received_ns : when it was complete, ns since the epoch, UTC, by the feed's clock
    next_page_token : where the next page begins; None for the last
    group : which `SYMBOLS_PER_REQUEST` of the symbols it is of, from 0
    """

    body: bytes
    url: str
    received_ns: int
    next_page_token: str | None
    group: int = 0

    @property
    def mark(self) -> Mark:
        """Where to go on behind it."""
        return Mark(self.group, self.next_page_token)


class Look(NamedTuple):
    """What a request that was made once told.

    Attributes
    ----------
    failure : why there are no data; None if there are
    server_ns : what time it is at the server, ns since the epoch, UTC, cut to the second; None
        if it did not say
    begun_ns, ended_ns : when it was asked and answered, by the client's clock
    per_minute : how many requests the plan allows in a minute; None if the server did not say
    """

    failure: VendorError | None
    server_ns: int | None
    begun_ns: int
    ended_ns: int
    per_minute: int | None


class AlpacaRest(AsyncClosing):
    """A client of Alpaca's market data API; an asynchronous context manager.

    Parameters
    ----------
    key, secret : both or, as crypto allows, neither
    url : of the server, without a path; `DATA_URL` by default
    clock : what ``received_ns`` is read from and retries are spaced by
    random : spreads retries
    pause, real_ns : waits seconds of real time, and tells it (ns since the epoch, UTC), for the
        vendor's rate limit knows no other; None: the system's
    answer_seconds : longest silence of the server while it owes an answer, in real time
    """

    def __init__(
        self,
        key: SecretStr | None,
        secret: SecretStr | None,
        *,
        url: str = DATA_URL,
        clock: Clock,
        random: Random,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        real_ns: Callable[[], int] | None = None,
        answer_seconds: float = 30.0,
    ) -> None:
        self._keys = answers.Keys(key, secret)
        self._url = data_address(url)
        self._clock, self._random, self._pause = clock, random, pause
        self._real_ns = real_ns or SystemClock().now_ns
        self._client = httpx.AsyncClient(
            auth=self._keys,
            headers={"User-Agent": "marketpipe", "Accept": "application/json"},
            timeout=httpx.Timeout(answer_seconds, connect=_CONNECT_SECONDS),
            # The environment's proxy is for the internet and would be in the way on this machine.
            trust_env=httpx.URL(self._url).host not in _LOOPBACK,
        )

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        await self._client.aclose()

    async def pages(
        self,
        kind: PageKind,
        symbols: Collection[str],
        start_ns: int,
        end_ns: int,
        *,
        feed: str | None = None,
        crypto: bool = False,
        loc: str = "us",
        timeframe: str = "1Min",
        limit: int = MAX_LIMIT,
        after: Mark | None = None,
    ) -> AsyncIterator[Page]:
        """Yield pages until there is no next; by symbol, then by time. An empty page is a page.

        Parameters
        ----------
        start_ns, end_ns : both inclusive, as the vendor has it, ns since the epoch, UTC; of bars
            the instants at which they begin
        feed : of stocks, where it must be given: the vendor's default depends on the plan. What
            ``delayed_sip`` streams is ``sip`` in history.
        crypto, loc : for crypto, and which of its venues
        timeframe : of bars, in the vendor's words; only minute bars can become records
        limit : elements of a page, 1 to `MAX_LIMIT`
        after : goes on behind the page of that mark, which the same arguments gave before

        Raises
        ------
        UsageError
            If what is asked makes no sense.
        VendorError
            AuthError, EntitlementError, RefusedError at once; RateLimitError and ConnectError when
            retries are used up; ConnectError too where a page's token comes a second time.
        """
        names = checked(symbols)
        if not 0 <= start_ns <= end_ns <= MAX_TS_NS or not 1 <= limit <= MAX_LIMIT:
            raise UsageError(
                f"Alpaca history: start_ns was {start_ns}, end_ns {end_ns}, limit {limit}; valid "
                f"are 0 <= start_ns <= end_ns (both inclusive) and 1 to {MAX_LIMIT:,}"
            )
        path, params = where(kind, past(feed), crypto=crypto, loc=loc)
        params |= {"start": format_ns(start_ns), "end": format_ns(end_ns), "limit": str(limit)}
        params["sort"] = "asc"
        if kind == "bars":
            params |= {"timeframe": timeframe} | ({} if crypto else {"adjustment": "raw"})
        if not crypto:
            # By the symbol of the day, as it was streamed, not by what it was renamed to since.
            params["asof"] = "-"
        group, token = after or (0, None)
        if after is not None and token is None:
            group += 1
        for first in range(group * SYMBOLS_PER_REQUEST, len(names), SYMBOLS_PER_REQUEST):
            params["symbols"] = ",".join(names[first : first + SYMBOLS_PER_REQUEST])
            async for page in self._following(path, params, token):
                yield page._replace(group=first // SYMBOLS_PER_REQUEST)
            token = None

    async def latest(
        self,
        kind: PageKind,
        symbols: Collection[str],
        *,
        feed: str | None = None,
        crypto: bool = False,
        loc: str = "us",
    ) -> Mapping[str, int]:
        """Return when the latest of each symbol happened, ns since the epoch, UTC.

        ``kind`` tells of what; a bar happens when it begins. Symbols of which the vendor has none
        are absent. Other arguments and errors as of `pages`.
        """
        names = checked(symbols)
        path, params = where(kind, feed, crypto=crypto, loc=loc, latest=True)
        found: dict[str, int] = {}
        for first in range(0, len(names), SYMBOLS_PER_REQUEST):
            params["symbols"] = ",".join(names[first : first + SYMBOLS_PER_REQUEST])
            body, _ = await self._get(path, params)
            found |= answers.latest_times(body, kind)
        return found

    async def look(
        self,
        symbols: Collection[str],
        *,
        feed: str | None = None,
        crypto: bool = False,
        loc: str = "us",
        ago_ns: int = 0,
    ) -> Look:
        """Ask once for trades of a minute, as the repair of a gap does; what fails is returned.

        Parameters
        ----------
        ago_ns : how long ago the minute ended
        feed, crypto, loc : as of `pages`

        Raises
        ------
        UsageError
            If what is asked makes no sense.
        """
        path, params = where("trades", past(feed), crypto=crypto, loc=loc)
        begun_ns = self._clock.now_ns()
        end_ns = begun_ns - ago_ns
        params |= {"start": format_ns(end_ns - 60 * NANOS), "end": format_ns(end_ns)}
        params |= {"limit": "1", "symbols": ",".join(checked(symbols)[:SYMBOLS_PER_REQUEST])}
        answer, what = await self._ask(path, params), answers.asked(params)
        ended_ns = self._clock.now_ns()
        if isinstance(answer, str):
            return Look(self._unanswered(what, answer), None, begun_ns, ended_ns, None)
        told = answers.server_ns(answer), begun_ns, ended_ns, answers.per_minute(answer)
        return Look(answers.failure(answer, what, self._keys), *told)

    async def _following(
        self, path: str, params: Mapping[str, str], token: str | None
    ) -> AsyncIterator[Page]:
        seen: set[str] = set() if token is None else {token}
        while True:
            asked = dict(params) if token is None else {**params, "page_token": token}
            body, url = await self._get(path, asked)
            received_ns = self._clock.now_ns()
            token = answers.next_page_token(body)
            if token is not None and token in seen:
                # Not for good: what gives it may be mended by the next attempt.
                raise ConnectError(
                    f"Alpaca: {answers.asked(asked)}: the token of the next page, {token[:80]!r}, "
                    f"came a second time after {len(seen)} pages, so the pages go round in a "
                    "circle; ask again later, or for a shorter time"
                )
            yield Page(body, url, received_ns, token)
            if token is None:
                return
            seen.add(token)

    async def _get(self, path: str, params: Mapping[str, str]) -> tuple[bytes, str]:
        """Ask until there is an answer that can be used; return its body and the address."""
        tries = Backoff(self._random, cap_seconds=_LONGEST_WAIT_SECONDS)
        limits = Backoff(self._random, cap_seconds=_LONGEST_WAIT_SECONDS)
        what = answers.asked(params)
        while True:
            answer = await self._ask(path, params)
            if isinstance(answer, answers.Answer):
                failure = answers.failure(answer, what, self._keys)
                if failure is None:
                    return answer.body, answer.url
                if isinstance(failure, RateLimitError):
                    wait = limits.pause()
                    if limits.attempt >= LIMITED_TRIES:
                        raise failure
                    wait += answers.seconds_to_reset(answer, self._real_ns())
                    _log.warning("Alpaca limits requests: waiting %.1f s", wait)
                    await self._pause(wait)
                    continue
                if not answers.may_pass(answer):
                    raise failure
            else:
                failure = self._unanswered(what, answer)
            wait = tries.pause()
            if tries.attempt >= TRIES:
                raise failure
            _log.warning("%s; try %d of %d failed", failure, tries.attempt, TRIES)
            await self._clock.sleep(wait)

    def _unanswered(self, what: str, why: str) -> ConnectError:
        return ConnectError(
            f"Alpaca: {what}: {self._url} gave no answer: {why}. Check the network, the name of "
            "the server, and proxy settings"
        )

    async def _ask(self, path: str, params: Mapping[str, str]) -> "answers.Answer | str":
        """Ask once; return the answer, or what was in the way of one."""
        try:
            async with (
                asyncio.timeout(_WHOLE_SECONDS),
                self._client.stream("GET", self._url + path, params=params) as response,
            ):
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_BODY_BYTES:
                        return f"an answer of more than {MAX_BODY_BYTES:,} bytes"
        except TimeoutError:
            return f"nothing complete in {_WHOLE_SECONDS:.0f} s"
        except httpx.HTTPError as error:
            return self._keys.scrub(f"{type(error).__name__}: {error}".removesuffix(": "))
        return answers.Answer(
            response.status_code, response.headers, bytes(body), str(response.url)
        )


async def historical_ticks(
    rest: AlpacaRest,
    symbol: str,
    start_ns: int,
    end_ns: int,
    feed: str,
    *,
    crypto: bool = False,
) -> AsyncIterator[TradeBatch]:
    """Yield the trades of one symbol, a batch per page, in the vendor's order.

    Cancelled trades are left out. Rows count the elements of all pages, from 0. What cannot be
    read is in the batches' ``bad``; a page of nothing else gives a warning of the log.

    Parameters
    ----------
    start_ns, end_ns : ``[start_ns, end_ns)``, ns since the epoch, UTC
    feed : ``iex``, ``sip``, ...; of crypto the venue, ``us``
    crypto : whether ``symbol`` is a pair of crypto currencies

    Raises
    ------
    UsageError, VendorError
        As `AlpacaRest.pages`.
    """
    parser = AlpacaParser()
    row = 0
    pages = rest.pages("trades", [symbol], start_ns, end_ns - 1, feed=feed, crypto=crypto, loc=feed)
    async for page in pages:
        builder = RecordBuilder(
            source="alpaca", feed=feed, stream=stream_of("trades"), conn_id=0,
            conn_started_ns=page.received_ns,
        )  # fmt: skip
        count = add_page(builder, page.body, page.received_ns)
        parsed = parser.parse(as_stored(builder.take(), "alpaca", row))
        row += count
        if parsed.trades is not None:
            yield replace(parsed.trades, bad=parsed.bad)
        elif parsed.bad:
            _log.warning(
                "Alpaca: a page of %s cannot be read: %d rows, the first for %s",
                symbol, len(parsed.bad), parsed.bad[0].reason,
            )  # fmt: skip
