# mypy: disable-error-code="untyped-decorator,no-any-return"
"""Compiled loops over columns of texts that lie end to end in one buffer."""

from typing import Any

from numba import njit

from marketpipe.sources.numbers._decimals_kernel import parse_decimal
from marketpipe.sources.numbers._times_kernel import parse_instant
from marketpipe.sources.numbers.reasons import BAD_TIMESTAMP, MISSING_VALUE


@njit(cache=True, nogil=True)
def _is_absent(buf: Any, begin: int, end: int) -> bool:
    # Nothing, or JSON's null: no number and no instant starts with an n.
    return begin == end or (end - begin == 4 and buf[begin] == 110 and buf[begin + 1] == 117)


@njit(cache=True, nogil=True)
def parse_decimals(buf: Any, ends: Any, values: Any, reasons: Any) -> None:
    """Read text ``k``, from where text ``k - 1`` ends, into ``values[k]`` and ``reasons[k]``."""
    begin = 0
    for k in range(len(ends)):
        end = int(ends[k])
        if _is_absent(buf, begin, end):
            reasons[k] = MISSING_VALUE
            values[k] = 0
        else:
            reasons[k], values[k] = parse_decimal(buf, begin, end)
        begin = end


@njit(cache=True, nogil=True)
def parse_instants(buf: Any, ends: Any, values: Any, reasons: Any) -> None:
    """Read RFC 3339 texts in double quotes, as JSON has them."""
    begin = 0
    for k in range(len(ends)):
        end = int(ends[k])
        values[k] = 0
        if _is_absent(buf, begin, end):
            reasons[k] = MISSING_VALUE
        elif end - begin < 2 or buf[begin] != 34 or buf[end - 1] != 34:
            reasons[k] = BAD_TIMESTAMP
        else:
            reasons[k], values[k] = parse_instant(buf, begin + 1, end - 1)
        begin = end
