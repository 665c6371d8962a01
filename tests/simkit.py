"""A raw client of the simulator, for tests that look at what is on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, TypeAlias

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from marketpipe.domain.units import NANOS
from marketpipe.simulator import Simulator, Wire, serve
from marketpipe.simulator.generate import generate
from marketpipe.simulator.market import Event, Kind, Market

OPEN_NS = 1_767_623_400 * NANOS  # 2026-01-05 14:30 UTC, a Monday: the open in New York
HEADERS = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}
TIMEOUT_SECONDS = 60.0
WAITING = Wire(waits=True, lead_seconds=0.05)

Message: TypeAlias = dict[str, Any]
Get: TypeAlias = Callable[..., Awaitable[httpx.Response]]


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; one that hangs fails."""
    asyncio.run(asyncio.wait_for(work, TIMEOUT_SECONDS))


@lru_cache(maxsize=8)
def market(kind: Kind = "stocks", seconds: int = 150, per_second: float = 4.0) -> Market:
    """Return a small market; its last messages are bars, after the last trade."""
    symbols = ("AAPL", "MSFT") if kind == "stocks" else ("BTC/USD", "ETH/USD")
    return generate(
        symbols,
        kind,
        OPEN_NS,
        OPEN_NS + seconds * NANOS,
        7,
        trades_per_second=per_second,
        quotes_per_second=per_second,
        late_share=0.05,
        cancel_share=0.02,
        correction_share=0.02,
        fate_max_ns=20 * NANOS,
        late_max_ns=20 * NANOS,
    )


def events(of: Market, *channels: str) -> list[Event]:
    """Return the market's events of these channels."""
    return [event for event in of.events() if event.channel in channels]


def texts(of: Market, *channels: str) -> list[Message]:
    """Return the market's messages of these channels, as JSON says them."""
    return [json.loads(event.encode("json")) for event in events(of, *channels)]


class Client:
    """One connection: what it was sent, message by message."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[str | bytes] = []

    async def frame(self) -> list[Message]:
        """Return the next frame's messages."""
        data = await self.socket.recv()
        self.frames.append(data)
        found = json.loads(data) if isinstance(data, str) else msgspec.msgpack.decode(data)
        assert isinstance(found, list)
        return found

    async def one(self) -> Message:
        """Return the next message, which must come alone."""
        (message,) = await self.frame()
        return message

    async def ask(self, **request: Any) -> Message:
        """Send a request in JSON, and return its answer: the next message that is no data."""
        await self.socket.send(json.dumps(request))
        while True:
            frame = await self.frame()
            if len(frame[0]["T"]) > 1:
                assert len(frame) == 1
                return frame[0]

    async def log_in(self) -> None:
        """Log in by message."""
        assert await self.one() == {"T": "success", "msg": "connected"}
        answer = await self.ask(action="auth", key="KEY", secret="SECRET")
        assert answer == {"T": "success", "msg": "authenticated"}

    async def until(self, is_last: Callable[[Message], bool]) -> list[Message]:
        """Return messages up to the first that is the last one."""
        found: list[Message] = []
        while True:
            for message in await self.frame():
                found.append(message)
                if is_last(message):
                    return found

    async def rest(self) -> list[Message]:
        """Return all messages until the connection ends."""
        found: list[Message] = []
        try:
            while True:
                found += await self.frame()
        except ConnectionClosed:
            return found


@asynccontextmanager
async def client(
    simulator: Simulator, path: str = "v2/iex", **options: Any
) -> AsyncIterator[Client]:
    """Connect to a path of the stream."""
    async with connect(f"{simulator.ws_url}/{path}", **options) as socket:
        yield Client(socket)


@asynccontextmanager
async def subscriber(
    simulator: Simulator, *channels: str, path: str = "v2/iex"
) -> AsyncIterator[Client]:
    """Connect, log in, and subscribe to all symbols of channels."""
    async with client(simulator, path) as one:
        await one.log_in()
        answer = await one.ask(action="subscribe", **{name: ["*"] for name in channels})
        assert answer["T"] == "subscription"
        yield one


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; the test's own limit of time ends what never does."""
    while not condition():
        await asyncio.sleep(0.005)


def is_message(wanted: Message) -> Callable[[Message], bool]:
    """Tell a message from others."""
    return lambda message: message == wanted


@asynccontextmanager
async def over(*markets: Market, **options: Any) -> AsyncIterator[tuple[Simulator, Get]]:
    """Serve markets whose session is over, and give what asks for a path."""
    async with serve(*markets, speed=100_000, **options) as simulator:
        await simulator.ended()
        async with httpx.AsyncClient(
            base_url=simulator.url, headers=HEADERS, trust_env=False
        ) as http:

            async def get(path: str, **params: Any) -> httpx.Response:
                headers = params.pop("headers", None)
                return await http.get(path, params=params, headers=headers)

            yield simulator, get


def rows(of: Market, kind: str, symbol: str, **between: int) -> list[dict[str, Any]]:
    start_ns = between.get("start_ns", 0)
    end_ns = between.get("end_ns", of.end_ns)
    found = getattr(of, kind)(symbol, start_ns, end_ns, of.end_ns - 1)
    return [json.loads(row.json) for row in found]
