"""Recomputed bars in the columns of the bars schema, so that they can be hashed beside others."""

from typing import Final

import duckdb
import pyarrow as pa

from marketpipe.domain.schemas import BARS

_DAY_NS: Final = 86_400_000_000_000
_NEW_YORK_DATE: Final = (
    "(make_timestamp(ts_open // 1000) AT TIME ZONE 'UTC' AT TIME ZONE 'America/New_York')::DATE"
    " - DATE '1970-01-01'"
)


def as_bars(
    final: pa.Table,
    *,
    price: str,
    rules: str,
    session: str,
    segments: pa.Table | None,
    known_at: int,
) -> pa.Table:
    """Put recomputed bars into the columns of the bars schema.

    Parameters
    ----------
    final : columns of `marketpipe.verify.recompute.RECOMPUTED`
    price, rules, session : of the series
    segments : as in `marketpipe.verify.recompute.recompute`; None: days of UTC, of New York for
        alpaca-v1
    known_at : ns, written into every row

    Returns
    -------
    table of the bars schema, revision 0, in no order
    """
    with duckdb.connect() as connection:
        connection.register("final", final)
        found: pa.Table = connection.sql(_dated(connection, rules, segments)).to_arrow_table()
    said = {
        "price_type": price, "rule_set": rules, "session": session, "state": "confirmed",
        "coverage": "traded", "partial": False, "revision": 0, "cause": "first",
        "recorded_at": known_at, "known_at": known_at,
    }  # fmt: skip
    columns = [
        pa.repeat(pa.scalar(said[field.name], field.type), len(found))
        if field.name in said
        else found[field.name].combine_chunks().cast(field.type)
        for field in BARS
    ]
    return pa.Table.from_arrays(columns, schema=BARS)


def _dated(connection: duckdb.DuckDBPyConnection, rules: str, segments: pa.Table | None) -> str:
    """Return a query of the bars with the date of the session that each begins in."""
    if segments is None:
        date = _NEW_YORK_DATE if rules == "alpaca-v1" else f"ts_open // {_DAY_NS}"
        return f"SELECT *, ({date})::INTEGER AS session_date FROM final"  # noqa: S608
    connection.register("segments", segments)
    date = "s.session_date"
    if pa.types.is_date(segments.schema.field("session_date").type):
        date = "s.session_date - DATE '1970-01-01'"
    return (
        f"SELECT f.*, ({date})::INTEGER AS session_date FROM final f "  # noqa: S608
        "ASOF JOIN (SELECT DISTINCT session_date, session_open FROM segments) s "
        "ON f.ts_open >= s.session_open"
    )
