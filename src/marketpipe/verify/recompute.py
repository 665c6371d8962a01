"""The independent side: bars worked out from the raw file in SQL and whole numbers.

Its own parsing, dedup, order, edges and reading of the rule table; of the rest of the program
it uses the column types alone. It is slower than the engine and shares no line with it.

Order of ticks: by time; at equal times first those without a numeric vendor id, by row, then
those with one, by venue (the shorter name first, then bytewise) and id. Venues of more than
seven characters, which the engine orders by a hash, are not reproduced among equal times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import duckdb
import pyarrow as pa

from marketpipe.domain.schemas import NOTIONAL, PRICE, PRICE_TYPES, VOLUME
from marketpipe.errors import InputError, RuleSetError, TimeframeError, UsageError
from marketpipe.verify.rawticks import load_raw
from marketpipe.verify.rollup import Bar, finish, roll_up
from marketpipe.verify.rows import canonical_timeframe, timeframe_seconds
from marketpipe.verify.rulesql import (
    CLOSING_AUCTION,
    OFFICIAL_CLOSE,
    OFFICIAL_OPEN,
    primary_print,
    rules_query,
)

IdDates: TypeAlias = Literal["utc", "new_york", "segments"]

RULE_SETS: Final = ("plain", "alpaca-v1")

RECOMPUTED: Final = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("source", "feed", "symbol", "timeframe")),
        pa.field("ts_open", pa.int64()),
        pa.field("ts_close", pa.int64()),
        *(pa.field(name, PRICE) for name in ("open", "high", "low", "close")),
        pa.field("volume", VOLUME),
        pa.field("notional", NOTIONAL),
        pa.field("vwap", PRICE),
        pa.field("trade_count", pa.int64()),
        pa.field("official_open", PRICE),
        pa.field("official_close", PRICE),
    ]
)
"""Columns of the result; instants in ns since the epoch, quote bars without volume to vwap.
Official prices are those of bars of a day and longer that are built from ticks."""

SEGMENTS: Final = (
    *("seg_open", "seg_close", "session_date", "session_open", "session_close", "auction_end"),
)
_DAY_NS: Final = 86_400_000_000_000
# SQL that adds id_date to the rows p of parsed; zones are looked up once an hour, it is slow.
ID_DATES: Final[dict[IdDates, str]] = {
    "utc": "p.ts // 86400000000000 AS id_date FROM parsed p",
    "new_york": """z.id_date FROM parsed p JOIN (
        SELECT hour, (make_timestamp(hour * 3600000000) AT TIME ZONE 'UTC'
                      AT TIME ZONE 'America/New_York')::DATE - DATE '1970-01-01' AS id_date
        FROM (SELECT DISTINCT ts // 3600000000000 AS hour FROM parsed)
    ) z ON z.hour = p.ts // 3600000000000""",
    "segments": """s.session_date AS id_date FROM parsed p
        ASOF LEFT JOIN (SELECT DISTINCT session_date, auction_end FROM segments) s
        ON p.ts < s.auction_end""",
}
_MONDAY: Final = 4
"""1970-01-05 in days since 1970-01-01; weeks are counted from it."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """Bars and what was left out of them.

    Attributes
    ----------
    bars : table of `RECOMPUTED`, by source, feed, symbol, timeframe as asked, ts_open
    excluded : rows by reason (``duplicate``, ``below_resolution``, ``crossed_quote``, …)
    """

    bars: pa.Table
    excluded: dict[str, int]


def recompute(
    path: str | Path,
    timeframes: Sequence[str],
    *,
    price: str = "trade",
    rules: str = "plain",
    symbols: Sequence[str] = (),
    segments: pa.Table | None = None,
    id_dates: IdDates | None = None,
    source: str = "",
    feed: str = "",
    memory_limit: str = "2GB",
    temp_dir: str | Path | None = None,
    threads: int = 2,
) -> Recomputed:
    """Work bars out from a tick CSV (plain, ``.gz``, ``.zst``) or Parquet file.

    Parameters
    ----------
    path : the raw file
    timeframes : ``<n><s|m|h|d|w>``; the result spells them canonically (60m is 1h, 7d is 1w)
    price : ``trade``, ``bid``, ``ask`` or ``mid``
    rules : ``plain`` or ``alpaca-v1`` (which brings its own sessions: New York calendar days)
    symbols : only these; none means all
    segments : trading segments with the columns `SEGMENTS` (ns since the epoch, closes exclusive;
        session_date a date or days since the epoch), which must hold every session of each
        week or group of days that has ticks. None: continuous, on the grid of UTC
    id_dates : on which dates a vendor's id is unique: ``utc`` (UTC days), ``new_york`` (New York
        days) or ``segments`` (the session that is open, or opens next, closing auctions
        included). None: ``new_york`` for alpaca-v1, else ``segments`` where given, else ``utc``
    source, feed : names of rows whose file does not say
    memory_limit, temp_dir, threads : of DuckDB, which spills to ``temp_dir``

    Raises
    ------
    InputError
        If the file or the segments cannot be read.
    UsageError
        If price, rules or a timeframe is not one of the above.
    """
    _check_words(timeframes, price, rules, segments)
    dates = id_dates or _usual_id_dates(rules, segments)
    if dates not in ID_DATES or (dates == "segments" and segments is None):
        raise UsageError(
            f"id_dates was {dates!r}; valid are {', '.join(ID_DATES)}, the last with segments"
        )
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{memory_limit}'")
        connection.execute(f"SET threads = {int(threads)}")
        connection.execute("SET temp_directory = ?", [str(temp_dir or "")])
        excluded = load_raw(connection, Path(path), quotes=price != "trade", symbols=tuple(symbols))
        excluded |= load_segments(connection, rules, segments)
        if price == "trade":
            excluded |= admit_trades(connection, dates, source, feed)
        else:
            excluded |= _admit_quotes(connection, price, source, feed)
        bars = bars_of_ticks(connection, [canonical_timeframe(t) for t in timeframes], price, rules)
    counted = {reason: count for reason, count in sorted(excluded.items()) if count}
    return Recomputed(pa.Table.from_pylist(bars, schema=RECOMPUTED), counted)


def _usual_id_dates(rules: str, segments: pa.Table | None) -> IdDates:
    if rules == "alpaca-v1":
        return "new_york"
    return "utc" if segments is None else "segments"


def _check_words(
    timeframes: Sequence[str], price: str, rules: str, segments: pa.Table | None
) -> None:
    if price not in PRICE_TYPES:
        raise UsageError(f"price was {price!r}; valid are {', '.join(PRICE_TYPES)}")
    if rules not in RULE_SETS:
        raise RuleSetError(f"rules was {rules!r}; valid are {', '.join(RULE_SETS)}")
    if rules == "alpaca-v1" and segments is not None:
        raise UsageError("segments were given; alpaca-v1 brings its own, leave them out")
    for timeframe in timeframes:
        if timeframe_seconds(timeframe) < 60 and rules == "alpaca-v1":
            raise TimeframeError(f"timeframe was {timeframe!r}; alpaca-v1 has none below 1m")


def load_segments(
    connection: duckdb.DuckDBPyConnection, rules: str, segments: pa.Table | None
) -> dict[str, int]:
    """Make the table ``segments``; for alpaca-v1 of New York's days around the ticks."""
    if rules == "alpaca-v1":
        connection.execute("""
            CREATE TEMP TABLE segments AS
            WITH span AS (
                SELECT make_timestamp(min(ts) // 1000)::DATE - 400 AS first,
                       make_timestamp(max(ts) // 1000)::DATE + 400 AS last FROM parsed
            ), days AS (
                SELECT unnest(generate_series(first, last, INTERVAL 1 DAY))::DATE AS day FROM span
            ), edges AS (
                SELECT (day - DATE '1970-01-01')::BIGINT AS session_date,
                       epoch_us(day::TIMESTAMP AT TIME ZONE 'America/New_York') * 1000 AS opens,
                       epoch_us((day + 1)::TIMESTAMP AT TIME ZONE 'America/New_York') * 1000
                           AS closes
                FROM days
            )
            SELECT opens AS seg_open, closes AS seg_close, session_date,
                   opens AS session_open, closes AS session_close, closes AS auction_end
            FROM edges
        """)
        return {}
    if segments is None:
        return {}
    missing = [name for name in SEGMENTS if name not in segments.column_names]
    if missing:
        raise InputError(f"segments lack {', '.join(missing)}; needed are {', '.join(SEGMENTS)}")
    connection.register("given_segments", segments)
    is_date = pa.types.is_date(segments.schema.field("session_date").type)
    date = "session_date - DATE '1970-01-01'" if is_date else "session_date"
    connection.execute(
        "CREATE TEMP TABLE segments AS SELECT * REPLACE "  # noqa: S608
        f"(({date})::BIGINT AS session_date) FROM given_segments"
    )
    return {}


