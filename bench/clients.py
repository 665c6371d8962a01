"""Who is measured against, each in a process of its own: ``python -m bench.clients NAME``.

``alpaca-py`` is Alpaca's SDK with typed handlers that do nothing. ``websockets`` takes frames
apart from one another and looks at none; ``bytes`` reads the socket and nothing else, so it shows
how fast the sender is.
"""

import asyncio
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import msgspec
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from bench.frames import END, ends
from bench.processes import answer
from bench.sender import KEY, PATH, SECRET, SYMBOLS
from marketpipe.sources.clocks import SystemClock

_READ_BYTES: Final = 1 << 18
_TAIL_BYTES: Final = 256
_HEADERS: Final = {
    "Content-Type": "application/msgpack",
    "APCA-API-KEY-ID": KEY,
    "APCA-API-SECRET-KEY": SECRET,
}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is to take: so many messages and one that ends them, from a port.

    ``each_second``: whether bars of seconds are wanted, of one who makes bars.
    """

    port: int
    messages: int
    each_second: bool = False

    @property
    def url(self) -> str:
        """Address of the stream."""
        return f"ws://127.0.0.1:{self.port}/{PATH}"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """When a client had everything (ns since the epoch), and the CPU of its process until then."""

    ended_ns: int
    cpu_seconds: float


def alpaca_py(task: Task) -> int:
    """Run the SDK until the last message; return when its handler was called."""
    warnings.simplefilter("ignore")
    from alpaca.data.live import StockDataStream
    from alpaca.data.models import Trade

    feed = StockDataStream(KEY, SECRET, url_override=task.url)
    ended: list[int] = []

    async def ignore(_: Trade | dict[Any, Any]) -> None:
        pass

    async def end(_: Trade | dict[Any, Any]) -> None:
        ended.append(SystemClock().now_ns())
        await feed.stop_ws()

    feed.subscribe_trades(ignore, *SYMBOLS[:-1])
    feed.subscribe_trades(end, END)
    feed.run()
    return ended[0]


def websockets(task: Task) -> int:
    """Take frames until the last one, which is told by the symbol in its head."""
    return asyncio.run(_frames(task))


async def _frames(task: Task) -> int:
    async with connect(
        task.url, additional_headers=_HEADERS, compression=None, proxy=None, max_queue=1024
    ) as client:
        await client.send(_subscription())
        end = msgspec.msgpack.encode(END)
        while end not in (await client.recv(decode=False))[:20]:
            pass
        return SystemClock().now_ns()


def bytes_alone(task: Task) -> int:
    """Read until the bytes of the last frame."""
    protocol = ClientProtocol(parse_uri(task.url))
    request = protocol.connect()
    request.headers.update(_HEADERS)
    protocol.send_request(request)
    with socket.create_connection(("127.0.0.1", task.port)) as stream:
        _flush(protocol, stream)
        while protocol.state.name == "CONNECTING":
            protocol.receive_data(stream.recv(_READ_BYTES))
        protocol.send_binary(_subscription())
        _flush(protocol, stream)
        tail = b""
        while not ends(tail):
            tail = (tail + stream.recv(_READ_BYTES))[-_TAIL_BYTES:]
        return SystemClock().now_ns()


def _flush(protocol: ClientProtocol, stream: socket.socket) -> None:
    for data in protocol.data_to_send():
        stream.sendall(data)


def _subscription() -> bytes:
    return msgspec.msgpack.encode({"action": "subscribe", "trades": SYMBOLS})


CLIENTS: Final[dict[str, Callable[[Task], int]]] = {
    "alpaca-py": alpaca_py,
    "websockets": websockets,
    "bytes": bytes_alone,
}


def main() -> None:
    """Take what each task says."""
    take = CLIENTS[sys.argv[1]]

    def taken(task: Task) -> Taken:
        begun = time.process_time()
        ended_ns = take(task)
        return Taken(ended_ns=ended_ns, cpu_seconds=time.process_time() - begun)

    answer(Task, taken)


if __name__ == "__main__":
    main()
