"""Clocks: the system's, and one that a server publishes."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from marketpipe.errors import ConnectError, UnreachableError
from marketpipe.sources.clocks import FollowedClock, SystemClock
from vendorkit import T0, in_loop, reached


class Published:
    """What the server says when it is asked for the time."""

    def __init__(self, now_ns: int, speed: float) -> None:
        self.body = ""
        self.status = 200
        self.asked = 0
        self.say(now_ns, speed)

    def say(self, now_ns: int, speed: float) -> None:
        self.body = f'{{"now_ns": {now_ns}, "speed": {speed}}}'

    def answer(self, socket: ServerConnection, request: Request) -> Response:
        self.asked += 1
        return socket.respond(self.status, self.body)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a request, and reset the connection."""
    await reader.readline()
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@in_loop
async def test_clock_that_cannot_be_reached_says_why_where_the_error_has_no_text() -> None:
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/clock"
        with pytest.raises(UnreachableError, match=r"cannot be reached: ReadError\. Is the"):
            await FollowedClock.follow(url)


@asynccontextmanager
async def publishing(published: Published) -> AsyncIterator[str]:
    async def never(socket: ServerConnection) -> None:
        raise AssertionError("a clock is not a stream")

    async with serve(never, "127.0.0.1", 0, process_request=published.answer) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/clock"


def test_system_clock_is_the_time_and_never_steps_back() -> None:
    clock = SystemClock()
    before = time.time_ns()  # noqa: TID251  # what the clock is compared with
    seen = [clock.now_ns() for _ in range(1000)]
    assert before <= seen[0]
    assert seen == sorted(seen)
    assert seen[-1] <= time.time_ns()  # noqa: TID251  # what the clock is compared with


@in_loop
async def test_followed_clock_runs_at_the_published_speed() -> None:
    published = Published(T0, 3600.0)
    async with publishing(published) as url, await FollowedClock.follow(url) as clock:
        assert clock.speed == 3600.0
        begun, first = time.monotonic_ns(), clock.now_ns()
        # An hour of the session takes about a second; ten minutes of it a sixth.
        await clock.sleep(600)
        passed, real = clock.now_ns() - first, time.monotonic_ns() - begun
        assert passed >= 600 * 1_000_000_000
        assert passed == pytest.approx(real * 3600, rel=0.05)


@in_loop
async def test_followed_clock_stands_while_the_session_is_paused() -> None:
    published = Published(T0, 0.0)
    async with publishing(published) as url, await FollowedClock.follow(url) as clock:
        assert clock.now_ns() == T0
        napping = asyncio.create_task(clock.sleep(5))
        await clock.look()
        assert clock.now_ns() == T0
        assert not napping.done()
        published.say(T0 + 5_000_000_000, 0.0)
        await clock.look()
        await napping
        assert clock.now_ns() == T0 + 5_000_000_000


@in_loop
async def test_followed_clock_never_steps_back() -> None:
    published = Published(T0, 0.0)
    async with publishing(published) as url, await FollowedClock.follow(url) as clock:
        published.say(T0 - 1_000_000_000, 0.0)
        await clock.look()
        assert clock.now_ns() == T0, "it stands until the published clock has caught up"
        published.say(T0 + 1, 0.0)
        await clock.look()
        assert clock.now_ns() == T0 + 1


@in_loop
async def test_followed_clock_looks_again_by_itself_and_survives_a_lost_server() -> None:
    published = Published(T0, 0.0)
    async with publishing(published) as url:
        clock = await FollowedClock.follow(url)
        await reached(lambda: published.asked >= 2)
        published.status = 500
        asked = published.asked
        await reached(lambda: published.asked >= asked + 2)
        published.say(T0 + 7, 0.0)
        published.status = 200
        await reached(lambda: clock.now_ns() == T0 + 7)
        await clock.close()
        await clock.close()


@pytest.mark.parametrize(
    "body", ["<html></html>", "{}", '{"now_ns": -1, "speed": 1}', '{"now_ns": 1, "speed": -1}']
)
@in_loop
async def test_what_is_no_clock_is_refused(body: str) -> None:
    published = Published(T0, 1.0)
    published.body = body
    async with publishing(published) as url:
        with pytest.raises(ConnectError, match="a clock answers") as caught:
            await FollowedClock.follow(url)
        assert not isinstance(caught.value, UnreachableError)


@in_loop
async def test_clock_that_cannot_be_reached_says_so() -> None:
    async with publishing(Published(T0, 1.0)) as url:
        pass
    with pytest.raises(UnreachableError, match="Is the simulator running"):
        await FollowedClock.follow(url)
