# mypy: disable-error-code="untyped-decorator,no-any-return"
# compiled functions take their arrays one by one: a tuple would be counted
"""Compiled reader of the common trade in msgpack: one flat map with short keys, all of it in order.

As `marketpipe.sources.alpaca._scan_kernel` does with JSON, it leaves all else to the general reader
(a nested value, a null, a float of 32 bits, a number that is no multiple of 1e-9), and what is
taken here reads the same there.
"""

from typing import Any, Final

import numpy as np
from numba import njit

from marketpipe.domain.units import MAX_TS_NS, NANOS
from marketpipe.sources.alpaca._scan_kernel import (
    CONDITIONS,
    FIELDS,
    ID,
    INDEX,
    PLAIN,
    PRICE,
    SIDE,
    SIZE,
    SYMBOL,
    TAPE,
    TIME,
    TYPE,
    VENUE,
    field_of,
    word,
)
from marketpipe.sources.alpaca.values import EXACT_BELOW

_MAX_SECONDS: Final = MAX_TS_NS // NANOS
_SECONDS_BITS: Final = 34


@njit(cache=True, nogil=True, inline="always")
def _uint(buf: Any, begin: int, width: int) -> int:
    # Big-endian; of eight bytes the sign shows what is beyond int64.
    value = np.int64(0)
    for i in range(begin, begin + width):
        value = value << 8 | int(buf[i & INDEX])
    return int(value)


@njit(cache=True, nogil=True, inline="always")
def _text_end(buf: Any, i: int, end: int) -> int:
    # From a short string of plain ASCII to behind it; -1 if it is not such.
    if i >= end or buf[i & INDEX] & 0xE0 != 0xA0:
        return -1
    stop = i + 1 + int(buf[i & INDEX] & 0x1F)
    if stop > end:
        return -1
    for k in range(i + 1, stop):
        if not PLAIN[buf[k & INDEX]]:
            return -1
    return stop


@njit(cache=True, nogil=True, inline="always")
def _value_end(buf: Any, i: int, end: int) -> int:
    # From a value to behind it: a short text, a number, a time, or a short list of such texts.
    if i >= end:
        return -1
    head = int(buf[i & INDEX])
    if head < 0x80 or head >= 0xE0:
        stop = i + 1
    elif head & 0xE0 == 0xA0:
        stop = _text_end(buf, i, end)
    elif head & 0xF0 == 0x90:
        stop = i + 1
        for _ in range(head & 0x0F):
            stop = _text_end(buf, stop, end)
            if stop < 0:
                return -1
    elif head == 0xCB:
        stop = i + 9
    elif 0xCC <= head <= 0xCF:
        stop = i + 1 + (1 << (head - 0xCC))
    elif 0xD0 <= head <= 0xD3:
        stop = i + 1 + (1 << (head - 0xD0))
    elif head == 0xD7:
        stop = i + 10
    else:
        return -1
    return stop if stop <= end else -1


@njit(cache=True, nogil=True)
def _locate(buf: Any, i: int, end: int, begins: Any, ends: Any) -> bool:
    # Where each field's value is, heads included; False if the message is not usual.
    ends[:] = 0
    if i >= end or buf[i] & 0xF0 != 0x80:
        return False
    count = int(buf[i] & 0x0F)
    i += 1
    for _ in range(count):
        key = i + 1
        i = _text_end(buf, i, end)
        if i < 0:
            return False
        field = field_of(buf, key, i)
        value = i
        i = _value_end(buf, i, end)
        if i < 0:
            return False
        if field >= 0:
            if ends[field] != 0:
                return False
            begins[field], ends[field] = value, i
    return i == end


@njit(cache=True, nogil=True, inline="always")
def _whole(buf: Any, i: int) -> int:
    # An integer of 0 or more; -1 for any other value, and for what is beyond int64.
    head = int(buf[i & INDEX])
    if head < 0x80:
        return head
    if 0xCC <= head <= 0xCF:
        value = _uint(buf, i + 1, 1 << (head - 0xCC))
        return value if value >= 0 else -1
    return -1


@njit(cache=True, nogil=True, inline="always")
def _nanos(buf: Any, i: int, bits: Any, value: Any) -> int:
    # A number as nanos; -1 if it is not usual, negative ones among them.
    if buf[i & INDEX] == 0xCB:
        bits[0] = _uint(buf, i + 1, 8)
        if not 0.0 <= value[0] < EXACT_BELOW:
            return -1
        nanos = np.rint(value[0] * NANOS)
        return int(nanos) if nanos / NANOS == value[0] else -1
    whole = _whole(buf, i)
    return whole * NANOS if 0 <= whole < int(EXACT_BELOW) else -1


