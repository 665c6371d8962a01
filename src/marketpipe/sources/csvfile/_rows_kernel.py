# mypy: disable-error-code="untyped-decorator,no-any-return"
# compiled functions take their arrays one by one: a tuple would be counted
"""Compiled loop over lines: bytes to columns, every line accounted for."""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from marketpipe.domain.units import NULL_I64
from marketpipe.sources.csvfile import _intern_kernel as intern
from marketpipe.sources.csvfile import _texts_kernel as rules
from marketpipe.sources.numbers import reasons
from marketpipe.sources.numbers._decimals_kernel import parse_decimal
from marketpipe.sources.numbers._times_kernel import parse_epoch, parse_instant

MAX_LINE_BYTES: Final = 1 << 16
"""A longer line, its end not counted, is quarantined as ``line_too_long``."""

SCRATCH_BYTES: Final = MAX_LINE_BYTES + 8
"""Space at the end of the buffer for an unquoted line, which may be read 7 bytes past its end."""

# What a column holds: the first number of its row in the layout, before its place in the
# outputs and its dictionary.
TAKE_DECIMAL: Final = 0
TAKE_DECIMAL_OR_NULL: Final = 1
TAKE_EPOCH: Final = 2
TAKE_EPOCH_OR_NULL: Final = 3
TAKE_INSTANT: Final = 4
LAST_NUMBER: Final = 4
TAKE_SYMBOL: Final = 5
TAKE_TEXT: Final = 6
TAKE_NAME: Final = 7
TAKE_ID: Final = 8
TAKE_SIDE: Final = 9

# Why the loop came back.
NEED_BYTES: Final = 0
ROWS_FULL: Final = 1
BAD_FULL: Final = 2
TABLE_FULL: Final = 3

# Rows of the outputs that every file has.
ROW: Final = 0
TS_EVENT: Final = 1
FIRST_VALUE: Final = 2
SECOND_VALUE: Final = 3

# Places in `Work.state`.
AT: Final = 0
LINE: Final = 1
ROWS: Final = 2
BAD: Final = 3
FILTERED: Final = 4
BLANK: Final = 5
ID_BYTES: Final = 6
MARK: Final = 7
MARKS: Final = 8
WIDE: Final = 9
STATES: Final = 10

ID_SIZE_BITS: Final = 17


class Work(NamedTuple):
    """Where the loop reads and writes.

    ``layout`` is one row (what, place in the outputs, dictionary or nanoseconds per unit) for
    each column; ``numbers`` and ``codes`` are one row per output column; ``bad`` one row (line,
    reason, column, begin, end) per bad line. A text trade id waits in ``id_bytes``, with
    ``id_hi`` 1 and ``id_lo = begin << ID_SIZE_BITS | length``. ``marks`` are the places of
    commas, quotes and line feeds; ``spans`` the begin and end of each field of a line.
    """

    layout: Any
    header: Any
    numbers: Any
    codes: Any
    side: Any
    bad: Any
    id_bytes: Any
    marks: Any
    spans: Any
    state: Any


# 1: comma, quote, line feed; 2: not ASCII.
_KINDS = np.zeros(256, np.uint8)
_KINDS[[10, 34, 44]] = 1
_KINDS[128:] = 2


@njit(cache=True, nogil=True)
def index_block(buf: Any, end: int, marks: Any, state: Any) -> None:
    """Note where the commas, quotes and line feeds from ``state[AT]`` to ``end`` are.

    ``state[WIDE]`` becomes 1 if a byte is not ASCII, else 0. No branch depends on the bytes,
    and the indexes are unsigned, which saves the compiled code the test for negative ones.
    """
    count = np.uint64(0)
    seen = np.uint64(0)
    for i in range(np.uint64(state[AT]), np.uint64(end)):
        kind = np.uint64(_KINDS[buf[i]])
        marks[count] = i
        count += kind & np.uint64(1)
        seen |= kind
    state[MARK] = 0
    state[MARKS] = np.int64(count)
    state[WIDE] = np.int64(seen >> np.uint64(1))