def _has_segments(connection: duckdb.DuckDBPyConnection) -> bool:
    query = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'segments'"
    return bool(connection.execute(query).fetchall()[0][0])


def admit_trades(
    connection: duckdb.DuckDBPyConnection, id_dates: IdDates, source: str, feed: str
) -> dict[str, int]:
    """Make ``ticks``: each vendor id once per date, numbered in their order."""
    placed = f"SELECT p.*, {ID_DATES[id_dates]}"
    numeric = "regexp_full_match(trade_id, '0|[1-9][0-9]{0,18}')"
    identity = "source, feed, symbol, venue, tape, id_date, trade_id"
    connection.execute(
        f"""
        CREATE TEMP TABLE ticks AS
        SELECT row_number() OVER (
                   ORDER BY ts, number IS NOT NULL, CASE WHEN number IS NOT NULL
                   THEN strlen(venue) END, CASE WHEN number IS NOT NULL THEN venue END, number, row
               ) AS seq, *
        FROM (
            SELECT row, ts, symbol, venue, conditions, tape,
                   CASE source WHEN '' THEN $source ELSE source END AS source,
                   CASE feed WHEN '' THEN $feed ELSE feed END AS feed,
                   price::DECIMAL(18, 9) AS price, size::DECIMAL(18, 9) AS size,
                   CASE WHEN {numeric} THEN TRY_CAST(trade_id AS BIGINT) END AS number,
                   {primary_print(CLOSING_AUCTION)} AS auction,
                   {primary_print(OFFICIAL_OPEN)} AS opening,
                   {primary_print(OFFICIAL_CLOSE)} AS closing
            FROM ({placed})
            QUALIFY trade_id = '' OR row_number() OVER (
                PARTITION BY {identity}, CASE WHEN trade_id = '' THEN row END ORDER BY row) = 1
        )
        """,  # noqa: S608
        {"source": source, "feed": feed},
    )
    return {"duplicate": _count(connection, "parsed") - _count(connection, "ticks")}


