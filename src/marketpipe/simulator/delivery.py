"""Sending an endpoint's messages when they are due, and what faults make of them on the way."""

import asyncio
import random  # noqa: TID251  # a shuffle by a seed, and a simulator is no core
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.simulator.amend import Amended
from marketpipe.simulator.clock import SimClock
from marketpipe.simulator.faults import OF_STREAM, Fault, Schedule
from marketpipe.simulator.market import Event
from marketpipe.simulator.plans import FOLLOWS_TRADES, Endpoint
from marketpipe.simulator.stream import Overflow, Room, Session

CHUNK: Final = 2_048
"""Most messages that are sent before other connections and REST have their turn."""
_SHORT_NAP_SECONDS: Final = 0.001
_LONG_NAP_SECONDS: Final = 1.0
_REMEMBERED: Final = 64
_LASTING: Final = ("slow", "late", "reorder", "duplicate")
_TAKE_BACK: Final = ("correction", "cancel")


class Delivery:
    """Sends the messages of one endpoint to all of its connections.

    Time goes on without connections: what was due then is over.

    Parameters
    ----------
    endpoint : whose messages
    market : what is sent
    clock : when
    schedule : what goes wrong
    overflow : whether to wait for a client that does not keep up
    """

    def __init__(
        self,
        endpoint: Endpoint,
        market: Amended,
        clock: SimClock,
        schedule: Schedule,
        overflow: Overflow,
    ) -> None:
        self._endpoint: Final = endpoint
        self._market: Final = market
        self._clock: Final = clock
        self._schedule: Final = schedule
        self._overflow: Final = overflow
        self._sessions: list[Session] = []
        self._events: Iterator[Event] = iter(())
        self._next: Event | None = None
        self._held: list[tuple[int, float, int, Event]] = []
        self._tickets: Final = count()
        self._planned: list[tuple[int, int, Fault]] = []
        self._counted: list[tuple[int, int, Fault]] = []
        self._lasting: list[tuple[int, int, Fault]] = []
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        self._shuffle: Final = random.Random(0)  # noqa: S311  # nothing secret
        self._woken: Final = asyncio.Event()
        self.sent = 0
        """Messages sent, over all connections."""
        schedule.listen(self._plan)

    # connections

    @property
    def room(self) -> Room:
        """What the connections need to know."""
        return Room(self._endpoint, self._market, self._enter, self._leave, self._count)

    @property
    def connected(self) -> int:
        """How many connections have logged in."""
        return len(self._sessions)

    def _enter(self, session: Session) -> None:
        self._sessions.append(session)

    def _leave(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)

    def _count(self, account: str) -> int:
        return sum(session.account == account for session in self._sessions)

    # time

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        start_ns = self._clock.now_ns()
        self._planned = [one for one in self._planned if one[0] + one[2].length_ns >= start_ns]
        heapify(self._planned)
        await self._skip_to(start_ns)
        while True:
            if self.step(self._clock.now_ns()):
                await asyncio.sleep(0)
            else:
                await self._nap()
            if self._overflow == "wait":
                for session in tuple(self._sessions):
                    await session.ready()

    async def _skip_to(self, start_ns: int) -> None:
        """Pass over what was due before anybody was there."""
        self._events = self._market.events()
        for passed, event in enumerate(self._events):
            if self._due_ns(event) >= start_ns:
                self._next = event
                return
            if passed % CHUNK == 0:
                await asyncio.sleep(0)

    async def _nap(self) -> None:
        """Wait until something is due."""
        due = [heap[0][0] for heap in (self._planned, self._held) if heap]
        due += [self._due_ns(self._next)] if self._next is not None else []
        wait = self._clock.real_seconds(min(due)) if due else _LONG_NAP_SECONDS
        if not self._clock.is_running:
            wait = _SHORT_NAP_SECONDS
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(wait, _SHORT_NAP_SECONDS)):
                await self._woken.wait()

    def _due_ns(self, event: Event) -> int:
        return event.ts_send_ns + self._endpoint.delay_ns

    def step(self, now_ns: int) -> bool:
        """Send what is due, up to the next fault; tell whether more may be due at once."""
        fault_ns = self._planned[0][0] if self._planned else MAX_TS_NS
        mutes = [until_ns for one in self._sessions for until_ns in one.mute_until_ns.values()]
        mute_ns = min(mutes, default=MAX_TS_NS)
        until_ns = min(now_ns, fault_ns - 1, mute_ns - 1)
        most = min(CHUNK, self._counted[0][0] - self.sent) if self._counted else CHUNK
        due = self._take(until_ns, most)
        if due:
            self._recent.extend(event for event in due if event.channel == "trades")
            for session in tuple(self._sessions):
                self.sent += session.deliver(due)
        if self._counted and self.sent >= self._counted[0][0]:
            self._begin(heappop(self._counted)[2], now_ns)
            return True
        if len(due) < most and until_ns == mute_ns - 1 < now_ns:
            self._unmute(mute_ns)
            return True
        if len(due) < most and fault_ns <= now_ns:
            self._begin(heappop(self._planned)[2], fault_ns)
            return True
        return len(due) >= most

    def _take(self, until_ns: int, most: int) -> list[Event]:
        """Return messages due until then (inclusive), about so many at most."""
        taken: list[Event] = []
        while len(taken) < most:
            event = self._next
            fresh_ns = self._due_ns(event) if event is not None else MAX_TS_NS
            held_ns = self._held[0][0] if self._held else MAX_TS_NS
            if min(fresh_ns, held_ns) > until_ns:
                break
            if event is None or held_ns <= fresh_ns:
                taken.append(heappop(self._held)[3])
                continue
            self._next = next(self._events, None)
            event = self._market.named(event)
            taken += self._through_faults(event, fresh_ns) if self._lasting else (event,)
        return taken

    # faults

    def _plan(self, fault: Fault) -> None:
        of_stream = fault.kind in OF_STREAM
        if self._endpoint.path.startswith(fault.path) and (of_stream or fault.after is not None):
            begin = fault.after if fault.at_ns is None else fault.at_ns
            heap = self._counted if fault.at_ns is None else self._planned
            heappush(heap, (begin or 0, next(self._tickets), fault))
            self._woken.set()

    def _begin(self, fault: Fault, at_ns: int) -> None:
        """Do what a fault does at once, and keep it if it lasts."""
        self._schedule.begin(fault, at_ns)
        end_ns = at_ns + fault.length_ns
        if fault.kind in _LASTING:
            self._lasting.append((at_ns, end_ns, fault))
        elif fault.kind in _TAKE_BACK:
            self._take_back(fault, at_ns)
        for session in tuple(self._sessions):
            match fault.kind:
                case "drop" | "contention" | "auth_failure":
                    session.drop()
                case "cut":
                    session.is_cut = True
                case "mute":
                    until_ns = end_ns if fault.length_ns else MAX_TS_NS
                    session.mute_until_ns[fault.channel] = until_ns
                case "slow_client":
                    session.turn_away(407, "slow client")
                case "malformed":
                    session.spoiled_frames += int(fault.size)
                case "unknown_type":
                    session.unknown_messages += int(fault.size)

    def _unmute(self, now_ns: int) -> None:
        for session in self._sessions:
            for channel, until_ns in tuple(session.mute_until_ns.items()):
                if until_ns <= now_ns:
                    del session.mute_until_ns[channel]

    def _through_faults(self, event: Event, due_ns: int) -> Iterable[Event]:
        """Return what is sent of a message now; the rest is held."""
        self._lasting = [one for one in self._lasting if one[1] > due_ns]
        for start_ns, _, fault in self._lasting:
            late_ns = int(fault.size * NANOS)
            if fault.kind == "duplicate":
                return (event, event)
            if fault.kind == "reorder":
                group = (due_ns - start_ns) // max(late_ns, 1) + 1
                self._hold(event, start_ns + group * late_ns, self._shuffle.random())
                return ()
            if fault.kind == "slow" or event.channel == "trades":
                self._hold(event, due_ns + late_ns)
                return ()
        return (event,)

    def _hold(self, event: Event, until_ns: int, place: float = 0.0) -> None:
        heappush(self._held, (until_ns, place, next(self._tickets), event))

    def _take_back(self, fault: Fault, at_ns: int) -> None:
        """Correct or cancel the last trades, where the endpoint has such messages."""
        if FOLLOWS_TRADES[0] in self._endpoint.channels:
            for _ in range(min(int(fault.size), len(self._recent))):
                trade = self._recent.pop()
                correct = fault.kind == "correction"
                self._hold(self._market.take_back(trade, at_ns, correct=correct), at_ns)
