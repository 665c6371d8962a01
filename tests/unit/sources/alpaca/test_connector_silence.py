"""A mute feed is not a quiet market."""

import asyncio
from contextlib import suppress
from itertools import pairwise

from websockets.exceptions import ConnectionClosed

from marketpipe.sources.alpaca.client import AlpacaConnector
from vendorkit import (
    PATIENCE,
    SECOND,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    following,
    in_loop,
    live,
    made,
    running,
)


async def by_naps(clock: HandClock, connector: AlpacaConnector) -> None:
    """Move the clock to where the next of its sleepers wakes."""
    ends = asyncio.get_running_loop().time() + PATIENCE
    while len(clock.naps) < (2 if connector.status.state == "live" else 1):
        assert asyncio.get_running_loop().time() < ends
        await asyncio.sleep(0)
        if connector.status.state == "connecting":
            return
    clock.advance(clock.naps[0])
    await asyncio.sleep(0)


@in_loop
async def test_mute_feed_is_reconnected_and_a_quiet_one_not_for_ever() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor:
        connector = made(vendor, taker, clock)
        await connector.subscribe(["AAPL"], ["trades"])

        async def serve() -> None:
            while True:
                await (await vendor.accepted()).let_in()

        async with running(connector):
            serving = asyncio.create_task(serve())
            while len(taker.gaps) < 4:
                await by_naps(clock, connector)
            serving.cancel()
    assert {gap.reason for gap in taker.gaps} == {"mute"}
    # Without anyone to ask, silence is waited out twice as long each time.
    ends = [row["ts_recv"] for row in taker.rows("control") if b"disconnected" in row["payload"]]
    begins = [row["ts_recv"] for row in taker.rows("control") if b"subscribed" in row["payload"]]
    lived = [(end - begin) / SECOND for begin, end in zip(begins, ends, strict=True)]
    for wanted, got in zip((30, 60, 120, 240), lived[:4], strict=True):
        assert wanted <= got < wanted + 10


@in_loop
async def test_quiet_symbol_is_no_dead_feed_where_the_vendor_can_be_asked() -> None:
    taker, clock = Taker(), HandClock()
    asked = []

    async def probe() -> bool | None:
        asked.append(clock.now_ns())
        return False

    async with Vendor() as vendor, following(vendor, taker, clock, probe=probe) as connector:
        await live(vendor, connector)
        while len(asked) < 3:
            await by_naps(clock, connector)
        assert connector.status.state == "live"
    assert not taker.gaps
    assert all(later - before >= 30 * SECOND for before, later in pairwise(asked))


@in_loop
async def test_feed_with_one_dead_channel_is_found_by_asking() -> None:
    taker, clock = Taker(), HandClock()
    newer = [None, True]

    async def probe() -> bool | None:
        return newer.pop(0)

    async with Vendor() as vendor:
        connector = made(vendor, taker, clock, probe=probe)
        await connector.subscribe(["AAPL"], ["trades", "quotes"])
        async with running(connector):
            peer = await live(vendor, connector)
            await peer.send(TRADE, {**TRADE, "T": "q"})
            await taker.until(lambda t: len(t.payloads) == 5)
            with suppress(ConnectionClosed):
                while True:
                    # Quotes go on; of trades nothing more is heard.
                    await peer.send({**TRADE, "T": "q"})
                    await by_naps(clock, connector)
            assert not newer
            clock.advance(60)
            await live(vendor, connector)
            await taker.until(lambda t: bool(t.gaps))
    assert [gap.reason for gap in taker.gaps] == ["mute"]
