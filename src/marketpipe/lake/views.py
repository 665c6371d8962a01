"""The tables of the lake as SQL: what was known at an instant, corrections applied.

Every function returns the text of a SELECT for DuckDB. Values come in as literals that are
quoted here, because a view cannot have parameters.
"""

# ruff: noqa: S608 - values are quoted by views.literal, all else are names of ours

import json
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import pyarrow as pa

from marketpipe.domain.findings import FINDING_CODES, Finding, Findings
from marketpipe.domain.schemas import REPLACED
from marketpipe.lake.layout import TABLES, TableSpec
from marketpipe.lake.snapshot import Files

Knowledge: TypeAlias = Literal["assumed", "strict"]
"""By which time a row was known: ``known_at``, when the market could have known it, or
``recorded_at``, when we received it."""

VIEWS: Final = tuple(TABLES)
FINDINGS: Final = "findings"
"""The view of what pipelines noticed; it is no table of the lake."""

SERIES: Final = ("source", "feed")
BAR_SERIES: Final = (*SERIES, "price_type", "rule_set", "session")
BAR_IDENTITY: Final = (*BAR_SERIES, "symbol", "timeframe", "ts_open")
ORDER_KEY: Final = ("ts_event", "key_major", "key_mid", "key_minor")

_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
}
_TRADE: Final = ("source", "feed", "symbol", "venue", "tape", "session_date")
"""With the trade's id, what a vendor's cancel or correction names a trade by."""


def literal(value: str | int) -> str:
    """Quote a value for SQL."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the condition that a column has one of the values, of which there is at least one."""
    return f"{column} IN ({', '.join(literal(v) for v in values)})"


def columns(name: str) -> list[str]:
    """Return the columns that users see of a table: all but the bucket."""
    return [field.name for field in TABLES[name].schema if field.name != "bucket"]


def scan(name: str, files: Files) -> str:
    """Read files of a table, all columns typed as today's schema has them; missing ones are null.

    Parameters
    ----------
    files : may be none: then there is no row
    """
    spec = TABLES[name]
    typed = ", ".join(f"NULL::{_type(f.type)} AS {_quoted(f.name)}" for f in spec.schema)
    shown = ", ".join(_quoted(column) for column in columns(name))
    rows = f"SELECT {typed} WHERE false"
    if files:
        rows = f"{rows} UNION ALL BY NAME SELECT * FROM {_read(spec, files)}"
    return f"SELECT {shown} FROM ({rows})"


def known(name: str, as_of: int | None, knowledge: Knowledge) -> str:
    """Return the condition that a row of a table was known at an instant (inclusive)."""
    if as_of is None:
        return "true"
    column = knowledge_column(name, knowledge)
    return f"{column} <= {as_of}"


def knowledge_column(name: str, knowledge: Knowledge) -> str:
    """Return the expression that says when a row of a table became known."""
    if name in ("raw", "quarantine"):
        return "ts_recv"
    if knowledge == "assumed":
        return "known_at"
    return "coalesce(recorded_at, known_at)" if name == "bars" else "recorded_at"


def rows(name: str, files: Files, where: str = "true") -> str:
    """Return the stored rows that fulfil a condition."""
    return f"SELECT * FROM ({scan(name, files)}) WHERE {where}"


def latest_bars(stored: str) -> str:
    """Return each bar's highest revision among rows of ``bars``; a void one is no bar."""
    identity = ", ".join(BAR_IDENTITY)
    return (
        f"SELECT * FROM (SELECT * FROM ({stored}) QUALIFY row_number() OVER "
        f"(PARTITION BY {identity} ORDER BY revision DESC) = 1) WHERE coverage <> 'void'"
    )


