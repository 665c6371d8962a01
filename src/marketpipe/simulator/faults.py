"""What goes wrong, and when: faults by time, by count or on demand, and seeded storms of them.

What the stream loses in a fault stays in the answers of REST, unless `refuse_rest` is among the
faults: the vendor has the data.
"""

import random  # noqa: TID251  # storms are drawn from a seed, and a simulator is no core
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import UsageError
from marketpipe.simulator.market import CHANNEL_OF


class FaultKind(NamedTuple):
    """What a fault does.

    Attributes
    ----------
    seconds : how long it lasts by default, in seconds of the session; None: it is one instant
    amount : its number by default
    means : what it does, in words
    in_storms : whether a storm may have it: a client can mend it without a person
    """

    seconds: float | None
    amount: float
    means: str
    in_storms: bool = False


FAULTS: Final = {
    "drop": FaultKind(None, 0, "the connections are gone, without a closing handshake", True),
    "cut": FaultKind(None, 0, "the connections end in the middle of a frame", True),
    "mute": FaultKind(
        0,
        0,
        "the open connections get no more messages, or with a channel for AMOUNT none of that; "
        "0 seconds: as long as they live",
        True,
    ),
    "slow": FaultKind(30, 5, "messages are sent AMOUNT seconds late", True),
    "duplicate": FaultKind(30, 0, "messages are sent twice", True),
    "reorder": FaultKind(30, 1, "messages are shuffled within AMOUNT seconds", True),
    "late": FaultKind(30, 20, "trades are sent AMOUNT seconds late, the rest in time", True),
    "correction": FaultKind(None, 1, "the last AMOUNT trades are corrected"),
    "cancel": FaultKind(None, 1, "the last AMOUNT trades are cancelled"),
    "contention": FaultKind(
        20, 0, "the connections are gone, and logging in fails: connection limit (406)", True
    ),
    "slow_client": FaultKind(None, 0, "the connections are closed as too slow (407)", True),
    "auth_failure": FaultKind(20, 0, "the connections are gone, and logging in fails (402)"),
    "malformed": FaultKind(None, 1, "the next AMOUNT frames do not decode", True),
    "unknown_type": FaultKind(None, 1, "AMOUNT messages of an unknown type are put in", True),
    "rename": FaultKind(None, 0, "OLD:NEW, a symbol has another name from then on"),
    "page_loop": FaultKind(60, 0, "REST gives a page's own token as that of the next page", True),
    "too_many": FaultKind(20, 0, "REST answers 429", True),
    "html": FaultKind(20, 0, "REST and new connections get a proxy's page of HTML", True),
    "refuse_rest": FaultKind(60, 0, "REST refuses: 403 with code 42210000"),
    "refuse_quotes": FaultKind(60, 0, "REST refuses the same way what is asked of quotes alone"),
    "clock_skew": FaultKind(60, 2, "the published clock is AMOUNT seconds behind", True),
}
"""The kinds of faults."""

CHANNELS: Final = tuple(CHANNEL_OF.values())
"""Those that can be mute alone."""

OF_STREAM: Final = frozenset(FAULTS) - {
    *("rename", "page_loop", "too_many", "html"),
    *("refuse_rest", "refuse_quotes", "clock_skew"),
}
"""Those that happen to connections; the others are states of the whole simulator."""

