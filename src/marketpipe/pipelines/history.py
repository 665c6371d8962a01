"""The admitted trades of a pipeline so far: those in the lake and those not yet flushed to it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.columns import i64_of, nanos_of
from marketpipe.domain.schemas import TRADES
from marketpipe.domain.tradeids import trade_id_numbers
from marketpipe.normalize import Scope, SessionIds, content_fingerprint
from marketpipe.normalize.restored import distinct_rows
from marketpipe.pipelines.quotehistory import QuoteHistory

_CACHED = 64


class Wanted(NamedTuple):
    """Which rows of the lake: session dates (inclusive), one stream or all, offsets below one."""

    first_date: int
    last_date: int
    stream: StreamKey | None
    before_offset: int


ReadLake = Callable[[Wanted], pa.Table]


class TradeHistory:
    """Canonical trades in order of their offsets, for repairs and for reading ids back.

    Parameters
    ----------
    read_lake : returns canonical trades of this journal from the lake
    base : offset up to which (exclusive) the lake is read; what comes after is told by `extend`
    floor : returns the first session date of which no trades were dropped from the lake; None if
        none ever were
    quotes : the quotes of the same pipeline; None keeps them in memory
    """

    def __init__(
        self,
        read_lake: ReadLake,
        base: int,
        floor: Callable[[], int | None] = lambda: None,
        quotes: QuoteHistory | None = None,
    ) -> None:
        self._read_lake, self._floor = read_lake, floor
        self.quotes = QuoteHistory() if quotes is None else quotes
        self._base = base
        self._tail: list[pa.Table] = []
        self._cache: dict[Wanted, pa.Table] = {}
        self._joined: dict[Wanted, pa.Table] = {}

    def extend(self, trades: pa.Table) -> None:
        """Take in trades that have just been admitted."""
        if len(trades):
            self._tail.append(trades)
            self._joined = {}

    def flushed(self, through: int) -> None:
        """Forget what the lake has now: every trade up to an offset (inclusive)."""
        self._base = through + 1
        kept = [table.filter(pc.field("offset") > through) for table in self._tail]
        self._tail = [table for table in kept if len(table)]
        self._joined, self._cache = {}, {}

    def trades(self, stream: StreamKey, dates: tuple[int, int], *, before_offset: int) -> pa.Table:
        """Return a stream's trades of some session dates (both inclusive), by offset."""
        wanted = Wanted(*dates, stream, self._base)
        if wanted not in self._joined:
            _make_room(self._joined)
            stored = self._stored(wanted)
            self._joined[wanted] = self._join(stored, _of_stream(stream) & _of_dates(*dates))
        return _before(self._joined[wanted], before_offset)

    def lacks(self, date: int) -> bool:
        """Whether trades of a session date may have been dropped from the lake."""
        floor = self._floor()
        return floor is not None and date < floor

    def ids(self, date: int, *, before_offset: int) -> SessionIds:
        """Return the identities of one session date, in order of first arrival."""
        stored = self._read_lake(Wanted(date, date, None, self._base))
        rows = _before(self._join(stored, _of_dates(date, date)), before_offset)
        return session_ids(date, rows.filter(pc.is_valid(rows["trade_id"])))

    def _stored(self, wanted: Wanted) -> pa.Table:
        if wanted not in self._cache:
            _make_room(self._cache)
            self._cache[wanted] = self._read_lake(wanted)
        return self._cache[wanted]

    def _join(self, stored: pa.Table, condition: pc.Expression) -> pa.Table:
        parts = [stored, *(table.filter(condition) for table in self._tail)]
        return pa.concat_tables(parts).sort_by("offset").combine_chunks()


def _make_room(cache: dict[Wanted, pa.Table]) -> None:
    if len(cache) >= _CACHED:
        del cache[next(iter(cache))]


def _before(trades: pa.Table, offset: int) -> pa.Table:
    return trades.slice(0, int(np.searchsorted(i64_of(trades["offset"]), offset)))


def session_ids(date: int, trades: pa.Table) -> SessionIds:
    """Turn canonical trades, all with ids, in order of arrival, into the identities of a date."""
    codes, names = distinct_rows(trades, ("source", "feed", "symbol", "venue", "tape"))
    scopes = [Scope(StreamKey(*name[:3]), name[3], name[4]) for name in names]
    order = sorted(range(len(scopes)), key=scopes.__getitem__)
    place = np.empty(len(scopes), np.int32)
    place[order] = np.arange(len(scopes), dtype=np.int32)
    ids = pa.concat_arrays(trades["trade_id"].chunks or [pa.array([], pa.string())])
    id_hi, id_lo = trade_id_numbers(ids)
    return SessionIds(
        date=date,
        scopes=tuple(scopes[i] for i in order),
        scope=place[codes] if scopes else np.zeros(0, np.int32),
        id_hi=id_hi,
        id_lo=id_lo,
        content=content_fingerprint(
            i64_of(trades["ts_event"]),
            np.ascontiguousarray(nanos_of(trades["price"])),
            np.ascontiguousarray(nanos_of(trades["size"])),
        ),
        row=i64_of(trades["offset"]),
    )


def _of_stream(stream: StreamKey) -> pc.Expression:
    return (
        (pc.field("symbol") == stream.symbol)
        & (pc.field("source") == stream.source)
        & (pc.field("feed") == stream.feed)
    )


def _of_dates(first: int, last: int) -> pc.Expression:
    low, high = (pa.scalar(day, pa.int32()).cast(pa.date32()) for day in (first, last))
    return (pc.field("session_date") >= low) & (pc.field("session_date") <= high)


def no_lake(_wanted: Wanted) -> pa.Table:
    """Read a lake that is empty."""
    return TRADES.empty_table()
