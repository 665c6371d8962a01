"""Subscribing to the simulated stream, and what it then sends."""

import asyncio
import json
import socket
from collections import Counter
from typing import Any

import msgspec
import pytest

from marketpipe.domain.units import NANOS
from marketpipe.simulator import Plan, Simulator, Wire, serve
from marketpipe.simulator.plans import DELAY_NS
from marketpipe.simulator.stream import Overflow
from simkit import (
    HEADERS,
    OPEN_NS,
    WAITING,
    client,
    events,
    is_message,
    market,
    run,
    subscriber,
    texts,
    until,
)

STOCKS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
CHANNELS = (*STOCKS, "corrections", "cancelErrors")
CRYPTO = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")


def error(code: int, msg: str) -> dict[str, object]:
    return {"T": "error", "code": code, "msg": msg}


def test_subscription_answers_name_all_that_is_subscribed() -> None:
    async def work() -> None:
        async with serve(market(), wire=WAITING) as simulator, client(simulator) as one:
            await one.log_in()
            empty: dict[str, Any] = {"T": "subscription"} | {name: [] for name in CHANNELS}
            follow = {"corrections": ["AAPL"], "cancelErrors": ["AAPL"]}
            first = await one.ask(action="subscribe", trades=["AAPL"], quotes=["AMD"], bars=["*"])
            lists: dict[str, Any] = {"trades": ["AAPL"], "quotes": ["AMD"], "bars": ["*"]}
            assert first == empty | lists | follow
            assert list(first) == ["T", *CHANNELS]
            second = await one.ask(action="subscribe", dailyBars=["MSFT"], corrections=["X"])
            assert second == first | {"dailyBars": ["MSFT"]}
            third = await one.ask(action="unsubscribe", trades=["AAPL"], quotes=["NONE"])
            left = empty | {"quotes": ["AMD"], "bars": ["*"], "dailyBars": ["MSFT"]}
            assert third == left
            fourth = await one.ask(action="subscribe", imbalances=["AMD"])
            assert fourth == left | {"imbalances": ["AMD"]}

    run(work())


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "[]",
        '{"action":"fly"}',
        '{"trades":["AAPL"]}',
        '{"action":"subscribe"}',
        '{"action":"subscribe","trades":"AAPL"}',
        '{"action":"subscribe","trades":[1]}',
        '{"action":"subscribe","trades":["AAPL","aa pl"]}',
        '{"action":"subscribe","quotes":["BTC/USD"]}',
    ],
)
def test_malformed_requests_are_answered_400_and_change_nothing(text: str) -> None:
    async def work() -> None:
        async with serve(market(), wire=WAITING) as simulator, client(simulator) as one:
            await one.log_in()
            await one.socket.send(text)
            assert await one.one() == error(400, "invalid syntax")
            answer = await one.ask(action="subscribe", bars=["MSFT"])
            assert (answer["trades"], answer["bars"]) == ([], ["MSFT"])

    run(work())


def test_channels_that_a_feed_does_not_have_are_answered_410() -> None:
    async def work() -> None:
        async with serve(market(), market("crypto"), wire=WAITING) as simulator:
            for path, channel in (
                ("v2/iex", "orderbooks"),
                ("v2/iex", "news"),
                ("v1beta3/crypto/us", "lulds"),
            ):
                async with client(simulator, path) as one:
                    await one.log_in()
                    answer = await one.ask(action="subscribe", **{channel: ["*"]})
                    assert answer == error(410, "invalid subscribe action for this feed")

    run(work())


