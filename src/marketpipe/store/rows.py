"""Tables of bars to rows of the database and back, by columns.

The database holds prices as integers of nano-units and the two wide sums as exact decimals; the
Arrow side holds decimals. Nothing is rounded and no float is made.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.schemas import BARS, PRICE
from marketpipe.errors import InputError
from marketpipe.store.query import SERIES, Series
from marketpipe.store.schema import CONTENT

I64: TypeAlias = npt.NDArray[np.int64]
Row: TypeAlias = tuple[Any, ...]

OUTBOX: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("prev_seq", pa.int64(), nullable=False),
        *BARS,
    ],
    metadata=BARS.metadata,
)
"""Bars with their place in the outbox; ``prev_seq`` is that of the bar before in the series."""

_OWN: Final = CONTENT[1:]
"""The columns of the database that a bar has beside its series."""


class Prepared(NamedTuple):
    """Bars on their way into the database.

    Attributes
    ----------
    series : the distinct series, in order of their first bar
    place : int64 per bar, which of ``series`` it belongs to
    columns : the bars' other columns as Python values, in the order of the database
    """

    series: tuple[Series, ...]
    place: I64
    columns: tuple[list[Any], ...]

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return one tuple of `CONTENT` per bar, given the ids of ``series``."""
        return list(zip(np.array(ids)[self.place].tolist(), *self.columns, strict=True))


def check(bars: pa.Table) -> pa.Table:
    """Return the table with the bars schema.

    Raises
    ------
    InputError
        If a column is missing, unknown or of another type, has a null where none may be, or a
        bar is still forming.
    """
    for field in BARS:
        if field.name not in bars.column_names:
            raise InputError(f"store: bars: column '{field.name}' is missing; see BARS")
        column = bars[field.name]
        if column.type != field.type:
            raise InputError(
                f"store: bars: column '{field.name}' was '{column.type}'; valid is {field.type}"
            )
        if column.null_count and not field.nullable:
            raise InputError(
                f"store: bars: column '{field.name}' was null in {column.null_count} rows; "
                "valid is a value in every row"
            )
    unknown = [name for name in bars.column_names if name not in BARS.names]
    if unknown:
        raise InputError(f"store: bars: column '{unknown[0]}' is not in the bars schema; drop it")
    if pc.any(pc.equal(bars["state"], "forming")).as_py():
        raise InputError(
            "store: bars: state was 'forming'; valid are confirmed, settled: forming bars are "
            "published, not stored"
        )
    return bars.select(BARS.names)


def prepare(bars: pa.Table) -> Prepared:
    """Take bars apart; the table has been checked."""
    place, first = _places(bars)
    names = bars.select(SERIES).take(first)
    series = tuple(
        Series(*row) for row in zip(*(c.to_pylist() for c in names.columns), strict=True)
    )
    columns = tuple(_python(bars[name].combine_chunks(), name) for name in _OWN)
    return Prepared(series, place, columns)


def bars_table(rows: Sequence[Sequence[Any]], series: Mapping[int, Series]) -> pa.Table:
    """Build a table of bars from rows of `CONTENT`."""
    return pa.table(_bars_columns(_columns(rows, len(CONTENT)), series), schema=BARS)


def outbox_table(rows: Sequence[Sequence[Any]], series: Mapping[int, Series]) -> pa.Table:
    """Build a table of `OUTBOX` from rows of ``seq, prev_seq`` and `CONTENT`."""
    seq, prev_seq, *columns = _columns(rows, 2 + len(CONTENT))
    head = [pa.array(seq, pa.int64()), pa.array(prev_seq, pa.int64())]
    return pa.table([*head, *_bars_columns(columns, series)], schema=OUTBOX)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _bars_columns(
    columns: Sequence[tuple[Any, ...]], series: Mapping[int, Series]
) -> list[pa.Array]:
    ids = np.array(columns[0], dtype=np.int64)
    distinct, codes = np.unique(ids, return_inverse=True)
    names = [series[number] for number in distinct.tolist()]
    made = {
        name: pa.array([row[at] for row in names], pa.string()).take(pa.array(codes))
        for at, name in enumerate(SERIES)
    }
    for name, values in zip(_OWN, columns[1:], strict=True):
        made[name] = _arrow(values, BARS.field(name).type)
    return [made[name] for name in BARS.names]


def _places(bars: pa.Table) -> tuple[I64, I64]:
    """Return the number of each bar's series, counted by first bars, and those first bars."""
    code = np.zeros(len(bars), dtype=np.int64)
    for name in SERIES:
        texts = bars[name].combine_chunks().dictionary_encode()
        if len(texts.dictionary) > 1:
            code = code * len(texts.dictionary) + texts.indices.to_numpy(zero_copy_only=False)
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse], first[order].astype(np.int64)


def _python(column: pa.Array, name: str) -> list[Any]:
    if name == "session_date":
        return _integers(column.cast(pa.int32()))
    if column.type == PRICE:
        return _integers(_unscaled(column).cast(pa.int64()))
    if pa.types.is_decimal(column.type):
        return list(_plain_text(column).to_pylist())
    if pa.types.is_integer(column.type):
        return _integers(column)
    return list(column.to_pylist())


def _integers(column: pa.Array) -> list[Any]:
    if column.null_count:
        return list(column.to_pylist())
    return list(column.to_numpy(zero_copy_only=False).tolist())


def _unscaled(column: pa.Array) -> pa.Array:
    """Return a decimal column's integers: the same bytes, read with scale 0."""
    kind = pa.decimal128(column.type.precision, 0)
    return pa.Array.from_buffers(kind, len(column), column.buffers(), offset=column.offset)


def _plain_text(column: pa.Array) -> pa.Array:
    """Return decimals as text without exponent or trailing zeros."""
    scale = column.type.scale
    digits = _unscaled(column).cast(pa.string())
    negative = pc.starts_with(digits, "-")
    digits = pc.utf8_lpad(pc.utf8_ltrim(digits, "-"), scale + 1, "0")
    whole = pc.utf8_slice_codeunits(digits, 0, -scale)
    fraction = pc.utf8_rtrim(pc.utf8_slice_codeunits(digits, -scale), "0")
    text = pc.utf8_rtrim(pc.binary_join_element_wise(whole, fraction, "."), ".")
    return pc.if_else(negative, pc.binary_join_element_wise("-", text, ""), text)


def _arrow(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == PRICE:
        return _rescaled(pa.array(values, pa.int64()))
    if pa.types.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    if pa.types.is_date(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array([bool(value) for value in values], kind)
    return pa.array(values, kind)


def _rescaled(nanos: pa.Array) -> pa.Array:
    """Return integers of nano-units as prices: the same integers, read with scale 9."""
    wide = nanos.cast(pa.decimal128(19, 0))
    return pa.Array.from_buffers(PRICE, len(wide), wide.buffers(), offset=wide.offset)
