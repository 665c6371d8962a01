"""What a source hands to the normalizer: one columnar batch of vendor records.

All columns of a batch have the same length and are C-contiguous. A batch keeps the order of
its source. Text is dictionary-coded: code 0 is always the empty string, and a source only
ever appends to its dictionaries, so a code means the same in every later batch.
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

I64: TypeAlias = npt.NDArray[np.int64]
I32: TypeAlias = npt.NDArray[np.int32]
I8: TypeAlias = npt.NDArray[np.int8]

TickKind: TypeAlias = Literal["trades", "quotes"]

BATCH_ROWS: Final = 500_000
"""Rows of a full batch, unless the caller says otherwise."""

RAW_CUT_BYTES: Final = 4096
"""A quarantined row keeps at most this many of its bytes."""

MAX_TEXTS: Final = 1 << 20
"""More distinct texts in a column than this mean that it is not what its name says."""


class StreamKey(NamedTuple):
    """Who says it, through which feed, about what: the part of a series a source knows."""

    source: str
    feed: str
    symbol: str


class Arrival(NamedTuple):
    """Where messages of a live feed stood: what orders ticks that have no vendor id.

    Attributes
    ----------
    conn_started : int64 ns, when the connection was made
    conn : int64, its number
    seq : int64, ``frame_seq << 20 | msg_index``
    """

    conn_started: I64
    conn: I64
    seq: I64


class BadRow(NamedTuple):
    """A row that went to quarantine.

    ``row`` is the physical line of a text file (the header is line 1) or the 1-based row of
    a table; ``reason`` a stable code (``bad_number``, ``below_resolution``, ``out_of_range``,
    ``bad_timestamp``, ``naive_timestamp``, ``bad_symbol``, ``bad_field_count``, …); ``field``
    the column, or "" for the whole row; ``raw`` the bytes as received (cut at 4 KiB, with
    ``raw_bytes`` the full length).
    """

    row: int
    reason: str
    field: str
    raw: bytes
    raw_bytes: int


def bad_row(row: int, reason: str, field: str, raw: bytes) -> BadRow:
    """Make a quarantine record, its raw bytes cut to `RAW_CUT_BYTES`."""
    return BadRow(row, reason, field, raw[:RAW_CUT_BYTES], len(raw))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCounts:
    """What became of every row read so far; the four are disjoint.

    Attributes
    ----------
    rows : handed out in batches
    bad : quarantined
    filtered : of symbols that were not asked for
    blank : empty lines
    """

    rows: int = 0
    bad: int = 0
    filtered: int = 0
    blank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionaries:
    """The source's dictionaries; index 0 is "" in all but ``streams``."""

    streams: tuple[StreamKey, ...]
    venues: tuple[str, ...] = ("",)
    conditions: tuple[str, ...] = ("",)
    tapes: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBatch:
    """Trades as the vendor wrote them.

    Attributes
    ----------
    stream : int32 codes into ``dictionaries.streams``
    row : int64, strictly increasing over the whole source: 1-based row of a file, or offset of a
        journal
    ts_event : int64 ns since the epoch, UTC, >= 0
    price, size : int64 nanos; ``price`` may still be zero or negative (the normalizer judges),
        ``|value| <= MAX_NANOS``
    id_hi, id_lo : int64 vendor trade id. ``id_hi == -1``: none. ``id_hi == 0``: the number
        ``id_lo`` (>= 0). ``id_hi > 0``: a text id, as 125 bits of its BLAKE2b digest.
    venue, conditions, tape : int32 codes
    side : int8, 0 unknown, 1 buy, 2 sell (the aggressor)
    ts_recv : int64 ns, NULL_I64 where absent
    arrival : place in a live feed; None in files, whose rows are in order

    A column that the source does not have is None.
    """

    dictionaries: Dictionaries
    stream: I32
    row: I64
    ts_event: I64
    price: I64
    size: I64
    id_hi: I64 | None = None
    id_lo: I64 | None = None
    venue: I32 | None = None
    conditions: I32 | None = None
    tape: I32 | None = None
    side: I8 | None = None
    ts_recv: I64 | None = None
    arrival: Arrival | None = None
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteBatch:
    """Top-of-book quotes as the vendor wrote them.

    Attributes
    ----------
    bid, ask : int64 nanos; NULL_I64 where that side is absent
    bid_size, ask_size : int64 nanos, NULL_I64 where absent; None if the source has no sizes

    The others as in `TradeBatch`.
    """

    dictionaries: Dictionaries
    stream: I32
    row: I64
    ts_event: I64
    bid: I64
    ask: I64
    bid_size: I64 | None = None
    ask_size: I64 | None = None
    venue: I32 | None = None
    ts_recv: I64 | None = None
    arrival: Arrival | None = None
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.row)


Batch: TypeAlias = TradeBatch | QuoteBatch
