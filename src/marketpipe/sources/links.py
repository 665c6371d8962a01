"""`Link`: one connection of a feed, from its first record to its last."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from marketpipe.domain.units import NANOS
from marketpipe.errors import VendorError
from marketpipe.sources.clocks import Clock
from marketpipe.sources.delivery import MOST_RECORDS, Delivery
from marketpipe.sources.framing import Encoding
from marketpipe.sources.records import RecordBuilder

MOST_BETWEEN_TICKS: Final = 1 << 16
"""After so many records the clock ticks though it is not a second later: what is derived at once
stays small, however fast a feed is and however far behind it is taken."""
CLOSED: Final = "closed"
"""Why a link ended: the other side hung up."""
STOPPED: Final = "stopped"
"""Why a link ended: we were told to stop."""
MUTE: Final = "mute"
"""Why a link ended: it was silent for too long."""
ERROR: Final = "error"
"""Why a link ended: the vendor said so, or something failed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """What a vendor does with frames.

    Attributes
    ----------
    is_control : whether a frame may hold more than data of the market; quick, may err to True
    clean : gives such a frame without any secret in it
    hear : acts on such a frame, which is recorded by then
    take : takes a batch of records
    """

    is_control: Callable[[bytes], bool]
    clean: Callable[[bytes], bytes]
    hear: Callable[["Link", bytes], Awaitable[None]]
    take: Callable[["Link", pa.RecordBatch], Awaitable[None]]


class Link:
    """One connection: what it receives goes into records, and those are handed out.

    Attributes
    ----------
    since_ns : when it was subscribed; None until then
    good_ns : receipt of the last message that could be read
    gap_reason, code : why messages may be missing once it has ended, and the vendor's number
    """

    def __init__(
        self,
        socket: ClientConnection,
        builder: RecordBuilder,
        encoding: Encoding,
        *,
        clock: Clock,
        ears: Ears,
    ) -> None:
        self.socket = socket
        self.builder = builder
        self.delivery = Delivery(builder, self._take)
        self.since_ns: int | None = None
        self.good_ns = 0
        self.gap_reason = "disconnected"
        self.code: int | None = None
        self._encoding: Encoding = encoding
        self._clock = clock
        self._ears = ears
        self._since_tick = 0
        self._turn = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None

    def start(self) -> set["asyncio.Task[None]"]:
        """Begin to receive and to hand out; one of these tasks ends when the link does."""
        self._reading = asyncio.create_task(self._receive())
        self._handing = asyncio.create_task(self.delivery.run())
        self.delivery.notice()
        return {self._reading, self._handing}

    @property
    def is_started(self) -> bool:
        """Whether frames are received by themselves, not by `receive_until`."""
        return self._reading is not None

    async def receive_until(self, done: Callable[[], bool]) -> None:
        """Receive frame by frame, acting on each, before the link is started.

        Raises
        ------
        ConnectionClosed
            The other side hung up before it was so.
        """
        async with self._turn:
            while not done():
                await self._heard(await self.socket.recv(decode=False))

    async def _heard(self, frame: bytes) -> None:
        frame = self._ears.clean(frame)
        self.builder.add_frame(frame, self._clock.now_ns(), self._encoding)
        await self._ears.hear(self, frame)

    async def _receive(self) -> None:
        # Who reads before the start reads to the end of his matter.
        async with self._turn:
            await self._receive_all()

    async def _receive_all(self) -> None:
        recv, now, encoding = self.socket.recv, self._clock.now_ns, self._encoding
        builder, delivery = self.builder, self.delivery
        add, notice, is_control = builder.add_frame, delivery.notice, self._ears.is_control
        while True:
            frame = await recv(decode=False)
            if is_control(frame):
                await self._heard(frame)
            else:
                add(frame, now(), encoding)
            if len(builder) >= MOST_RECORDS:
                await delivery.relieve()
                self._tick_if_many()
            else:
                notice()

    async def _take(self, batch: pa.RecordBatch) -> None:
        self._since_tick += len(batch)
        await self._ears.take(self, batch)

    def _tick_if_many(self) -> None:
        if self._since_tick >= MOST_BETWEEN_TICKS and self.since_ns is not None:
            self._add_tick(self._clock.now_ns())

    def _add_tick(self, now_ns: int) -> None:
        self._since_tick = 0
        self.builder.add_clock(now_ns)
        self.delivery.notice()

    async def tick(self) -> None:
        """Record a tick of the clock in each of its seconds; never returns."""
        clock = self._clock
        second = clock.now_ns() // NANOS
        while True:
            await clock.sleep((NANOS - clock.now_ns() % NANOS) / NANOS)
            now = clock.now_ns()
            # While too much waits, what was sent before this second may not be received yet.
            if now // NANOS > second and self.since_ns is not None and not self.delivery.is_blocked:
                self._add_tick(now)
            second = now // NANOS

    async def finish(self, why: str) -> BaseException | None:
        """Close it, and hand out all that it received; return what ended the receiving.

        Raises
        ------
        Exception
            What the taker of the records raises.
        """
        await self.socket.close()
        reading = self._reading or asyncio.ensure_future(self._receive())
        end = (await asyncio.gather(reading, return_exceptions=True))[0]
        self.delivery.close()
        if self._handing is not None:
            await asyncio.gather(self._handing, return_exceptions=True)
        if why == CLOSED and isinstance(end, VendorError):
            why = ERROR
        elif why == CLOSED and self.code is None and isinstance(end, ConnectionClosed):
            self.code = end.rcvd.code if end.rcvd else None
        self.builder.add_control(
            {"event": "disconnected", "reason": why, "code": self.code}, self._clock.now_ns()
        )
        await self.delivery.flush()
        return end
