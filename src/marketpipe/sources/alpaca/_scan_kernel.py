# mypy: disable-error-code="untyped-decorator,no-any-return"
# compiled functions take their arrays one by one: a tuple would be counted
"""Compiled reader of the common trade: one flat, compact, plain JSON object, all of it in order.

Whatever else there is - another type, an escape, a blank, an exponent, a key given twice, a value
of another kind or out of range - is left to the general reader, which alone decides what is
wrong with a message. What is taken here reads the same there.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from marketpipe.sources.numbers._decimals_kernel import parse_decimal
from marketpipe.sources.numbers._times_kernel import parse_instant

TYPE, SYMBOL, VENUE, TAPE, SIDE, TIME, CONDITIONS, ID, PRICE, SIZE = range(10)
FIELDS: Final = 10
_LAST_STRING: Final = 5
_LAST_LIST: Final = 6
_STRING, _LIST, _NUMBER = 0, 1, 2
INDEX: Final = 0x7FFF_FFFF
"""Mask that tells the compiler that an index is not negative, which saves it a test."""
PLAIN: Final = np.array([32 <= byte <= 126 and byte not in b'"\\' for byte in range(256)])
_MAX_TEXT_BYTES: Final = 64
_MAX_ID_DIGITS: Final = 18


class Words(NamedTuple):
    """Texts met so far, each with a number: an open-addressed table, and their bytes.

    ``entries`` holds begin and end in ``arena`` of each text; a slot its number + 1, 0 if free;
    ``used`` the number of texts and of bytes of the arena.
    """

    slots: Any
    entries: Any
    arena: Any
    used: Any


def new_words(texts: int, arena_bytes: int) -> Words:
    """Make an empty table of so many texts at most; text 0 is the empty one."""
    slots = 1 << (2 * texts - 1).bit_length()
    return Words(
        np.zeros(slots, np.int32),
        np.zeros((texts, 2), np.int64),
        np.zeros(arena_bytes, np.uint8),
        np.array([1, 0], np.int64),
    )


@njit(cache=True, nogil=True)
def word(buf: Any, begin: int, end: int, slots: Any, entries: Any, arena: Any, used: Any) -> int:
    """Return the number of a text, giving it one if it is new; -1 if there is no room for it."""
    size = end - begin
    if size == 0:
        return 0
    if size > _MAX_TEXT_BYTES:
        return -1
    mask = len(slots) - 1
    product = 2_166_136_261
    for i in range(begin, end):
        product = ((product ^ int(buf[i & INDEX])) * 16_777_619) & 0xFFFF_FFFF
    slot = (product ^ (product >> 15)) & mask
    while slots[slot] != 0:
        number = int(slots[slot]) - 1
        first = entries[number, 0]
        if entries[number, 1] - first == size:
            same = 0
            while same < size and arena[first + same] == buf[(begin + same) & INDEX]:
                same += 1
            if same == size:
                return number
        slot = (slot + 1) & mask
    number, first = used[0], used[1]
    if number >= len(entries) or first + size > len(arena):
        return -1
    for i in range(size):
        arena[first + i] = buf[begin + i]
    entries[number, 0], entries[number, 1] = first, first + size
    used[0], used[1] = number + 1, first + size
    slots[slot] = number + 1
    return number


@njit(cache=True, nogil=True, inline="always")
def _string_end(buf: Any, i: int, end: int) -> int:
    # From behind the opening quote to behind the closing one; -1 if it is not plain ASCII.
    while i < end and PLAIN[buf[i & INDEX]]:
        i += 1
    return i + 1 if i < end and buf[i & INDEX] == 34 else -1


@njit(cache=True, nogil=True)
def _list_end(buf: Any, i: int, end: int) -> int:
    # From behind the opening bracket of a list of strings to behind the closing one.
    if i < end and buf[i] == 93:
        return i + 1
    while i < end and buf[i] == 34:
        i = _string_end(buf, i + 1, end)
        if i < 0 or i >= end:
            return -1
        if buf[i] == 93:
            return i + 1
        if buf[i] != 44:
            return -1
        i += 1
    return -1


@njit(cache=True, nogil=True, inline="always")
def _number_end(buf: Any, i: int, end: int) -> int:
    # JSON's grammar but for the exponent.
    if i < end and buf[i] == 45:
        i += 1
    first = i
    while i < end and 48 <= buf[i & INDEX] <= 57:
        i += 1
    if i == first or (buf[first] == 48 and i > first + 1):
        return -1
    if i < end and buf[i] == 46:
        i += 1
        point = i
        while i < end and 48 <= buf[i & INDEX] <= 57:
            i += 1
        if i == point:
            return -1
    return i


@njit(cache=True, nogil=True, inline="always")
def field_of(buf: Any, begin: int, end: int) -> int:
    # Which field a key names; -1 for any other.
    if end - begin == 3 and buf[begin] == 116 and buf[begin + 1] == 107 and buf[begin + 2] == 115:
        return SIDE
    if end - begin != 1:
        return -1
    byte = buf[begin]
    if byte == 84:
        return TYPE
    if byte == 83:
        return SYMBOL
    if byte == 105:
        return ID
    if byte == 120:
        return VENUE
    if byte == 112:
        return PRICE
    if byte == 115:
        return SIZE
    if byte == 116:
        return TIME
    if byte == 99:
        return CONDITIONS
    return TAPE if byte == 122 else -1


@njit(cache=True, nogil=True)
def _locate(buf: Any, i: int, end: int, begins: Any, ends: Any) -> bool:
    # Where each field's value is, strings and lists with their marks; False if not usual.
    ends[:] = 0
    if i >= end or buf[i] != 123:
        return False
    while True:
        i += 1
        if i >= end or buf[i] != 34:
            return False
        key = i + 1
        i = _string_end(buf, key, end)
        if i < 0 or i + 1 >= end or buf[i] != 58:
            return False
        field = field_of(buf, key, i - 1)
        i += 1
        value = i
        if buf[i] == 34:
            kind = _STRING
            i = _string_end(buf, i + 1, end)
        elif buf[i] == 91:
            kind = _LIST
            i = _list_end(buf, i + 1, end)
        else:
            kind = _NUMBER
            i = _number_end(buf, i, end)
        if i < 0 or i >= end:
            return False
        if field >= 0:
            wanted = _STRING if field <= _LAST_STRING else _NUMBER
            if field == _LAST_LIST:
                wanted = _LIST
            if kind != wanted or ends[field] != 0:
                return False
            begins[field], ends[field] = value, i
        if buf[i] == 125:
            return i + 1 == end
        if buf[i] != 44:
            return False


@njit(cache=True, nogil=True, inline="always")
def _side(buf: Any, begin: int, end: int) -> int:
    # As in `TradeBatch`; -1 for what is no side.
    if end == 0 or end - begin == 2:
        return 0
    if end - begin != 3:
        return -1
    byte = buf[begin + 1]
    if byte == 45:
        return 0
    if byte == 66:
        return 1
    return 2 if byte == 83 else -1


@njit(cache=True, nogil=True)
def scan(
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
    """Read payloads, the k-th from ``offsets[k]`` to ``offsets[k + 1]``; say which were usual.

    ``texts`` receives the numbers of symbol, venue, tape and conditions (a row each). Of a row
    that is not usual all columns are to be ignored.
    """
    begins, ends = np.zeros(FIELDS, np.int64), np.zeros(FIELDS, np.int64)
    for k in range(len(offsets) - 1):
        usual[k] = False
        if not _locate(buf, int(offsets[k]), int(offsets[k + 1]), begins, ends):
            continue
        kind = begins[TYPE]
        if ends[TYPE] != kind + 3 or buf[kind + 1] != 116:
            continue
        if ends[SYMBOL] == 0 or ends[TIME] == 0 or ends[PRICE] == 0 or ends[SIZE] == 0:
            continue
        reason, times[k] = parse_instant(buf, begins[TIME] + 1, ends[TIME] - 1)
        if reason != 0:
            continue
        reason, prices[k] = parse_decimal(buf, begins[PRICE], ends[PRICE])
        if reason != 0:
            continue
        reason, sizes[k] = parse_decimal(buf, begins[SIZE], ends[SIZE])
        if reason != 0:
            continue
        number, digits = 0, ends[ID] - begins[ID]
        if ends[ID] == 0 or digits > _MAX_ID_DIGITS:
            continue
        for i in range(begins[ID], ends[ID]):
            digit = int(buf[i]) - 48
            if digit < 0 or digit > 9:
                number = -1
                break
            number = number * 10 + digit
        if number < 0:
            continue
        ids[k] = number
        side = _side(buf, begins[SIDE], ends[SIDE])
        if side < 0:
            continue
        sides[k] = side
        texts[0, k] = word(buf, begins[SYMBOL] + 1, ends[SYMBOL] - 1, slots, entries, arena, used)
        texts[1, k] = texts[2, k] = texts[3, k] = 0
        if ends[VENUE] != 0:
            texts[1, k] = word(buf, begins[VENUE] + 1, ends[VENUE] - 1, slots, entries, arena, used)
        if ends[TAPE] != 0:
            texts[2, k] = word(buf, begins[TAPE] + 1, ends[TAPE] - 1, slots, entries, arena, used)
        if ends[CONDITIONS] != 0:
            texts[3, k] = word(
                buf, begins[CONDITIONS], ends[CONDITIONS], slots, entries, arena, used
            )
        usual[k] = texts[0, k] > 0 and texts[1, k] >= 0 and texts[2, k] >= 0 and texts[3, k] >= 0
