"""A vendor of streams on loopback, driven by the test, and a clock and a taker for connectors."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from random import Random  # noqa: TID251  # the source of jitter that a connector is given
from types import TracebackType
from typing import Any, ParamSpec, Self

import msgspec
import pyarrow as pa
from pydantic import SecretStr
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from marketpipe.sources.alpaca.client import AlpacaConnector
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.connector import BaseConnector, FeedStatus, Gap, Probe

KEY = "PKTESTKEY0123456789A"
SECRET = "s3cr3tS3CR3T/s3cr3tS3CR3T0123456789abcde"
TRADE = {"T": "t", "S": "AAPL", "i": 96921, "x": "D", "p": 126.55, "s": 1, "z": "C"}
T0 = 1_767_623_400_000_000_000  # 2026-01-05T14:30:00Z
SECOND = 1_000_000_000
PATIENCE = 20.0

P = ParamSpec("P")
Answer = Callable[[ServerConnection, Request], Response | None]


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def reached(is_true: Callable[[], bool]) -> None:
    """Let everything else run until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not is_true():
            await asyncio.sleep(0)


class HandClock:
    """A clock that stands until the test moves it."""

    def __init__(self, now_ns: int = T0) -> None:
        self._now = now_ns
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        entry = (self._now + round(seconds * SECOND), future)
        self._waiting.append(entry)
        try:
            await future
        finally:
            self._waiting.remove(entry)

    @property
    def naps(self) -> list[float]:
        """Seconds that those who wait still wait, the shortest first."""
        return sorted((end - self._now) / SECOND for end, _ in self._waiting)

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * SECOND)
        for end, future in self._waiting:
            if end <= self._now and not future.done():
                future.set_result(None)


class Peer:
    """The vendor's end of one connection."""

    def __init__(self, socket: ServerConnection, encoding: str) -> None:
        self.socket = socket
        self.encoding = encoding
        self.done = asyncio.Event()

    def encoded(self, messages: Any) -> bytes:
        return (
            json.dumps(messages, separators=(",", ":")).encode()
            if self.encoding == "json"
            else msgspec.msgpack.encode(messages)
        )

    async def send(self, *messages: Mapping[str, Any]) -> bytes:
        frame = self.encoded(list(messages))
        await self.send_raw(frame)
        return frame

    async def send_raw(self, frame: bytes) -> None:
        await self.socket.send(frame, text=self.encoding == "json")

    async def heard(self) -> Any:
        """Wait for what the client says."""
        async with asyncio.timeout(PATIENCE):
            said = await self.socket.recv()
        if self.encoding == "json":
            assert isinstance(said, str), "JSON goes in frames of text"
            return json.loads(said)
        assert isinstance(said, bytes), "msgpack goes in binary frames"
        return msgspec.msgpack.decode(said)

    async def error(self, code: int, msg: str = "") -> bytes:
        return await self.send({"T": "error", "code": code, "msg": msg or f"message {code}"})

    async def welcome(self) -> None:
        await self.send({"T": "success", "msg": "connected"})

    async def admit(self) -> None:
        """Welcome, and take the keys."""
        await self.welcome()
        said = await self.heard()
        assert said == {"action": "auth", "key": KEY, "secret": SECRET}
        await self.send({"T": "success", "msg": "authenticated"})

    async def echo(self, **channels: list[str]) -> None:
        await self.send({"T": "subscription", **channels})

    async def let_in(self) -> dict[str, Any]:
        """Welcome, take the keys, and grant what is asked; return that."""
        await self.admit()
        said: dict[str, Any] = await self.heard()
        assert said.pop("action") == "subscribe"
        await self.echo(**said)
        return said

    def cut(self) -> None:
        """Hang up without a word."""
        self.socket.transport.abort()


