"""`Link`: one connection of a feed, from its first record to its last."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from marketpipe.domain.units import NANOS
from marketpipe.errors import UnreachableError, VendorError
from marketpipe.sources.bounded import BoundedConnection
from marketpipe.sources.clocks import Clock, SystemClock
from marketpipe.sources.delivery import Delivery
from marketpipe.sources.dialing import MAX_FRAME_BYTES
from marketpipe.sources.framing import Encoding
from marketpipe.sources.records import RecordBuilder

MOST_BETWEEN_TICKS: Final = 1 << 16
"""After so many records the clock ticks though it is not a second later: what is derived at once
stays small, however fast a feed is and however far behind it is taken. Such a tick moves the
watermark only up to what was read."""
LEAP_NS: Final = 10 * NANOS
"""A tick so late, by the feed's time and by the system's, is a leap: the machine slept, or we
stood still."""
LOOK_SECONDS: Final = 0.001
"""Real seconds between two looks whether all that came is read, for a tick of the clock."""
CLOSED: Final = "closed"
"""Why a link ended: the other side hung up."""
STOPPED: Final = "stopped"
"""Why a link ended: we were told to stop."""
MUTE: Final = "mute"
"""Why a link ended: it was silent for too long."""
ERROR: Final = "error"
"""Why a link ended: the vendor said so, or something failed here."""


OVERSIZED: Final = "oversized_frame"
"""Why messages may be missing: a frame was too long to be received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """What a vendor does with frames.

    Attributes
    ----------
    is_control : whether a frame may hold more than data of the market; quick, may err to True
    clean : gives such a frame without any secret in it
    hear : acts on such a frame, which is recorded by then
    take : takes a batch of records
    stood : told that time has leapt, once all that had come is read; the tick of the clock follows
    ended : told that all is taken that came on a link; the record of its end follows
    """

    is_control: Callable[[bytes], bool]
    clean: Callable[[bytes], bytes]
    hear: Callable[["Link", bytes], Awaitable[None]]
    take: Callable[["Link", pa.RecordBatch], Awaitable[None]]
    stood: Callable[["Link", int], Awaitable[None]]
    ended: Callable[["Link"], None]


