"""A vendor's REST server on the loopback, faithful in paging, that also misbehaves on demand."""

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random  # noqa: TID251  # the client's, with a seed
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from pydantic import SecretStr

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.sources.alpaca.rest import AlpacaRest, Page

T = TypeVar("T")

HANG = b"hang"
CUT = b"cut"


@dataclass(frozen=True)
class Reply:
    """An answer; a body of `HANG` never comes, one of `CUT` ends in the middle."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class FakeAlpaca:
    """Pages of what it was given: by symbol, then time; a page's limit counts over all symbols.

    ``first`` holds answers that are given before it behaves, in order; ``most`` is the longest
    page that it gives, whatever is asked.
    """

    def __init__(
        self, data: Mapping[str, list[dict[str, Any]]], *first: Reply, most: int = 10_000
    ) -> None:
        self.most = most
        self.tasks: set[asyncio.Task[None]] = set()
        self.data = data
        self.first = deque(first)
        self.asked: list[Asked] = []
        self.url = ""

    def answer(self, asked: Asked) -> Reply:
        if self.first:
            return self.first.popleft()
        kind = asked.path.rsplit("/", 1)[1]
        end_ns = parse_ns(asked.params["end"])
        chosen = [
            (symbol, element)
            for symbol in sorted(asked.params["symbols"].split(","))
            for element in self.data.get(symbol, [])
            if parse_ns(asked.params["start"]) <= parse_ns(element["t"]) <= end_ns
        ]
        begin = int(base64.b64decode(asked.params.get("page_token", "MA==")))
        end = begin + min(int(asked.params["limit"]), self.most)
        page: dict[str, list[dict[str, Any]]] = {}
        for symbol, element in chosen[begin:end]:
            page.setdefault(symbol, []).append(element)
        token = base64.b64encode(str(end).encode()).decode() if end < len(chosen) else None
        return Reply(body=json.dumps({kind: page, "next_page_token": token}).encode())

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                target = line.split()[1].decode()
                headers: dict[str, str] = {}
                while header := (await reader.readline()).decode().strip():
                    name, value = header.split(": ", 1)
                    headers[name.lower()] = value
                split = urlsplit(target)
                asked = Asked(split.path, dict(parse_qsl(split.query)), headers)
                self.asked.append(asked)
                reply = self.answer(asked)
                if reply.body is HANG:
                    await reader.read()
                    return
                length = 1000 if reply.body is CUT else len(reply.body)
                shown = {"Content-Type": "application/json", **reply.headers}
                head = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
                writer.write(
                    f"HTTP/1.1 {reply.status} X\r\nContent-Length: {length}\r\n{head}\r\n".encode()
                    + reply.body
                )
                await writer.drain()
                if reply.body is CUT:
                    return
        finally:
            writer.close()


def parse_ns(text: str) -> int:
    """Read an instant in UTC."""
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


@asynccontextmanager
async def serving(fake: FakeAlpaca) -> AsyncIterator[FakeAlpaca]:
    """Serve on a free port of the loopback."""
    server = await asyncio.start_server(fake.accept, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        # Each ends when its client hangs up.
        await asyncio.gather(*fake.tasks)


KEY, SECRET = "PKTESTKEY00001", "secret/of+the=test"
START = 1_666_383_543_000_000_000
"""2022-10-21T20:19:03Z."""


REAL_S = 1_800_000_000
"""Real time, which is not the feed's."""


class StillClock:
    """Time that passes only by sleeping, and then at once."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * NANOS
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += int(seconds * NANOS)


def trade(number: int, **more: Any) -> dict[str, Any]:
    at = format_ns(START + number)
    return {"t": at, "x": "V", "p": 100 + number, "s": 1, "c": ["@"], "i": number, "z": "C", **more}


DATA = {"AAPL": [trade(k) for k in range(7)], "B": [], "MSFT": [trade(k) for k in range(10, 14)]}


class Used:
    """What a client did while it was used."""

    def __init__(self, fake: FakeAlpaca) -> None:
        self.fake = fake
        self.clock = StillClock()
        self.paused: list[float] = []

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def run(
        self,
        use: Callable[[AlpacaRest], Awaitable[T]],
        key: str | None = KEY,
        url: str | None = None,
        answer_seconds: float = 30.0,
    ) -> T:
        async def main() -> T:
            async with serving(self.fake):
                client = AlpacaRest(
                    SecretStr(key) if key else None,
                    SecretStr(SECRET) if key else None,
                    url=url or self.fake.url,
                    clock=self.clock,
                    random=Random(5),
                    pause=self._pause,
                    real_ns=lambda: REAL_S * NANOS,
                    answer_seconds=answer_seconds,
                )
                async with client:
                    return await use(client)

        return asyncio.run(main())


async def all_pages(client: AlpacaRest, **more: Any) -> list[Page]:
    asked: dict[str, Any] = {"symbols": ["MSFT", "AAPL", "B"], "feed": "sip", "limit": 3, **more}
    pages = client.pages("trades", asked.pop("symbols"), START, START + NANOS, **asked)
    return [page async for page in pages]


def ids(pages: list[Page]) -> list[tuple[str, int]]:
    return [
        (symbol, element["i"])
        for page in pages
        for symbol, elements in json.loads(page.body)["trades"].items()
        for element in elements
    ]


EVERYTHING = [(symbol, element["i"]) for symbol in DATA for element in DATA[symbol]]
