"""Arrow columns of text to codes, sides and trade ids; each distinct text is judged once."""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I8, I32, I64, MAX_TEXTS
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.tradeids import text_trade_id
from marketpipe.errors import InputError

# Codes that are no place in a dictionary.
BAD_UTF8: Final = -1
BAD_TEXT: Final = -2
FILTERED: Final = -3

Ids: TypeAlias = tuple[I64, I64]

_SIDES: Final = {"": 0, "n": 0, "b": 1, "buy": 1, "s": 2, "sell": 2}
# What surely fits int64; longer digits are looked at one by one.
_NUMBER = "^(0|[1-9][0-9]{0,17})$"


class TextCodes:
    """A dictionary that grows by appending; code 0 is for empty and absent texts.

    Parameters
    ----------
    names_only : other texts than valid names are `BAD_TEXT`
    wanted : other texts than these are `FILTERED`
    absent : what an empty or absent text stands for; it has code 0 too
    """

    def __init__(
        self,
        column: str,
        *,
        names_only: bool = False,
        wanted: frozenset[str] | None = None,
        absent: str = "",
    ) -> None:
        self._column = column
        self._names_only = names_only
        self._wanted = wanted
        self._codes: dict[bytes, int] = {b"": 0, absent.encode(): 0}
        self.texts: list[str] = [absent]

    def read(self, column: Any) -> I32:
        """Return a code, or a negative judgement, for each row."""
        indices, texts = distinct(column)
        found = np.zeros(len(texts) + 1, np.int32)
        for k, text in enumerate(texts):
            if text is not None:
                found[k] = self.code(text)
        return found[indices]

    def code(self, text: bytes) -> int:
        """Return the code of a text, appending it if it is new and fit."""
        code = self._codes.get(text)
        if code is not None:
            return code
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError:
            return BAD_UTF8
        if self._names_only and not is_valid_symbol(decoded):
            return BAD_TEXT
        if self._wanted is not None and decoded not in self._wanted:
            return FILTERED
        if len(self.texts) > MAX_TEXTS:
            raise InputError(
                f"column {self._column}: more than {MAX_TEXTS:,} distinct texts. Is it a column "
                "of ids under another name?"
            )
        self.texts.append(decoded)
        self._codes[text] = len(self.texts) - 1
        return len(self.texts) - 1


def without_views(column: Any) -> Any:
    """Return the column with views of text made plain, since Arrow can do little with views."""
    kind = column.type
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        values = column.dictionary.cast(pa.large_string())
        # Indices are judged where they are used, whoever made them.
        return pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
    return column


def distinct(column: Any) -> tuple[npt.NDArray[np.int64], list[bytes | None]]:
    """Return an index for each row, and the texts it points to, None for those not used.

    The index of an absent text is the number of texts.
    """
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column.cast(pa.large_binary(), safe=False))
    values = column.dictionary.cast(pa.large_binary(), safe=False)
    indices = pc.fill_null(column.indices.cast(pa.int64()), len(values)).to_numpy()
    # Arrow takes the indices of a damaged file as they are.
    if len(indices) and (indices.min() < 0 or indices.max() > len(values)):
        raise pa.ArrowInvalid("an index points past the end of its dictionary")
    used = np.bincount(indices, minlength=len(values)) > 0
    return indices, [value if used[k] else None for k, value in enumerate(values.to_pylist())]


def read_sides(column: Any) -> I8:
    """Return 0 unknown, 1 buy, 2 sell, or -1 for what is none of these."""
    indices, texts = distinct(column)
    found = np.zeros(len(texts) + 1, np.int8)
    for k, text in enumerate(texts):
        plain = (text or b"").decode("ascii", "replace").lower()
        found[k] = _SIDES.get(plain, -1)
    return found[indices]


def read_ids(column: Any) -> Ids:
    """Return (id_hi, id_lo) of trade ids, as `marketpipe.domain.batches.TradeBatch` has them."""
    high = np.full(len(column), -1, np.int64)
    low = np.zeros(len(column), np.int64)
    if pa.types.is_integer(column.type):
        # Negative ones, and those past int64, are texts.
        column = column.cast(pa.string())
    elif pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = column.cast(pa.large_binary(), safe=False)
    numeric = np.asarray(
        pc.fill_null(pc.match_substring_regex(column, _NUMBER), False).to_numpy(
            zero_copy_only=False
        ),
        np.bool_,
    )
    numbers = column.filter(pa.array(numeric)).cast(pa.large_string()).cast(pa.int64())
    high[numeric] = 0
    low[numeric] = numbers.to_numpy(zero_copy_only=False)
    for k in np.flatnonzero(~numeric).tolist():
        text = column[k].as_py()
        if not text:
            continue
        if _fits_int64(text):
            high[k], low[k] = 0, int(text)
        else:
            high[k], low[k] = text_trade_id(text)
    return high, low


def _fits_int64(text: bytes) -> bool:
    return len(text) == 19 and text.isdigit() and text[:1] != b"0" and int(text) < 2**63
