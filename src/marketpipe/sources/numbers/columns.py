"""Columns of texts to columns of integers, each with the reasons of those that are none."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I8, I64
from marketpipe.sources.numbers import _columns_kernel as kernel

Texts: TypeAlias = Sequence[Any]
"""Bytes-like texts that know their length, such as ``bytes`` and ``msgspec.Raw``."""


def decimals(texts: Texts) -> tuple[I64, I8]:
    """Read ``[+-]digits[.digits][e[+-]digits]`` as nanos; nothing and ``null`` are missing values.

    Returns
    -------
    int64 nanos (0 where there is a reason), int8 codes of `marketpipe.sources.numbers.reasons`
    """
    buf, ends, values, reasons = _laid_out(texts)
    kernel.parse_decimals(buf, ends, values, reasons)
    return values, reasons


def instants(texts: Texts) -> tuple[I64, I8]:
    """Read RFC 3339 texts, each in double quotes, as ns since the epoch; see `decimals`."""
    buf, ends, values, reasons = _laid_out(texts)
    kernel.parse_instants(buf, ends, values, reasons)
    return values, reasons


def _laid_out(texts: Texts) -> tuple[npt.NDArray[np.uint8], I64, I64, I8]:
    count = len(texts)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, count))
    buf = np.frombuffer(b"".join(texts) or b"\0", np.uint8)
    return buf, ends, np.empty(count, np.int64), np.empty(count, np.int8)