def _admit_quotes(
    connection: duckdb.DuckDBPyConnection, price: str, source: str, feed: str
) -> dict[str, int]:
    """Make ``ticks`` of quotes; the price of mid is bid + ask, halved at the end."""
    sides = "bid > 0 AND ask > 0" if price == "mid" else f"{price} > 0"
    usable = f"({sides}) AND bid <= ask" if price == "mid" else sides
    value = "bid + ask" if price == "mid" else price
    connection.execute(
        f"""
        CREATE TEMP TABLE ticks AS
        SELECT row_number() OVER (ORDER BY ts, row) AS seq, row, ts, symbol,
               '' AS conditions, '' AS tape,
               false AS auction, false AS opening, false AS closing,
               CASE source WHEN '' THEN $source ELSE source END AS source,
               CASE feed WHEN '' THEN $feed ELSE feed END AS feed,
               ({value})::DECIMAL(19, 9) AS price, 0::DECIMAL(18, 9) AS size
        FROM parsed WHERE coalesce({usable}, false)
        """,  # noqa: S608
        {"source": source, "feed": feed},
    )
    one_sided = connection.execute(
        f"SELECT count(*) FROM parsed WHERE NOT coalesce({sides}, false)"  # noqa: S608
    ).fetchall()[0][0]
    left_out = _count(connection, "parsed") - _count(connection, "ticks")
    return {"one_sided_quote": one_sided, "crossed_quote": left_out - one_sided}


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])  # noqa: S608


def bars_of_ticks(
    connection: duckdb.DuckDBPyConnection, timeframes: list[str], price: str, rules: str
) -> list[dict[str, object]]:
    """Aggregate ``ticks``; return rows of `RECOMPUTED`, by stream, timeframe as asked, ts_open."""
    if _has_segments(connection):
        _place_in_segments(connection)
    found: list[Bar] = []
    for timeframe in timeframes:
        unit = timeframe[-1]
        if rules == "alpaca-v1" and timeframe not in ("1m", "1d"):
            base = "1d" if unit in "dw" else "1m"
            bars = _from_ticks(connection, base, price, rules)
            found += roll_up(bars, timeframe, _session_edges(connection))
        else:
            found += _from_ticks(connection, timeframe, price, rules)
    place = {timeframe: at for at, timeframe in enumerate(timeframes)}
    found.sort(key=lambda b: (b.source, b.feed, b.symbol, place[b.timeframe], b.ts_open))
    return [bar.as_row(price) for bar in found]


