"""What a connector does about each error of the vendor."""

import asyncio
import logging
import traceback
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from marketpipe.errors import (
    AuthError,
    EntitlementError,
    RateLimitError,
    RefusedError,
    VendorError,
)
from marketpipe.sources.alpaca.client import AlpacaConnector
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.connector import Gap
from vendorkit import (
    KEY,
    SECOND,
    SECRET,
    T0,
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
    reached,
)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (400, RefusedError, "check them"),
        (402, AuthError, "ALPACA_SECRET_KEY"),
        (405, EntitlementError, "Ask for fewer"),
        (409, EntitlementError, "v2/sip needs a paid plan"),
        (410, RefusedError, "channels"),
    ],
)
@in_loop
async def test_error_that_waiting_cannot_mend_ends_the_run_with_words(
    code: int, kind: type[VendorError], words: str
) -> None:
    taker = Taker()
    async with Vendor() as vendor:
        connector = made(vendor, taker, HandClock())
        await connector.subscribe(["AAPL"], ["trades"])
        run = asyncio.create_task(connector.run())
        peer = await vendor.accepted()
        if code == 402:
            await peer.welcome()
        else:
            await peer.admit()
        await peer.heard()
        await peer.error(code)
        with pytest.raises(kind, match=words) as caught:
            await run
        assert str(code) in str(caught.value)
        assert type(caught.value) is kind
        assert connector.status.state == "failed"
        assert connector.status.last_error == str(caught.value)
    assert taker.controls[-2:] == [
        {"event": "error", "code": code, "msg": f"message {code}"},
        {
            "event": "disconnected",
            "reason": "error",
            "code": None if code in (400, 405, 410) else code,
            "good_until_ns": None,
        },
    ]


@in_loop
async def test_connect_raises_what_waiting_cannot_mend() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker(), HandClock())
        connecting = asyncio.create_task(connector.connect())
        peer = await vendor.accepted()
        await peer.welcome()
        await peer.heard()
        await peer.error(402, "auth failed")
        with pytest.raises(AuthError, match="auth failed"):
            await connecting
        assert connector.status.state == "failed"


@pytest.mark.parametrize(
    ("spoken", "sent", "words"),
    [
        ("msgpack", b'[{"T":"success","msg":"connected"}]', '"success","msg":"connected"}]\''),
        ("json", b"\x91\x82\xa1T\xa7success", "b'\\x91\\x82\\xa1T"),
        ("json", b"hello", "b'hello', which holds no answer in json; alpaca.encoding chooses"),
    ],
)
@in_loop
async def test_welcome_that_cannot_be_read_is_shown(spoken: str, sent: bytes, words: str) -> None:
    clock = HandClock()
    async with Vendor(spoken) as vendor, following(vendor, Taker(), clock) as connector:
        peer = await vendor.accepted()
        await peer.send_raw(sent)
        peer.cut()
        status = await backing_off(connector, clock)
        assert "did not welcome us" in status.last_error
        assert words in status.last_error
        assert f"holds no answer in {spoken}" in status.last_error


@pytest.mark.parametrize("code", [404, 500])
@in_loop
async def test_passing_error_reconnects(code: int) -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        peer = await vendor.accepted()
        await peer.welcome()
        await peer.error(code)
        status = await backing_off(connector, clock)
        assert f"error {code}" in status.last_error
        clock.advance(60)
        peer = await live(vendor, connector)
        await peer.send(TRADE)
        await taker.until(lambda t: t.rows("data")[-1]["symbol"] == "AAPL")
        clock.advance(3)
        await peer.error(code)
        await backing_off(connector, clock)
        clock.advance(60)
        await live(vendor, connector)
    # Nothing was missing before the first subscription; then from the last good message on.
    assert taker.gaps == [Gap(T0 + 60 * SECOND, T0 + 123 * SECOND, "disconnected")]
    connected = [row for row in taker.rows("control") if b'"connected"' in row["payload"]]
    assert [row["conn_id"] for row in connected] == [0, 1, 2]


@in_loop
async def test_not_authenticated_sends_the_keys_once_more() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        peer = await vendor.accepted()
        await peer.welcome()
        await peer.heard()
        await peer.error(401, "not authenticated")
        assert (await peer.heard())["action"] == "auth"
        await peer.error(401, "not authenticated")
        status = await backing_off(connector, clock)
        assert "error 401" in status.last_error
        clock.advance(60)
        peer = await live(vendor, connector)
        await peer.error(401, "not authenticated")
        assert (await peer.heard())["action"] == "auth"
        await peer.send({"T": "success", "msg": "authenticated"})
        assert await peer.heard() == {"action": "subscribe", "trades": ["AAPL"]}
        await peer.echo(trades=["AAPL"])
        await taker.until(lambda t: t.order.count("subscribed") == 2)
        assert connector.status.state == "live"


@in_loop
async def test_already_authenticated_is_taken_for_let_in() -> None:
    async with Vendor() as vendor, following(vendor, Taker(), HandClock()) as connector:
        peer = await vendor.accepted()
        await peer.welcome()
        await peer.heard()
        await peer.error(403, "already authenticated")
        assert (await peer.heard())["action"] == "subscribe"
        await peer.echo(trades=["AAPL"])
        await in_state(connector, "live")
        await peer.error(403, "already authenticated")
        await peer.send(TRADE)
        await reached(lambda: connector.status.last_message_ns is not None)
        assert connector.status.state == "live"


