"""The independent side of a journal: bars worked out from the raw messages of a feed, in SQL.

Its own reading of the vendor's JSON, its own dedup, its own reading of cancels and corrections:
it shares nothing with the parser, the normalizer, the correction book and the engine. Numbers are
read as DuckDB's JSON reader prints them, exact up to seventeen digits.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from marketpipe.verify.barrows import as_bars
from marketpipe.verify.recompute import (
    ID_DATES,
    RECOMPUTED,
    IdDates,
    admit_trades,
    bars_of_ticks,
    load_segments,
)
from marketpipe.verify.rows import canonical_timeframe
from marketpipe.verify.sqltext import MACROS

LOOK_BACK_DAYS: Final = 7
"""How many session dates back a message may name a trade of."""

_Scope: TypeAlias = tuple[str, str, str, str, str]
_Identity: TypeAlias = tuple[_Scope, int, str]

_MESSAGES: Final = """
CREATE TEMP TABLE messages AS
SELECT "offset" AS row, source, feed, said AS kind, coalesce(about, '') AS symbol,
       instant_ns(j ->> '$.t') AS ts, coalesce(j ->> '$.x', '') AS venue,
       coalesce(j ->> '$.z', '') AS tape,
       coalesce(j ->> '$.i', j ->> '$.oi', '') AS trade_id, j ->> '$.ci' AS new_id,
       words(CASE WHEN said = 'c' THEN j -> '$.cc' ELSE j -> '$.c' END) AS conditions,
       exact_decimal(CASE WHEN said = 'c' THEN j ->> '$.cp' ELSE j ->> '$.p' END) AS price,
       exact_decimal(CASE WHEN said = 'c' THEN j ->> '$.cs' ELSE j ->> '$.s' END) AS size
FROM (
    SELECT *, CASE WHEN stream LIKE 'rest/%' THEN symbol ELSE j ->> '$.S' END AS about,
           CASE WHEN stream NOT LIKE 'rest/%' THEN j ->> '$.T'
                WHEN stream <> 'rest/trades' OR symbol = '' THEN NULL
                WHEN coalesce(j ->> '$.u', '') IN ('', 'corrected') THEN 't'
                WHEN coalesce(j ->> '$.i', '') = '' THEN NULL
                WHEN j ->> '$.u' = 'canceled' THEN 'x'
                WHEN j ->> '$.u' = 'incorrect' THEN 'r' END AS said
    FROM (SELECT *, decode(payload)::JSON AS j FROM records WHERE kind = 'data')
) WHERE said IN ('t', 'x', 'c', 'r')
"""
_WORDS: Final = """
CREATE MACRO words(list) AS coalesce(
    array_to_string(list_filter(list::VARCHAR[], lambda w: trim(w) <> ''), ' '), '')
"""
_USABLE: Final = """
    kind = 't' AND symbol <> '' AND ts IS NOT NULL AND price > 0 AND price < 1000000000
    AND size >= 0 AND size < 1000000000
    AND price = price::DECIMAL(18, 9) AND size = size::DECIMAL(18, 9)
