"""What a simulated vendor knows: the messages it sends, and what its history shows when.

A `Market` is pure and deterministic: it has no clock, and the same recipe or recording gives the
same events and the same bytes. All times are ns since the epoch, UTC, of the market's own time.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, overload

from marketpipe.domain.batches import I64
from marketpipe.sources.framing import Encoding

Kind: TypeAlias = Literal["stocks", "crypto"]
Channel: TypeAlias = Literal[
    "trades",
    "quotes",
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "corrections",
    "cancelErrors",
    "orderbooks",
]

CHANNEL_OF: Final[dict[str, Channel]] = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "c": "corrections",
    "x": "cancelErrors",
    "o": "orderbooks",
}
"""The channel of a message, by its ``T``."""


VALID_SYMBOL: Final[dict[Kind, re.Pattern[str]]] = {
    "stocks": re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,19}"),
    "crypto": re.compile(r"[A-Z0-9.]{1,15}/[A-Z0-9.]{1,15}"),
}
"""Symbols as the vendor spells them; others are malformed."""


class Message(Protocol):
    """The content of an event; immutable."""

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message as one element of a frame: a map whose first key is ``T``."""
        ...


class Event:
    """One message that the vendor sends.

    Attributes
    ----------
    ts_send_ns : when the vendor sends it
    ts_event_ns : the instant in the message (its ``t``)
    channel : the channel that a client subscribes to for it
    symbol : the symbol that it is about
    message : what it says
    """

    __slots__ = ("_json", "_msgpack", "channel", "message", "symbol", "ts_event_ns", "ts_send_ns")

    def __init__(
        self, ts_send_ns: int, ts_event_ns: int, channel: Channel, symbol: str, message: Message
    ) -> None:
        self.ts_send_ns: Final = ts_send_ns
        self.ts_event_ns: Final = ts_event_ns
        self.channel: Final = channel
        self.symbol: Final = symbol
        self.message: Final = message
        self._json = b""
        self._msgpack = b""

    def encode(self, encoding: Encoding) -> bytes:
        """Write the message as one element of a frame, ``T`` first; written once per encoding."""
        if encoding == "json":
            self._json = self._json or self.message.encode(encoding)
            return self._json
        self._msgpack = self._msgpack or self.message.encode(encoding)
        return self._msgpack


class Row(NamedTuple):
    """One record of the vendor's history.

    Attributes
    ----------
    ts_event_ns : its ``t``
    json : the record as an element of a REST answer's list: no ``T`` and no ``S``
    """

    ts_event_ns: int
    json: bytes


class Rows(Sequence[Row]):
    """Rows that are written when they are asked for.

    Parameters
    ----------
    parts : numbers of the parts that they lie in, and their places there, in order
    write : writes rows of one part
    """

    def __init__(
        self, parts: Iterable[tuple[int, I64]], write: Callable[[int, I64], list[Row]]
    ) -> None:
        self._parts = list(parts)
        self._write = write
        self._ends = list(accumulate(len(places) for _, places in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, int):
            place = range(len(self))[at]
            return next(self._between(place, place + 1))
        first, stop, step = at.indices(len(self))
        if step == 1:
            return list(self._between(first, stop))
        return [self[k] for k in range(first, stop, step)]

    def __iter__(self) -> Iterator[Row]:
        return self._between(0, len(self))

    def _between(self, first: int, stop: int) -> Iterator[Row]:
        for k in range(bisect_right(self._ends, first), len(self._parts)):
            number, places = self._parts[k]
            begin = self._ends[k] - len(places)
            if begin >= stop:
                return
            yield from self._write(number, places[max(first - begin, 0) : stop - begin])


class Market(Protocol):
    """What the vendor sends, and what its history shows.

    The views are of the instant ``known_ns``: they hold only what was sent by then, inclusive.
    ``start_ns`` and ``end_ns`` are both inclusive, as the vendor's ``start`` and ``end`` are.
    Rows ascend by ``ts_event_ns``, ties in order of sending; they are written when they are
    asked for, so that a slice costs no more than its rows.
    """

    @property
    def kind(self) -> Kind:
        """What is traded."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, in the order of the recipe or of their first message."""
        ...

    @property
    def start_ns(self) -> int:
        """No event is sent before this."""
        ...

    @property
    def end_ns(self) -> int:
        """No event is sent at this time or after."""
        ...

    def events(self) -> Iterator[Event]:
        """Yield all messages in order of ``ts_send_ns``; each call begins anew.

        Events are made as they are asked for, so that a day of them needs little memory.
        """
        ...

    def trades(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return trades as the history shows them.

        A cancelled print stays and is marked ``"u":"canceled"``. A corrected one is marked
        ``"u":"incorrect"``, and what is right is a trade of its own, with the original's ``t``,
        marked ``"u":"corrected"``. Empty for a symbol that is not traded here.
        """
        ...

    def quotes(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return quotes as the history shows them."""
        ...

    def bars(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of whole minutes that had ended by ``known_ns``, as revised by then.

        ``ts_event_ns`` is the begin of the minute.
        """
        ...

    def days(self, symbol: str, start_ns: int, end_ns: int, known_ns: int) -> Sequence[Row]:
        """Return the bars of days, the one that is not over as it was by ``known_ns``.

        ``ts_event_ns`` is the day's midnight: New York's for stocks, UTC's for crypto.
        """
        ...

    def book(self, symbol: str, known_ns: int) -> Message | None:
        """Return the whole order book as last sent, as a message marked ``"r":true``.

        The vendor sends it when a client subscribes, before deltas. None where there is no book.
        """
        ...
