"""When a connection is tried again, and when silence means that it is dead."""

from collections.abc import Iterable
from random import Random  # noqa: TID251  # jitter of a live connection; nothing is built of it
from typing import Final

from marketpipe.domain.units import NANOS

_MAX_DOUBLINGS: Final = 30


class Backoff:
    """Pauses between attempts: exponential, with full jitter.

    The n-th pause (from 0) is drawn evenly from 0 to ``min(cap, base * 2**n)`` seconds, so that
    many clients that lost one server do not come back at one moment.

    Parameters
    ----------
    random : source of the jitter
    base_seconds, cap_seconds : ceiling of the first pause, and of any
    """

    def __init__(
        self, random: Random, *, base_seconds: float = 1.0, cap_seconds: float = 60.0
    ) -> None:
        self._random = random
        self._base, self._cap = base_seconds, cap_seconds
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """How many pauses there were since the beginning, or the last `reset`."""
        return self._attempt

    def ceiling(self) -> float:
        """Return the longest that the next pause can be, in seconds."""
        return float(min(self._cap, self._base * 2 ** min(self._attempt, _MAX_DOUBLINGS)))

    def pause(self) -> float:
        """Return the next pause in seconds."""
        seconds = self._random.uniform(0.0, self.ceiling())
        self._attempt += 1
        return seconds

    def reset(self) -> None:
        """Begin anew: the last connection was a good one."""
        self._attempt = 0


class Watchdog:
    """Judges silence by what a feed is used to; time is given to it.

    Of each channel it learns how far apart its messages come: a moving average of the gaps, in
    which the latest counts for an eighth, and messages within a second are one. A channel is
    overdue when it has been silent for ``patience`` times its average gap, and for
    ``floor_seconds`` at least; so is a connection on which nothing was ever heard. What was
    learned outlives the connection, and every connection that is given up without a message
    doubles what is waited next time, up to ``ceiling_seconds``: a feed that is merely quiet is
    not reconnected for ever.

    Parameters
    ----------
    floor_seconds, ceiling_seconds : least and most silence that is waited for
    patience : how many average gaps are not yet suspicious
    """

    def __init__(
        self, *, floor_seconds: float = 30.0, ceiling_seconds: float = 3600.0, patience: float = 8.0
    ) -> None:
        self._floor = int(floor_seconds * NANOS)
        self._ceiling = int(ceiling_seconds * NANOS)
        self._patience = patience
        self._average: dict[str, float] = {}
        self._heard: dict[str, int] = {}
        self._since = 0
        self._doublings = 0

    def begin(self, now_ns: int) -> None:
        """Start anew on a connection that is subscribed at ``now_ns``."""
        self._since = now_ns
        self._heard.clear()

    def hear(self, channels: Iterable[str], now_ns: int) -> None:
        """Take note of messages on these channels."""
        for channel in channels:
            gap = now_ns - self.heard_ns(channel)
            before = self._average.setdefault(channel, max(gap, NANOS))
            # What comes in a burst, such as one bar of each symbol, is one event.
            if gap >= NANOS:
                self._average[channel] = before + (gap - before) / 8
            self._heard[channel] = now_ns
            self._doublings = 0

    def heard_ns(self, channel: str) -> int:
        """Return when a channel was heard last, or else since when it could have been."""
        return self._heard.get(channel, self._since)

    def overdue(self, now_ns: int) -> tuple[str, ...]:
        """Return the channels that are silent for too long; "" stands for a whole new feed."""
        if not self._average:
            return ("",) if now_ns - self._since >= self.limit_ns("") else ()
        return tuple(
            channel
            for channel in self._average
            if now_ns - self.heard_ns(channel) >= self.limit_ns(channel)
        )

    def is_mute(self, now_ns: int) -> bool:
        """Whether all channels are silent for longer than the busiest is used to."""
        limit = min(map(self.limit_ns, self._average), default=self.limit_ns(""))
        return now_ns - max(self._heard.values(), default=self._since) >= limit

    def limit_ns(self, channel: str) -> int:
        """Return how long a channel may be silent."""
        used_to = int(self._patience * self._average.get(channel, 0.0))
        return min(max(self._floor, used_to) << self._doublings, self._ceiling)

    def excuse(self, now_ns: int) -> None:
        """Count silence from now on: the market is quiet, the feed is not dead."""
        self._since = now_ns
        self._heard.clear()

    def give_up(self) -> None:
        """Wait longer next time, unless something is heard before."""
        self._doublings = min(self._doublings + 1, _MAX_DOUBLINGS)
