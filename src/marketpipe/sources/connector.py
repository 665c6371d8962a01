"""The interface of all live feeds: what a connector takes, gives and says of itself."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

import pyarrow as pa

from marketpipe.domain.batches import TradeBatch
from marketpipe.errors import UsageError


class Gap(NamedTuple):
    """A stretch of receipt in which messages may be missing.

    Attributes
    ----------
    start_ns : up to when all is known to have come: when the newest message happened, plus the
        feed's delay, or its receipt if that is earlier or no message tells; when the connection
        was subscribed if there was none; where single channels were mute, by their messages alone;
        ns since the epoch, UTC, inclusive
    end_ns : when the feed was subscribed again, or the next batch was handed out; exclusive
    reason : ``disconnected``, ``mute``, ``slow_client``, ``unreadable_frame``,
        ``oversized_frame`` or ``stalled``
    """

    start_ns: int
    end_ns: int
    reason: str


OnRecords: TypeAlias = Callable[[pa.RecordBatch], Awaitable[None]]
"""Takes a batch of `marketpipe.domain.records.RECORDS`; while it is at work nothing else is
handed out, and when too much waits nothing more is received."""
OnGap: TypeAlias = Callable[[Gap], Awaitable[None]]
"""Takes a gap, between two batches; it must be quick, as the next batch waits for it."""
Probe: TypeAlias = Callable[[], Awaitable[Mapping[str, int]]]
"""Asks the vendor, by another way, when the newest message of each channel happened that must have
come by now (ns since the epoch, UTC; 0 if there is none); what it cannot tell of is absent."""

State: TypeAlias = Literal["connecting", "live", "backing_off", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a feed can do.

    Attributes
    ----------
    channels : what can be subscribed, by the vendor's names
    has_history : whether `BaseConnector.get_historical_ticks` works
    has_sequence : whether the vendor numbers messages, so that holes show
    has_trade_ids : whether trades have ids, so that duplicates show
    max_symbols : the most that a connection may carry; None if the plan decides
    """

    channels: tuple[str, ...]
    has_history: bool
    has_sequence: bool
    has_trade_ids: bool
    max_symbols: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """How a feed is doing, for logs and ``doctor``; times are ns since the epoch, UTC.

    Attributes
    ----------
    state, since_ns : what it does, and since when
    frames, messages : received in all
    last_message_ns : receipt of the last message of the market; None if there was none
    reconnects : how often it was subscribed again
    slow_clients : how often the vendor hung up because too little was taken
    oversized : how many frames were too long to be kept; each ended its connection
    last_error : what went wrong last, "" if nothing; never holds a key
    subscribed : the vendor's last word on what is subscribed
    waiting : records that are received and not handed out
    waiting_bytes : length of frames that are received and not handed out
    lag_ns : how long the first record of the last batch had waited, when it was taken over
    blocked_ns : how long receiving stood still in all because too much waited (real time)
    """

    state: State = "connecting"
    since_ns: int = 0
    frames: int = 0
    messages: int = 0
    last_message_ns: int | None = None
    reconnects: int = 0
    slow_clients: int = 0
    oversized: int = 0
    last_error: str = ""
    subscribed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    waiting: int = 0
    waiting_bytes: int = 0
    lag_ns: int = 0
    blocked_ns: int = 0


class BaseConnector(ABC):
    """A live feed as journal records: control records, data and ticks of the clock, in order.

    As an asynchronous context manager it connects on entry and disconnects on exit; `run` does
    the work between.
    """

    def __init__(self) -> None:
        self._on_records: OnRecords | None = None
        self._on_gap: OnGap | None = None

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this feed can do."""

    @property
    @abstractmethod
    def status(self) -> FeedStatus:
        """How this feed is doing now."""

    def register_callback(self, on_records: OnRecords, on_gap: OnGap | None = None) -> None:
        """Say who takes the records, and who hears of gaps; before `connect`.

        What a callback raises ends `run`, which raises it.
        """
        self._on_records, self._on_gap = on_records, on_gap

    def _taker(self) -> OnRecords:
        if self._on_records is None:
            raise UsageError("connector: nothing takes its records. Call register_callback first")
        return self._on_records

    @abstractmethod
    async def connect(self) -> None:
        """Make the first connection; never waits for long.

        What waiting may mend (nothing answers, another program is connected) is not raised:
        `status` tells it, and `run` tries again.

        Raises
        ------
        VendorError
            What waiting cannot mend: a wrong key, a plan that does not include the feed, an
            address that is no feed.
        UsageError
            If there is no callback.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Stop cleanly: `run` returns once the last frames are handed out; safe to call twice."""

    @abstractmethod
    async def subscribe(
        self, symbols: Iterable[str], channels: Iterable[str] | None = None
    ) -> None:
        """Add symbols to channels (None: the feed's usual ones), now or when connected.

        Raises
        ------
        UsageError
            If a channel is unknown or a symbol malformed.
        VendorError
            If the vendor refuses; what was subscribed before stays.
        """

    @abstractmethod
    async def unsubscribe(
        self, symbols: Iterable[str], channels: Iterable[str] | None = None
    ) -> None:
        """Take symbols out of channels (None: all); a few messages may still come.

        Raises
        ------
        UsageError, VendorError
            As `subscribe`.
        """

    @abstractmethod
    def get_historical_ticks(
        self, symbol: str, start_ns: int, end_ns: int
    ) -> AsyncIterator[TradeBatch]:
        """Yield trades of ``[start_ns, end_ns)`` from the vendor's history, in its order.

        Raises
        ------
        VendorError
            If the vendor cannot or will not give them.
        """

    @abstractmethod
    async def run(self) -> None:
        """Receive, and reconnect whenever that helps, until `disconnect`.

        Raises
        ------
        VendorError
            What waiting cannot mend.
        Exception
            What a callback raised.
        """

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.disconnect()
