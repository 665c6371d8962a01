"""The digest tree: one hash over all bars that, when two differ, leads to the first bar.

Encoding, version 1
-------------------
All integers are little-endian. A *text* is its UTF-8 bytes after their count (u32).

A bar is 120 bytes: ts_open, ts_close (i64, ns); nulls (u64, bit i set if the i-th of the
following ten columns is null, which is then encoded as 0); open, high, low, close (i64,
nanos); volume (i128, 1e-9); notional (i128, 1e-18); vwap (i64, nanos); trade_count (i64);
official_open, official_close (i64, nanos). With history 56 bytes follow: revision (i64),
known_at (i64), and cause, state, coverage (12 bytes of ASCII each, padded with zeros), partial
(u32, 0 or 1).

A leaf is SHA-256 of ``marketpipe.bars.leaf.1`` (``….history-leaf.1`` with history), a zero byte,
the count of bars (u64), and the bars by ts_open, revision, state. There is one per series,
timeframe and session date. An inner node is SHA-256 of ``marketpipe.bars.node.1``, a zero byte,
the count of children (u64), and per child its name (a text) and its 32-byte hash, children
sorted by name. Names, from the leaves up: the date ``YYYY-MM-DD``; the timeframe; the series,
which is its six texts in a row, source, feed, symbol, price_type, rule_set, session.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.schemas import BARS
from marketpipe.errors import InputError
from marketpipe.verify.rows import Selection, column_i64, select, timeframe_seconds

_NUMBERS: Final = (
    *("open", "high", "low", "close", "volume", "notional", "vwap", "trade_count"),
    *("official_open", "official_close"),
)
_WIDE: Final = ("volume", "notional")
_TEXTS: Final = ("cause", "state", "coverage")
_TEXT_BYTES: Final = 12
_LEAF: Final = b"marketpipe.bars.leaf.1\0"
_HISTORY_LEAF: Final = b"marketpipe.bars.history-leaf.1\0"
_NODE: Final = b"marketpipe.bars.node.1\0"

CONTENT: Final = ("ts_open", "ts_close", *_NUMBERS)
"""The columns that the root covers, beside those of the leaf's path."""
HISTORY: Final = ("revision", "known_at", *_TEXTS, "partial")
"""The columns that the history root covers as well."""

_BAR_FIELDS: Final[list[tuple[str, Any]]] = [
    ("ts_open", "<i8"),
    ("ts_close", "<i8"),
    ("nulls", "<u8"),
    *((name, "<i8", (2,)) if name in _WIDE else (name, "<i8") for name in _NUMBERS),  # type: ignore[list-item]
]
_BAR: Final = np.dtype(_BAR_FIELDS)
_HISTORY_BAR: Final = np.dtype(
    [
        *_BAR_FIELDS,
        ("revision", "<i8"),
        ("known_at", "<i8"),
        *((name, f"S{_TEXT_BYTES}") for name in _TEXTS),
        ("partial", "<u4"),
    ]
)


class LeafPath(NamedTuple):
    """Where a leaf hangs: series, timeframe, session date. Sorts symbol by symbol."""

    symbol: str
    source: str
    feed: str
    price_type: str
    rule_set: str
    session: str
    timeframe: str
    session_date: date

    def __str__(self) -> str:
        return " ".join(str(part) for part in self)


