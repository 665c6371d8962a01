"""Integers that stand for decimals and instants, and how they are written.

Prices and sizes are int64 counts of 1e-9 (*nanos*); instants are int64 nanoseconds since
1970-01-01T00:00:00Z. Nothing here rounds: what does not fit is an error of the caller.
"""

from datetime import UTC, datetime
from typing import Final

import numpy as np

NANOS: Final = 1_000_000_000
"""Nano-units in one unit of price or size."""

LIMB: Final = 10**18
"""Base of the low limb of a 128-bit sum: ``value = hi * LIMB + lo``, ``0 <= lo < LIMB``."""

MAX_NANOS: Final = LIMB - 1
"""Largest price or size: DECIMAL(18,9), so 999,999,999.999999999."""

NULL_I64: Final = int(np.iinfo(np.int64).min)
"""Stands for "no value" in int64 columns."""

DAY_NS: Final = 86_400 * NANOS

LAST_TICK_NS: Final = 9_183_110_400 * NANOS - 1
"""The last instant of a tick, the end of 2260: bars of a year still close within int64."""

MAX_TS_NS: Final = int(np.iinfo(np.int64).max)
"""2262-04-11T23:47:16.854775807Z, the last instant that fits."""


def format_nanos(value: int, digits: int = 9) -> str:
    """Write an integer count of 10**-digits as an exact decimal without trailing zeros.

    >>> format_nanos(189_370_000_000)
    '189.37'
    >>> format_nanos(-5), format_nanos(2_000_000_000)
    ('-0.000000005', '2')
    """
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), 10**digits)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:0{digits}d}".rstrip("0")


def format_ns(ts_ns: int) -> str:
    """Write an instant as RFC 3339 UTC; the fraction appears only when it is not zero.

    >>> format_ns(1_767_623_400_000_000_000)
    '2026-01-05T14:30:00Z'
    """
    seconds, fraction = divmod(ts_ns, NANOS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not fraction:
        return f"{text}Z"
    return f"{text}.{fraction:09d}".rstrip("0") + "Z"
