"""What time it is at a feed: the system's clock, or one that a feed publishes.

A live feed runs by the system's clock. A simulated or past session has a clock of its own, often
a fast one, and publishes it; who follows that clock treats the session as if it were live.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final, Protocol

import httpx
import msgspec

from marketpipe.domain.closing import AsyncClosing
from marketpipe.domain.units import MAX_TS_NS, NANOS, format_ns
from marketpipe.errors import ConnectError, UnreachableError

POLL_SECONDS: Final = 1.0
"""Real seconds between two looks at a published clock."""
MAX_SPEED: Final = 1e6

_ANSWER_SECONDS: Final = 10.0
_log = logging.getLogger("marketpipe.clock")


class Clock(Protocol):
    """Time as the feed has it."""

    def now_ns(self) -> int:
        """Return the time now, ns since the epoch, UTC; it never steps back."""

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of the feed's time; 0 or less lets others run once."""


class SystemClock:
    """The system's clock; where that is set back, time stands until it has caught up."""

    def __init__(self) -> None:
        self._latest = 0

    def now_ns(self) -> int:
        """Return the time now, ns since the epoch, UTC; it never steps back."""
        now = time.time_ns()  # noqa: TID251  # a shell: everything below is given the time
        self._latest = max(self._latest, now)
        return self._latest

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        await asyncio.sleep(seconds)


class _Published(msgspec.Struct):
    now_ns: int
    speed: float


_decode = msgspec.json.Decoder(_Published).decode


class FollowedClock(AsyncClosing):
    """A clock that a server publishes as ``{"now_ns": int, "speed": float}``.

    Between two looks, a second of real time apart, it runs on at the published speed (seconds of
    feed time in one of real time; 0 while the session is paused). It never steps back: where it
    was ahead, it stands until the published clock has caught up. While the server does not
    answer, it runs on as last published. Make one with `follow`; it is an asynchronous context
    manager.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._base_ns = self._latest = 0
        self._base_real_ns = 0
        self._speed = 1.0
        self._looked = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

    @classmethod
    async def follow(cls, url: str) -> "FollowedClock":
        """Look at the clock at ``url`` (http or https), and go on looking.

        Raises
        ------
        ConnectError
            If it cannot be reached, or what it says is no clock.
        """
        clock = cls(url, httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False))
        try:
            await clock.look()
        except BaseException:
            await clock.close()
            raise
        clock._polling = asyncio.create_task(clock._poll())
        return clock

    @property
    def speed(self) -> float:
        """Seconds of feed time in one of real time, as last published."""
        return self._speed

    def now_ns(self) -> int:
        """Return the time now, ns since the epoch, UTC; it never steps back."""
        self._latest = max(self._latest, self._published_ns())
        return self._latest

    def _published_ns(self) -> int:
        passed = time.monotonic_ns() - self._base_real_ns
        return min(self._base_ns + int(passed * self._speed), MAX_TS_NS)

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of the published time, at whatever speed it passes."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        end = self.now_ns() + int(seconds * NANOS)
        while (left := end - self._published_ns()) > 0:
            wait = left / self._speed / NANOS if self._speed else None
            # Not `wait_for`: in Python 3.11 that may swallow a cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._looked.wait()

    async def look(self) -> None:
        """Ask what time it is now, and go on from there.

        Raises
        ------
        ConnectError
            If the clock cannot be reached, or what it says is no clock.
        """
        begun = time.monotonic_ns()
        try:
            answer = await self._client.get(self._url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise UnreachableError(
                f"clock: {self._url} cannot be reached: {why}. Is the "
                "simulator running, and is this its address?"
            ) from error
        ended = time.monotonic_ns()
        try:
            said = _decode(answer.content)
            valid = 0 <= said.now_ns <= MAX_TS_NS and 0 <= said.speed <= MAX_SPEED
        except msgspec.DecodeError:
            valid = False
        if answer.status_code != 200 or not valid:
            raise ConnectError(
                f"clock: {self._url} answered {answer.status_code} {answer.content[:60]!r}; a "
                'clock answers {"now_ns": 1767623400000000000, "speed": 60.0}'
            )
        self.now_ns()
        self._base_ns, self._speed = said.now_ns, said.speed
        # What was said held at some moment of the asking: half-way is the best guess.
        self._base_real_ns = (begun + ended) // 2
        self._looked.set()
        self._looked = asyncio.Event()

    async def _poll(self) -> None:
        lost = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
                lost = False
            except ConnectError as error:
                if not lost:
                    _log.warning("%s. The clock runs on from %s", error, format_ns(self.now_ns()))
                lost = True

    async def close(self) -> None:
        """Look no more; safe to call twice."""
        if self._polling is not None:
            self._polling.cancel()
            with suppress(asyncio.CancelledError):
                await self._polling
            self._polling = None
        await self._client.aclose()
