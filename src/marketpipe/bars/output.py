"""From slots to the columns that users see."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars import _output_kernel as kernel
from marketpipe.bars.layout import AUX, I64_MIN
from marketpipe.bars.plan import Plan
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.schemas import BARS, CAUSES, NOTIONAL, PRICE, STATES, VOLUME
from marketpipe.domain.timeframe import Timeframe

Records: TypeAlias = npt.NDArray[np.void]
Slots: TypeAlias = tuple[Records, Records | None]
"""Slots and their aux records, None where the rule set needs none."""

_ROWS = 1 << 17
"""Rows of one chunk of a table: enough to spread over threads, few enough to stay near."""
_NO_AUX = np.empty(0, AUX)
_COVERAGES = ("traded", "void")


class Pool(Protocol):
    """What runs chunks at the same time."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterator[Any]:
        """Apply a function to every item, results in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What slots leave unsaid: the series, the timeframes, and when sessions end.

    ``dates`` (days since the epoch) and ``closes`` (ns) are those of the session table, both
    empty on the grid of UTC. ``strict`` says of which levels a bar must be nowhere zero.
    """

    streams: tuple[StreamKey, ...]
    timeframes: tuple[Timeframe, ...]
    price_type: str
    rule_set: str
    session: str
    timed: bool
    dates: npt.NDArray[np.int32]
    closes: I64
    strict: npt.NDArray[np.bool_]


def to_table(rows: Records, aux: Records | None, naming: Naming, watermarks: I64) -> pa.Table:
    """Turn slots into a table of the schema `BARS`, in the order given.

    Parameters
    ----------
    rows : slots; every one must be a bar, or void
    aux : their aux records, None where the rule set needs none
    watermarks : per stream, ns; says which bars are settled
    """
    return _table([(rows, aux)], np.arange(len(rows)), naming, watermarks, None)


def bars_table(
    parts: Sequence[Slots],
    plan: Plan,
    naming: Naming,
    watermarks: I64,
    *,
    all_non_zero: bool,
    forming: bool,
    session_date: int | None = None,
    pool: Pool | None = None,
) -> pa.Table:
    """Turn the slots that are bars into a table, sorted by symbol, timeframe and time.

    Parameters
    ----------
    parts : slots in any order; those of one stream in one part
    plan : the levels
    naming : what the columns say of series, timeframes and sessions
    watermarks : per stream, ns; says which bars are settled
    all_non_zero : whether bars with a zero in them are none
    forming : whether to add the bars that are still open
    session_date : only bars of this date, days since 1970-01-01
    pool : works on several chunks at a time
    """
    streams = naming.streams
    rank = np.empty(len(streams), np.int64)
    rank[sorted(range(len(streams)), key=lambda i: streams[i][::-1])] = range(len(streams))
    visible = plan.levels["visible"] != 0
    date = I64_MIN if session_date is None else session_date
    n_groups = len(streams) * len(visible)
    count = np.zeros(n_groups, np.int64)
    latest = np.full(n_groups, I64_MIN)
    ascending = np.ones(n_groups, np.bool_)

    def classify(part: Slots) -> npt.NDArray[np.int32]:
        # parts share no stream, so they share no group either
        rows, aux = part
        group = np.empty(len(rows), np.int32)
        kept = emittable(rows, aux, all_non_zero, plan)
        kernel.classify(rows, kept, rank, visible, forming, date, group, count, latest, ascending)
        return group

    groups = list((pool.map if pool else map)(classify, parts))
    at = np.cumsum(count) - count
    order = np.empty(int(count.sum()), np.int64)
    first = 0
    for group in groups:
        kernel.deal(group, first, at, order)
        first += len(group)
    _sort_by_time(order, at - count, count, np.flatnonzero(~ascending), [rows for rows, _ in parts])
    return _table(parts, order, naming, watermarks, pool)