def test_more_symbols_than_the_plan_has_are_answered_405_and_change_nothing() -> None:
    async def work() -> None:
        async with (
            serve(market(), plan=Plan.basic(), wire=WAITING) as simulator,
            client(simulator) as one,
        ):
            await one.log_in()
            names = [f"A{number}" for number in range(30)]
            full = await one.ask(action="subscribe", trades=names, quotes=names[:5])
            assert full["trades"] == names
            for more in ({"quotes": ["B"]}, {"trades": ["*"]}):
                assert await one.ask(action="subscribe", **more) == error(
                    405, "symbol limit exceeded"
                )
            bars = await one.ask(action="subscribe", bars=["*"])
            assert bars == full | {"bars": ["*"]}

    run(work())


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("per_frame", [1, 7, 40])
def test_stream_sends_exactly_what_the_market_has(
    encoding: str, compress: bool, per_frame: int
) -> None:
    """All channels of all symbols, byte for byte and in order, in arrays of at most so many."""
    expected = events(market(), *CHANNELS)
    assert {event.channel for event in expected} >= {"trades", "quotes", "bars", "corrections"}

    async def work() -> None:
        wire = Wire(waits=True, lead_seconds=0.05, per_frame=per_frame, compress=compress)
        headers = HEADERS | {"Content-Type": f"application/{encoding}"}
        async with (
            serve(market(), speed=400, wire=wire) as simulator,
            client(simulator, additional_headers=headers) as one,
        ):
            await one.one()
            await one.one()
            codec: Any = msgspec.json if encoding == "json" else msgspec.msgpack
            request = codec.encode({"action": "subscribe"} | {name: ["*"] for name in STOCKS})
            await one.socket.send(request, text=encoding == "json")
            assert (await one.one())["T"] == "subscription"
            found: list[bytes] = []
            while len(found) < len(expected):
                frame = await one.socket.recv(decode=False)
                elements = codec.decode(frame, type=list[msgspec.Raw])
                assert 1 <= len(elements) <= per_frame
                found += [bytes(element) for element in elements]
            assert found == [event.encode(encoding) for event in expected]  # type: ignore[arg-type]
            first_keys = (b'{"T":', b"\xa1T")
            assert all(one.startswith(first_keys) or one[1:3] == b"\xa1T" for one in found)

    run(work())


def test_stream_sends_only_what_is_subscribed() -> None:
    wanted = [
        message
        for message in texts(market(), "trades", "corrections", "cancelErrors", "bars")
        if message["S"] == ("MSFT" if message["T"] == "b" else "AAPL")
    ]

    async def work() -> None:
        async with serve(market(), speed=400, wire=WAITING) as simulator, client(simulator) as one:
            await one.log_in()
            await one.ask(action="subscribe", trades=["AAPL"], bars=["MSFT"])
            assert await one.until(is_message(wanted[-1])) == wanted

    run(work())


def test_stream_of_crypto_has_books_that_begin_with_a_snapshot() -> None:
    expected = Counter(event.encode("json") for event in events(market("crypto"), *CRYPTO))

    async def work() -> None:
        crypto = market("crypto")
        async with (
            serve(crypto, speed=400, wire=WAITING) as simulator,
            subscriber(simulator, *CRYPTO, path="v1beta3/crypto/us") as one,
        ):
            last = texts(crypto, *CRYPTO)[-1]
            assert (
                Counter(
                    json.dumps(message, separators=(",", ":")).encode()
                    for message in await one.until(is_message(last))
                ).keys()
                == Counter(
                    json.dumps(json.loads(text), separators=(",", ":")).encode()
                    for text in expected
                ).keys()
            )
            answer = await one.ask(action="unsubscribe", orderbooks=["*"])
            assert answer["orderbooks"] == []
            await one.ask(action="subscribe", orderbooks=["BTC/USD"])
            book = await one.one()
            assert (book["T"], book["S"], book["r"]) == ("o", "BTC/USD", True)
            assert book["b"]
            assert book["a"]

    run(work())


def test_stream_after_unsubscribing_sends_a_few_more() -> None:
    quotes = [message for message in texts(market(), "quotes") if message["S"] == "AAPL"]
    bar = texts(market(), "bars")[0]

    async def work() -> None:
        async with serve(market(), speed=60, wire=WAITING) as simulator, client(simulator) as one:
            await one.log_in()
            await one.ask(action="subscribe", quotes=["AAPL"], bars=["*"])
            await one.until(is_message(quotes[10]))
            answer = await one.ask(action="unsubscribe", quotes=["AAPL"])
            assert answer["quotes"] == []
            after = await one.until(is_message(bar))
            assert sum(message["T"] == "q" for message in after) == 3

    run(work())


