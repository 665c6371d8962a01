# mypy: disable-error-code="untyped-decorator,no-any-return"
"""Compiled reader of decimals: bytes to nanos, exact, without floats."""

from typing import Any

from numba import njit

from marketpipe.domain.units import MAX_NANOS
from marketpipe.sources.numbers.reasons import BAD_NUMBER, BELOW_RESOLUTION, OK, OUT_OF_RANGE

_POW10 = tuple(10**n for n in range(10))
_SPARE = MAX_NANOS // 10


@njit(cache=True, nogil=True)
def parse_decimal(buf: Any, begin: int, end: int) -> tuple[int, int]:
    """Read ``[+-]digits[.digits][e[+-]digits]`` as (reason, nanos)."""
    i = begin
    negative = False
    if i < end and (buf[i] == 45 or buf[i] == 43):
        negative = buf[i] == 45
        i += 1
    first = i
    value = 0
    while i < end:
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        i += 1
    whole = i - first
    fraction = 0
    if i < end and buf[i] == 46:
        i += 1
        point = i
        while i < end:
            digit = int(buf[i]) - 48
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            i += 1
        fraction = i - point
    if i != end or whole > 9 or fraction > 9 or whole + fraction == 0:
        return _parse_long_decimal(buf, first, end, negative)
    value *= _POW10[9 - fraction]
    return OK, -value if negative else value


@njit(cache=True, nogil=True)
def _parse_long_decimal(buf: Any, first: int, end: int, negative: bool) -> tuple[int, int]:
    # Any number of digits, and an exponent: first the grammar, then the digits once more.
    i = first
    whole = 0
    digits = 0
    seen_point = False
    while i < end:
        if buf[i] == 46 and not seen_point:
            seen_point = True
        elif 48 <= buf[i] <= 57:
            digits += 1
            if not seen_point:
                whole += 1
        else:
            break
        i += 1
    mantissa_end = i
    if digits == 0:
        return BAD_NUMBER, 0
    exponent = 0
    if i < end:
        if buf[i] != 101 and buf[i] != 69:
            return BAD_NUMBER, 0
        i += 1
        down = False
        if i < end and (buf[i] == 45 or buf[i] == 43):
            down = buf[i] == 45
            i += 1
        if i == end:
            return BAD_NUMBER, 0
        while i < end:
            digit = int(buf[i]) - 48
            if digit < 0 or digit > 9:
                return BAD_NUMBER, 0
            # Saturates far past any exponent that matters in a line of bounded length.
            if exponent < 1_000_000:
                exponent = exponent * 10 + digit
            i += 1
        if down:
            exponent = -exponent
    # The first `keep` digits are the whole nanos; what follows must be zeros.
    keep = whole + exponent + 9
    value = 0
    place = 0
    rest = False
    over = False
    for j in range(first, mantissa_end):
        if buf[j] == 46:
            continue
        digit = int(buf[j]) - 48
        if place >= keep:
            rest = rest or digit != 0
        elif value > _SPARE:
            over = True
        else:
            value = value * 10 + digit
        place += 1
    while place < keep and value > 0 and not over:
        over = value > _SPARE
        value *= 10
        place += 1
    if over:
        return OUT_OF_RANGE, 0
    if rest:
        return BELOW_RESOLUTION, 0
    return OK, -value if negative else value