def emittable(
    rows: Records, aux: Records | None, all_non_zero: bool, plan: Plan
) -> npt.NDArray[np.bool_]:
    """Say which slots are bars: priced, and under `all_non_zero` nowhere zero."""
    kept = np.empty(len(rows), np.bool_)
    derived = plan.levels["derived"] != 0
    kernel.sift(rows, _NO_AUX if aux is None else aux, all_non_zero, derived, kept)
    return kept


def _sort_by_time(
    order: I64, starts: I64, count: I64, groups: I64, parts: Sequence[Records]
) -> None:
    """Sort these groups of ``order`` by time; late trades open bars out of order."""
    firsts = np.cumsum([0, *(len(rows) for rows in parts)])
    for g in groups:
        mine = order[starts[g] : starts[g] + count[g]]
        part = int(np.searchsorted(firsts, mine[0], side="right")) - 1
        times = parts[part]["ts_open"][mine - firsts[part]]
        mine[:] = mine[np.argsort(times, kind="stable")]


def _table(
    parts: Sequence[Slots], order: I64, naming: Naming, watermarks: I64, pool: Pool | None
) -> pa.Table:
    """Turn the slots with these numbers, counted through all parts, into rows."""
    same = _Same(min(len(order), _ROWS))

    def chunk(at: int) -> pa.RecordBatch:
        return _Chunk(parts, order[at : at + _ROWS], naming, watermarks).batch(naming, same)

    chunks = list((pool.map if pool else map)(chunk, range(0, len(order), _ROWS)))
    return pa.Table.from_batches(chunks, BARS)


class _Chunk:
    """Dense columns of some rows, and their Arrow form, which shares their memory."""

    def __init__(self, parts: Sequence[Slots], order: I64, naming: Naming, watermarks: I64) -> None:
        n = len(order)
        self._stamps = np.empty((kernel.N_STAMPS, n), np.int64)
        self._official = any(aux is not None for _, aux in parts)
        n_wide = kernel.N_WIDE if self._official else kernel.OFFICIAL_OPEN
        self._wide = np.empty((n_wide, n, 2), np.int64)
        self._small = np.empty((kernel.N_SMALL, n), np.int32)
        self._valid = np.empty((kernel.N_VALID, n), np.bool_)
        day = np.array([not tf.is_intraday for tf in naming.timeframes])
        halve = naming.price_type == "mid"
        first = 0
        for rows, aux in parts:
            kernel.transcribe(
                rows, _NO_AUX if aux is None else aux, order, first, halve, day, naming.strict,
                naming.dates, naming.closes, watermarks, self._stamps, self._wide, self._small,
                self._valid,
            )  # fmt: skip
            first += len(rows)

    def batch(self, naming: Naming, same: "_Same") -> pa.RecordBatch:
        """Return the rows in the schema `BARS`; ``same`` has the columns of one value."""
        n = len(self._stamps[0])
        streams, small, stamps = naming.streams, self._small, self._stamps
        of_quotes = None if naming.price_type == "trade" else same
        of_plain = None if self._official else same
        columns = {
            "source": same.or_texts(small[kernel.STREAM], [s.source for s in streams]),
            "feed": same.or_texts(small[kernel.STREAM], [s.feed for s in streams]),
            "symbol": same.or_texts(small[kernel.STREAM], [s.symbol for s in streams]),
            "price_type": same.text(naming.price_type, n),
            "rule_set": same.text(naming.rule_set, n),
            "session": same.text(naming.session, n),
            "timeframe": same.or_texts(small[kernel.LEVEL], [str(t) for t in naming.timeframes]),
            "session_date": pa.array(small[kernel.SESSION_DATE]).cast(pa.date32()),
            "ts_open": pa.array(stamps[kernel.TS_OPEN]),
            "ts_close": pa.array(stamps[kernel.TS_CLOSE]),
            "open": self._decimals(PRICE, kernel.OPENED, kernel.LIVED),
            "high": self._decimals(PRICE, kernel.HIGH, kernel.LIVED),
            "low": self._decimals(PRICE, kernel.LOW, kernel.LIVED),
            "close": self._decimals(PRICE, kernel.CLOSED, kernel.LIVED),
            "volume": self._decimals(VOLUME, kernel.VOLUME, kernel.LIVED, of_quotes),
            "notional": self._decimals(NOTIONAL, kernel.NOTIONAL, kernel.LIVED, of_quotes),
            "vwap": self._decimals(PRICE, kernel.VWAP, kernel.HAS_VWAP, of_quotes),
            "trade_count": pa.array(stamps[kernel.COUNT]),
            "official_open": self._decimals(
                PRICE, kernel.OFFICIAL_OPEN, kernel.HAS_OFFICIAL_OPEN, of_plain
            ),
            "official_close": self._decimals(
                PRICE, kernel.OFFICIAL_CLOSE, kernel.HAS_OFFICIAL_CLOSE, of_plain
            ),
            "state": same.or_texts(small[kernel.STATE], STATES),
            "coverage": same.or_texts(small[kernel.COVERAGE], _COVERAGES),
            "partial": same.no(n),
            "revision": pa.array(small[kernel.REVISION]),
            "cause": same.or_texts(small[kernel.CAUSE], CAUSES),
            "recorded_at": pa.array(stamps[kernel.RECORDED_AT])
            if naming.timed
            else same.nulls(pa.int64(), n),
            "known_at": pa.array(stamps[kernel.KNOWN_AT]),
        }
        return pa.RecordBatch.from_arrays([columns[f.name] for f in BARS], schema=BARS)

    def _decimals(
        self, kind: pa.Decimal128Type, row: int, valid: int, unknown: "_Same | None" = None
    ) -> pa.Array:
        """Return a column of decimals; with ``unknown``, of nulls."""
        n = self._wide.shape[1]
        if unknown is not None:
            return unknown.nulls(kind, n)
        shown = self._valid[valid]
        mask = None if shown.all() else pa.py_buffer(np.packbits(shown, bitorder="little"))
        return pa.Decimal128Array.from_buffers(kind, n, [mask, pa.py_buffer(self._wide[row])])