"""


@dataclass(frozen=True, slots=True)
class _Message:
    """One cancel or correction, under the session date of the trade that it names.

    ``kind`` is ``c``, ``x``, or ``r``: a history says that some other trade took its place.
    """

    kind: str
    ts: int
    old: str
    new: str
    content: tuple[Any, ...]


def bars_of_messages(
    records: pa.Table | pa.RecordBatchReader,
    timeframes: Sequence[str],
    *,
    watermark_ns: int,
    rules: str = "plain",
    session: str = "continuous",
    segments: pa.Table | None = None,
    id_dates: IdDates = "utc",
) -> pa.Table:
    """Work out the final bars of the trades in journal records, as of a watermark.

    Parameters
    ----------
    records : columns ``kind, offset, source, feed, stream, symbol, payload`` of
        `marketpipe.domain.records.STORED`; payloads are Alpaca's messages in JSON, or where
        ``stream`` begins with ``rest/`` elements of its history; read once
    timeframes : ``<n><s|m|h|d>``
    watermark_ns : only bars with ``ts_close`` at or below it, ns
    rules : ``plain`` or ``alpaca-v1``
    session : name of the session in the result
    segments, id_dates : as in `marketpipe.verify.recompute.recompute`

    Returns
    -------
    table of the bars schema: revision 0, known at the watermark
    """
    with duckdb.connect() as connection:
        connection.execute(MACROS + _WORDS)
        connection.register("records", records)
        connection.execute(_MESSAGES)
        connection.execute("CREATE TEMP VIEW parsed AS SELECT * FROM messages")
        load_segments(connection, rules, segments)
        connection.execute(f"CREATE TEMP TABLE dated AS SELECT p.*, {ID_DATES[id_dates]}")
        connection.execute("DROP VIEW parsed")
        connection.register("verdicts", _verdicts(connection))
        connection.execute(_effective())
        admit_trades(connection, id_dates, "", "")
        names = [canonical_timeframe(timeframe) for timeframe in timeframes]
        rows = bars_of_ticks(connection, names, "trade", rules)
        final = [row for row in rows if int(str(row["ts_close"])) <= watermark_ns]
    return as_bars(
        pa.Table.from_pylist(final, schema=RECOMPUTED),
        price="trade",
        rules=rules,
        session=session,
        segments=segments,
        known_at=watermark_ns,
    )


def _effective() -> str:
    """Return SQL that makes ``parsed``: the usable trades as they are after all messages."""
    return f"""
        CREATE TEMP TABLE parsed AS
        SELECT d.* EXCLUDE (price, size, conditions, id_date, kind, new_id),
               CASE WHEN v.new_price IS NULL THEN d.price ELSE v.new_price END AS price,
               CASE WHEN v.new_price IS NULL THEN d.size ELSE v.new_size END AS size,
               CASE WHEN v.new_price IS NULL THEN d.conditions ELSE v.new_conditions END
                   AS conditions
        FROM (SELECT * FROM dated WHERE {_USABLE}) d LEFT JOIN verdicts v
          ON d.source = v.source AND d.feed = v.feed AND d.symbol = v.symbol
         AND d.venue = v.venue AND d.tape = v.tape AND d.id_date = v.id_date
         AND d.trade_id = v.trade_id
        WHERE NOT coalesce(v.gone, false)
    """  # noqa: S608


def _verdicts(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Say of every trade that a message speaks about what is left of it."""
    seen = _first_rows(connection)
    days: dict[tuple[_Scope, int], list[_Message]] = defaultdict(list)
    spoken: dict[tuple[_Scope, int], set[str]] = defaultdict(set)
    found = connection.execute(
        "SELECT source, feed, symbol, venue, tape, row, kind, ts, trade_id, coalesce(new_id, ''), "
        "price, size, conditions, id_date FROM dated WHERE kind <> 't' ORDER BY row"
    ).fetchall()
    for *names, row, kind, ts, old, new, price, size, conditions, own_date in found:
        scope: _Scope = (names[0], names[1], names[2], names[3], names[4])
        date = _date_of((scope, own_date, old), row, seen, spoken)
        days[scope, date].append(_Message(kind, ts, old, new, (price, size, conditions)))
        spoken[scope, date] |= {old, new} if kind == "c" else {old}
    rows = [
        row
        for (scope, date), said in sorted(days.items())
        for row in _judged(scope, date, said, seen)
    ]
    keys = ("source", "feed", "symbol", "venue", "tape", "id_date", "trade_id")
    schema = pa.schema(
        [
            *((name, pa.int64() if name == "id_date" else pa.string()) for name in keys),
            ("gone", pa.bool_()),
            ("new_price", pa.decimal128(38, 18)),
            ("new_size", pa.decimal128(38, 18)),
            ("new_conditions", pa.string()),
        ]
    )
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _first_rows(connection: duckdb.DuckDBPyConnection) -> dict[_Identity, int]:
    """Return where each usable trade with an id came first."""
    rows = connection.execute(
        "SELECT source, feed, symbol, venue, tape, id_date, trade_id, min(row) FROM dated "  # noqa: S608
        f"WHERE {_USABLE} AND trade_id <> '' GROUP BY ALL"
    ).fetchall()
    return {((r[0], r[1], r[2], r[3], r[4]), r[5], r[6]): r[7] for r in rows}


def _date_of(
    named: _Identity,
    row: int,
    seen: dict[_Identity, int],
    spoken: dict[tuple[_Scope, int], set[str]],
) -> int:
    """Find the session date of the trade that a message names, by what came before it."""
    scope, own, trade_id = named
    back = range(own, own - LOOK_BACK_DAYS - 1, -1)
    there = [date for date in back if seen.get((scope, date, trade_id), row) < row]
    if own in there:
        return own
    chained = [date for date in back if trade_id in spoken.get((scope, date), ())]
    return next(iter([*chained, *there]), own)


def _judged(
    scope: _Scope, date: int, said: Iterable[_Message], seen: dict[_Identity, int]
) -> Iterable[tuple[Any, ...]]:
    """Yield a row of verdicts for each id that the messages of a scope and date name."""
    said = list(said)
    parents: dict[str, tuple[int, str]] = {}
    for message in said:
        if message.new and message.new != message.old:
            earlier = parents.get(message.new, (2**63, ""))
            parents[message.new] = min(earlier, (message.ts, message.old))
    chains: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for trade_id in {m.old for m in said} | set(parents):
        path = _path(trade_id, parents)
        for end in range(1, len(path) + 1):
            chains[path[0]].add(path[:end])
    for paths in chains.values():
        members = [path[-1] for path in sorted(paths, key=lambda path: (len(path), path))]
        mine = [m for m in said if m.old in members]
        fixes = [m for m in mine if m.kind == "c"]
        fixed = {m.old for m in fixes}
        cancelled = any(m.kind == "x" or (m.kind == "r" and m.old not in fixed) for m in mine)
        first = next((i for i in members if (scope, date, i) in seen), None)
        for member in members:
            gone = cancelled or member != first
            last = () if gone else max((m.ts, m.new, m.content) for m in fixes)[2]
            yield (*scope, date, member, gone, *(last or (None,) * 3))


def _path(trade_id: str, parents: dict[str, tuple[int, str]]) -> tuple[str, ...]:
    """Return the ids from the root of a chain down to one."""
    path = [trade_id]
    while (above := parents.get(path[0])) is not None and above[1] not in path:
        path.insert(0, above[1])
    return tuple(path)
