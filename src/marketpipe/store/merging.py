"""One answer from the answers of several tiers to one query."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.schemas import BARS
from marketpipe.store.query import SERIES, BarQuery

Mask: TypeAlias = npt.NDArray[np.bool_]

_NAMES: Final = ("symbol", "source", "feed", "price_type", "rule_set", "session", "timeframe")


def merged(parts: Sequence[pa.Table], query: BarQuery, limit: int | None) -> pa.Table:
    """Return the rows that answer ``query``, each revision once, in its order.

    Parameters
    ----------
    parts : answers to the query with void bars and at most ``limit`` rows; together they hold
        every row asked for, up to where the shortest of those that were cut ends

    The answer holds rows up to there only, so it may be shorter than the query's limit.
    """
    rows = pa.concat_tables(_up_to_cut(parts, query, limit)).combine_chunks()
    rows = _sorted(rows, [(name, "ascending") for name in (*_NAMES, "ts_open", "revision")])
    same_bar = _same_as_next(rows, (*SERIES, "ts_open"))
    same_row = same_bar & _same_as_next(rows, ("revision",))
    keep = ~(same_row if query.history else same_bar)
    if not (query.history or query.voids):
        keep &= pc.not_equal(rows["coverage"], "void").to_numpy()
    rows = in_order(rows.filter(pa.array(keep)), query)
    return rows if query.limit is None else rows.slice(0, query.limit)


def in_order(rows: pa.Table, query: BarQuery) -> pa.Table:
    """Sort bars as a query says."""
    first = "descending" if query.newest_first else "ascending"
    others = [(name, "ascending") for name in (*_NAMES, "revision")]
    return _sorted(rows, [("ts_open", first), *others])


def is_cut(part: pa.Table, limit: int | None) -> bool:
    """Whether an answer of at most ``limit`` rows may have more behind it."""
    return limit is not None and len(part) >= limit


def _up_to_cut(parts: Sequence[pa.Table], query: BarQuery, limit: int | None) -> list[pa.Table]:
    """Drop rows at and behind the instant at which any part was cut: others may lack there."""
    ends = [part["ts_open"][-1].as_py() for part in parts if is_cut(part, limit)]
    if not ends:
        return list(parts)
    if query.newest_first:
        return [part.filter(pc.greater(part["ts_open"], max(ends))) for part in parts]
    return [part.filter(pc.less(part["ts_open"], min(ends))) for part in parts]


def _sorted(rows: pa.Table, keys: list[tuple[str, str]]) -> pa.Table:
    return rows.take(pc.sort_indices(rows, sort_keys=keys)).cast(BARS)


def _same_as_next(rows: pa.Table, names: Sequence[str]) -> Mask:
    same = np.ones(len(rows), dtype=np.bool_)
    same[-1:] = False
    for name in names:
        column = rows[name].combine_chunks()
        same[:-1] &= pc.equal(column[:-1], column[1:]).to_numpy(zero_copy_only=False)
    return same
