"""A WebSocket whose frames wait in a queue that is bounded in bytes too, not in number alone."""

from asyncio import BaseTransport
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.messages import Assembler
from websockets.frames import Frame
from websockets.typing import Data

QUEUED_FRAMES: Final = 1024
"""Frames that may wait before the socket is read no more."""
QUEUED_BYTES: Final = 1 << 25
"""Bytes of frames that may wait before the socket is read no more; what one read of the socket
holds comes on top. Twice the longest frame."""


class BoundedQueue(Assembler):
    """Frames that wait to be taken; the socket is read only while they are few and short.

    It is paused by the number of frames as `Assembler` does it, and by their bytes, and is read
    again once both have fallen to a quarter, or the queue is empty: of a message in fragments its
    first may be taken while the rest is still to be read.
    """

    waiting_bytes = 0

    def put(self, frame: Frame) -> None:
        """Add a frame."""
        self.waiting_bytes += len(frame.data)
        super().put(frame)

    async def get(self, decode: bool | None = None) -> Data:  # type: ignore[override]  # overloads
        """Take a message of one or several frames; they wait no more."""
        data = await super().get(decode)
        self.waiting_bytes -= len(data.encode() if isinstance(data, str) else data)
        self.maybe_resume()
        return data

    def maybe_pause(self) -> None:
        """Pause the socket if too much waits."""
        if self.waiting_bytes > QUEUED_BYTES and not self.paused:
            self.paused = True
            self.pause()
        super().maybe_pause()

    def maybe_resume(self) -> None:
        """Read the socket again if little waits, or a message waits for the rest of it."""
        if self.waiting_bytes <= QUEUED_BYTES // 4 or not len(self.frames):
            super().maybe_resume()


class BoundedConnection(ClientConnection):
    """A connection with a `BoundedQueue`."""

    queue: BoundedQueue

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin with an empty queue."""
        super().connection_made(transport)
        self.recv_messages = self.queue = BoundedQueue(
            self.max_queue_high,
            self.max_queue_low,
            pause=self.transport.pause_reading,
            resume=self.transport.resume_reading,
        )