class Link:
    """One connection: what it receives goes into records, and those are handed out.

    Parameters
    ----------
    socket, builder, encoding : an open connection, what takes its frames, and how they are written
    clock : the feed's time
    ears : what is done with frames
    real : tells how long we stood still; None: the system's clock

    Attributes
    ----------
    since_ns : when it was subscribed; None until then
    good_ns : up to when all is known to have come; see `marketpipe.sources.connector.Gap`
    had_ns : of what happened up to then, by the vendor's own time, the link need not bring any on
        a channel, as it began later; of those channels of which that is known
    silent_since_ns : up to when all has come of those channels that were silent, whether it was
        given up for them or not; None if none was, or all
    gap_reason, code : why messages may be missing once it has ended, and the vendor's number
    """

    def __init__(
        self,
        socket: BoundedConnection,
        builder: RecordBuilder,
        encoding: Encoding,
        *,
        clock: Clock,
        ears: Ears,
        real: Clock | None = None,
    ) -> None:
        self.socket = socket
        self.builder = builder
        self.delivery = Delivery(builder, self._take)
        self.since_ns: int | None = None
        self.good_ns = 0
        self.had_ns: dict[str, int] = {}
        self.silent_since_ns: int | None = None
        self.gap_reason = "disconnected"
        self.code: int | None = None
        self._encoding: Encoding = encoding
        self._clock = clock
        self._real: Clock = real or SystemClock()
        self._ears = ears
        self._since_tick = 0
        self._is_waiting = False
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
    def waiting_bytes(self) -> int:
        """Bytes of frames that are received, and not handed out."""
        return self.socket.queue.waiting_bytes + self.builder.waiting_bytes

    @property
    def good_until_ns(self) -> int:
        """Up to when all is known to have come, on every channel that was found silent too."""
        silent_ns = self.silent_since_ns
        return self.good_ns if silent_ns is None else min(self.good_ns, silent_ns)

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
            self._is_waiting = True
            try:
                frame = await recv(decode=False)
            finally:
                self._is_waiting = False
            if is_control(frame):
                await self._heard(frame)
            else:
                add(frame, now(), encoding)
            if delivery.is_full:
                await delivery.relieve()
                self._tick_if_many()
            else:
                notice()

    async def _take(self, batch: pa.RecordBatch) -> None:
        self._since_tick += len(batch)
        await self._ears.take(self, batch)

    def _tick_if_many(self) -> None:
        if self._since_tick >= MOST_BETWEEN_TICKS and self.since_ns is not None:
            # More waits to be read, of an earlier time: nobody knows of when, but what was read.
            self._add_tick(self._clock.now_ns(), self.good_ns)

    def _add_tick(self, now_ns: int, through_ns: int | None = None) -> None:
        self._since_tick = 0
        self.builder.add_clock(now_ns, through_ns)
        self.delivery.notice()

    async def tick(self) -> None:
        """Record a tick of the clock in each of its seconds; never returns.

        What had come by then is recorded before it, so that a reader who lags behind closes bars
        late rather than without what waits to be read.
        """
        with selectors.DefaultSelector() as readable:
            socket = self.socket.transport.get_extra_info("socket")
            if socket.fileno() >= 0:
                readable.register(socket, selectors.EVENT_READ)
            await self._tick_with(readable)

    async def _tick_with(self, readable: selectors.BaseSelector) -> None:
        clock, real = self._clock, self._real
        latest, real_latest = clock.now_ns(), real.now_ns()
        while True:
            await clock.sleep((NANOS - clock.now_ns() % NANOS) / NANOS)
            slept = min(clock.now_ns() - latest, real.now_ns() - real_latest)
            if clock.now_ns() // NANOS > latest // NANOS and self.since_ns is not None:
                await self._all_read(readable)
                now = clock.now_ns()
                if slept >= LEAP_NS:
                    await self._ears.stood(self, now)
                self._add_tick(now)
            latest, real_latest = clock.now_ns(), real.now_ns()

    async def _all_read(self, readable: selectors.BaseSelector) -> None:
        """Return once the socket is found empty, and all that came out of it is recorded."""
        while True:
            is_empty = not readable.select(0)
            # In this pass of the loop whoever receives takes what has come out of the socket.
            await asyncio.sleep(0)
            if is_empty and self._is_waiting:
                return
            await asyncio.sleep(LOOK_SECONDS)

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
        if _is_oversized(end):
            self.gap_reason, self.code = OVERSIZED, CloseCode.MESSAGE_TOO_BIG
            end = UnreachableError(
                f"a frame of more than {MAX_FRAME_BYTES:,} bytes came, which cannot be kept: "
                "messages are lost each time. Subscribe to less, or tell the vendor"
            )
        self.delivery.close()
        if self._handing is not None:
            await asyncio.gather(self._handing, return_exceptions=True)
        if why == CLOSED and isinstance(end, VendorError):
            why = ERROR
        elif why == CLOSED and self.code is None and isinstance(end, ConnectionClosed):
            self.code = end.rcvd.code if end.rcvd else None
        # What comes last tells how far all has come.
        await self.delivery.flush()
        self._ears.ended(self)
        self.builder.add_control(
            {
                "event": "disconnected",
                "reason": why,
                "code": self.code,
                "good_until_ns": self.good_until_ns if self.since_ns is not None else None,
            },
            self._clock.now_ns(),
        )
        await self.delivery.flush()
        return end


def _is_oversized(end: BaseException | None) -> bool:
    """Tell whether we hung up, since a frame was longer than we take."""
    return (
        isinstance(end, ConnectionClosed)
        and end.sent is not None
        and end.sent.code == CloseCode.MESSAGE_TOO_BIG
        and not end.rcvd_then_sent
    )
