"""What the normalizer hands to the bar engine: admitted ticks, in columns of integers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I32, I64, StreamKey

# Bits of `Ticks.flags`. The low byte rules bars built from ticks on intraday timeframes, the
# high byte those on day and longer ones (shift by DAY_SHIFT).
LAST = 0x01
"""May set open and close."""
FIRST_ONLY = 0x02
"""May set open, and close if nothing else does, only as the first priced trade of the bar."""
HIGH_LOW = 0x04
VOLUME = 0x08
"""Counts in volume, notional and trade_count."""
VWAP = 0x10
"""Counts in vwap as well; never set without VOLUME."""
DAY_SHIFT = 8
ALL = LAST | HIGH_LOW | VOLUME | VWAP
PLAIN = ALL | (ALL << DAY_SHIFT)
"""Every trade counts everywhere."""
OFFICIAL_OPEN = 0x2000
OFFICIAL_CLOSE = 0x4000
CLOSING_AUCTION = 0x8000
"""The primary venue's closing print: it may join the day bar up to ten minutes after the close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """Admitted ticks: one row each, all columns of one length, any order.

    Attributes
    ----------
    streams : names of the codes in ``stream``; grows by appending only
    stream : int32
    ts_event : int64 ns since the epoch, UTC
    price : int64 nanos; for ``mid`` the exact sum bid + ask
    size : int64 nanos, 0 for quotes
    key_major, key_mid, key_minor : int64; with ``ts_event`` the order key, total in a stream.
        Vendor ids: ``(2**62 + venue code, id, 0)``; otherwise ``(conn_started_ns, conn_id,
        frame_seq << 20 | msg_index)``; files without ids: ``(0, 0, row)``
    flags : uint16 of the bits above
    known_at : int64 ns, when the tick became known; NULL_I64 in files without receipt times
    """

    streams: tuple[StreamKey, ...]
    stream: I32
    ts_event: I64
    price: I64
    size: I64
    key_major: I64
    key_mid: I64
    key_minor: I64
    flags: npt.NDArray[np.uint16]
    known_at: I64

    def __len__(self) -> int:
        return len(self.ts_event)
