"""`serve`: one port of loopback with the stream, REST, the clock and the faults of a vendor."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from marketpipe.errors import UsageError
from marketpipe.simulator.amend import Amended
from marketpipe.simulator.clock import LEAD_SECONDS, SimClock, unix_seconds
from marketpipe.simulator.delivery import Delivery
from marketpipe.simulator.faults import Schedule, parse_faults
from marketpipe.simulator.generate import generate
from marketpipe.simulator.market import Kind, Market
from marketpipe.simulator.plans import ENDPOINTS, Endpoint, Keys, Plan
from marketpipe.simulator.rest import PROXY_PAGE, Answer, Rest, behind_ns
from marketpipe.simulator.stream import Overflow, Session, Setting
from marketpipe.sources.framing import Encoding

HOST: Final = "127.0.0.1"
TEST_SYMBOL: Final = "FAKEPACA"
DEFAULT_KEYS: Final = {"KEY": "SECRET"}

_CLOSE_SECONDS: Final = 3.0
_WRITE_LIMIT_BYTES: Final = 1 << 20
_log = logging.getLogger("marketpipe.simulator")


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How the simulator speaks; as it stands, like the vendor.

    Attributes
    ----------
    per_frame : most messages of a frame
    compress : whether permessage-deflate is agreed to where a client offers it
    auth_seconds : real seconds in which a client must log in
    buffer_bytes : what may wait for a client that reads too slowly
    overflow : what happens then: ``disconnect`` (407), or ``wait``: its endpoint waits for it
    waits : the clock stands still until the first client has subscribed
    lead_seconds : and then runs so long before the session, in real seconds, so that all who
        follow it have seen it run
    prepare : make and write all messages before serving, in this encoding; for sources of load
    """

    per_frame: int = 10
    compress: bool = True
    auth_seconds: float = 10.0
    buffer_bytes: int = 8 << 20
    overflow: Overflow = "disconnect"
    waits: bool = False
    lead_seconds: float = LEAD_SECONDS
    prepare: Encoding | None = None


