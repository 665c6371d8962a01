"""When a connection is tried again, and when silence means that it is dead."""

from collections.abc import Iterable
from random import Random  # noqa: TID251  # jitter of a live connection; nothing is built of it
from typing import Final

from marketpipe.domain.units import NANOS

_MAX_DOUBLINGS: Final = 30
_OUTLIVED: Final = 3


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
    ``floor_seconds`` at least; so is one that is expected and was never heard, and a connection on
    which nothing was ever heard. What was learned outlives the connection, and every connection
    that is given up for a channel doubles what is waited for that channel next time, up to
    ``ceiling_seconds``, until it is heard: what is merely quiet is not reconnected for ever.

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
        self._expected: frozenset[str] = frozenset()
        self._heard: dict[str, int] = {}
        self._excused: dict[str, int] = {}
        self._put_off: dict[str, int] = {}
        self._since = self._alive = 0
        self._doublings: dict[str, int] = {}

    def begin(self, now_ns: int) -> None:
        """Start anew on a connection that is subscribed at ``now_ns``."""
        self._since = self._alive = now_ns
        for times in (self._heard, self._excused, self._put_off):
            times.clear()

    def expect(self, channels: Iterable[str]) -> None:
        """Say which channels are overdue too if they are never heard."""
        self._expected = frozenset(channels)

    def hear(self, channels: Iterable[str], now_ns: int) -> None:
        """Take note of messages on these channels."""
        for channel in channels:
            gap = now_ns - self._heard.get(channel, self._since)
            if channel in self._average:
                gap = min(gap, self.limit_ns(channel))  # the rest was a quiet market
            before = self._average.setdefault(channel, max(gap, NANOS))
            # What comes in a burst, such as one bar of each symbol, is one event.
            if gap >= NANOS:
                self._average[channel] = before + (gap - before) / 8
            self._heard[channel] = self._alive = now_ns
            self._doublings.pop(channel, None)
            self._doublings.pop("", None)

    def well_ns(self, channel: str) -> int:
        """Return when a channel was heard or excused last, or since when it could have been."""
        return max(self._heard.get(channel, self._since), self._excused.get(channel, 0))

    def excused_ns(self, channel: str) -> int:
        """Return when a channel was excused last on this connection; 0 if it was not."""
        return self._excused.get(channel, 0)

    def overdue(self, now_ns: int) -> tuple[str, ...]:
        """Return the channels that are silent for too long; "" stands for a whole new feed."""
        channels = tuple(dict.fromkeys((*self._average, *sorted(self._expected)))) or ("",)
        return tuple(
            channel
            for channel in channels
            if now_ns - self.well_ns(channel) >= self.limit_ns(channel)
            and now_ns >= self._put_off.get(channel, 0)
        )

    def is_mute(self, now_ns: int) -> bool:
        """Whether all channels are silent for longer than the busiest is used to."""
        limit = min(map(self.limit_ns, self._average), default=self.limit_ns(""))
        return now_ns - self._alive >= limit

    def outlived(self, channels: Iterable[str]) -> tuple[str, ...]:
        """Return those of some channels that fell silent well before the last message of others.

        That is three times a channel's average gap before. One that was never heard on this
        connection did not fall silent: its market may not have opened.
        """
        latest = max(self._heard.values(), default=self._since)
        return tuple(
            channel
            for channel in channels
            if channel in self._heard
            and latest - self.well_ns(channel) >= _OUTLIVED * self._average[channel]
        )

    def limit_ns(self, channel: str) -> int:
        """Return how long a channel may be silent."""
        used_to = int(self._patience * self._average.get(channel, 0.0))
        doublings = max(self._doublings.get(one, 0) for one in (channel, ""))
        return min(max(self._floor, used_to) << doublings, self._ceiling)

    def excuse(self, channels: Iterable[str], now_ns: int) -> None:
        """Count the silence of channels from now on: the vendor has no more, they are not dead."""
        self._excused.update(dict.fromkeys(channels, now_ns))
        self._alive = now_ns

    def put_off(self, channels: Iterable[str], now_ns: int, *, answered: bool) -> None:
        """Let channels not be overdue for a while: nobody tells.

        If the vendor ``answered`` and did not tell of them, that is as long as if they had been
        heard; if it did not, ``floor_seconds``.
        """
        for channel in channels:
            wait_ns = self.limit_ns(channel) if answered else self._floor
            self._put_off[channel] = now_ns + wait_ns

    def give_up(self, channels: Iterable[str] = ("",)) -> None:
        """Wait longer for channels next time, unless they are heard; "" stands for all."""
        for channel in channels:
            self._doublings[channel] = min(self._doublings.get(channel, 0) + 1, _MAX_DOUBLINGS)
