"""Whether the program's bars agree with those worked out independently."""

from decimal import Decimal
from typing import Final

import duckdb
import pyarrow as pa

from marketpipe.errors import SeriesError
from marketpipe.verify.comparison import LISTED, Comparison, compare_tables
from marketpipe.verify.rows import select

FIELDS: Final = (
    *("ts_close", "open", "high", "low", "close", "volume", "notional", "vwap", "trade_count"),
    *("official_open", "official_close"),
)


def confirm(bars: pa.Table, recomputed: pa.Table, *, listed: int = LISTED) -> Comparison:
    """Compare bars with recomputed ones, exactly, cell by cell.

    Bars are matched by symbol, timeframe and ts_open, and by source and feed where one side
    holds more than one of those.

    Parameters
    ----------
    bars : table of the bars schema, of one price type, rule set and session; its latest
        revisions that are neither forming nor void are compared
    recomputed : ``recompute(...).bars``, taken as the reference
    listed : how many differences of each kind to list; all are counted

    Raises
    ------
    SeriesError
        If the bars are of more than one price type, rule set or session.
    InputError
        If the bars do not fit the schema.
    """
    chosen = select(bars).take()
    kinds = chosen.group_by(["price_type", "rule_set", "session"]).aggregate([]).to_pylist()
    if len(kinds) > 1:
        raise SeriesError(f"bars are of {len(kinds)} series; confirm one: {kinds}")
    streams = [
        len(table.group_by(["source", "feed"]).aggregate([])) for table in (chosen, recomputed)
    ]
    names: tuple[str, ...] = ("symbol", "timeframe")
    if max(streams) > 1:
        names = ("source", "feed", *names)
    with duckdb.connect() as connection:
        connection.register("recomputed", recomputed)
        connection.register("bars", chosen)
        return compare_tables(
            connection,
            "recomputed",
            "bars",
            names=names,
            tolerances=dict.fromkeys(FIELDS, Decimal(0)),
            listed=listed,
        )
