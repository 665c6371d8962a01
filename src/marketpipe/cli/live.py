"""Live feeds of `marketpipe stream`."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random  # noqa: TID251  # spreads retries; nothing is built of it
from typing import Final

from marketpipe.access import folder_of
from marketpipe.cli.common import progress_line
from marketpipe.cli.wiring import live_settings
from marketpipe.errors import UsageError
from marketpipe.pipelines.alpacafeed import alpaca_feed
from marketpipe.pipelines.livefeed import LiveFeed
from marketpipe.pipelines.service import Ingested, IngestionService, Progress
from marketpipe.settings import AlpacaSettings, Settings, StreamSettings
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.rest import AlpacaRest
from marketpipe.sources.clocks import Clock, FollowedClock, SystemClock

SYMBOLS: Final = ("AAPL", "SPY", "QQQ")
CRYPTO_SYMBOLS: Final = ("BTC/USD", "ETH/USD")

_log = logging.getLogger("marketpipe.stream")


def stream_live(read: Settings, source: str, price: str, *, quiet: bool) -> list[Ingested]:
    """Run live feeds until SIGINT or SIGTERM; return what each came to.

    A feed that fails does not stop another: its failure is logged at once, and raised when the
    others have ended.

    Raises
    ------
    UsageError
        If the source is none, or the keys are not set.
    VendorError, StorageError
        If a feed could not go on.
    """
    if source != "alpaca":
        raise UsageError(f"source: was '{source}'; live feeds are of alpaca")
    with progress_line(quiet) as show:
        return asyncio.run(_run(read, price, show))


async def _run(read: Settings, price: str, show: Progress | None) -> list[Ingested]:
    async with feeds_of(read) as feeds:
        seen = show if len(feeds) == 1 else None
        services = [_service(read, feed, price, seen) for feed in feeds]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, services)
        return await run_beside(services)


def services_of(read: Settings, feeds: list[LiveFeed]) -> list[IngestionService]:
    """Make a service for each feed."""
    return [_service(read, feed, "trade", None) for feed in feeds]


async def run_beside(services: list[IngestionService]) -> list[Ingested]:
    """Run services beside one another; a failure is raised when all have ended.

    Where there are others that go on, it is logged at once.
    """
    told = _told if len(services) > 1 else IngestionService.run
    ended = await asyncio.gather(*map(told, services), return_exceptions=True)
    for failure in ended:
        if isinstance(failure, BaseException):
            raise failure
    return [done for done in ended if isinstance(done, Ingested)]


def _stop(services: list[IngestionService]) -> None:
    for service in services:
        service.stop()


async def _told(service: IngestionService) -> Ingested:
    try:
        return await service.run()
    except Exception as failure:
        _log.error("%s ended: %s", service.journal_id, failure)
        raise


def _service(read: Settings, feed: LiveFeed, price: str, show: Progress | None) -> IngestionService:
    settings = live_settings(
        read, feed.journal_id, price, is_crypto=feed.is_crypto, delay_ns=feed.delay_ns
    )
    return IngestionService(
        folder_of(read),
        settings,
        feed,
        durability=read.journal.durability,
        compression=read.lake.compression,
        progress=show,
    )


@asynccontextmanager
async def feeds_of(read: Settings) -> AsyncIterator[list[LiveFeed]]:
    """Make the feeds that the configuration asks for, each with a client of the history."""
    alpaca = read.alpaca
    wanted = wanted_streams(read.stream, alpaca)
    streams = [(stream_of(alpaca, path), symbols) for path, symbols in wanted.items() if symbols]
    async with AsyncExitStack() as opened:
        clock = await opened.enter_async_context(clock_of(alpaca))
        random = Random(os.urandom(16))  # noqa: S311  # only jitter
        feeds = []
        for stream, symbols in streams:
            rest = AlpacaRest(
                stream.key, stream.secret, url=stream.rest_url, clock=clock, random=random
            )
            await opened.enter_async_context(rest)
            feeds.append(
                alpaca_feed(
                    stream, rest, symbols, clock, random, silence_seconds=alpaca.silence_seconds
                )
            )
        yield feeds


@asynccontextmanager
async def clock_of(alpaca: AlpacaSettings) -> AsyncIterator[Clock]:
    """Give the clock that the feeds live by."""
    if alpaca.clock is None:
        yield SystemClock()
        return
    async with await FollowedClock.follow(alpaca.clock) as clock:
        yield clock


def wanted_streams(stream: StreamSettings, alpaca: AlpacaSettings) -> dict[str, tuple[str, ...]]:
    """Return the symbols of each stream; without any named, the defaults of both.

    Raises
    ------
    UsageError
        If all are asked for, or a stock is named as crypto or the other way round.
    """
    stocks, crypto = stream.symbols or (), stream.crypto_symbols or ()
    if "*" in (*stocks, *crypto):
        raise UsageError(
            "symbols: was '*'; a gap in a feed of all symbols cannot be filled from history; name "
            "them"
        )
    pairs = [name for name in stocks if "/" in name]
    if pairs:
        raise UsageError(
            f"symbols: was '{pairs[0]}', a pair of crypto; name it with --crypto-symbols "
            f"{','.join(pairs)}, or in stream.crypto_symbols"
        )
    shares = [name for name in crypto if "/" not in name]
    if shares:
        raise UsageError(
            f"crypto_symbols: was '{shares[0]}', no pair such as BTC/USD; name stocks with "
            f"--symbols {','.join(shares)}, or in stream.symbols"
        )
    if stream.symbols is None and stream.crypto_symbols is None:
        stocks, crypto = SYMBOLS, CRYPTO_SYMBOLS
    return {f"v2/{alpaca.feed}": stocks, f"v1beta3/crypto/{alpaca.location}": crypto}


def stream_of(alpaca: AlpacaSettings, path: str) -> AlpacaStream:
    """Return how to get at a stream.

    Raises
    ------
    UsageError
        If the keys are not set, or an address is none.
    """
    if alpaca.key is None or alpaca.secret is None:
        raise UsageError(
            "live mode needs keys of Alpaca: set ALPACA_API_KEY and ALPACA_SECRET_KEY, or put "
            "them into keys.env in this folder; keys are free at alpaca.markets. Without keys, "
            "`make demo` shows a simulated feed, and --mode mock --csv FILE takes a file"
        )
    return AlpacaStream(
        path=path,
        key=alpaca.key,
        secret=alpaca.secret,
        url=alpaca.stream_url,
        rest_url=alpaca.rest_url,
        encoding=alpaca.encoding,
        channels=alpaca.channels,
    )