def test_stream_takes_a_request_in_fragments() -> None:
    async def work() -> None:
        async with serve(market(), wire=WAITING) as simulator, client(simulator) as one:
            await one.log_in()
            await one.socket.send(['{"action":"subscribe",', '"bars":["AAPL"]}'])
            assert (await one.one())["bars"] == ["AAPL"]

    run(work())


def test_stream_of_the_test_endpoint_is_always_on() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=20, wire=WAITING) as simulator,
            subscriber(simulator, "trades", path="v2/test") as one,
        ):
            assert (await one.frame())[0]["S"] == "FAKEPACA"

    run(work())


def test_stream_of_delayed_sip_is_a_quarter_of_an_hour_behind() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=2_000, wire=WAITING) as simulator,
            subscriber(simulator, "trades", path="v2/delayed_sip") as one,
        ):
            first = texts(market(), "trades")[0]
            assert (await one.frame())[0] == first
            assert simulator.clock.now_ns() >= OPEN_NS + DELAY_NS

    run(work())


def _handshake(simulator: Simulator) -> socket.socket:
    """Connect as a client that will not read: it asks for all, and its window is small."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(30)
    raw.connect(("127.0.0.1", simulator.port))
    lines = [
        "GET /v2/iex HTTP/1.1",
        "Host: simulator",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    request = json.dumps({"action": "subscribe", "trades": ["*"], "quotes": ["*"]}).encode()
    raw.sendall(bytes([0x81, 0x80 | len(request), 0, 0, 0, 0]) + request)
    return raw


@pytest.mark.parametrize("overflow", ["disconnect", "wait"])
def test_stream_to_a_client_that_does_not_read(overflow: Overflow) -> None:
    """Its buffer is bounded: then the error 407 and the end, or the endpoint waits for it.

    There are more messages than the buffers of sockets take.
    """
    big = market("stocks", 300, 200.0)
    every = len(events(big, "trades", "quotes", "corrections", "cancelErrors"))

    async def work() -> None:
        wire = Wire(
            buffer_bytes=1 << 16,
            overflow=overflow,
            compress=False,
            waits=True,
            lead_seconds=0.05,
            prepare="json",
        )
        async with serve(big, speed=10_000, wire=wire) as simulator:
            with await asyncio.to_thread(_handshake, simulator) as raw:
                await until(lambda: simulator.sent("v2/iex") > 0)
                if overflow == "wait":
                    await until(lambda: simulator.clock.now_ns() > big.end_ns)
                    assert simulator.sent("v2/iex") < every
                    assert simulator.connected("v2/iex") == 1
                    received = await asyncio.to_thread(_read, raw, every)
                    assert received.count(b'"T":"') == every + 3
                else:
                    await until(lambda: simulator.connected("v2/iex") == 0)
                    received = await asyncio.to_thread(_read, raw, every)
                    assert b'[{"T":"error","code":407,"msg":"slow client"}]' in received[-200:]
                    assert simulator.sent("v2/iex") < every

    run(work())


def _read(raw: socket.socket, messages: int) -> bytes:
    """Read until so many messages came, besides three of control, or the connection ended."""
    found, begun, word = bytearray(), 0, b'"T":"'
    while begun < messages + 3 and (chunk := raw.recv(1 << 16)):
        before = max(len(found) - len(word) + 1, 0)
        found += chunk
        begun += found.count(word, before)
    return bytes(found)


def test_clock_runs_at_its_speed_from_the_start_of_the_session() -> None:
    async def work() -> None:
        async with serve(market(), speed=50) as simulator:
            now = simulator.clock.now_ns()
            assert now >= OPEN_NS
            await simulator.clock.sleep_until(OPEN_NS + 10 * NANOS)
            assert simulator.clock.now_ns() >= OPEN_NS + 10 * NANOS

    run(work())
