"""The clock of a simulated session: it starts anywhere, runs at any speed, and is published."""

import asyncio
import time
from typing import Final

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import UsageError

MAX_SPEED: Final = 1e6
LEAD_SECONDS: Final = 1.5
"""Real seconds that a waiting clock runs before the session: who follows it looks once a second."""


class SimClock:
    """Time of a session, in ns since the epoch (UTC).

    Parameters
    ----------
    start_ns : when the session starts
    speed : seconds of the session in one real second, above 0, at most 1,000,000
    waits : stand still until `start` is called
    lead_seconds : if it waits, how long it then runs before the session, in real seconds

    Raises
    ------
    UsageError
        If the speed is out of range.
    """

    def __init__(
        self,
        start_ns: int,
        speed: float = 1.0,
        *,
        waits: bool = False,
        lead_seconds: float = LEAD_SECONDS,
    ) -> None:
        if not 0 < speed <= MAX_SPEED:
            raise UsageError(f"speed: was '{speed}'; a number above 0, at most {MAX_SPEED:,.0f}")
        self.speed: Final = speed
        lead_ns = int(lead_seconds * speed * NANOS) if waits else 0
        self._base_ns = max(start_ns - lead_ns, 0)
        self._base_real_ns = None if waits else time.monotonic_ns()
        self._started = asyncio.Event()
        if not waits:
            self._started.set()

    @property
    def is_running(self) -> bool:
        """Whether it has been started."""
        return self._base_real_ns is not None

    def start(self) -> None:
        """Let it run; nothing happens if it does."""
        if self._base_real_ns is None:
            self._base_real_ns = time.monotonic_ns()
            self._started.set()

    def now_ns(self) -> int:
        """Return the session's time now; it never steps back."""
        if self._base_real_ns is None:
            return self._base_ns
        return self._base_ns + int((time.monotonic_ns() - self._base_real_ns) * self.speed)

    def real_seconds(self, until_ns: int) -> float:
        """Return the real seconds until a time of the session, 0 if it has passed."""
        return max(until_ns - self.now_ns(), 0) / NANOS / self.speed

    async def sleep_until(self, until_ns: int) -> None:
        """Wait until a time of the session."""
        await self._started.wait()
        while (left := self.real_seconds(until_ns)) > 0:
            await asyncio.sleep(left)

    def published(self, behind_ns: int = 0) -> bytes:
        """Return what ``GET /clock`` answers: ``{"now_ns": int, "speed": float, "now": text}``.

        ``speed`` is 0 while the clock waits to be started.
        """
        now = max(self.now_ns() - behind_ns, 0)
        speed = self.speed if self.is_running else 0.0
        return f'{{"now_ns":{now},"speed":{speed},"now":"{format_ns(now)}"}}'.encode()


def unix_seconds() -> float:
    """Return real time, in seconds since the epoch: what ``X-RateLimit-Reset`` speaks of."""
    return time.time()  # noqa: TID251  # a shell: the vendor's limits are of real time