@in_loop
async def test_contention_on_the_first_connection_is_bounded_and_says_so() -> None:
    clock = HandClock()
    async with Vendor() as vendor:
        connector = made(vendor, Taker(), clock)
        await connector.subscribe(["AAPL"], ["trades"])
        run = asyncio.create_task(connector.run())
        pauses = []
        for _ in range(14):
            await refuse(vendor, 406)
            status = await backing_off(connector, clock)
            assert "Another program is connected" in status.last_error
            pauses.append(clock.naps[0])
            clock.advance(clock.naps[0])
        assert pauses == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5, 5, 5, 5]
        await refuse(vendor, 406)
        with pytest.raises(RateLimitError, match="Stop the other"):
            await run


async def refuse(vendor: Vendor, code: int) -> None:
    peer = await vendor.accepted()
    await peer.welcome()
    await peer.heard()
    await peer.error(code)


@in_loop
async def test_contention_after_a_working_connection_is_waited_out_slowly() -> None:
    clock = HandClock()
    async with Vendor() as vendor, following(vendor, Taker(), clock) as connector:
        (await live(vendor, connector)).cut()
        await backing_off(connector, clock)
        clock.advance(60)
        for _ in range(17):
            await refuse(vendor, 406)
            await backing_off(connector, clock)
            pause = clock.naps[0]
            clock.advance(pause)
        assert pause == 60
        await live(vendor, connector)
        await reached(lambda: connector.status.reconnects == 1)


@in_loop
async def test_slow_client_is_a_gap_of_its_own_and_counted() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        await peer.error(407, "slow client")
        status = await backing_off(connector, clock)
        assert status.slow_clients == 1
        assert "Subscribe to less" in status.last_error
        clock.advance(60)
        await live(vendor, connector)
        await taker.until(lambda t: bool(t.gaps))
    assert taker.gaps == [Gap(T0, T0 + 60 * SECOND, "slow_client")]
    assert ended("error", 407) in taker.controls


@in_loop
async def test_frame_cut_in_the_middle_is_a_gap_from_the_last_good_message() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        clock.advance(0.25)
        await peer.send(TRADE)
        await taker.until(lambda t: len(t.payloads) == 4)
        clock.advance(0.5)
        peer.socket.transport.write(b"\x82\x7e\x01\x00" + b"\x91\x84\xa1T\xa1t")
        peer.socket.transport.close()
        await backing_off(connector, clock)
        # Nothing is told before it is known how long it was.
        assert not taker.gaps
        clock.advance(60)
        await live(vendor, connector)
        await taker.until(lambda t: bool(t.gaps))
    assert taker.gaps == [Gap(T0 + SECOND // 4, T0 + 60 * SECOND + 3 * SECOND // 4, "disconnected")]
    assert len(taker.payloads) == 7
    # The gap is told once all that came before it is handed out.
    told = taker.order.index("gap disconnected")
    assert taker.order[:told].count("subscribed") == 2
    assert taker.order[:told].count("disconnected") == 1


@in_loop
async def test_close_of_the_server_is_recorded_with_its_code() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        await peer.socket.close(1012, "restart")
        await backing_off(connector, clock)
    assert ended("closed", 1012) in taker.controls


def ended(reason: str, code: int) -> dict[str, object]:
    """Return what is recorded of the end of a connection on which nothing of the market came."""
    return {"event": "disconnected", "reason": reason, "code": code, "good_until_ns": T0}


ESCAPED = SECRET.replace("/", "\\/")


def leaks(text: str) -> list[str]:
    return [secret for secret in (KEY, SECRET, ESCAPED) if secret in text]


@in_loop
async def test_keys_are_never_said(caplog_all: pytest.LogCaptureFixture) -> None:
    taker = Taker()
    async with Vendor("json") as vendor:
        stream = AlpacaStream(
            path="v2/iex",
            key=SecretStr(KEY),
            secret=SecretStr(SECRET),
            url=vendor.url,
            encoding="json",
        )
        connector = AlpacaConnector(stream, clock=HandClock())
        connector.register_callback(taker.records)
        run = asyncio.create_task(connector.run())
        peer = await vendor.accepted()
        await peer.welcome()
        await peer.heard()
        await peer.send_raw(f'[{{"T":"error","code":499,"msg":"{ESCAPED}?"}}]'.encode())
        await peer.error(402, f"auth failed for {KEY} with {SECRET}")
        with pytest.raises(AuthError) as caught:
            await run
    said = "".join(traceback.format_exception(caught.value))
    ours = [
        r.getMessage() for r in caplog_all.records if not r.name.startswith("websockets.server")
    ]
    assert "auth failed" in said
    for text in (said, "\n".join(ours), repr(stream), repr(connector), repr(connector.status)):
        assert not leaks(text)
    for batch in taker.batches:
        assert not leaks(str(batch.to_pylist()))
    assert any(b"auth failed for ****" in payload for payload in taker.payloads)


@pytest.fixture
def caplog_all(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog
