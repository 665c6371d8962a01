"""Rows in the order of the lake's files, found by integers.

The lake sorts what it is given, by all columns; of rows that are in order already that costs
next to nothing. Here the order is found from what a pipeline's rows are like: few symbols, one
day, mostly sorted.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.buckets import bucket_of
from marketpipe.domain.columns import i64_of
from marketpipe.domain.units import DAY_NS
from marketpipe.lake import TableSpec

_Codes = npt.NDArray[Any]
_NARROW: Final = 1 << 15
"""NumPy sorts integers of 16 bits in linear time."""


def lake_order(rows: pa.Table, spec: TableSpec, buckets: int) -> I64 | None:
    """Return the positions that sort rows by partition and ``spec.sort_by``; ties keep their order.

    None if they are sorted as they are.
    """
    keys = []
    for name in dict.fromkeys((*spec.partition_by, *spec.sort_by)):
        column = _key(rows, name, buckets)
        if len(column) and column.min() != column.max():
            keys.append(column)
    # What is ascending as given stays so in a stable sort.
    while keys and bool((keys[-1][1:] >= keys[-1][:-1]).all()):
        if len(keys) == 1:
            return None
        keys.pop()
    if not keys:
        return None
    if len(keys) == 1:
        return np.argsort(keys[0], kind="stable")
    return np.lexsort(keys[::-1])


def _key(rows: pa.Table, name: str, buckets: int) -> _Codes:
    """Return a column as integers that sort as its values do."""
    if name == "bucket":
        return _ranks(rows["symbol"], lambda symbol: bucket_of(symbol, buckets))
    if name == "received_date" and name not in rows.column_names:
        return i64_of(rows["ts_recv"]) // DAY_NS
    column = rows[name]
    if pa.types.is_string(column.type):
        return _ranks(column, str)
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    return np.asarray(column.combine_chunks() if column.num_chunks > 1 else column)


def _ranks(column: pa.ChunkedArray, value_of: Any) -> _Codes:
    coded = column.fill_null("").dictionary_encode().unify_dictionaries()
    words = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
    values = sorted({value_of(word) for word in words})
    rank = {value: place for place, value in enumerate(values)}
    kind = np.int16 if len(values) < _NARROW else np.int32
    place = np.array([rank[value_of(word)] for word in words], kind)
    if not len(place):
        return place
    numbers = np.concatenate([np.asarray(chunk.indices) for chunk in coded.chunks])
    ranks: _Codes = place[numbers]
    return ranks