class _Same:
    """Columns of one value, made once for all chunks.

    Parameters
    ----------
    size : rows of the longest chunk
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._made: dict[object, pa.Array] = {}

    def text(self, value: str, n: int) -> pa.Array:
        """Return a text ``n`` times."""
        if value not in self._made:
            letters = value.encode()
            ends = np.arange(self._size + 1, dtype=np.int32) * np.int32(len(letters))
            self._made[value] = pa.StringArray.from_buffers(
                self._size, pa.py_buffer(ends), pa.py_buffer(letters * self._size)
            )
        return self._made[value][:n]

    def or_texts(self, codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.Array:
        """Return the names of codes."""
        n = len(codes)
        if n and codes.min() == codes.max():
            return self.text(names[codes[0]], n)
        words = [name.encode() for name in names]
        lengths = np.array([len(word) for word in words], np.int32)
        offsets = np.empty(n + 1, np.int32)
        kernel.measure(codes, lengths, offsets)
        out = np.empty(int(offsets[-1]), np.uint8)
        letters = np.frombuffer(b"".join(words) or b" ", np.uint8)
        starts = (np.cumsum(lengths) - lengths).astype(np.int32)
        kernel.spell(codes, starts, lengths, letters, out)
        return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(out))

    def nulls(self, kind: pa.DataType, n: int) -> pa.Array:
        """Return null ``n`` times."""
        if kind not in self._made:
            self._made[kind] = pa.nulls(self._size, kind)
        return self._made[kind][:n]

    def no(self, n: int) -> pa.Array:
        """Return False ``n`` times."""
        if False not in self._made:
            self._made[False] = pa.array(np.zeros(self._size, np.bool_))
        return self._made[False][:n]