@njit(cache=True, nogil=True, inline="always")
def _instant(buf: Any, i: int) -> int:
    # A timestamp of 64 bits as ns; -1 if it is none or out of range.
    if buf[i & INDEX] != 0xD7 or buf[(i + 1) & INDEX] != 0xFF:
        return -1
    nanos = _uint(buf, i + 2, 4) >> 2
    seconds = _uint(buf, i + 5, 5) & ((1 << _SECONDS_BITS) - 1)
    return seconds * NANOS + nanos if nanos < NANOS and seconds < _MAX_SECONDS else -1


@njit(cache=True, nogil=True, inline="always")
def _side(buf: Any, begin: int, end: int) -> int:
    # As in `TradeBatch`; -1 for what is no side.
    if end == 0:
        return 0
    if end - begin != 2:
        return 0 if end - begin == 1 and buf[begin] == 0xA0 else -1
    byte = buf[begin + 1]
    if byte == 45:
        return 0
    if byte == 66:
        return 1
    return 2 if byte == 83 else -1


@njit(cache=True, nogil=True, inline="always")
def _is_text(buf: Any, begin: int, end: int) -> bool:
    return end == 0 or buf[begin] & 0xE0 == 0xA0


@njit(cache=True, nogil=True)
def scan_packed(
    buf: Any,
    offsets: Any,
    usual: Any,
    times: Any,
    prices: Any,
    sizes: Any,
    ids: Any,
    sides: Any,
    texts: Any,
    slots: Any,
    entries: Any,
    arena: Any,
    used: Any,
) -> None:
    """Read those payloads that are msgpack, as `scan` reads JSON; other rows stay as they are."""
    begins, ends = np.zeros(FIELDS, np.int64), np.zeros(FIELDS, np.int64)
    bits = np.zeros(1, np.int64)
    value = bits.view(np.float64)
    for k in range(len(offsets) - 1):
        if not _locate(buf, int(offsets[k]), int(offsets[k + 1]), begins, ends):
            continue
        if ends[TYPE] != begins[TYPE] + 2 or buf[begins[TYPE]] != 0xA1:
            continue
        if buf[begins[TYPE] + 1] != 116:
            continue
        if ends[SYMBOL] == 0 or ends[TIME] == 0 or ends[PRICE] == 0 or ends[SIZE] == 0:
            continue
        if ends[ID] == 0 or buf[begins[SYMBOL]] & 0xE0 != 0xA0:
            continue
        if not _is_text(buf, begins[VENUE], ends[VENUE]):
            continue
        if not _is_text(buf, begins[TAPE], ends[TAPE]):
            continue
        if ends[CONDITIONS] != 0 and buf[begins[CONDITIONS]] & 0xF0 != 0x90:
            continue
        times[k] = _instant(buf, begins[TIME])
        prices[k] = _nanos(buf, begins[PRICE], bits, value)
        sizes[k] = _nanos(buf, begins[SIZE], bits, value)
        ids[k] = _whole(buf, begins[ID])
        sides[k] = _side(buf, begins[SIDE], ends[SIDE])
        if times[k] < 0 or prices[k] < 0 or sizes[k] < 0 or ids[k] < 0 or sides[k] < 0:
            continue
        first = begins[SYMBOL] + 1
        texts[0, k] = word(buf, first, ends[SYMBOL], slots, entries, arena, used)
        texts[1, k] = texts[2, k] = texts[3, k] = 0
        if ends[VENUE] != 0:
            first = begins[VENUE] + 1
            texts[1, k] = word(buf, first, ends[VENUE], slots, entries, arena, used)
        if ends[TAPE] != 0:
            first = begins[TAPE] + 1
            texts[2, k] = word(buf, first, ends[TAPE], slots, entries, arena, used)
        if ends[CONDITIONS] != 0:
            first = begins[CONDITIONS]
            texts[3, k] = word(buf, first, ends[CONDITIONS], slots, entries, arena, used)
        usual[k] = texts[0, k] > 0 and texts[1, k] >= 0 and texts[2, k] >= 0 and texts[3, k] >= 0
