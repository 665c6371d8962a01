"""Records of a connection, handed out: soon when little comes, many at once when much does."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import pyarrow as pa

from marketpipe.domain.cancelling import finished
from marketpipe.domain.units import NANOS
from marketpipe.sources.records import RecordBuilder

MOST_RECORDS: Final = 4096
"""With so many waiting, nothing more is received until they are handed out."""
MOST_BYTES: Final = 1 << 24
"""Nor with so many bytes of frames waiting."""
PACE_SECONDS: Final = 0.005
"""Real seconds between two batches; a record that comes later goes out at once."""
_TOLD_AFTER_NS: Final = NANOS
"""Of standing still, all in all, before it is told first; then each time that it has doubled."""

_log = logging.getLogger("marketpipe.feed")


class Delivery:
    """Hands out what a builder collects, one batch at a time, and counts what waits.

    Parameters
    ----------
    builder : where records are added; call `notice` after
    take : takes a batch; what it raises ends `run` and comes out of every later `flush`
    """

    def __init__(
        self, builder: RecordBuilder, take: Callable[[pa.RecordBatch], Awaitable[None]]
    ) -> None:
        self.builder = builder
        self.notice: Callable[[], None]
        """Say that something was added."""
        self.blocked_ns = 0
        self._tell_at_ns = _TOLD_AFTER_NS
        self.is_blocked = False
        self._take = take
        self._turn = asyncio.Lock()
        self._some = asyncio.Event()
        self.notice = self._some.set
        self._closing = False
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Hand out until `close`."""
        while not self._closing:
            await self._some.wait()
            self._some.clear()
            # What came in one read of the socket goes out in one batch.
            await asyncio.sleep(0)
            await self.flush()
            await asyncio.sleep(PACE_SECONDS)

    @finished
    async def flush(self) -> None:
        """Hand out what there is; returns once it is taken, and no earlier if it is cancelled.

        What was taken from the builder is in no other place until then.
        """
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            if not len(self.builder):
                return
            try:
                await self._take(self.builder.take())
            except Exception as failure:
                self._failure = failure
                raise

    @property
    def is_full(self) -> bool:
        """Whether so much waits that it is to be handed out before more is received."""
        return len(self.builder) >= MOST_RECORDS or self.builder.waiting_bytes >= MOST_BYTES

    async def relieve(self) -> None:
        """Hand out what there is, because too much waits: whoever receives stands still."""
        begun = time.monotonic_ns()
        self.is_blocked = True
        try:
            await self.flush()
        finally:
            self.is_blocked = False
            self.blocked_ns += time.monotonic_ns() - begun
            self._tell()

    def _tell(self) -> None:
        if self.blocked_ns < self._tell_at_ns:
            return
        self._tell_at_ns = 2 * self.blocked_ns
        _log.warning(
            "messages come faster than they are taken: receiving has stood still for %.0f s on "
            "this connection. Nothing is lost here, but the vendor may hang up: take fewer "
            "symbols, or a faster machine",
            self.blocked_ns / NANOS,
        )

    def close(self) -> None:
        """Let `run` end after the batch at hand; what is added later waits for `flush`."""
        self._closing = True
        self._some.set()
