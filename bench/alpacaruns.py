"""Our live path and Alpaca's own SDK on the same frames, over a real socket.

The sender, ours and each client have a process of their own; contenders run one after the other.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bench.clients import CLIENTS, Taken, Task
from bench.processes import Child
from bench.sender import Order, Report
from bench.stream import Streamed

AIMS: Final = {10: 2.0, 1: 0.8}
"""Messages of a frame → how many times the SDK's messages a second ours is meant to reach."""
MESSAGES: Final = {10: 1_200_000, 1: 300_000}
"""Messages of a frame → of a run."""
RUNS: Final = 3
RATES: Final = (5_000, 20_000, 50_000)
SECONDS: Final = 12
"""How long each rate is kept."""
OVERLOAD: Final = 3_000_000
MEMORY_AIM_BYTES: Final = 2 << 30
OURS: Final = "MarketPipe"
SDK: Final = "alpaca-py"

_WARM_UP: Final = Order(messages=20_000, per_frame=10)
_WARM_UP_PACED: Final = Order(messages=20_000, per_frame=10, rate=5_000)
"""Long enough for bars of seconds to be confirmed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Speed:
    """A contender's best run.

    Attributes
    ----------
    name, per_frame : who, and how many messages a frame had
    messages : taken
    seconds : from the first byte sent until it had all; ours until all was committed
    cpu_seconds : of its process
    """

    name: str
    per_frame: int
    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass(frozen=True, slots=True)
class Paced:
    """Ours at a rate: what was sent, and what became of it."""

    wanted: int
    sent: Report
    took: Streamed

    @property
    def keeps_up(self) -> bool:
        """Whether all was sent in time and a second's bars are there before the next second's."""
        return self.sent.rate >= 0.99 * self.wanted and self.took.bar_ms[-1] < 1_000


@dataclass(frozen=True, slots=True)
class Overload:
    """Ours where the sender is faster."""

    sent: Report
    took: Streamed

    @property
    def loses_nothing(self) -> bool:
        """Whether messages and trades of the lake are as many as were sent."""
        return self.took.messages == self.took.trades == self.sent.sent


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it; ``runs``: how many of each contender there were."""

    runs: int
    speeds: list[Speed]
    paced: list[Paced]
    overload: Overload

    @property
    def ticks(self) -> int:
        """Seconds that each rate was kept."""
        return round(self.paced[0].sent.sent / self.paced[0].wanted)

    def speed(self, name: str, per_frame: int) -> Speed:
        """Return a contender's best run."""
        return next(s for s in self.speeds if (s.name, s.per_frame) == (name, per_frame))

    def ratio(self, per_frame: int) -> float:
        """Return how many times the SDK's messages a second ours takes."""
        return self.speed(OURS, per_frame).rate / self.speed(SDK, per_frame).rate


class Bench:
    """The sender, and who is sent to."""

    def __init__(self, sender: Child) -> None:
        self._sender = sender
        self._port = sender.hear(int)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Bench"]:
        """Start the sender."""
        with Child("bench.sender") as sender:
            yield cls(sender)

    def sent(self, order: Order, to: Child, form: type[T], **task: Any) -> tuple[Report, T]:
        """Send what is ordered to a client; return what was sent, and what the client says."""
        self._sender.say(order)
        self._sender.hear(Order)
        to.say(Task(port=self._port, messages=order.messages, **task))
        return self._sender.hear(Report), to.hear(form)

    def speed(self, name: str, order: Order) -> Speed:
        """Run one contender once."""
        words = ("bench.stream",) if name == OURS else ("bench.clients", name)
        form: type[Streamed] | type[Taken] = Streamed if name == OURS else Taken
        with Child(*words) as client:
            self.sent(_WARM_UP, client, form)
            report, taken = self.sent(order, client, form)
        if isinstance(taken, Streamed):
            _check(report, taken)
        seconds = (taken.ended_ns - report.begun_ns) / 1e9
        return Speed(name, order.per_frame, report.sent, seconds, taken.cpu_seconds)

    def paced(self, rate: int, seconds: float) -> Paced:
        """Run ours at a rate."""
        order = Order(messages=int(rate * seconds) // 10 * 10, per_frame=10, rate=rate)
        with Child("bench.stream") as ours:
            self.sent(_WARM_UP_PACED, ours, Streamed, each_second=True)
            report, took = self.sent(order, ours, Streamed, each_second=True)
        _check(report, took)
        return Paced(rate, report, took)

    def overload(self, messages: int) -> Overload:
        """Run ours with more than it can take."""
        with Child("bench.stream") as ours:
            self.sent(_WARM_UP, ours, Streamed)
            return Overload(*self.sent(Order(messages=messages), ours, Streamed))


def _check(report: Report, took: Streamed) -> None:
    if took.trades != report.sent:
        raise RuntimeError(f"{report.sent:,} messages were sent, and {took.trades:,} trades kept")


def measure(
    messages: Mapping[int, int] = MESSAGES,
    runs: int = RUNS,
    seconds: float = SECONDS,
    overload: int = OVERLOAD,
) -> Measured:
    """Measure everything; ours and the SDK alternately, the sender's own speed once."""
    found: dict[tuple[str, int], Speed] = {}
    with Bench.running() as bench:
        for per_frame, count in messages.items():
            order = Order(messages=count, per_frame=per_frame)
            others = [name for name in CLIENTS if name != SDK]
            for name in (OURS, SDK) * runs + tuple(others):
                one = bench.speed(name, order)
                key = name, per_frame
                found[key] = min(found.get(key, one), one, key=lambda speed: speed.seconds)
        paced = [bench.paced(rate, seconds) for rate in RATES]
        return Measured(runs, list(found.values()), paced, bench.overload(overload))
