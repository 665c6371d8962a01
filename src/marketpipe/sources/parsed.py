"""What a vendor's parser makes of journal records, and the face that all parsers share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from marketpipe.domain.batches import BadRow, QuoteBatch, StreamKey, TradeBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Typed vendor records of one run of journal records.

    Attributes
    ----------
    trades, quotes : in journal order, ``row`` the offset of the record; None if there were none
    quote_details : one row per row of ``quotes``: ``bid_venue``, ``ask_venue``, ``conditions``,
        ``tape`` (text); None where the feed has none of them
    tables : of the kinds book, statuses, vendor_bars, corrections that occurred: the columns of
        `marketpipe.domain.schemas.CANONICAL` that a message itself shows. The caller adds
        ``session_date``, ``recorded_at``, ``known_at``, ``key_*`` and ``schema_version``.
    bad : what cannot be read, ``row`` the offset, in journal order; a book level is quarantined
        alone, anything else as a message
    unparsed : messages that were understood to carry no market data, or are of a kind that is
        not known, counted by the vendor's name for the kind; the journal keeps them
    """

    trades: TradeBatch | None = None
    quotes: QuoteBatch | None = None
    quote_details: pa.Table | None = None
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    bad: tuple[BadRow, ...] = ()
    unparsed: Mapping[str, int] = field(default_factory=dict)


class MessageParser(Protocol):
    """Journal records of one source to typed records; a pure function but for what it has learnt.

    A parser is made from ``streams`` and ``state`` of an earlier one, and goes on as that would
    have: stream codes keep their meaning.
    """

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Who was met so far; a batch's ``stream`` is a code into it."""

    def state(self) -> bytes:
        """Return what must be known, besides the streams, to parse what follows; may be b""."""

    def parse(self, records: pa.RecordBatch) -> Parsed:
        """Parse rows of `marketpipe.domain.records.STORED`, in journal order; never raises."""
