"""Instrument buckets: the lake's partitions within a day."""

import zlib
from typing import Final

BUCKETS: Final = 16
"""Buckets of a new lake; a table keeps the number that it was made with."""


def bucket_of(symbol: str, buckets: int = BUCKETS) -> int:
    """Return the bucket of a symbol, 0 (inclusive) to ``buckets`` (exclusive).

    CRC-32 of the UTF-8 bytes, so that it is the same on every machine and in every version.
    """
    return zlib.crc32(symbol.encode()) % buckets
