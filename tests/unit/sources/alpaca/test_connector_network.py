"""What a connector does when the way to the vendor fails, and what it says."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random  # noqa: TID251  # the source of jitter that a connector is given

import pytest

from marketpipe.errors import (
    ConnectError,
    RateLimitError,
    UnreachableError,
    VendorError,
)
from marketpipe.sources.dialing import explained
from vendorkit import (
    PATIENCE,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    backing_off,
    following,
    in_loop,
    live,
    made,
    reached,
    running,
)


@in_loop
async def test_first_connect_that_fails_never_hangs_and_pauses_grow_with_jitter() -> None:
    clock = HandClock()
    async with Vendor() as vendor:
        url, port = vendor.url, int(vendor.url.rpartition(":")[2])
    connector = made(url, Taker(), clock, random=Random(7))
    await connector.subscribe(["AAPL"], ["trades"])
    await connector.connect()
    assert "nothing listens there" in connector.status.last_error
    async with running(connector):
        pauses = []
        for _ in range(9):
            await backing_off(connector, clock)
            pauses.append(clock.naps[0])
            clock.advance(clock.naps[0])
            await reached(lambda: not clock.naps)
        ceilings = [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert all(0 <= p <= top for p, top in zip(pauses, ceilings, strict=True))
        assert max(pauses) > 16
        assert len(set(pauses)) == 9, "drawn, not fixed"
        again = Vendor()
        await again.listen(port)
        async with asyncio.timeout(PATIENCE):
            while again._arrived.empty():
                clock.advance(1)
                await asyncio.sleep(0)
        peer = await live(again, connector)
        for _ in range(2):
            clock.advance(31)
            await peer.send(TRADE)
            await reached(lambda: connector.status.last_message_ns == clock.now_ns())
        peer.cut()
        await backing_off(connector, clock)
        assert clock.naps[0] <= 1, "a minute of data makes it a good connection"
        await again.__aexit__(None, None, None)


@in_loop
async def test_stop_does_not_wait_for_a_server_that_never_answers() -> None:
    arrived = asyncio.Event()
    async with plain(None, arrived) as port:
        connector = made(f"ws://127.0.0.1:{port}", Taker(), HandClock())
        async with running(connector) as run:
            await arrived.wait()
            await connector.disconnect()
            await asyncio.sleep(0)
            assert run.done()
    assert connector.status.state == "stopped"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, "<HTML><title>Sign in</title></HTML>", ConnectError, "titled 'Sign in' answered"),
        (404, "no", ConnectError, "Is the path right"),
        (503, "<html>down</html>", UnreachableError, "in trouble \\(503\\)"),
        (429, "slow down", RateLimitError, "too many attempts"),
    ],
)
@in_loop
async def test_answers_that_are_no_websocket_are_explained(
    status: int, body: str, kind: type[VendorError], words: str
) -> None:
    clock = HandClock()
    async with Vendor(answer=lambda peer, _: peer.respond(status, body)) as vendor:
        connector = made(vendor, Taker(), clock)
        run = asyncio.create_task(connector.run())
        if kind is ConnectError:
            with pytest.raises(ConnectError, match=words):
                await run
        else:
            waiting = await backing_off(connector, clock)
            assert words.replace("\\", "") in waiting.last_error
            await connector.disconnect()
            await run


@in_loop
async def test_proxy_page_after_a_working_connection_is_waited_out() -> None:
    clock = HandClock()
    down: list[bool] = []
    async with (
        Vendor(
            answer=lambda peer, _: peer.respond(200, "<html>hotel</html>") if down else None
        ) as vendor,
        following(vendor, Taker(), clock) as connector,
    ):
        peer = await live(vendor, connector)
        down.append(True)
        peer.cut()
        await backing_off(connector, clock)
        clock.advance(60)
        await reached(lambda: "a web page" in connector.status.last_error)
        await backing_off(connector, clock)
        down.clear()
        clock.advance(60)
        await live(vendor, connector)


@pytest.mark.parametrize(
    ("said", "words"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer in TLS"), (b"", "mixed up")],
)
@in_loop
async def test_address_without_tls_is_explained(said: bytes, words: str) -> None:
    async with plain(said) as port:
        connector = made(f"wss://127.0.0.1:{port}", Taker(), HandClock())
        with suppress(ConnectError):
            await connector.connect()
        assert words in connector.status.last_error


@asynccontextmanager
async def plain(said: bytes | None, arrived: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Listen, answer the same to everyone and hang up; None: never answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if arrived is not None:
            arrived.set()
        await reader.read(1 if said is not None else -1)
        writer.write(said or b"")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (socket.gaierror(-2, "Name not known"), UnreachableError, "Is there a network"),
        (TimeoutError(), UnreachableError, "no answer in 10 s"),
        (OSError(101, "Network is unreachable"), UnreachableError, "Network is unreachable"),
        (ImportError("python-socks"), ConnectError, "Mend https_proxy"),
    ],
)
def test_failures_of_the_network_are_explained(
    error: Exception, kind: type[VendorError], words: str
) -> None:
    said = explained("wss://stream.example/v2/iex", error)
    assert type(said) is kind
    assert words in str(said)


def test_certificate_that_is_not_trusted_names_the_remedy() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    said = explained("wss://stream.example/v2/iex", error)
    assert "SSL_CERT_FILE" in str(said)
    assert "self-signed" in str(said)