def effective_trades(trades: str, corrections: str) -> str:
    """Apply cancels and corrections to trades; their order does not matter.

    A trade that any cancel reaches is left out. Otherwise the latest correction by ts_event (ties
    by what they say) gives price, size, conditions and id; time, order key and all else stay the
    original's. What reaches a trade: whatever names its id, or an id that a correction which
    reaches it gave it. A trade that came under such an id beside its original is the same trade,
    and left out. A cancel that says ``incorrect`` counts only where no correction names the same
    id. A row became known when the last of what reaches it did.

    Parameters
    ----------
    trades, corrections : SELECTs of rows of these tables, already as of some instant
    """
    trade = ", ".join(_TRADE)
    of_root = ", ".join(f"r.{column}" for column in _TRADE)
    return f"""
WITH RECURSIVE said AS MATERIALIZED ({corrections}),
fixes AS MATERIALIZED (
    SELECT * FROM said r WHERE r.action IS DISTINCT FROM {literal(REPLACED)} OR NOT EXISTS (
        FROM said f WHERE {_same("f", "r")} AND f.trade_id = r.trade_id AND f.kind = 'correction')
),
reach({trade}, root, id) AS (
    SELECT DISTINCT {trade}, trade_id, trade_id FROM fixes
    UNION
    SELECT {of_root}, r.root, f.new_trade_id FROM reach r JOIN fixes f ON {_same("f", "r")}
    WHERE f.trade_id = r.id AND f.kind = 'correction' AND f.new_trade_id IS NOT NULL
),
verdicts AS (
    SELECT {of_root}, r.root AS trade_id, bool_or(f.kind = 'cancel') AS cancelled,
        max(f.known_at) AS known_at, max(f.recorded_at) AS recorded_at,
        arg_max(
            {{price: f.new_price, size: f.new_size, conditions: f.new_conditions,
              trade_id: f.new_trade_id}},
            (f.ts_event, coalesce(f.new_trade_id, ''), f.new_price, f.new_size,
             coalesce(f.new_conditions, ''))
        ) FILTER (f.kind = 'correction') AS fix
    FROM reach r JOIN fixes f ON {_same("f", "r")} AND f.trade_id = r.id
    GROUP BY {of_root}, r.root
),
shown AS ({trades}),
superseded AS (
    SELECT DISTINCT {of_root}, r.id FROM reach r JOIN shown t ON {_same("t", "r")}
    WHERE t.trade_id = r.root AND r.id <> r.root
)
SELECT t.* REPLACE (
    greatest(t.recorded_at, v.recorded_at) AS recorded_at,
    greatest(t.known_at, v.known_at) AS known_at,
    coalesce(v.fix.trade_id, t.trade_id) AS trade_id,
    coalesce(v.fix.price, t.price) AS price,
    coalesce(v.fix.size, t.size) AS size,
    CASE WHEN v.fix IS NULL THEN t.conditions ELSE v.fix.conditions END AS conditions
)
FROM shown t LEFT JOIN verdicts v ON {_same("t", "v")} AND t.trade_id = v.trade_id
ANTI JOIN superseded s ON {_same("t", "s")} AND t.trade_id = s.id
WHERE v.cancelled IS NOT TRUE"""


def view(
    name: str, files: Files, corrections: Files, as_of: int | None, knowledge: Knowledge
) -> str:
    """Return a table as SQL users see it: the latest, or what was known at ``as_of``.

    Parameters
    ----------
    files : of the table
    corrections : of the table ``corrections``; used for ``trades``
    """
    stored = rows(name, files, known(name, as_of, knowledge))
    if name == "bars":
        return latest_bars(stored)
    if name == "trades" and corrections:
        fixes = rows("corrections", corrections, known("corrections", as_of, knowledge))
        return effective_trades(stored, fixes)
    return stored


def findings_view(found: Mapping[str, Findings]) -> str:
    """Return what pipelines noticed as a view: one row a pipeline and code, examples as JSON.

    Parameters
    ----------
    found : by pipeline; may be empty
    """
    # The last row gives the columns their types where there is no other.
    values = [
        (pipeline, entry.code, FINDING_CODES.get(entry.code, ""), entry.count, _examples(entry))
        for pipeline, noticed in found.items()
        for entry in noticed.entries
    ]
    shown = [*values, ("", "", "", 0, "")]
    listed = ", ".join(f"({', '.join(literal(value) for value in row)})" for row in shown)
    return (
        "SELECT pipeline, code, meaning, count::BIGINT AS count, examples "
        f"FROM (VALUES {listed}) t(pipeline, code, meaning, count, examples) WHERE code <> ''"
    )


def _examples(entry: Finding) -> str:
    return json.dumps([example._asdict() for example in entry.examples])


def _same(left: str, right: str) -> str:
    """Return the condition that two rows are of one trade but for the id; tape may be null."""
    return " AND ".join(f"{left}.{c} IS NOT DISTINCT FROM {right}.{c}" for c in _TRADE)


def _read(spec: TableSpec, files: Files) -> str:
    paths = ", ".join(literal(path) for path in files.paths)
    types = ", ".join(
        f"{literal(name)}: {_type(spec.schema.field(name).type)}" for name in spec.partition_by
    )
    return (
        f"read_parquet([{paths}], hive_partitioning=true, hive_types={{{types}}}, "
        f"union_by_name={'true' if files.evolved else 'false'})"
    )


def _type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _TYPES[kind]


def _quoted(column: str) -> str:
    return f'"{column}"'
