"""The server of a run, in a process of its own: the simulator's sessions, and frames made before.

It says its port, reads orders, and repeats each when it is ready. Who then connects and subscribes
is sent what was ordered; a report follows when all of it is taken.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec
from websockets.asyncio.server import ServerConnection, serve

from bench import feed
from bench.frames import END, Frames, last
from bench.processes import say
from marketpipe.simulator.clock import SimClock
from marketpipe.simulator.faults import Schedule
from marketpipe.simulator.generate import generate
from marketpipe.simulator.plans import ENDPOINTS, Keys, Plan
from marketpipe.simulator.stream import Room, Session, Setting
from marketpipe.sources.clocks import SystemClock

PATH: Final = "v2/sip"
KEY: Final = "KEY"
SECRET: Final = "SECRET"
SYMBOLS: Final = (*feed.SYMBOLS, END)

_HOST: Final = "127.0.0.1"
_AT_ONCE: Final = 4_000
"""Most messages that are written at once."""
_BUFFER_BYTES: Final = 1 << 20
_NAP_SECONDS: Final = 0.001


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent next: so many messages and one that ends them.

    Attributes
    ----------
    messages, per_frame : how many, and in what frames; a multiple of each other
    rate : messages a second; 0 for as fast as they are taken
    """

    messages: int
    per_frame: int = 10
    rate: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent.

    Attributes
    ----------
    sent : messages, with the one that ends them
    begun_ns, ended_ns : when the first was written, and when all were taken by the socket
    late_s : how far it was behind its rate, at worst
    """

    sent: int
    begun_ns: int
    ended_ns: int
    late_s: float

    @property
    def rate(self) -> float:
        """Messages a second that were sent."""
        return self.sent / (self.ended_ns - self.begun_ns) * 1e9


@dataclass(slots=True)
class _Server:
    """Sends to each who subscribes what was ordered last."""

    frames: dict[int, Frames]
    order: Order

    async def converse(self, connection: ServerConnection) -> None:
        """Let one in as the vendor would, and send to him once he has subscribed."""
        market = generate(("A",), "stocks", feed.OPEN_NS, feed.OPEN_NS + 1)
        room = Room(ENDPOINTS[PATH], market, _pass, _pass, lambda _: 0)
        clock = SimClock(feed.OPEN_NS, waits=True)
        session = Session(connection, room, _setting(clock))
        sending = asyncio.create_task(self._send(connection, session, clock))
        await session.run()
        sending.cancel()

    async def _send(
        self, connection: ServerConnection, session: Session, subscribed: SimClock
    ) -> None:
        await subscribed.sleep_until(0)
        order, clock = self.order, SystemClock()
        frames, write = self.frames[order.per_frame], connection.transport.write
        begun_ns, begun = clock.now_ns(), time.monotonic()
        sent, late_s = 0, 0.0
        while sent < order.messages:
            due = order.messages
            if order.rate:
                due = min(due, int((time.monotonic() - begun) * order.rate))
            stop = min(due, sent + _AT_ONCE, (sent // frames.block + 1) * frames.block)
            stop -= stop % order.per_frame
            if stop > sent:
                write(frames.written(sent, stop, clock.now_ns()))
                sent = stop
                await session.ready()
            if order.rate:
                late_s = max(late_s, time.monotonic() - begun - sent / order.rate)
            if sent == stop == due - due % order.per_frame:
                await asyncio.sleep(_NAP_SECONDS)
        write(last(clock.now_ns()))
        await session.ready()
        say(Report(sent=sent + 1, begun_ns=begun_ns, ended_ns=clock.now_ns(), late_s=late_s))


def _pass(_: Session) -> None:
    pass


def _setting(clock: SimClock) -> Setting:
    return Setting(
        keys=Keys({KEY: SECRET}),
        plan=Plan(),
        clock=clock,
        schedule=Schedule(),
        per_frame=1,
        auth_seconds=10.0,
        buffer_bytes=_BUFFER_BYTES,
        overflow="wait",
        spawn=lambda work: work.close(),
    )


async def _serve() -> None:
    server = _Server({}, Order(messages=0))
    async with serve(
        server.converse, _HOST, 0, compression=None, write_limit=_BUFFER_BYTES, close_timeout=1.0
    ) as listening:
        say(next(iter(listening.sockets)).getsockname()[1])
        while line := await asyncio.to_thread(sys.stdin.readline):
            server.order = order = msgspec.json.decode(line, type=Order)
            if order.per_frame not in server.frames:
                server.frames[order.per_frame] = Frames(order.per_frame)
            say(order)


if __name__ == "__main__":
    asyncio.run(_serve())
