# mypy: disable-error-code="untyped-decorator,no-any-return"
"""Compiled readers of trade ids and sides, and the rules for names and UTF-8."""

from typing import Any

from numba import njit

from marketpipe.domain.symbols import MAX_SYMBOL_CHARS
from marketpipe.sources.numbers._times_kernel import parse_epoch
from marketpipe.sources.numbers.reasons import OK


@njit(cache=True, nogil=True)
def parse_trade_number(buf: Any, begin: int, end: int) -> int:
    """Read a trade id of plain digits that fits int64, without leading zeros; else -1."""
    size = end - begin
    if size < 1 or size > 19 or (buf[begin] == 48 and size > 1):
        return -1
    reason, value = parse_epoch(buf, begin, end, 1)
    if reason != OK or buf[begin] < 48:
        return -1
    return value


@njit(cache=True, nogil=True)
def parse_side(buf: Any, begin: int, end: int) -> int:
    """Read ``buy``/``b`` as 1, ``sell``/``s`` as 2, nothing or ``n`` as 0, any case; else -1."""
    size = end - begin
    if size == 0:
        return 0
    first = int(buf[begin]) | 32
    if size == 1:
        if first == 98:
            return 1
        if first == 115:
            return 2
        return 0 if first == 110 else -1
    second = int(buf[begin + 1]) | 32
    third = int(buf[begin + 2]) | 32 if size > 2 else 0
    if size == 3 and first == 98 and second == 117 and third == 121:
        return 1
    if size == 4 and first == 115 and second == 101 and third == 108:
        return 2 if int(buf[begin + 3]) | 32 == 108 else -1
    return -1


@njit(cache=True, nogil=True)
def is_name(buf: Any, begin: int, end: int) -> bool:
    """Apply the rule of `marketpipe.domain.symbols.is_valid_symbol` to bytes."""
    if end - begin > MAX_SYMBOL_CHARS:
        return False
    previous = 47
    for i in range(begin, end):
        c = int(buf[i])
        if c == 46:
            if previous in (46, 47):
                return False
        elif c == 47:
            if previous == 47:
                return False
        elif not ((65 <= c <= 90) or (97 <= c <= 122) or (48 <= c <= 58) or c in (95, 61, 94, 45)):
            return False
        previous = c
    return previous != 47


@njit(cache=True, nogil=True)
def is_utf8(buf: Any, begin: int, end: int) -> bool:
    """Tell whether the bytes are UTF-8: no overlong forms, surrogates or values past U+10FFFF."""
    i = begin
    while i < end:
        c = int(buf[i])
        i += 1
        if c < 128:
            continue
        low = 128
        high = 191
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif 0xF0 <= c <= 0xF4:
            more = 3
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        else:
            return False
        for _ in range(more):
            if i == end or not low <= buf[i] <= high:
                return False
            low = 128
            high = 191
            i += 1
    return True
