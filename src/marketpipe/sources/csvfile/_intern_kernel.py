# mypy: disable-error-code="untyped-decorator,no-any-return"
# compiled functions take their arrays one by one: a tuple would be counted
"""Compiled dictionaries: texts, and (source, feed, symbol) triples, to small codes."""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

SYMBOL: Final = 0
SOURCE: Final = 1
FEED: Final = 2
VENUE: Final = 3
CONDITIONS: Final = 4
TAPE: Final = 5
DICTIONARIES: Final = 6

# Places in `Table.used` behind the next code of each dictionary.
TEXTS: Final = 6
ARENA: Final = 7
STREAMS: Final = 8

CODE_BITS: Final = 21
"""A code of source, feed or symbol has at most so many bits, so three fit in one key."""

INDEX: Final = 0x7FFF_FFFF
"""Mask that tells the compiler that an index is not negative, which saves it a test."""


class Table(NamedTuple):
    """Texts in one open-addressed table, whatever dictionary they are in; streams in another.

    ``texts`` holds one row (begin in ``arena``, length, dictionary, code,
    hash, first bytes) for each entry;
    a slot holds the index of an entry, or -1. The number of slots is a power of two.
    """

    slots: Any
    texts: Any
    arena: Any
    stream_slots: Any
    stream_keys: Any
    used: Any


def new_table(texts: int, arena_bytes: int) -> Table:
    """Make an empty table with room for ``texts`` entries; code 0 stands for no text."""
    used = np.zeros(9, np.int64)
    used[:DICTIONARIES] = 1
    slots = 1 << (2 * texts - 1).bit_length()
    return Table(
        np.full(slots, -1, np.int32),
        np.zeros((texts, 6), np.int64),
        np.zeros(arena_bytes, np.uint8),
        np.full(slots, -1, np.int32),
        np.zeros(texts, np.int64),
        used,
    )


@njit(cache=True, nogil=True)
def _first_bytes(buf: Any, begin: int, size: int) -> int:
    # Up to seven bytes as one positive number, without a branch: it reads seven and masks.
    begin &= INDEX
    word = (
        int(buf[begin])
        | (int(buf[begin + 1]) << 8)
        | (int(buf[begin + 2]) << 16)
        | (int(buf[begin + 3]) << 24)
        | (int(buf[begin + 4]) << 32)
        | (int(buf[begin + 5]) << 40)
        | (int(buf[begin + 6]) << 48)
    )
    return word & ((1 << (8 * min(size, 7))) - 1)


@njit(cache=True, nogil=True)
def _hash(word: int, buf: Any, begin: int, end: int, dictionary: int) -> int:
    # 32 bits. Products of 28 or 32 by 31 bits are folded at once, so nothing leaves int64.
    product = ((word & 0xFFF_FFFF) * 1_640_531_527) ^ ((word >> 28) * 1_540_483_477)
    mixed = (product ^ (product >> 29) ^ dictionary) & 0xFFFF_FFFF
    for i in range(begin + 7, end):
        product = (mixed ^ int(buf[i])) * 1_640_531_527
        mixed = (product ^ (product >> 31)) & 0xFFFF_FFFF
    return mixed


@njit(cache=True, nogil=True)
def intern_text(
    slots: Any,
    texts: Any,
    arena: Any,
    used: Any,
    dictionary: int,
    buf: Any,
    begin: int,
    end: int,
    add: bool,
) -> int:
    """Return the code of a text that is not empty, or -1 if it is new and not to be added.

    Seven bytes from ``begin`` on are read, however short the text.
    """
    size = end - begin
    word = _first_bytes(buf, begin, size)
    mixed = _hash(word, buf, begin, end, dictionary)
    mask = len(slots) - 1
    slot = mixed & mask
    while slots[slot] >= 0:
        entry = int(slots[slot]) & INDEX
        if texts[entry, 5] == word and texts[entry, 1] == size and texts[entry, 2] == dictionary:
            at = int(texts[entry, 0])
            same = 7
            while same < size and arena[at + same] == buf[begin + same]:
                same += 1
            if same >= size:
                return int(texts[entry, 3])
        slot = (slot + 1) & mask
    if not add:
        return -1
    entry = int(used[TEXTS])
    at = int(used[ARENA])
    code = int(used[dictionary])
    for i in range(size):
        arena[at + i] = buf[begin + i]
    texts[entry, 0] = at
    texts[entry, 1] = size
    texts[entry, 2] = dictionary
    texts[entry, 3] = code
    texts[entry, 4] = mixed
    texts[entry, 5] = word
    slots[slot] = entry
    used[TEXTS] = entry + 1
    used[ARENA] = at + size
    used[dictionary] = code + 1
    return code


@njit(cache=True, nogil=True)
def intern_stream(slots: Any, keys: Any, used: Any, source: int, feed: int, symbol: int) -> int:
    """Return the code of a stream, counted from 0; new ones are added."""
    key = (source << (2 * CODE_BITS)) | (feed << CODE_BITS) | symbol
    mask = len(slots) - 1
    slot = (symbol + (feed * 40_503 + source * 60_493)) & mask
    while slots[slot] >= 0:
        code = int(slots[slot])
        if keys[code] == key:
            return code
        slot = (slot + 1) & mask
    code = int(used[STREAMS])
    keys[code] = key
    slots[slot] = code
    used[STREAMS] = code + 1
    return code


def grown_table(table: Table, texts: int, arena_bytes: int) -> Table:
    """Copy a table into a larger one; every code stays what it was."""
    bigger = new_table(texts, arena_bytes)
    entries = int(table.used[TEXTS])
    streams = int(table.used[STREAMS])
    bigger.arena[: table.used[ARENA]] = table.arena[: table.used[ARENA]]
    bigger.texts[:entries] = table.texts[:entries]
    bigger.stream_keys[:streams] = table.stream_keys[:streams]
    bigger.used[:] = table.used
    refill_slots(bigger)
    return bigger


@njit(cache=True, nogil=True)
def refill_slots(table: Table) -> None:
    """Enter all entries of a table whose slots are empty."""
    mask = len(table.slots) - 1
    for entry in range(table.used[TEXTS]):
        slot = int(table.texts[entry, 4]) & mask
        while table.slots[slot] >= 0:
            slot = (slot + 1) & mask
        table.slots[slot] = entry
    low = (1 << CODE_BITS) - 1
    for code in range(table.used[STREAMS]):
        key = int(table.stream_keys[code])
        source = key >> (2 * CODE_BITS)
        feed = (key >> CODE_BITS) & low
        slot = ((key & low) + (feed * 40_503 + source * 60_493)) & mask
        while table.stream_slots[slot] >= 0:
            slot = (slot + 1) & mask
        table.stream_slots[slot] = code
