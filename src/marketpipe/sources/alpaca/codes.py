"""Small codes for texts and streams: dictionaries that only grow."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from marketpipe.domain.batches import I32, MAX_TEXTS, StreamKey
from marketpipe.domain.symbols import is_valid_symbol

NO_CODE = -1
"""Code of what is no text, or of one text too many."""


class TextCodes(dict[Any, int]):
    """Codes of texts; "" and None are 0.

    Parameters
    ----------
    read : makes the text of a key; None if it is none. Different keys may be the same text.
    """

    def __init__(self, read: Callable[[Any], str | None] = str) -> None:
        super().__init__({"": 0, b"": 0, None: 0})
        self._read = read
        self._codes = {"": 0}
        self._texts: tuple[str, ...] = ("",)

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts so far, each at its code."""
        if len(self._texts) != len(self._codes):
            self._texts = tuple(self._codes)
        return self._texts

    def __missing__(self, key: Any) -> int:
        text = self._read(key)
        if text is None or (text not in self._codes and len(self._codes) >= MAX_TEXTS):
            return NO_CODE
        code = self._codes.setdefault(text, len(self._codes))
        if len(self) < MAX_TEXTS:
            self[key] = code
        return code


class Streams:
    """Codes of (source, feed, symbol), counted from 0.

    Parameters
    ----------
    known : streams that have their codes already, in order
    """

    def __init__(self, known: tuple[StreamKey, ...]) -> None:
        self._keys = list(known)
        self._latest = known
        self._feeds: dict[tuple[str, str], _Symbols] = {}
        for code, key in enumerate(known):
            self.of(key.source, key.feed)[key.symbol] = code

    @property
    def keys(self) -> tuple[StreamKey, ...]:
        """All streams so far, each at its code."""
        if len(self._latest) != len(self._keys):
            self._latest = tuple(self._keys)
        return self._latest

    def of(self, source: str, feed: str) -> dict[str, int]:
        """Return the codes of one feed's symbols; a look-up adds what is new and valid."""
        symbols = self._feeds.get((source, feed))
        if symbols is None:
            symbols = self._feeds[source, feed] = _Symbols(source, feed, self._keys)
        return symbols


class _Symbols(dict[str, int]):
    def __init__(self, source: str, feed: str, keys: list[StreamKey]) -> None:
        super().__init__()
        self._source, self._feed, self._keys = source, feed, keys

    def __missing__(self, symbol: str) -> int:
        if not is_valid_symbol(symbol) or len(self._keys) >= MAX_TEXTS:
            return NO_CODE
        code = self[symbol] = len(self._keys)
        self._keys.append(StreamKey(self._source, self._feed, symbol))
        return code


def int32s(codes: Iterable[int], count: int) -> I32:
    """Make a column of codes."""
    return np.fromiter(codes, np.int32, count)
