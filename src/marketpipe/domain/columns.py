"""Between columns of integers and Arrow's decimals and texts, without a copy where there can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import PRICE
from marketpipe.domain.units import NULL_I64


def decimals(nanos: I64, kind: pa.Decimal128Type = PRICE) -> pa.Array:
    """Turn int64 nanos into decimals of nine places; NULL_I64 becomes null."""
    wide = np.empty((len(nanos), 2), np.int64)
    wide[:, 0] = nanos
    wide[:, 1] = nanos >> 63
    absent = nanos == NULL_I64
    mask = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
    return pa.Decimal128Array.from_buffers(kind, len(nanos), [mask, pa.py_buffer(wide)])


def nanos_of(column: Any) -> I64:
    """Turn a column of DECIMAL(18,9) into int64 nanos; null becomes NULL_I64."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], PRICE)
    start = array.offset
    wide = np.frombuffer(array.buffers()[1], np.int64, (start + len(array)) * 2)
    low: I64 = wide[::2][start:]
    if not array.null_count:
        return low
    return np.where(np.asarray(array.is_null()), NULL_I64, low)


def texts(codes: npt.NDArray[Any] | None, names: Sequence[str], count: int) -> pa.Array:
    """Turn codes into their names; without codes, ``count`` times the empty text."""
    if codes is None:
        return pa.repeat(pa.scalar("", pa.string()), count)
    dictionary = pa.array(names, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes), dictionary).cast(pa.string())


def i64_of(column: Any) -> I64:
    """Return an integer column as int64; null becomes NULL_I64."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        array = array.fill_null(NULL_I64)
    return np.asarray(array, np.int64)
