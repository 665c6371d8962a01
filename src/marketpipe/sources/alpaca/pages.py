"""A page of Alpaca's history as journal records: its elements, byte for byte.

A page is an object; one of its members maps each symbol to a list of elements
(``{"trades":{"AAPL":[{...},{...}]},"next_page_token":null}``), or in answers about what is latest
to one element. Each element becomes a message; the symbol, which it does not name itself, goes to
the record's column. All other bytes are the frame's envelope, so nothing is lost.
"""

import re
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from marketpipe.domain.records import HISTORY
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.sources.alpaca.values import DECODE_ERRORS
from marketpipe.sources.framing import (
    MAX_MESSAGES,
    WHOLE,
    Split,
    envelope_of,
    json_gaps,
    split,
)
from marketpipe.sources.records import RecordBuilder

PageKind: TypeAlias = Literal["trades", "quotes", "bars"]

_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_COMMA = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_NAME = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_CLOSE = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")
_NOTHING = re.compile(rb"null|\[[ \t\r\n]*\]")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Place(NamedTuple):
    """Where the value of a member of an object is: ``[begin, end)`` of its text."""

    name: str
    begin: int
    end: int


def stream_of(kind: PageKind) -> str:
    """Return the ``stream`` of records of pages of a kind; ``bars`` are minute bars there."""
    return HISTORY + kind


def add_page(builder: RecordBuilder, body: bytes, ts_recv_ns: int) -> int:
    """Add the elements of a page as the messages of a frame; return how many records that made.

    ``builder`` is one whose stream is `stream_of` the page's kind. A page without elements, and
    what cannot be split, is one record: the whole page. Never raises.
    """
    cut, symbols = split_page(body, builder.stream.removeprefix(HISTORY))
    return builder.add_split(cut, symbols, len(body), ts_recv_ns)


def split_page(body: bytes, kind: str) -> tuple[Split, list[str]]:
    """Cut a page into its elements, with the symbol of each ("" if it is no valid one)."""
    found = _cut(body, kind)
    if found is None or not 0 < len(found[0].payloads) <= MAX_MESSAGES:
        return Split([body], WHOLE), [""]
    return found


def is_empty_page(body: bytes, kind: str) -> bool:
    """Tell whether a page is well formed and has no element."""
    found = _cut(body, kind)
    return found is not None and not found[0].payloads


def _cut(body: bytes, kind: str) -> tuple[Split, list[str]] | None:
    """Cut a page, also one without elements; None where it is not what a page is."""
    try:
        by_symbol = next(place for place in _places(body) if place.name == kind)
        text = body[by_symbol.begin : by_symbol.end]
        places = [] if _NOTHING.fullmatch(text) else _places(text)
        payloads: list[bytes | msgspec.Raw] = []
        symbols: list[str] = []
        gaps: list[bytes] = []
        gap, at = body[: by_symbol.begin], 0
        for name, begin, end in places:
            cut, value = split(text[begin:end]), text[begin:end]
            gap, at = gap + text[at:begin], end
            if not cut.is_whole:
                first, *between, last = json_gaps(cut)
                gaps += [gap + first, *between]
                gap = last
            elif value.startswith(b"{"):
                gaps.append(gap)
                gap = b""
            elif _NOTHING.fullmatch(value):
                gap += value
                continue
            else:
                return None
            payloads += cut.payloads
            symbols += [name if is_valid_symbol(name) else ""] * len(cut.payloads)
    except (*DECODE_ERRORS, _UnlikeError, StopIteration):
        return None
    gaps.append(gap + text[at:] + body[by_symbol.end :])
    return Split(payloads, envelope_of(gaps)), symbols


class _UnlikeError(Exception):
    """An object whose members are not each there once, one after the other."""


def _places(text: bytes) -> list[Place]:
    """Find the members of an object; a name that is there twice would hide a value, and raises."""
    members = _members(text)
    at = _end(_OPEN, text, 0)
    found: list[Place] = []
    for name, value in members.items():
        begin = _end(_NAME, text, _end(_COMMA, text, at) if found else at)
        at = begin + len(value)
        found.append(Place(name, begin, at))
        if text[begin:at] != bytes(value):
            raise _UnlikeError
    if _end(_CLOSE, text, at) != len(text):
        raise _UnlikeError
    return found


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise _UnlikeError
    return match.end()
