# mypy: disable-error-code="untyped-decorator,no-any-return"
"""Compiled readers of instants: counts since the epoch, and RFC 3339."""

from typing import Any

from numba import njit

from marketpipe.domain.units import MAX_TS_NS
from marketpipe.sources.numbers.reasons import BAD_TIMESTAMP, NAIVE_TIMESTAMP, OK, OUT_OF_RANGE

_POW10 = tuple(10**n for n in range(10))
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_SECONDS = 86_400


@njit(cache=True, nogil=True)
def _eight_digits(buf: Any, at: int) -> int:
    # Independent products instead of a chain; one test for all eight. -1 if not all are digits.
    at &= 0x7FFF_FFFF
    a = int(buf[at]) - 48
    b = int(buf[at + 1]) - 48
    c = int(buf[at + 2]) - 48
    d = int(buf[at + 3]) - 48
    e = int(buf[at + 4]) - 48
    g = int(buf[at + 5]) - 48
    h = int(buf[at + 6]) - 48
    k = int(buf[at + 7]) - 48
    if (a | b | c | d | e | g | h | k) < 0 or (
        (9 - a) | (9 - b) | (9 - c) | (9 - d) | (9 - e) | (9 - g) | (9 - h) | (9 - k)
    ) < 0:
        return -1
    high = a * 1_000 + b * 100 + c * 10 + d
    return high * 10_000 + e * 1_000 + g * 100 + h * 10 + k


@njit(cache=True, nogil=True)
def parse_epoch(buf: Any, begin: int, end: int, unit_ns: int) -> tuple[int, int]:
    """Read a count of ``unit_ns`` since the epoch as (reason, ns)."""
    if 8 <= end - begin <= 19:
        value = 0
        i = begin
        while i + 8 <= end:
            eight = _eight_digits(buf, i)
            if eight < 0:
                break
            value = value * 100_000_000 + eight
            i += 8
        while i < end and i - begin < 18 and 48 <= buf[i] <= 57:
            value = value * 10 + int(buf[i]) - 48
            i += 1
        if i == end and value <= MAX_TS_NS // unit_ns:
            return OK, value * unit_ns
        # Nineteen digits: the last one must not lead past the limit.
        if i == end - 1 and i - begin == 18 and 48 <= buf[i] <= 57:
            digit = int(buf[i]) - 48
            if value <= (MAX_TS_NS // unit_ns - digit) // 10:
                return OK, (value * 10 + digit) * unit_ns
    return _parse_any_epoch(buf, begin, end, unit_ns)


@njit(cache=True, nogil=True)
def _parse_any_epoch(buf: Any, begin: int, end: int, unit_ns: int) -> tuple[int, int]:
    # Any number of digits, and a sign.
    i = begin
    negative = False
    if i < end and (buf[i] == 45 or buf[i] == 43):
        negative = buf[i] == 45
        i += 1
    if i == end:
        return BAD_TIMESTAMP, 0
    limit = MAX_TS_NS // unit_ns
    last = limit // 10
    value = 0
    over = False
    while i < end:
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            return BAD_TIMESTAMP, 0
        if value > last or (value == last and digit > limit - last * 10):
            over = True
        else:
            value = value * 10 + digit
        i += 1
    if over or (negative and value > 0):
        return OUT_OF_RANGE, 0
    return OK, value * unit_ns


@njit(cache=True, nogil=True)
def _two_digits(buf: Any, at: int) -> int:
    tens = int(buf[at]) - 48
    ones = int(buf[at + 1]) - 48
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1
    return tens * 10 + ones


@njit(cache=True, nogil=True)
def _days_before(year: int, month: int, day: int) -> int:
    # Days since 1970-01-01 in the Gregorian calendar, counted in years that start in March.
    shifted = year - 1 if month <= 2 else year
    in_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + in_year - 719_468


@njit(cache=True, nogil=True)
def parse_instant(buf: Any, begin: int, end: int) -> tuple[int, int]:
    """Read RFC 3339 with a zone and 0 to 9 digits of fraction as (reason, ns)."""
    if end - begin < 19:
        return BAD_TIMESTAMP, 0
    century = _two_digits(buf, begin)
    year = _two_digits(buf, begin + 2)
    month = _two_digits(buf, begin + 5)
    day = _two_digits(buf, begin + 8)
    hour = _two_digits(buf, begin + 11)
    minute = _two_digits(buf, begin + 14)
    second = _two_digits(buf, begin + 17)
    between = buf[begin + 10]
    if century < 0 or year < 0 or buf[begin + 4] != 45 or buf[begin + 7] != 45:
        return BAD_TIMESTAMP, 0
    if between not in (84, 116, 32) or not 1 <= month <= 12:
        return BAD_TIMESTAMP, 0
    if buf[begin + 13] != 58 or buf[begin + 16] != 58:
        return BAD_TIMESTAMP, 0
    year += 100 * century
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day < 1 or day > _MONTH_DAYS[month - 1] or (month == 2 and day == 29 and not leap):
        return BAD_TIMESTAMP, 0
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return BAD_TIMESTAMP, 0
    i = begin + 19
    fraction = 0
    if i < end and buf[i] == 46:
        i += 1
        point = i
        while i < end and 48 <= buf[i] <= 57 and i - point < 10:
            fraction = fraction * 10 + int(buf[i]) - 48
            i += 1
        if i == point or i - point > 9:
            return BAD_TIMESTAMP, 0
        fraction *= _POW10[9 - (i - point)]
    if i == end:
        return NAIVE_TIMESTAMP, 0
    offset = 0
    if end - i == 6 and (buf[i] == 43 or buf[i] == 45) and buf[i + 3] == 58:
        hours = _two_digits(buf, i + 1)
        minutes = _two_digits(buf, i + 4)
        if not (0 <= hours < 24 and 0 <= minutes < 60):
            return BAD_TIMESTAMP, 0
        offset = (hours * 60 + minutes) * 60
        if buf[i] == 45:
            offset = -offset
    elif end - i != 1 or (buf[i] != 90 and buf[i] != 122):
        return BAD_TIMESTAMP, 0
    seconds = _days_before(year, month, day) * _DAY_SECONDS + hour * 3600 + minute * 60 + second
    seconds -= offset
    limit = MAX_TS_NS // 1_000_000_000
    if seconds < 0 or seconds > limit:
        return OUT_OF_RANGE, 0
    if seconds == limit and fraction > MAX_TS_NS - limit * 1_000_000_000:
        return OUT_OF_RANGE, 0
    return OK, seconds * 1_000_000_000 + fraction