class Simulator:
    """A running simulator. Made by `serve`.

    Attributes
    ----------
    clock : the session's time
    schedule : the faults; more can be added
    end_ns : when the last market ends
    """

    def __init__(
        self,
        markets: Mapping[Kind, Amended],
        test_market: Amended,
        clock: SimClock,
        schedule: Schedule,
        keys: Keys,
        plan: Plan,
        wire: Wire,
    ) -> None:
        self.clock: Final = clock
        self.schedule: Final = schedule
        self.start_ns: Final = min(market.start_ns for market in markets.values())
        self.end_ns: Final = max(market.end_ns for market in markets.values())
        self.port = 0
        self.answered: Counter[int] = Counter()
        """Answers of REST by their status."""
        self._markets: Final = markets
        self._test_market: Final = test_market
        self._overflow: Final = wire.overflow
        self._rest: Final = Rest(markets, keys, plan, clock, schedule)
        self._setting: Final = Setting(
            keys=keys,
            plan=plan,
            clock=clock,
            schedule=schedule,
            per_frame=wire.per_frame,
            auth_seconds=wire.auth_seconds,
            buffer_bytes=wire.buffer_bytes,
            overflow=wire.overflow,
            spawn=self._spawn,
        )
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Address of REST: what stands in front of ``/v2/stocks/trades``."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Address of the stream: what stands in front of ``/v2/iex``."""
        return f"ws://{HOST}:{self.port}"

    @property
    def clock_url(self) -> str:
        """Where the clock is published."""
        return f"{self.url}/clock"

    def inject(self, text: str) -> None:
        """Add faults, written as `parse_faults` reads them, with times counted from now."""
        for fault in parse_faults(text, self.clock.now_ns(), self.end_ns):
            self.schedule.add(fault)

    def sent(self, path: str) -> int:
        """Return how many messages were sent on a path such as ``v2/iex``."""
        return self._deliveries[path].sent if path in self._deliveries else 0

    def connected(self, path: str) -> int:
        """Return how many connections that have logged in a path has."""
        return self._deliveries[path].connected if path in self._deliveries else 0

    async def ended(self) -> None:
        """Wait until the session has ended by its clock."""
        await self.clock.sleep_until(self.end_ns)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the simulator failed", exc_info=error)

    async def stop(self) -> None:
        """End what still runs."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    # the stream

    async def converse(self, connection: ServerConnection) -> None:
        """Serve one WebSocket."""
        if connection.request is not None:
            room = self._delivery(ENDPOINTS[_path(connection.request)]).room
            await Session(connection, room, self._setting).run()

    def _delivery(self, endpoint: Endpoint) -> Delivery:
        found = self._deliveries.get(endpoint.path)
        if found is None:
            market = self._test_market if endpoint.feed == "test" else self._markets[endpoint.kind]
            found = Delivery(endpoint, market, self.clock, self.schedule, self._overflow)
            self._deliveries[endpoint.path] = found
            self._spawn(found.run())
        return found

    # HTTP

    def receive(self, _: ServerConnection, request: Request) -> Response | None:
        """Answer what is no WebSocket; None lets a WebSocket in."""
        path = _path(request)
        if path == "clock":
            behind = behind_ns(self.schedule, self.clock.now_ns())
            return _response(Answer(HTTPStatus.OK, self.clock.published(behind)))
        if path == "faults":
            return _response(self._faults(request))
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if self.schedule.window("html", self.clock.now_ns(), path) is not None:
                return _response(Answer(HTTPStatus.BAD_GATEWAY, PROXY_PAGE, "text/html"))
            known = ENDPOINTS.get(path)
            if known is not None and (known.feed == "test" or known.kind in self._markets):
                return None
        elif request.method != "GET":
            return _response(_said(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here"))
        answer = self._rest.answer(request.path, request.headers)
        self.answered[answer.status] += 1
        return _response(answer)

    def _faults(self, request: Request) -> Answer:
        """List the faults, or add those of ``POST /faults?add=KIND,…``."""
        if request.method == "POST":
            try:
                for text in parse_qs(urlsplit(request.path).query).get("add", []):
                    self.inject(text)
            except UsageError as problem:
                return _said(HTTPStatus.BAD_REQUEST, str(problem))
        return Answer(HTTPStatus.OK, msgspec.json.encode({"faults": self.schedule.report()}))


def _path(request: Request) -> str:
    return urlsplit(request.path).path.strip("/")


def _said(status: HTTPStatus, message: str) -> Answer:
    return Answer(status, msgspec.json.encode({"message": message}))


def _response(answer: Answer) -> Response:
    status = HTTPStatus(answer.status)
    headers = Headers(
        [
            ("Connection", "close"),
            ("Content-Length", str(len(answer.body))),
            ("Content-Type", answer.content_type),
            ("Date", formatdate(unix_seconds(), usegmt=True)),
            *answer.headers,
        ]
    )
    return Response(status.value, status.phrase, headers, answer.body)


@asynccontextmanager
async def serve(
    *markets: Market,
    port: int = 0,
    speed: float = 1.0,
    keys: Mapping[str, str] | None = None,
    plan: Plan | None = None,
    faults: Schedule | None = None,
    wire: Wire | None = None,
) -> AsyncIterator[Simulator]:
    """Serve markets on loopback as Alpaca would, until the context is left.

    Parameters
    ----------
    markets : one of stocks, one of crypto, or both; every feed of a kind has the same market.
        ``v2/test`` has FAKEPACA, generated, if no market has it
    port : to listen on; 0 takes a free one
    speed : seconds of the session in one real second
    keys : secrets by key; by default KEY and SECRET
    plan : what the accounts may do
    faults : what goes wrong
    wire : how it speaks

    Raises
    ------
    UsageError
        There is no market, or two of one kind; the port is taken; the speed is out of range.
    """
    by_kind = {market.kind: market for market in markets}
    if not markets or len(by_kind) != len(markets):
        raise UsageError(
            f"markets: were {[market.kind for market in markets]}; give one of stocks, one of "
            "crypto, or both"
        )
    wire = wire or Wire()
    schedule = faults or Schedule()
    start_ns = min(market.start_ns for market in markets)
    clock = SimClock(start_ns, speed, waits=wire.waits, lead_seconds=wire.lead_seconds)
    simulator = Simulator(
        {kind: Amended(market, schedule, wire.prepare) for kind, market in by_kind.items()},
        Amended(_test_market(markets), schedule),
        clock,
        schedule,
        Keys(DEFAULT_KEYS if keys is None else keys),
        plan or Plan(),
        wire,
    )
    async with _listening(simulator.converse, simulator.receive, port, wire) as server:
        simulator.port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield simulator
        finally:
            await simulator.stop()


@asynccontextmanager
async def _listening(
    converse: Callable[[ServerConnection], Coroutine[Any, Any, None]],
    receive: Callable[[ServerConnection, Request], Response | None],
    port: int,
    wire: Wire,
) -> AsyncIterator[Server]:
    try:
        server = await serve_websockets(
            converse,
            HOST,
            port,
            process_request=receive,
            compression="deflate" if wire.compress else None,
            close_timeout=_CLOSE_SECONDS,
            write_limit=_WRITE_LIMIT_BYTES,
            server_header=None,
            logger=_log,
        )
    except OSError as error:
        raise UsageError(
            f"port: {port} of {HOST} cannot be listened on ({error.strerror}); choose another "
            "one, or 0 for one that is free"
        ) from error
    async with server:
        yield server


def _test_market(markets: Iterable[Market]) -> Market:
    """Return the market of ``v2/test``, which is always on."""
    for market in markets:
        if TEST_SYMBOL in market.symbols:
            return market
    start_ns = min(market.start_ns for market in markets)
    end_ns = max(market.end_ns for market in markets)
    return generate((TEST_SYMBOL,), "stocks", start_ns, end_ns, trades_per_second=1.0)