@dataclass(frozen=True, slots=True)
class DigestTree:
    """Hashes of a set of bars; equal roots mean equal bars, whatever the order of the input.

    Attributes
    ----------
    leaves : SHA-256 (hex) by path
    history : whether it covers every revision, with its cause and times
    """

    leaves: Mapping[LeafPath, str]
    history: bool = False

    @classmethod
    def build(
        cls, bars: pa.Table, up_to_ns: int | None = None, *, history: bool = False
    ) -> "DigestTree":
        """Hash a table of bars.

        Parameters
        ----------
        bars : table of the bars schema, any row order and chunking
        up_to_ns : only bars with ``ts_close <= up_to_ns``; None takes all
        history : False: the latest revision of each bar, unless void, forming or without
            prices. True: every revision that is not forming, void ones included

        Raises
        ------
        InputError
            If the table does not fit the schema or holds one revision twice.
        """
        selected = select(bars, history=history, up_to_ns=up_to_ns)
        records = encode_bars(selected.table, history=history)
        # rows of plain integers move several times faster than records
        words = records.view("<i8").reshape(len(records), records.dtype.itemsize // 8)
        if not selected.is_whole:
            words = words[selected.rows]
        prefix = _HISTORY_LEAF if history else _LEAF
        leaves: dict[LeafPath, str] = {}
        bounds = _leaf_bounds(selected)
        for path, (start, stop) in zip(_paths(selected, bounds), bounds, strict=True):
            digest = hashlib.sha256(prefix + (stop - start).to_bytes(8, "little"))
            digest.update(words[start:stop].data)
            if path in leaves:
                raise InputError(f"bars of {path} do not lie together in time; mend session_date")
            leaves[path] = digest.hexdigest()
        return cls(leaves, history)

    @property
    def root(self) -> str:
        """The hash of everything, ``sha256:`` and 64 hex digits."""
        named = (
            ((_join(path[1:3], path[:1], path[3:6]), path.timeframe, str(path.session_date)), leaf)
            for path, leaf in self.leaves.items()
        )
        tree = sorted((names, bytes.fromhex(leaf)) for names, leaf in named)
        series = []
        for name, of_series in groupby(tree, key=lambda item: item[0][0]):
            frames = [
                (frame.encode(), _node((names[2].encode(), leaf) for names, leaf in days))
                for frame, days in groupby(of_series, key=lambda item: item[0][1])
            ]
            series.append((name, _node(frames)))
        return f"sha256:{_node(series).hex()}"

    def diff(self, other: "DigestTree") -> tuple[LeafPath, ...]:
        """Return the paths whose leaves differ or are in one tree only, in sorting order.

        The order is symbol, source, feed, price_type, rule_set, session, timeframe by its
        duration, date.
        """
        paths = self.leaves.keys() | other.leaves.keys()
        return tuple(
            sorted(
                (path for path in paths if self.leaves.get(path) != other.leaves.get(path)),
                key=lambda path: (*path[:6], timeframe_seconds(path.timeframe), *path[6:]),
            )
        )


def encode_bars(table: pa.Table, *, history: bool = False) -> npt.NDArray[np.void]:
    """Encode rows as the records that a leaf hashes; see the module's docstring."""
    records = np.zeros(len(table), dtype=_HISTORY_BAR if history else _BAR)
    records["ts_open"] = column_i64(table, "ts_open")
    records["ts_close"] = column_i64(table, "ts_close")
    for bit, name in enumerate(_NUMBERS):
        column = table[name].combine_chunks()
        values = _limbs(column) if pa.types.is_decimal(column.type) else column_i64(table, name)
        if column.null_count:
            null = column.is_null().to_numpy(zero_copy_only=False)
            records["nulls"] |= null.astype(np.uint64) << np.uint64(bit)
            values = np.where(null[:, None], 0, values)
        records[name] = values if name in _WIDE or values.ndim == 1 else values[:, 0]
    if history:
        records["revision"] = column_i64(table, "revision")
        records["known_at"] = column_i64(table, "known_at")
        records["partial"] = table["partial"].combine_chunks().to_numpy(zero_copy_only=False)
        for name in _TEXTS:
            records[name] = _ascii(table[name], name)
    return records


def _limbs(column: pa.Array) -> npt.NDArray[np.int64]:
    """View decimals as (n, 2) int64, low limb first; a null's limbs are arbitrary."""
    flat = np.frombuffer(column.buffers()[1], dtype="<i8")
    return flat.reshape(-1, 2)[column.offset : column.offset + len(column)]


def _ascii(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.bytes_]:
    coded = column.combine_chunks().dictionary_encode()
    words = [word.encode() for word in coded.dictionary.to_pylist()]
    for word in words:
        if len(word) > _TEXT_BYTES:
            raise InputError(f"bars table: {name} was {word.decode()!r}; at most 12 bytes fit")
    lookup = np.array(words or [b""], dtype=f"S{_TEXT_BYTES}")
    words_of_rows: npt.NDArray[np.bytes_] = lookup[coded.indices.to_numpy(zero_copy_only=False)]
    return words_of_rows


def _leaf_bounds(selected: Selection) -> list[tuple[int, int]]:
    group = selected.group
    if not len(group):
        return []
    column = selected.table["session_date"].combine_chunks().cast(pa.int32())
    day = column.to_numpy(zero_copy_only=False)[selected.rows]
    edge = np.flatnonzero((group[1:] != group[:-1]) | (day[1:] != day[:-1])) + 1
    starts = [0, *edge.tolist()]
    return list(zip(starts, [*starts[1:], len(group)], strict=True))


def _paths(selected: Selection, bounds: list[tuple[int, int]]) -> list[LeafPath]:
    firsts = selected.rows[[start for start, _ in bounds]] if bounds else selected.rows[:0]
    names = selected.table.select(LeafPath._fields).take(firsts)
    return [LeafPath(*path) for path in zip(*(c.to_pylist() for c in names.columns), strict=True)]


def _join(*parts: tuple[Any, ...]) -> bytes:
    return b"".join(_text(str(text).encode()) for part in parts for text in part)


def _text(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "little") + raw


def _node(children: Iterable[tuple[bytes, bytes]]) -> bytes:
    listed = sorted(children)
    digest = hashlib.sha256(_NODE + len(listed).to_bytes(8, "little"))
    for name, child in listed:
        digest.update(_text(name) + child)
    return digest.digest()


class BarDifference(NamedTuple):
    """The first place where two sets of bars differ.

    ``field`` is the column, or ``bar`` if one side lacks the bar (or revision); values are as in
    the tables, None on the side that lacks it.
    """

    path: LeafPath
    ts_open: int
    revision: int | None
    field: str
    first: object
    second: object

    def __str__(self) -> str:
        revision = "" if self.revision is None else f" revision {self.revision}"
        where = f"{self.path} ts_open {self.ts_open}{revision}"
        return f"{where}: {self.field} was {self.first} and {self.second}"


def first_difference(
    bars_a: pa.Table, bars_b: pa.Table, up_to_ns: int | None = None, *, history: bool = False
) -> BarDifference | None:
    """Name the first bar and column in which two tables differ, None if their roots agree.

    Parameters as in `DigestTree.build`; leaves are searched in the order of `DigestTree.diff`,
    bars in a leaf by ts_open and revision.
    """
    trees = [DigestTree.build(b, up_to_ns, history=history) for b in (bars_a, bars_b)]
    paths = trees[0].diff(trees[1])
    if not paths:
        return None
    rows = [
        {
            (row["ts_open"], row["revision"] if history else None, row["state"] * history): row
            for row in _leaf_rows(bars, paths[0], up_to_ns, history=history)
        }
        for bars in (bars_a, bars_b)
    ]
    for key in sorted(rows[0].keys() | rows[1].keys()):
        sides = [side.get(key) for side in rows]
        if sides[0] is None or sides[1] is None:
            return BarDifference(paths[0], *key[:2], "bar", *(_summary(side) for side in sides))
        for name in (*CONTENT, *(HISTORY if history else ())):
            if sides[0][name] != sides[1][name]:
                return BarDifference(paths[0], *key[:2], name, sides[0][name], sides[1][name])
    return None


def _leaf_rows(
    bars: pa.Table, path: LeafPath, up_to_ns: int | None, *, history: bool
) -> list[dict[str, Any]]:
    selected = select(bars, history=history, up_to_ns=up_to_ns)
    bounds = _leaf_bounds(selected)
    for found, (start, stop) in zip(_paths(selected, bounds), bounds, strict=True):
        if found == path:
            rows: list[dict[str, Any]] = selected.table.take(selected.rows[start:stop]).to_pylist()
            return rows
    return []


def _summary(row: dict[str, Any] | None) -> str | None:
    return None if row is None else " ".join(f"{name}={row[name]}" for name in BARS.names[10:14])
