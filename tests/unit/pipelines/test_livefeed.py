"""A live feed before it is connected: what comes first, and how it is stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random  # noqa: TID251  # the client's, with a seed

import pytest

from alpacakit import settings
from marketpipe.pipelines.alpacafeed import alpaca_feed
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.livefeed import LiveFeed
from marketpipe.pipelines.service import IngestionService
from marketpipe.sources.alpaca.rest import AlpacaRest
from marketpipe.sources.clocks import SystemClock
from vendorkit import in_loop, reached, stream


@dataclass
class Hole:
    """A server that takes connections and never says a word."""

    seen: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        async with server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append("connected")
        while await reader.read(1 << 16):
            pass
        writer.close()


@asynccontextmanager
async def feed_of(url: str, channels: tuple[str, ...] | None = None) -> AsyncIterator[LiveFeed]:
    wanted, clock, spread = replace(stream(url), channels=channels), SystemClock(), Random(1)
    rest_url = url.replace("ws", "http", 1)
    async with AlpacaRest(
        wanted.key, wanted.secret, url=rest_url, clock=clock, random=spread
    ) as rest:
        yield alpaca_feed(wanted, rest, ("AAPL",), clock, spread)


@in_loop
async def test_feed_that_waits_for_an_answer_is_warm_and_can_be_stopped(tmp_path: Path) -> None:
    hole = Hole()
    async with hole.serve() as url, feed_of(url) as feed:
        feed.warm_up = lambda: hole.seen.append("warm")
        service = IngestionService(DataFolder(tmp_path / "d"), settings(feed.journal_id), feed)
        running = asyncio.create_task(service.run())
        await reached(lambda: len(hole.seen) == 2)
        service.stop()
        # An answer is waited for up to 10 seconds.
        async with asyncio.timeout(5):
            done = await running
    assert hole.seen == ["warm", "connected"]
    assert (done.complete, done.appended) == (True, 0)


@pytest.mark.parametrize(
    ("channels", "with_quotes", "unfilled"),
    [
        (None, True, ("statuses", "lulds")),
        (("trades", "quotes", "bars"), True, ()),
        (("trades", "statuses"), False, ("statuses",)),
    ],
)
@in_loop
async def test_feed_has_quotes_fetched_for_gaps_if_it_subscribes_them(
    channels: tuple[str, ...] | None, with_quotes: bool, unfilled: tuple[str, ...]
) -> None:
    async with feed_of("ws://127.0.0.1:1", channels) as feed:
        assert (feed.with_quotes, feed.unfilled) == (with_quotes, unfilled)
