"""Order keys: a total order of a stream's ticks that does not depend on how they arrived."""

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np

from marketpipe.domain.batches import I64, QuoteBatch, TradeBatch

VENDOR_IDS: Final = 2**62
"""Base of ``key_major`` of ticks with a numeric vendor id: they sort after all others."""

_PACKED_BYTES: Final = 7
_HASHED: Final = 1 << 56
"""Marks a venue code that is a hash, so that it can equal no packed name."""


@lru_cache(maxsize=4096)
def venue_code(venue: str) -> int:
    """Give a venue a number by its name alone, so that the number is the same everywhere.

    Up to seven ASCII characters are packed big-endian and sort as text of one length does; any
    other name becomes 2**56 plus 56 bits of its BLAKE2b digest (UTF-8). Always below 2**57.
    """
    raw = venue.encode("utf-8", "surrogatepass")
    if len(raw) <= _PACKED_BYTES and venue.isascii() and "\0" not in venue:
        return int.from_bytes(raw, "big")
    return _HASHED | int.from_bytes(hashlib.blake2b(raw, digest_size=7).digest(), "big")


def order_keys(batch: TradeBatch | QuoteBatch) -> tuple[I64, I64, I64]:
    """Order key of each row as three int64 columns, as documented at `domain.ticks.Ticks`.

    Numeric vendor ids give ``(2**62 + venue code, id, 0)``; text ids and none the place of arrival
    ``(conn_started_ns, conn_id, frame_seq << 20 | msg_index)``, in files ``(0, 0, row)``.
    """
    arrived = _by_arrival(batch)
    if isinstance(batch, QuoteBatch) or batch.id_hi is None or batch.id_lo is None:
        return arrived
    numeric = batch.id_hi == 0
    if not numeric.any():
        return arrived
    if batch.venue is None:
        major = np.full(len(batch), VENDOR_IDS, np.int64)
    else:
        codes = [VENDOR_IDS + venue_code(venue) for venue in batch.dictionaries.venues]
        major = np.array(codes, np.int64)[batch.venue]
    if numeric.all():
        return major, batch.id_lo, np.zeros(len(batch), np.int64)
    return (
        np.where(numeric, major, arrived[0]),
        np.where(numeric, batch.id_lo, arrived[1]),
        np.where(numeric, np.int64(0), arrived[2]),
    )


def _by_arrival(batch: TradeBatch | QuoteBatch) -> tuple[I64, I64, I64]:
    if batch.arrival is not None:
        return batch.arrival
    zeros = np.zeros(len(batch.row), np.int64)
    return zeros, zeros, batch.row
