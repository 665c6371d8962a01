"""`Sentry`: finds out whether a silent connection, or a silent channel of it, is dead."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from marketpipe.domain.units import NANOS
from marketpipe.errors import VendorError
from marketpipe.sources.clocks import Clock
from marketpipe.sources.connector import Probe
from marketpipe.sources.links import Link
from marketpipe.sources.supervision import Watchdog
from marketpipe.sources.tallies import Newest

_GRACE_SECONDS: Final = 0.1
_PROBE_SECONDS: Final = 15.0
_ON_ITS_WAY_SECONDS: Final = 0.5
_ANSWER_NS: Final = 120 * NANOS
"""What is older than that when the vendor is asked, its answer holds: minute bars too."""


class Sentry:
    """Watches one connection after the other, with what it learned of those before.

    A channel that is silent for longer than it is used to is suspicious, no more: whether the
    market is quiet or the feed is dead, the vendor is asked, whose own times tell, channel by
    channel. So neither a slow channel nor the end of a session looks dead, and one channel that
    is dead shows while others go on. Channels of which the vendor cannot be asked are not judged
    alone. Where it cannot be asked at all, a connection is dead if all its channels are silent for
    longer than the busiest of them is used to.

    Parameters
    ----------
    clock : the feed's time
    probe : asks the vendor; None: nobody can be asked
    came : what came on the connection
    log : says why nobody could be asked
    silence_seconds : silence that is never suspicious, of the feed's time
    """

    def __init__(
        self,
        clock: Clock,
        probe: Probe | None,
        came: Newest,
        log: logging.Logger,
        *,
        silence_seconds: float,
    ) -> None:
        self._clock, self._probe, self._came, self._log = clock, probe, came, log
        self._check_seconds = silence_seconds / 4
        self._dog = Watchdog(floor_seconds=silence_seconds)
        self._told: frozenset[str] = frozenset()

    def begin(self, now_ns: int) -> None:
        """Start anew on a connection that is subscribed at ``now_ns``."""
        self._dog.begin(now_ns)

    def hear(self, channels: Collection[str], now_ns: int) -> None:
        """Take note of messages on these channels."""
        self._dog.hear(channels, now_ns)

    def outlived_ns(self, since_ns: int, subscribed: Collection[str]) -> int | None:
        """Return up to when all has come of channels that fell silent before others did.

        Nobody may have been asked about them when a connection ends that is subscribed since
        ``since_ns``. None: there are none; channels that the vendor cannot tell of do not count.
        """
        dog = self._dog
        return min(
            (
                max(self._came.good_ns((channel,), since_ns), dog.excused_ns(channel) - _ANSWER_NS)
                for channel in dog.outlived(self._told & set(subscribed))
            ),
            default=None,
        )

    async def silent(
        self, link: Link, subscribed: Callable[[], Collection[str]]
    ) -> tuple[str, ...]:
        """Return once a link is to be given up: the channels that are dead, () for all.

        ``subscribed`` returns the channels that are to come on it.
        """
        dog, clock = self._dog, self._clock
        if link.since_ns is not None:
            told = await self._ask()
            if begun_ns := max(told.values(), default=0):
                # What began before, such as a minute, may have been sent before the link was made.
                link.had_ns = dict.fromkeys(told, begun_ns)
            dog.expect(told.keys() & set(subscribed()))
        while True:
            await clock.sleep(self._check_seconds)
            if link.since_ns is None or not dog.overdue(clock.now_ns()):
                continue
            # A clock that runs fast outruns what is on its way: look again when that has come.
            await asyncio.sleep(_GRACE_SECONDS)
            await link.delivery.flush()
            now = clock.now_ns()
            if not (suspects := dog.overdue(now)):
                continue
            told = await self._ask()
            wanted = set(subscribed())
            told = {channel: told[channel] for channel in told if channel in wanted}
            known = self._known(link, told)
            suspected = known.keys() if suspects == ("",) else known.keys() & set(suspects)
            if suspected & self._behind(link, known):
                # What both have may reach us a moment later by the stream.
                await asyncio.sleep(_ON_ITS_WAY_SECONDS)
                await link.delivery.flush()
            behind = self._behind(link, known)
            if dead := tuple(channel for channel in told if channel in suspected & behind):
                dog.give_up(dead)
                return dead
            if not told and dog.is_mute(now):
                dog.give_up()
                return ()
            if told:
                # Those too that are not overdue yet, or each would be asked about at its own time.
                dog.excuse(known.keys() - behind, now)
            if self._probe is not None:
                dog.put_off(suspects, now, answered=bool(told))

    def _known(self, link: Link, told: Mapping[str, int]) -> dict[str, int]:
        """Return what of an answer can be compared with what came; the rest is for the next."""
        known = {}
        for channel, ts_ns in told.items():
            if not ts_ns:
                continue
            if channel in link.had_ns or self._came.happened_ns(channel):
                known[channel] = ts_ns
            else:
                link.had_ns[channel] = ts_ns
        return known

    def _behind(self, link: Link, told: Mapping[str, int]) -> set[str]:
        """Return the channels of which the vendor has newer than came, by its times."""
        return {
            channel
            for channel, ts_ns in told.items()
            if ts_ns > max(link.had_ns.get(channel, 0), self._came.happened_ns(channel))
        }

    async def _ask(self) -> Mapping[str, int]:
        if self._probe is None:
            return {}
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                told = await self._probe()
        except (VendorError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            self._log.info("a silence could not be asked about: %s", said)
            return {}
        self._told = frozenset(told)
        return told
