"""The lake as the last tier of the bar store."""

from datetime import date, timedelta
from typing import Final

import polars as pl
import pyarrow as pa

from marketpipe.domain.buckets import bucket_of
from marketpipe.domain.schemas import BARS
from marketpipe.domain.units import DAY_NS
from marketpipe.lake import LakeTable
from marketpipe.store import BarQuery, Series
from marketpipe.store.query import SERIES

_IDENTITY: Final = [*SERIES, "ts_open"]
_ORDER: Final = ["symbol", "source", "feed", "price_type", "rule_set", "session", "timeframe"]
_EPOCH: Final = date(1970, 1, 1)
_MARGIN_DAYS: Final = 370
"""A session date lies at most so far from its bar's beginning: bars of several days bear the date
of their first session, and a session may begin the evening before."""


class LakeBarTier:
    """Answers `BarQuery` from the lake as `BarRepository` does from the database.

    Implements `marketpipe.store.LakeBars`.

    Parameters
    ----------
    table : ``bars``
    """

    def __init__(self, table: LakeTable) -> None:
        self._table = table

    def bars(self, query: BarQuery) -> pa.Table:
        """Return the bars that a query asks for, schema BARS, in the query's order."""
        rows = self._rows(query)
        if not query.history:
            rows = rows.sort("revision").unique(_IDENTITY, keep="last")
            if not query.voids:
                rows = rows.filter(pl.col("coverage") != "void")
        order = ["ts_open", *_ORDER, "revision"]
        found = rows.sort(order, descending=[query.newest_first, *[False] * (len(order) - 1)])
        if query.limit is not None:
            found = found.head(query.limit)
        return found.select(BARS.names).collect().to_arrow().cast(BARS)

    def series(self, query: BarQuery) -> tuple[Series, ...]:
        """Return the series there are among those asked for, sorted; times play no part."""
        found = self._scan([]).filter(_of_series(query)).select(SERIES).unique().collect()
        return tuple(sorted(Series(*row) for row in found.rows()))

    def _rows(self, query: BarQuery) -> pl.LazyFrame:
        condition = _of_series(query)
        if query.start is not None:
            condition &= pl.col("ts_open") >= query.start
        if query.end is not None:
            condition &= pl.col("ts_open") < query.end
        if query.as_of is not None:
            known = pl.col("known_at")
            if query.knowledge == "strict":
                known = pl.coalesce("recorded_at", "known_at")
            condition &= known <= query.as_of
        return self._scan(self._partitions(query)).filter(condition)

    def _scan(self, partitions: list[tuple[str, str, date | list[int]]]) -> pl.LazyFrame:
        files = self._table.files(partitions)
        if not files:
            empty = pl.from_arrow(BARS.empty_table())
            return empty.lazy() if isinstance(empty, pl.DataFrame) else pl.LazyFrame()
        return pl.scan_parquet(files, hive_partitioning=True)

    def _partitions(self, query: BarQuery) -> list[tuple[str, str, date | list[int]]]:
        found: list[tuple[str, str, date | list[int]]] = []
        if query.start is not None:
            found.append(("session_date", ">=", _day(query.start, -_MARGIN_DAYS)))
        if query.end is not None:
            found.append(("session_date", "<=", _day(query.end, 2)))
        if query.symbols is not None:
            buckets = {bucket_of(symbol, self._table.buckets) for symbol in query.symbols}
            found.append(("bucket", "in", sorted(buckets)))
        return found


def _of_series(query: BarQuery) -> pl.Expr:
    condition = pl.lit(True)
    for name, value in query.parts.items():
        condition &= pl.col(name) == value
    if query.symbols is not None:
        condition &= pl.col("symbol").is_in(list(query.symbols))
    return condition


def _day(ts_ns: int, shift: int) -> date:
    number = ts_ns // DAY_NS + shift
    return _EPOCH + timedelta(days=max(number, 0))
