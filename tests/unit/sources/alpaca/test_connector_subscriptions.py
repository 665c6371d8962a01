"""What is subscribed: before, while connected, and again after a connection was lost."""

import asyncio

import pytest
from pydantic import SecretStr

from marketpipe.errors import (
    EntitlementError,
    RefusedError,
    UsageError,
    VendorError,
)
from marketpipe.sources.alpaca.client import AlpacaConnector, CryptoConsumer, StockConsumer
from marketpipe.sources.alpaca.config import AlpacaStream
from vendorkit import (
    SECRET,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    backing_off,
    following,
    in_loop,
    in_state,
    live,
    made,
    running,
    stream,
)


@in_loop
async def test_subscriptions_change_while_connected() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock=clock) as connector:
        peer = await vendor.accepted()
        await peer.let_in()
        await in_state(connector, "live")
        adding = asyncio.create_task(connector.subscribe(["MSFT"], ["trades", "bars"]))
        asked = await peer.heard()
        assert asked == {"action": "subscribe", "trades": ["MSFT"], "bars": ["MSFT"]}
        assert not adding.done()
        await peer.send(TRADE)
        await peer.echo(trades=["AAPL", "MSFT"], bars=["MSFT"], corrections=["AAPL", "MSFT"])
        await adding
        removing = asyncio.create_task(connector.unsubscribe(["AAPL"]))
        asked = await peer.heard()
        assert asked == {"action": "unsubscribe", "trades": ["AAPL"], "bars": ["AAPL"]}
        await peer.echo(trades=["MSFT"], bars=["MSFT"])
        await removing
        assert connector.status.subscribed == {"trades": ("MSFT",), "bars": ("MSFT",)}
        peer.cut()
        await backing_off(connector, clock)
        # While nobody listens a change waits for the next connection.
        await connector.subscribe(["TSLA"], ["trades"])
        clock.advance(60)
        again = await (await vendor.accepted()).let_in()
        assert again == {"trades": ["MSFT", "TSLA"], "bars": ["MSFT"]}
        await in_state(connector, "live")
    echoes = [c["channels"] for c in taker.controls if c["event"] == "subscribed"]
    assert echoes[1]["corrections"] == ["AAPL", "MSFT"], "as echoed, also what was not asked for"
    assert len(echoes) == 4


@in_loop
async def test_subscribe_between_connect_and_run_is_answered() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker())
        connecting = asyncio.create_task(connector.connect())
        peer = await vendor.accepted()
        await peer.admit()
        await connecting
        adding = asyncio.create_task(connector.subscribe(["AAPL"], ["trades"]))
        await peer.heard()
        await peer.echo(trades=["AAPL"])
        await adding
        assert connector.status.subscribed == {"trades": ("AAPL",)}
        await connector.disconnect()
    assert connector.status.state == "stopped"


@in_loop
async def test_echo_that_lacks_a_symbol_is_reported() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker())
        await connector.subscribe(["AAPL", "NOSUCH"], ["trades"])
        async with running(connector):
            peer = await vendor.accepted()
            await peer.admit()
            await peer.heard()
            await peer.echo(trades=["AAPL"])
            status = await in_state(connector, "live")
            assert "did not grant trades NOSUCH" in status.last_error


@in_loop
async def test_consumers_take_their_own_kind_of_stream() -> None:
    async with Vendor() as vendor:
        assert StockConsumer(stream(vendor)).capabilities.channels[0] == "trades"
        crypto = CryptoConsumer(stream(vendor, "v1beta3/crypto/us"))
        assert "orderbooks" in crypto.capabilities.channels
        with pytest.raises(UsageError, match="is crypto"):
            StockConsumer(stream(vendor, "v1beta3/crypto/us"))
        with pytest.raises(UsageError, match="is stocks"):
            CryptoConsumer(stream(vendor))
        crypto.register_callback((taker := Taker()).records)
        await crypto.subscribe(["BTC/USD"])
        async with running(crypto):
            asked = await (await vendor.accepted()).let_in()
            await in_state(crypto, "live")
        assert asked == {name: ["BTC/USD"] for name in crypto.capabilities.channels}
        assert {row["feed"] for row in taker.rows("data")} == {"us"}


@in_loop
async def test_words_that_cannot_be_used_are_refused_before_anything_is_sent() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker())
        for symbols, channels, words in (
            (["AA PL"], None, "symbols: was 'AA PL'"),
            (["AAPL"], ["trade"], "channels: was 'trade'; this stream has trades"),
            (["AAPL"], ["corrections"], "comes with trades"),
        ):
            with pytest.raises(UsageError, match=words):
                await connector.subscribe(symbols, channels)
        with pytest.raises(UsageError, match="register_callback"):
            await AlpacaConnector(stream(vendor)).connect()
        with pytest.raises(UsageError, match="path was 'v3/iex'"):
            stream(vendor, "v3/iex")
        with pytest.raises(UsageError, match="ALPACA_API_KEY"):
            AlpacaStream(path="v2/iex", key=SecretStr(""), secret=SecretStr(SECRET))


@pytest.mark.parametrize(
    ("code", "kind"), [(405, EntitlementError), (400, RefusedError), (410, RefusedError)]
)
@in_loop
async def test_refused_addition_keeps_the_old_set(code: int, kind: type[VendorError]) -> None:
    clock = HandClock()
    async with Vendor() as vendor, following(vendor, Taker(), clock) as connector:
        peer = await live(vendor, connector)
        adding = asyncio.create_task(connector.subscribe(["MSFT", "TSLA"], ["quotes"]))
        await peer.heard()
        await peer.error(code)
        with pytest.raises(kind):
            await adding
        assert connector.status.state == "live"
        assert f"error {code}" in connector.status.last_error
        peer.cut()
        await backing_off(connector, clock)
        # Added while nobody listens, it is refused on the next connection.
        await connector.subscribe(["MSFT"], ["quotes"])
        clock.advance(60)
        peer = await vendor.accepted()
        await peer.admit()
        assert (await peer.heard())["quotes"] == ["MSFT"]
        await peer.error(code)
        assert await peer.heard() == {"action": "subscribe", "trades": ["AAPL"]}
        await peer.echo(trades=["AAPL"])
        await in_state(connector, "live")
