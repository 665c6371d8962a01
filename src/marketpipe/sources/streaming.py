"""`SocketConnector`: what all feeds over a WebSocket share, from the first attempt to the last."""

import asyncio
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random  # noqa: TID251  # jitter of a live connection; nothing is built of it
from typing import Any, Final

import pyarrow as pa
from websockets.exceptions import ConnectionClosed

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import ConnectError, RateLimitError, UnreachableError, VendorError
from marketpipe.sources.clocks import Clock, SystemClock
from marketpipe.sources.connector import BaseConnector, FeedStatus, Gap, Probe, State
from marketpipe.sources.links import CLOSED, ERROR, LEAP_NS, MUTE, OVERSIZED, STOPPED, Ears, Link
from marketpipe.sources.owntasks import OwnTasks
from marketpipe.sources.sentry import Sentry
from marketpipe.sources.supervision import Backoff
from marketpipe.sources.tallies import Newest, tallied

CONTENTION_TRIES: Final = 15
"""So many refusals of a first connection in a row, because others are connected, are the last."""

_GOOD_NS: Final = 60 * NANOS
_CONTENTION_STEP: Final = 0.5
_CONTENTION_CAP: Final = 5.0
_CONTENTION_SLOW: Final = 60.0


class SocketConnector(BaseConnector):
    """Connects, listens, and connects again; what is a vendor's own is left to subclasses.

    Parameters
    ----------
    name : of the feed, for logs
    clock : the feed's time; None: the system's
    random : source of jitter; None: seeded by the system
    probe : asked about a silence before a connection is given up
    first_conn_id : number of the first connection
    silence_seconds : silence that is never suspicious, of the feed's time
    delay_ns : how much later than it happens the feed tells
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Clock | None = None,
        random: Random | None = None,
        probe: Probe | None = None,
        first_conn_id: int = 0,
        silence_seconds: float = 30.0,
        delay_ns: int = 0,
    ) -> None:
        super().__init__()
        self._clock: Clock = clock or SystemClock()
        self._conn_id = first_conn_id
        self._newest_yet = Newest(delay_ns)
        self._random = random or Random(os.urandom(16))  # noqa: S311  # only jitter
        self._backoff = Backoff(self._random)
        self._log = logging.getLogger(f"marketpipe.feed.{name}")
        self._sentry = Sentry(
            self._clock, probe, self._newest_yet, self._log, silence_seconds=silence_seconds
        )
        self._status = FeedStatus(since_ns=self._clock.now_ns())
        self._link: Link | None = None
        self._missing: Gap | None = None
        self._contended = 0
        self._was_live = False
        self._running = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._own = OwnTasks()
        self._ears = Ears(
            is_control=self._is_control,
            clean=self._clean,
            hear=self._hear,
            take=self._take,
            stood=self._stood,
            ended=self._ended_on,
        )

    # What a vendor decides

    @abstractmethod
    async def _open(self, conn_id: int) -> Link:
        """Open a connection; its first record says so."""

    @abstractmethod
    async def _enter(self, link: Link) -> None:
        """Speak until the link is subscribed, or as far as is asked."""

    _is_control: Callable[[bytes], bool]
    """As in `Ears`, as are the next two."""
    _is_message: Callable[[bytes], bool]
    """Whether a frame that is no array of messages is one all the same."""

    @abstractmethod
    def _clean(self, frame: bytes) -> bytes: ...

    @abstractmethod
    async def _hear(self, link: Link, frame: bytes) -> None: ...

    @abstractmethod
    def _newest(self, batch: pa.RecordBatch) -> Mapping[str, int | None]:
        """Return when the newest message of each channel in a batch happened; None: none tells."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop what belongs to a link that has ended."""

    # Status

    @property
    def status(self) -> FeedStatus:
        """How this feed is doing now."""
        if self._link is None:
            return self._status
        delivery = self._link.delivery
        return replace(
            self._status,
            waiting=len(delivery.builder),
            waiting_bytes=self._link.waiting_bytes,
            blocked_ns=self._status.blocked_ns + delivery.blocked_ns,
        )

    def _say(self, state: State) -> None:
        if state != self._status.state:
            self._status = replace(self._status, state=state, since_ns=self._clock.now_ns())

    def _trouble(self, text: str) -> None:
        self._status = replace(self._status, last_error=text)
        self._log.warning("%s", text)

    # From the first attempt to the last

    async def connect(self) -> None:
        """Make the first connection; see `BaseConnector.connect`."""
        self._taker()
        if self._link is None and not self._stopping.is_set():
            try:
                await self._unless_stopped(self._attempt())
            except Exception as error:
                self._fail(error)
                raise

    async def run(self) -> None:
        """Receive and reconnect until `disconnect`; see `BaseConnector.run`."""
        self._taker()
        self._running = True
        self._ended.clear()
        try:
            with self._own.entered():
                await self._run()
            self._say("stopped")
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._running = False
            self._ended.set()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            if self._link is None:
                await self._unless_stopped(self._attempt())
            if self._link is not None:
                await self._serve(self._link)
            if not self._stopping.is_set():
                await self._pause()

    def _fail(self, error: Exception) -> None:
        self._say("failed")
        self._status = replace(self._status, last_error=str(error) or type(error).__name__)

    async def disconnect(self) -> None:
        """Stop cleanly; see `BaseConnector.disconnect`."""
        self._stopping.set()
        if self._running:
            # A callback may stop its own feed: to wait for `run` there would be for ever.
            if not self._own.has_current:
                await self._ended.wait()
        elif self._link is not None:
            await self._end(self._link, STOPPED)
            self._say("stopped")

    async def _attempt(self) -> None:
        """Try once to be subscribed; raises only what waiting cannot mend."""
        self._say("connecting")
        link = None
        try:
            link = await self._open(self._conn_id)
            self._conn_id += 1
            await self._enter(link)
        except BaseException as error:
            if link is not None:
                await self._end(link, ERROR if isinstance(error, Exception) else STOPPED)
            if not isinstance(error, VendorError) or self._is_lasting(error):
                raise
            self._trouble(str(error))
            return
        self._link = link
        self._contended = 0
        self._was_live = True
        self._say("live")

    def _is_lasting(self, error: VendorError) -> bool:
        # A feed that has worked is not given up for what a server shows in a bad hour.
        if isinstance(error, RateLimitError):
            self._contended += 1
            return self._contended >= CONTENTION_TRIES and not self._was_live
        self._contended = 0
        if isinstance(error, ConnectError):
            return not (isinstance(error, UnreachableError) or self._was_live)
        return True

    async def _pause(self) -> None:
        if self._contended >= CONTENTION_TRIES:
            seconds = _CONTENTION_SLOW
        elif self._contended:
            seconds = min(_CONTENTION_STEP * self._contended, _CONTENTION_CAP)
        else:
            seconds = self._backoff.pause()
        self._say("backing_off")
        self._log.info("next attempt in %.1f s", seconds)
        await self._unless_stopped(self._clock.sleep(seconds))

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        doing, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({doing, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not doing.done():
                doing.cancel()
                with suppress(asyncio.CancelledError):
                    await doing
        if not doing.cancelled():
            doing.result()

    # One connection

    def _subscribed(self, link: Link, now_ns: int) -> None:
        if link.since_ns is None:
            link.since_ns = link.good_ns = now_ns
            self._sentry.begin(now_ns)
            self._newest_yet.clear()

    async def _serve(self, link: Link) -> None:
        why = CLOSED
        aside: dict[asyncio.Task[Any], str] = {}
        try:
            await self._report(link)
            working = link.start()
            aside = {
                asyncio.create_task(self._stopping.wait()): STOPPED,
                asyncio.create_task(self._watch(link)): MUTE,
                asyncio.create_task(link.tick()): ERROR,
            }
            done, _ = await asyncio.wait({*working, *aside}, return_when=asyncio.FIRST_COMPLETED)
            why = next((aside[task] for task in aside if task in done), why)
        except BaseException as error:
            why = ERROR if isinstance(error, Exception) else STOPPED
            raise
        finally:
            for task in aside:
                task.cancel()
            failures = await asyncio.gather(*aside, return_exceptions=True)
            end = await self._end(link, why)
        for failure in failures:
            if isinstance(failure, Exception):
                raise failure
        self._account(why, end)

    async def _report(self, link: Link) -> None:
        if self._missing is None or link.since_ns is None:
            return
        gap, self._missing = self._missing._replace(end_ns=link.since_ns), None
        self._status = replace(self._status, reconnects=self._status.reconnects + 1)
        await link.delivery.flush()
        await self._tell(gap)

    async def _tell(self, gap: Gap) -> None:
        times = format_ns(gap.start_ns), format_ns(gap.end_ns)
        self._log.warning("messages may be missing from %s to %s: %s", *times, gap.reason)
        if self._on_gap is not None:
            await self._on_gap(gap)

    async def _take(self, link: Link, batch: pa.RecordBatch) -> None:
        tally, status, now = tallied(batch, self._is_message), self._status, self._clock.now_ns()
        newest = self._newest(batch)
        self._sentry.hear(newest, tally.last_ns)
        self._status = replace(
            status,
            frames=status.frames + tally.frames,
            messages=status.messages + tally.messages,
            last_message_ns=tally.last_ns if newest else status.last_message_ns,
            lag_ns=now - tally.first_ns,
        )
        good = link.good_ns
        if newest and tally.good_ns is not None:
            link.good_ns = max(good, self._newest_yet.hear(newest, tally.good_ns))
        with self._own.entered():
            await self._taker()(batch)
            if tally.bad_ns is not None and link.since_ns is not None:
                await self._tell(Gap(good, now, "unreadable_frame"))

    async def _stood(self, link: Link, now_ns: int) -> None:
        """Take note that time has leapt on a link, as when a machine was put to sleep."""
        await link.delivery.flush()
        if link.since_ns is not None and now_ns - self._newest_yet.told_ns(link.good_ns) >= LEAP_NS:
            # All that had come is read, and none of it is of the time that was leapt over.
            gap = Gap(link.good_ns, now_ns, "stalled")
            facts = {"event": "stalled", "good_until_ns": gap.start_ns}
            link.builder.add_control(facts, now_ns)
            await self._tell(gap)

    async def _watch(self, link: Link) -> None:
        """Return when the link is to be given up for its silence."""
        silent = await self._sentry.silent(link, lambda: self._status.subscribed)
        link.gap_reason = "mute"
        if silent and link.since_ns is not None:
            link.silent_since_ns = self._newest_yet.good_ns(silent, link.since_ns)
        self._trouble(
            f"connected, but nothing comes of {', '.join(silent)}, and the vendor has more"
            if silent
            else "connected, but silent for too long"
        )

    def _ended_on(self, link: Link) -> None:
        """Take note of channels that were silent on a link, though nobody was asked about them."""
        if link.since_ns is not None and link.silent_since_ns is None:
            link.silent_since_ns = self._sentry.outlived_ns(link.since_ns, self._status.subscribed)

    async def _end(self, link: Link, why: str) -> BaseException | None:
        self._link = None
        try:
            return await link.finish(why)
        finally:
            self._forget()
            blocked = self._status.blocked_ns + link.delivery.blocked_ns
            oversized = self._status.oversized + (link.gap_reason == OVERSIZED)
            self._status = replace(self._status, blocked_ns=blocked, oversized=oversized)
            if link.since_ns is not None:
                if link.good_ns - link.since_ns >= _GOOD_NS:
                    self._backoff.reset()
                if self._missing is None:
                    good_ns = link.good_until_ns
                    self._missing = Gap(good_ns, good_ns, link.gap_reason)

    def _account(self, why: str, end: BaseException | None) -> None:
        """Remember why a connection ended; raise what waiting cannot mend."""
        if why in {STOPPED, MUTE}:
            return
        if isinstance(end, ConnectionClosed):
            self._trouble(f"the server hung up: {end}")
        elif isinstance(end, VendorError) and not self._is_lasting(end):
            self._trouble(str(end))
        elif end is not None:
            raise end