_ONE = re.compile(
    r"(?P<kind>[a-z_0-9]+)(?:@(?P<at>[\d.]+)|#(?P<after>\d+))?"
    r"(?:\+(?P<seconds>[\d.]+))?(?:=(?P<detail>[^,]+))?"
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind : one of `FAULTS`
    at_ns : when it begins, in the session's time
    after : or else: after so many messages have been sent on one path
    seconds : how long it lasts, in the session's time; None: as its kind does
    amount : what its kind says; None: as its kind has it
    names : of ``rename``: the old and the new symbol
    channel : of ``mute``: the only channel that is mute; "" stands for all
    path : only endpoints whose path begins so; faults of REST have none

    Raises
    ------
    UsageError
        If the kind is unknown, a rename names no two symbols, or a mute what is no channel.
    """

    kind: str
    at_ns: int | None = None
    after: int | None = None
    seconds: float | None = None
    amount: float | None = None
    names: tuple[str, str] | None = None
    channel: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise UsageError(f"fault: was '{self.kind}'; the kinds are {', '.join(FAULTS)}")
        if (self.kind == "rename") != (self.names is not None):
            raise UsageError(f"fault {self.kind}: a rename, and nothing else, names OLD:NEW")
        if self.channel and (self.kind != "mute" or self.channel not in CHANNELS):
            raise UsageError(
                f"fault {self.kind}: channel was '{self.channel}'; a mute, and nothing else, names "
                f"one of {', '.join(CHANNELS)}"
            )

    @property
    def length_ns(self) -> int:
        """How long it lasts."""
        seconds = FAULTS[self.kind].seconds if self.seconds is None else self.seconds
        return int((seconds or 0) * NANOS)

    @property
    def size(self) -> float:
        """Its number."""
        return FAULTS[self.kind].amount if self.amount is None else self.amount


def parse_faults(text: str, start_ns: int, end_ns: int, seed: int = 0) -> list[Fault]:
    """Read faults as the command line has them, separated by commas.

    Each is ``KIND@SECONDS+LENGTH=AMOUNT``: seconds after the session's start, seconds that it
    lasts, and its number (or ``OLD:NEW``, or a channel). ``#COUNT`` instead of ``@SECONDS`` begins
    it after so many messages; without either it begins at the start. ``storm=N`` stands for
    `storm`.

    Raises
    ------
    UsageError
        If a word is none of these.
    """
    found: list[Fault] = []
    for word in (part.strip() for part in text.split(",") if part.strip()):
        match = _ONE.fullmatch(word)
        if match is None:
            raise UsageError(
                f"faults: was '{word}'; write KIND@SECONDS+LENGTH=AMOUNT, such as drop@60, "
                "mute@90+30, malformed#500 or storm=20"
            )
        kind, at, after, seconds, detail = match.group("kind", "at", "after", "seconds", "detail")
        names = amount = None
        channel = ""
        if kind == "rename" and detail and ":" in detail:
            old, _, new = detail.partition(":")
            names = (old, new)
        elif kind == "mute" and detail is not None:
            channel = detail
        elif detail is not None:
            amount = _number(word, detail)
        if kind == "storm":
            found += storm(seed, int(amount or 10), start_ns, end_ns)
            continue
        at_ns = start_ns + int(_number(word, at or "0") * NANOS)
        found.append(
            Fault(
                kind=kind,
                at_ns=None if after else at_ns,
                after=int(after) if after else None,
                seconds=_number(word, seconds) if seconds else None,
                amount=amount,
                names=names,
                channel=channel,
            )
        )
    return found


def _number(word: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"faults: '{text}' in '{word}' is no number") from None


def storm(
    seed: int,
    count: int,
    start_ns: int,
    end_ns: int,
    kinds: Iterable[str] | None = None,
) -> list[Fault]:
    """Draw faults at random times in ``[start_ns, end_ns)``, ascending; the same for one seed.

    Parameters
    ----------
    kinds : what to draw from; by default those that a client can mend without a person
    """
    chosen = sorted(kinds or (kind for kind, facts in FAULTS.items() if facts.in_storms))
    drawn = random.Random(seed)  # noqa: S311  # nothing secret
    times = sorted(drawn.randrange(start_ns, end_ns) for _ in range(count))
    return [Fault(kind=drawn.choice(chosen), at_ns=at_ns) for at_ns in times]


class Window(NamedTuple):
    """When a fault holds: begin inclusive, end exclusive."""

    start_ns: int
    end_ns: int
    fault: Fault


class Schedule:
    """The faults of a simulator: those planned, and those added while it runs."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: list[Fault] = []
        self._windows: dict[str, list[Window]] = {}
        self._begun: list[Fault] = []
        self._listeners: list[Callable[[Fault], None]] = []
        for fault in faults:
            self.add(fault)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, in the order in which they were added."""
        return tuple(self._faults)

    def add(self, fault: Fault) -> None:
        """Add a fault; who listens hears of it at once."""
        self._faults.append(fault)
        if fault.at_ns is not None:
            self._open(fault, fault.at_ns)
        for listener in self._listeners:
            listener(fault)

    def listen(self, listener: Callable[[Fault], None]) -> None:
        """Call back with every fault, those that are there at once."""
        self._listeners.append(listener)
        for fault in self._faults:
            listener(fault)

    def begin(self, fault: Fault, now_ns: int) -> None:
        """Say that a fault has begun on an endpoint."""
        if fault.at_ns is None:
            self._open(fault, now_ns)
        self._begun.append(fault)

    def _open(self, fault: Fault, at_ns: int) -> None:
        window = Window(at_ns, at_ns + fault.length_ns, fault)
        self._windows.setdefault(fault.kind, []).append(window)

    def window(self, kind: str, now_ns: int, path: str = "") -> Window | None:
        """Return the fault of a kind that holds now (begin inclusive, end exclusive), if any."""
        for window in self._windows.get(kind, ()):
            if window.start_ns <= now_ns < window.end_ns and path.startswith(window.fault.path):
                return window
        return None

    def renames(self) -> list[tuple[str, str, int]]:
        """Return old symbol, new symbol and time of every rename."""
        return [
            (*window.fault.names, window.start_ns)
            for window in self._windows.get("rename", ())
            if window.fault.names is not None
        ]

    def report(self) -> list[dict[str, object]]:
        """Return the faults as ``GET /faults`` shows them.

        ``begun`` counts the endpoints on which one began; those of REST count on none.
        """
        return [
            {
                "kind": fault.kind,
                "at": None if fault.at_ns is None else format_ns(fault.at_ns),
                "after": fault.after,
                "seconds": fault.length_ns / NANOS,
                "amount": fault.size,
                "names": fault.names,
                "channel": fault.channel,
                "begun": sum(one is fault for one in self._begun),
            }
            for fault in self._faults
        ]