def _place_in_segments(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``placed``: what is in a session; after its close an official close is no trade."""
    connection.execute("""
        CREATE TEMP TABLE placed AS
        SELECT t.*, s.seg_open, s.seg_close, s.session_date, t.ts < s.seg_close AS inside,
               t.ts < s.seg_close OR t.auction AS traded
        FROM ticks t ASOF JOIN segments s ON t.ts >= s.seg_open
        WHERE t.ts < s.seg_close OR (
            (t.auction OR t.closing) AND s.seg_close = s.session_close
            AND t.ts >= s.session_close AND t.ts < s.auction_end)
    """)


def _session_edges(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, int, int]]:
    return connection.execute(
        "SELECT DISTINCT session_date, session_open, session_close FROM segments ORDER BY 1"
    ).fetchall()


def _from_ticks(
    connection: duckdb.DuckDBPyConnection, timeframe: str, price: str, rules: str
) -> list[Bar]:
    """Aggregate one timeframe from ticks."""
    unit = timeframe[-1]
    official = "true" if unit in "dw" else "false"
    query = f"""
        WITH rules AS ({_rules(rules, "d" if unit in "dw" else "m", price)}),
        placed_ticks AS ({_placement(timeframe, tables=_has_segments(connection))})
        SELECT source, feed, symbol, ts_open, ts_close,
               arg_min(price, seq) FILTER (traded AND last > 0),
               max(price) FILTER (traded AND high_low = 1),
               min(price) FILTER (traded AND high_low = 1),
               coalesce(arg_max(price, seq) FILTER (traded AND last = 2),
                        arg_min(price, seq) FILTER (traded AND last = 1)),
               coalesce(sum(size) FILTER (traded AND volume = 1), 0),
               coalesce(sum(price * size) FILTER (traded AND volume = 1), 0),
               coalesce(sum(size) FILTER (traded AND volume = 1 AND high_low = 1), 0),
               coalesce(sum(price * size) FILTER (traded AND volume = 1 AND high_low = 1), 0),
               count(*) FILTER (traded AND volume = 1),
               arg_min(price, seq) FILTER ({official} AND traded AND opening),
               arg_max(price, seq) FILTER ({official} AND closing)
        FROM placed_ticks JOIN rules USING (conditions, tape)
        GROUP BY source, feed, symbol, ts_open, ts_close
    """  # noqa: S608
    found = (finish(timeframe, row) for row in connection.execute(query).fetchall())
    if rules == "alpaca-v1":
        return [bar for bar in found if bar.is_complete and bar.volume]
    return [bar for bar in found if bar.is_complete]


def _rules(rules: str, scope: str, price: str) -> str:
    if price == "trade":
        return rules_query(rules, scope)
    return "SELECT '' AS conditions, '' AS tape, 2 AS last, 1 AS high_low, 1 AS volume"


def _placement(timeframe: str, *, tables: bool) -> str:
    """Return SQL that gives each tick the (ts_open, ts_close) of its bar."""
    unit, length = timeframe[-1], timeframe_seconds(timeframe) * 1_000_000_000
    if not tables:
        origin = _MONDAY * _DAY_NS if unit == "w" else 0
        opens = f"{origin} + ((ts - {origin}) - ((ts - {origin}) % {length} + {length}) % {length})"
        return (
            f"SELECT *, true AS traded, {opens} AS ts_open, {opens} + {length} AS ts_close "  # noqa: S608
            "FROM ticks"
        )
    if unit in "dw":
        origin, days = (_MONDAY if unit == "w" else 0), length // _DAY_NS
        # the shift keeps the dividend positive: SQL divides towards zero
        number = f"(session_date - {origin} + 1000000 * {days}) // {days}"
        return f"""
            SELECT p.*, g.ts_open, g.ts_close FROM placed p JOIN (
                SELECT {number} AS number, min(session_open) AS ts_open,
                       max(session_close) AS ts_close
                FROM segments GROUP BY ALL
            ) g ON {number.replace("session_date", "p.session_date")} = g.number
        """  # noqa: S608
    opens = f"seg_open + (ts - seg_open) // {length} * {length}"
    return (
        f"SELECT *, {opens} AS ts_open, least({opens} + {length}, seg_close) AS ts_close "  # noqa: S608
        "FROM placed WHERE inside"
    )