@njit(cache=True, nogil=True)
def _unquote(buf: Any, begin: int, end: int, columns: int, spans: Any) -> int:
    # Splits a line that holds quotes, copying its fields, without them, to the scratch space
    # of the buffer; -1 is a bad quote.
    at = len(buf) - SCRATCH_BYTES
    count = 0
    i = begin
    while True:
        start = at
        if i < end and buf[i] == 34:
            i += 1
            closed = False
            while i < end:
                if buf[i] == 34:
                    i += 1
                    if i == end or buf[i] != 34:
                        closed = True
                        break
                buf[at] = buf[i]
                at += 1
                i += 1
            if not closed or (i < end and buf[i] != 44):
                return -1
        else:
            while i < end and buf[i] != 44:
                if buf[i] == 34:
                    return -1
                buf[at] = buf[i]
                at += 1
                i += 1
        if count < columns:
            spans[count, 0] = start
            spans[count, 1] = at
        count += 1
        if i >= end:
            return count
        i += 1


@njit(cache=True, nogil=True)
def _is_header(buf: Any, begin: int, end: int, header: Any) -> bool:
    if end - begin != len(header):
        return False
    for i in range(len(header)):  # noqa: SIM110  # Numba compiles the loop, not all()
        if buf[begin + i] != header[i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _take_id(
    buf: Any, begin: int, end: int, numbers: Any, place: int, n: int, id_bytes: Any, state: Any
) -> None:
    numbers[place, n] = -1
    numbers[place + 1, n] = 0
    if begin == end:
        return
    value = rules.parse_trade_number(buf, begin, end)
    if value >= 0:
        numbers[place, n] = 0
        numbers[place + 1, n] = value
        return
    at = int(state[ID_BYTES])
    for i in range(end - begin):
        id_bytes[at + i] = buf[begin + i]
    numbers[place, n] = 1
    numbers[place + 1, n] = (at << ID_SIZE_BITS) | (end - begin)
    state[ID_BYTES] = at + end - begin


@njit(cache=True, nogil=True)
def _take_number(what: int, buf: Any, begin: int, end: int, unit_ns: int) -> tuple[int, int]:
    if begin == end:
        if what in (TAKE_DECIMAL_OR_NULL, TAKE_EPOCH_OR_NULL):
            return reasons.OK, NULL_I64
        return reasons.MISSING_VALUE, 0
    if what in (TAKE_DECIMAL, TAKE_DECIMAL_OR_NULL):
        return parse_decimal(buf, begin, end)
    if what == TAKE_INSTANT:
        return parse_instant(buf, begin, end)
    return parse_epoch(buf, begin, end, unit_ns)


@njit(cache=True, nogil=True)
def parse_rows(
    buf: Any, work: Work, table: intern.Table, default: Any, of_note: Any, keep_all: bool
) -> int:
    """Parse the lines that end before the last mark, or until an output is full; say which.

    ``default``: codes of source and feed. ``of_note``: the columns of the symbol, and of the
    bid (-1 for trades). ``keep_all``: take any symbol, rather than those in the table.
    """
    layout, header, numbers, codes, side, bads, id_bytes, marks, spans, state = work
    slots, texts, arena, stream_slots, stream_keys, used = table
    columns = len(layout)
    symbol_column = int(of_note[0])
    bid_column = int(of_note[1])
    n = int(state[ROWS])
    bad = 0
    pos = int(state[AT])
    mark = int(state[MARK])
    line = int(state[LINE])
    last_mark = int(state[MARKS])
    stop = NEED_BYTES
    while True:
        if n == numbers.shape[1]:
            stop = ROWS_FULL
            break
        if bad == len(bads):
            stop = BAD_FULL
            break
        if (
            used[intern.TEXTS] + columns > len(texts)
            or used[intern.STREAMS] == len(stream_keys)
            or used[intern.ARENA] + MAX_LINE_BYTES > len(arena)
        ):
            stop = TABLE_FULL
            break
        count = 0
        quoted = False
        spans[0, 0] = pos
        i = -1
        j = mark
        while j < last_mark:
            i = int(marks[j])
            j += 1
            c = int(buf[i])
            if c == 44:
                if count + 1 < columns:
                    spans[count, 1] = i
                    spans[count + 1, 0] = i + 1
                count += 1
            elif c == 10:
                break
            else:
                quoted = True
            i = -1
        if i < 0:
            break
        begin = pos
        end = i - 1 if i > begin and buf[i - 1] == 13 else i
        pos = i + 1
        mark = j
        line += 1
        if end == begin:
            state[BLANK] += 1
            continue
        column = -1
        reason = reasons.OK
        count += 1
        spans[columns - 1, 1] = end
        if end - begin > MAX_LINE_BYTES:
            reason = reasons.LINE_TOO_LONG
        elif state[WIDE] != 0 and not rules.is_utf8(buf, begin, end):
            reason = reasons.BAD_UTF8
        else:
            if quoted:
                count = _unquote(buf, begin, end, columns, spans)
            if count < 0:
                reason = reasons.BAD_QUOTE
            elif count != columns:
                reason = reasons.BAD_FIELD_COUNT
        symbol = -1
        if reason == reasons.OK:
            column = symbol_column
            first = int(spans[column, 0])
            last = int(spans[column, 1])
            if first == last:
                reason = reasons.MISSING_VALUE
            else:
                symbol = intern.intern_text(
                    slots, texts, arena, used, intern.SYMBOL, buf, first, last, False
                )
            if symbol < 0 and reason == reasons.OK:
                if not rules.is_name(buf, first, last):
                    reason = reasons.BAD_SYMBOL
                elif keep_all:
                    symbol = intern.intern_text(
                        slots, texts, arena, used, intern.SYMBOL, buf, first, last, True
                    )
                elif not _is_header(buf, begin, end, header):
                    state[FILTERED] += 1
                    continue
        source = int(default[0])
        feed = int(default[1])
        if symbol >= 0:
            for k in range(columns):
                column = k
                what = int(layout[k, 0])
                place = int(layout[k, 1])
                extra = int(layout[k, 2])
                first = int(spans[k, 0])
                last = int(spans[k, 1])
                value = 0
                if what <= LAST_NUMBER:
                    reason, value = _take_number(what, buf, first, last, extra)
                    numbers[place, n] = value
                elif what == TAKE_ID:
                    _take_id(buf, first, last, numbers, place, n, id_bytes, state)
                elif what == TAKE_SIDE:
                    value = rules.parse_side(buf, first, last)
                    reason = reasons.OK if value >= 0 else reasons.BAD_SIDE
                    side[n] = value
                elif what != TAKE_SYMBOL:
                    if what == TAKE_NAME and first != last and not rules.is_name(buf, first, last):
                        reason = reasons.BAD_NAME
                        break
                    if first != last:
                        value = intern.intern_text(
                            slots, texts, arena, used, extra, buf, first, last, True
                        )
                    if what == TAKE_TEXT:
                        codes[place, n] = value
                    elif value > 0 and extra == intern.SOURCE:
                        source = value
                    elif value > 0:
                        feed = value
                if reason != reasons.OK:
                    break
            if (
                bid_column >= 0
                and reason == reasons.OK
                and numbers[FIRST_VALUE, n] == NULL_I64
                and numbers[SECOND_VALUE, n] == NULL_I64
            ):
                reason = reasons.MISSING_VALUE
                column = bid_column
            if reason == reasons.OK:
                codes[0, n] = intern.intern_stream(
                    stream_slots, stream_keys, used, source, feed, symbol
                )
                numbers[ROW, n] = line
                n += 1
                continue
        if _is_header(buf, begin, end, header):
            reason = reasons.REPEATED_HEADER
            column = -1
        bads[bad, 0] = line
        bads[bad, 1] = reason
        bads[bad, 2] = column
        bads[bad, 3] = begin
        bads[bad, 4] = end
        bad += 1
    state[AT] = pos
    state[MARK] = mark
    state[LINE] = line
    state[ROWS] = n
    state[BAD] = bad
    return stop
