"""Which rows of a bars table count, and in which total order they stand.

A row is *priced* when it has an open and its coverage is not ``void``. Forming bars never
count. The order is: source, feed, price_type, rule_set, session, symbol (each by code point),
timeframe by its duration, ts_open, revision, state.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.schemas import BARS, STATES
from marketpipe.errors import InputError, TimeframeError

I64: TypeAlias = npt.NDArray[np.int64]

GROUP: Final = ("source", "feed", "price_type", "rule_set", "session", "symbol", "timeframe")
"""The columns that, with ts_open, are a bar's identity; in sorting order."""

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_TIMEFRAME: Final = re.compile(r"([1-9][0-9]{0,8})([smhdw])")


def timeframe_seconds(timeframe: str) -> int:
    """Return the nominal length of a timeframe in seconds.

    >>> timeframe_seconds("15m")
    900

    Raises
    ------
    TimeframeError
        If it is not ``<n><s|m|h|d|w>`` with n > 0.
    """
    found = _TIMEFRAME.fullmatch(timeframe)
    if found is None:
        raise TimeframeError(
            f"timeframe was {timeframe!r}; valid is a number and one of s, m, h, d, w, such as 15m"
        )
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def canonical_timeframe(timeframe: str) -> str:
    """Return the one spelling of a timeframe: 60s is 1m, 60m is 1h, 7d is 1w; 24h stays.

    >>> canonical_timeframe("120m"), canonical_timeframe("90m"), canonical_timeframe("14d")
    ('2h', '90m', '2w')

    Raises
    ------
    TimeframeError
        If it is not ``<n><s|m|h|d|w>`` with n > 0.
    """
    timeframe_seconds(timeframe)
    n, unit = int(timeframe[:-1]), timeframe[-1]
    for finer, factor, coarser in (("s", 60, "m"), ("m", 60, "h"), ("d", 7, "w")):
        if unit == finer and n % factor == 0:
            n, unit = n // factor, coarser
    return f"{n}{unit}"


class Selection(NamedTuple):
    """Rows of a table in the total order.

    Attributes
    ----------
    table : conforms to the bars schema, one chunk
    rows : int64 row numbers of ``table``, those that count, in order
    group : int64 per element of ``rows``; equal where all columns of `GROUP` are
    """

    table: pa.Table
    rows: I64
    group: I64

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the table were chosen and stood in order already."""
        return np.array_equal(self.rows, np.arange(len(self.table), dtype=np.int64))

    def take(self) -> pa.Table:
        """Return the selected rows as a table, in order, in one chunk."""
        if self.is_whole:
            return self.table
        return self.table.take(self.rows).combine_chunks()


def select(bars: pa.Table, *, history: bool = False, up_to_ns: int | None = None) -> Selection:
    """Choose the rows of ``bars`` that count, and put them in the total order.

    Parameters
    ----------
    bars : table with the columns of ``domain.schemas.BARS``, in any row order and chunking
    history : False: the latest revision of each bar, if that is priced. True: every revision
        that is priced or void
    up_to_ns : keep only bars with ``ts_close <= up_to_ns``; None keeps all

    Raises
    ------
    InputError
        If a column is missing or of another type, or one revision of a bar is there twice.
    """
    table = conform(bars).combine_chunks()
    keep = _mask(pc.not_equal(table["state"], "forming"))
    if up_to_ns is not None:
        keep &= column_i64(table, "ts_close") <= up_to_ns
    keys = (
        group_codes(table),
        column_i64(table, "ts_open"),
        column_i64(table, "revision"),
        ranks(table["state"], STATES.index),
    )
    rows = np.flatnonzero(keep).astype(np.int64)
    group, ts_open, revision, state = keys if keep.all() else tuple(key[rows] for key in keys)
    order = _order(group, ts_open, revision, state)
    if order is not None:
        rows = rows[order]
        group, ts_open, revision, state = (key[order] for key in (group, ts_open, revision, state))
    same_bar = (group[1:] == group[:-1]) & (ts_open[1:] == ts_open[:-1])
    same_row = same_bar & (revision[1:] == revision[:-1]) & (state[1:] == state[:-1])
    if same_row.any():
        _refuse_double(table, int(rows[same_row.argmax()]))
    void = _mask(pc.equal(table["coverage"], "void"))
    priced = _mask(pc.is_valid(table["open"])) & ~void
    counted = (priced | void if history else priced)[rows]
    if not history:
        counted[:-1] &= ~same_bar
    return Selection(table, rows[counted], group[counted])


def conform(bars: pa.Table) -> pa.Table:
    """Return ``bars`` with exactly the columns and types of the schema, metadata included."""
    missing = [name for name in BARS.names if name not in bars.column_names]
    if missing:
        raise InputError(
            f"bars table lacks {', '.join(missing)}; it needs every column of the bars schema, "
            f"version {BARS.metadata[b'marketpipe.version'].decode()}"
        )
    table = bars.select(BARS.names)
    if table.schema.equals(BARS, check_metadata=True):
        return table
    try:
        return table.cast(BARS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise InputError(f"bars table does not fit the bars schema: {error}") from error


def ranks(column: pa.ChunkedArray, key: Callable[[str], Any]) -> I64:
    """Return, per row, the place of its text among the column's texts sorted by ``key``."""
    coded = column.combine_chunks().dictionary_encode()
    words = coded.dictionary.to_pylist()
    try:
        place = {word: at for at, word in enumerate(sorted(words, key=key))}
    except ValueError as error:
        raise InputError(f"bars table: state {error}; valid are {', '.join(STATES)}") from error
    lookup = np.array([place[word] for word in words], dtype=np.int64)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return lookup[codes] if len(words) else np.zeros(0, dtype=np.int64)


def group_codes(table: pa.Table) -> I64:
    """Return one number per row that orders the columns of `GROUP` and tells them apart."""
    group = np.zeros(len(table), dtype=np.int64)
    span = 1
    for name in GROUP:
        place = ranks(table[name], _by_duration if name == "timeframe" else str)
        base = int(place.max(initial=0)) + 1
        span *= base
        if span >= 2**62:
            group = np.unique(group, return_inverse=True)[1].astype(np.int64)
            span = (int(group.max(initial=0)) + 1) * base
        group = group * base + place
    return group


def column_i64(table: pa.Table, name: str) -> I64:
    """Return a column of integers without nulls as int64."""
    column = table[name].combine_chunks()
    if column.null_count:
        raise InputError(f"bars table: {name} is null in {column.null_count} rows; it may not be")
    values: I64 = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def _by_duration(timeframe: str) -> tuple[int, str]:
    return timeframe_seconds(timeframe), timeframe


def _mask(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = column.combine_chunks().to_numpy(zero_copy_only=False)
    return mask.astype(np.bool_)


def _order(*keys: I64) -> I64 | None:
    """Return the sorting permutation of keys given major first, or None if none is needed."""
    tied = np.ones(max(len(keys[0]) - 1, 0), dtype=np.bool_)
    for key in keys:
        if (tied & (key[1:] < key[:-1])).any():
            # keys that are the same everywhere, as revisions mostly are, cost time for nothing
            varied = [k for k in keys if k.min() != k.max()]
            return np.lexsort(varied[::-1]).astype(np.int64)
        tied &= key[1:] == key[:-1]
    return None


def _refuse_double(table: pa.Table, at: int) -> None:
    row = table.slice(at, 1).to_pylist()[0]
    raise InputError(
        f"bars table holds {row['symbol']} {row['timeframe']} ts_open {row['ts_open']} revision "
        f"{row['revision']} more than once; each revision of a bar may be there once"
    )
