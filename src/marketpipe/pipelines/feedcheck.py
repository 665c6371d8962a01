"""Whether a live feed of Alpaca can be had: keys, addresses, plan, and the machine's clock."""

from collections.abc import AsyncIterator
from random import Random  # noqa: TID251  # spreads retries; nothing is built of it
from typing import Final

from pydantic import SecretStr

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import MarketPipeError, RateLimitError, UsageError, VendorError
from marketpipe.pipelines.folderstate import Check
from marketpipe.pipelines.gapfill import EMBARGO_NS
from marketpipe.sources.alpaca.answers import Keys
from marketpipe.sources.alpaca.asking import data_address
from marketpipe.sources.alpaca.client import AlpacaConnector
from marketpipe.sources.alpaca.config import AlpacaStream, stream_address
from marketpipe.sources.alpaca.rest import AlpacaRest, Look
from marketpipe.sources.clocks import Clock, FollowedClock

MOST_SKEW_NS: Final = 2 * NANOS
"""How wrong the machine's clock may be: bars wait a second for late messages."""

_HOW_TO_SET: Final = (
    "set ALPACA_API_KEY and ALPACA_SECRET_KEY, or put them into keys.env in this folder; keys are "
    "free at alpaca.markets"
)
_FEEDS: Final = {
    "v2/iex": "trades and quotes of one exchange, in every plan",
    "v2/sip": "all exchanges of the US, in Algo Trader Plus only",
    "v2/delayed_sip": "all exchanges of the US, 15 minutes late",
    "v2/test": "the vendor's test stream",
}


def keys_check(key: SecretStr | None, secret: SecretStr | None, *, needed: bool) -> Check:
    """Say whether there are keys that can be sent; they are not shown, nor how long they are.

    Parameters
    ----------
    needed : whether it is wrong that there are none
    """
    what = "keys of alpaca"
    if key is None and secret is None:
        return Check(
            what, "broken" if needed else "absent", "not set", f"live feeds: {_HOW_TO_SET}"
        )
    if key is None or secret is None:
        lacking = "ALPACA_API_KEY" if key is None else "ALPACA_SECRET_KEY"
        return Check(what, "broken", f"{lacking} is not set, the other is", _HOW_TO_SET)
    try:
        Keys(key, secret)
    except UsageError as problem:
        return Check(what, "broken", str(problem), _HOW_TO_SET)
    return Check(what, "ok", "key and secret are set")


def feed_check(path: str, symbols: tuple[str, ...], url: str, rest_url: str) -> Check:
    """Say what a feed would be taken from; nobody is asked."""
    what = f"feed {path}"
    try:
        stream, rest = stream_address(url, path), data_address(rest_url)
    except UsageError as problem:
        return Check(what, "broken", str(problem), "mend section `alpaca` of the configuration")
    about = _FEEDS.get(path, "crypto, in every plan")
    named = ", ".join(symbols[:10]) + (f" and {len(symbols) - 10} more" if symbols[10:] else "")
    return Check(what, "ok", f"{about}; stream {stream}, history {rest}, symbols {named}")


async def clock_check(url: str) -> Check:
    """Ask a clock that is to be followed for the time."""
    what = f"clock {url}"
    try:
        async with await FollowedClock.follow(url) as clock:
            return Check(what, "ok", f"{format_ns(clock.now_ns())}, at speed {clock.speed:g}")
    except VendorError as problem:
        return Check(what, "broken", str(problem), "mend alpaca.clock, or leave it out")


async def asked(
    stream: AlpacaStream, symbols: tuple[str, ...], clock: Clock, random: Random, *, skew: bool
) -> AsyncIterator[Check]:
    """Ask both servers of a feed what running it would: to let us in, and for its history.

    Parameters
    ----------
    symbols : subscribed in the feed's usual channels, and asked for in its history
    clock : the feed's time
    skew : whether that is the machine's own, and to be compared with the server's
    """
    yield await _stream(stream, symbols, clock, random)
    async with AlpacaRest(
        stream.key, stream.secret, url=stream.rest_url, clock=clock, random=random
    ) as rest:
        look = await rest.look(
            symbols,
            feed=stream.feed,
            crypto=stream.is_crypto,
            loc=stream.feed,
            ago_ns=EMBARGO_NS if stream.path == "v2/delayed_sip" else 0,
        )
    yield _history(stream, look)
    if skew and look.server_ns is not None:
        yield _skew(look, look.server_ns, data_address(stream.rest_url))


async def _stream(
    stream: AlpacaStream, symbols: tuple[str, ...], clock: Clock, random: Random
) -> Check:
    what = f"stream {stream.address}"
    connector = AlpacaConnector(stream, clock=clock, random=random)
    try:
        await connector.subscribe(symbols)
        lacking = await connector.try_out()
    except RateLimitError as problem:
        remedy = "if the other is `marketpipe stream`, all is well: it has the connection"
        return Check(what, "note", str(problem), remedy)
    except MarketPipeError as problem:
        return Check(what, "broken", str(problem))
    if lacking:
        return Check(what, "note", lacking, "these symbols would get nothing: check their names")
    return Check(what, "ok", f"lets these keys in, and grants {len(symbols)} symbols")


def _history(stream: AlpacaStream, look: Look) -> Check:
    what = f"history {data_address(stream.rest_url)} of {stream.feed}"
    if isinstance(look.failure, RateLimitError):
        return Check(what, "note", str(look.failure))
    if look.failure is not None:
        return Check(what, "broken", str(look.failure), "until then gaps are not filled")
    allowed = f"; {look.per_minute:,} requests a minute" if look.per_minute is not None else ""
    return Check(what, "ok", f"gives the trades that a gap would need{allowed}")


def _skew(look: Look, server_ns: int, url: str) -> Check:
    """Compare clocks as far as is certain: the header is cut to the second, the way takes time."""
    ahead_ns = look.begun_ns - (server_ns + NANOS)
    behind_ns = server_ns - look.ended_ns
    what, off_ns = "time", max(ahead_ns, behind_ns)
    if off_ns <= MOST_SKEW_NS:
        return Check(what, "ok", f"this machine's clock agrees with that of {url}")
    found = f"{off_ns / NANOS:.0f} s {'ahead of' if ahead_ns > behind_ns else 'behind'} that of"
    return Check(
        what,
        "broken",
        f"this machine's clock, by which bars close, is {found} {url}",
        "set the clock, by NTP: timedatectl set-ntp true",
    )