class Vendor:
    """A WebSocket server; every connection waits in `accepted` for the test to speak for it."""

    def __init__(self, encoding: str = "msgpack", answer: Answer | None = None) -> None:
        self.encoding = encoding
        self.requests: list[Request] = []
        self._answer = answer
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.listen(0)
        return self

    async def listen(self, port: int) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", port, process_request=self._look, compression=None
        )
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        self.url = f"ws://{host}:{port}"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _look(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self._answer(socket, request) if self._answer else None

    async def _serve(self, socket: ServerConnection) -> None:
        await self._arrived.put(Peer(socket, self.encoding))
        await socket.wait_closed()

    async def accepted(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._arrived.get()


class Taker:
    """Takes records and gaps, in order; ``before`` is awaited with each batch."""

    def __init__(self, before: Callable[[pa.RecordBatch], Awaitable[None]] | None = None) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.gaps: list[Gap] = []
        self.order: list[str] = []
        self._before = before

    async def records(self, batch: pa.RecordBatch) -> None:
        if self._before is not None:
            await self._before(batch)
        self.batches.append(batch)
        self.order += [self._called(row) for row in batch.to_pylist()]

    async def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.order.append(f"gap {gap.reason}")

    @staticmethod
    def _called(row: Mapping[str, Any]) -> str:
        if row["kind"] != "control":
            return str(row["kind"])
        return str(json.loads(row["payload"])["event"])

    def rows(self, kind: str) -> list[dict[str, Any]]:
        return [row for b in self.batches for row in b.to_pylist() if row["kind"] == kind]

    @property
    def controls(self) -> list[dict[str, Any]]:
        return [json.loads(row["payload"]) for row in self.rows("control")]

    @property
    def payloads(self) -> list[bytes]:
        return [row["payload"] for row in self.rows("data")]

    async def until(self, is_true: Callable[["Taker"], bool]) -> None:
        await reached(lambda: is_true(self))


@asynccontextmanager
async def running(connector: BaseConnector) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a connector; stop it at the end, unless it has ended."""
    task = asyncio.create_task(connector.run())
    try:
        yield task
    finally:
        if not task.done():
            async with asyncio.timeout(PATIENCE):
                await connector.disconnect()
        await asyncio.gather(task, return_exceptions=True)


async def in_state(connector: BaseConnector, state: str) -> FeedStatus:
    await reached(lambda: connector.status.state == state)
    return connector.status


async def backing_off(connector: BaseConnector, clock: HandClock) -> FeedStatus:
    """Wait until the pause before the next attempt is under way."""
    await reached(lambda: connector.status.state == "backing_off" and len(clock.naps) == 1)
    return connector.status


def stream(at: Vendor | str, path: str = "v2/iex") -> AlpacaStream:
    """Configure a stream of that vendor, or at that address."""
    return AlpacaStream(
        path=path,
        key=SecretStr(KEY),
        secret=SecretStr(SECRET),
        url=at if isinstance(at, str) else at.url,
        encoding="json" if isinstance(at, Vendor) and at.encoding == "json" else "msgpack",
    )


def made(
    at: Vendor | str,
    taker: Taker,
    clock: HandClock | None = None,
    *,
    first_conn_id: int = 0,
    probe: Probe | None = None,
    random: Random | None = None,
) -> AlpacaConnector:
    """Make a connector whose records and gaps the taker takes."""
    connector = AlpacaConnector(
        stream(at),
        clock=clock or HandClock(),
        first_conn_id=first_conn_id,
        probe=probe,
        random=random,
    )
    connector.register_callback(taker.records, taker.gap)
    return connector


@asynccontextmanager
async def following(
    at: Vendor | str, taker: Taker, clock: HandClock | None = None, **more: Any
) -> AsyncIterator[AlpacaConnector]:
    """Make a connector that wants trades of AAPL, and run it."""
    connector = made(at, taker, clock, **more)
    await connector.subscribe(["AAPL"], ["trades"])
    async with running(connector):
        yield connector


async def live(vendor: Vendor, connector: BaseConnector) -> Peer:
    """Let the next connection in."""
    peer = await vendor.accepted()
    await peer.let_in()
    await in_state(connector, "live")
    return peer
