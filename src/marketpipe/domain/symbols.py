"""The one rule for names that come from outside: symbols, and names of sources and feeds."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

MAX_SYMBOL_CHARS: Final = 32

_NAMED: Final = 10

_PART = r"[A-Za-z0-9_:=^-][A-Za-z0-9._:=^-]*"
_SYMBOL = re.compile(rf"{_PART}(?:/{_PART})*")


def is_valid_symbol(text: str) -> bool:
    """Tell whether ``text`` may name an instrument, a source or a feed.

    Valid are 1 to 32 characters of ``A-Z a-z 0-9 . / _ : = ^ -``; no part between slashes is
    empty or starts with a dot, and two dots never follow each other. So a symbol can become
    part of a path or a query without leaving it.

    >>> is_valid_symbol("BTC/USD"), is_valid_symbol("BRK.B"), is_valid_symbol("^GSPC")
    (True, True, True)
    >>> is_valid_symbol("../../etc/passwd"), is_valid_symbol(""), is_valid_symbol("A//B")
    (False, False, False)
    """
    return len(text) <= MAX_SYMBOL_CHARS and ".." not in text and bool(_SYMBOL.fullmatch(text))


def near_first(known: Collection[str], asked: Collection[str]) -> str:
    """Name at most ten of the known symbols for a message, those like the asked ones first.

    >>> near_first({"AAPL", "MSFT", "BTC/USD"}, ["MSTF"])
    'MSFT, AAPL, BTC/USD'
    """
    near = [name for text in sorted(asked) for name in get_close_matches(text.upper(), known, 3)]
    order = list(dict.fromkeys([*near, *sorted(known)]))
    more = f" and {len(order) - _NAMED:,} more" if len(order) > _NAMED else ""
    return ", ".join(order[:_NAMED]) + more if order else "none"
