"""Ticks read from the raw file by DuckDB alone: its own parsing, its own exclusions, its own dedup.

Nothing here comes from the reader or the normalizer; both are what this checks.
"""

import csv
import gzip
from pathlib import Path
from typing import Final

import duckdb
import zstandard

from marketpipe.errors import HeaderError, InputError
from marketpipe.verify.sqltext import MACROS, sql_name, sql_text

TIMES: Final = {"ts_ns": 1, "ts_us": 1_000, "ts_ms": 1_000_000, "timestamp": 0}
"""Columns that may hold the time, and ns per unit; 0 is RFC 3339."""

_MAX_TS_NS: Final = 9_183_110_400 * 10**9 - 1
_NAME: Final = "[A-Za-z0-9_:=^-][A-Za-z0-9._:=^-]*"
_FIELD: Final = '(?:^|,)("(?:[^"]|"")*"|[^",]*)'
_OPTIONAL: Final = ("source", "feed", "venue", "trade_id", "conditions", "tape", "side")
_SIDES: Final = "'', 'n', 'b', 'buy', 's', 'sell'"


def load_raw(
    connection: duckdb.DuckDBPyConnection, path: Path, *, quotes: bool, symbols: tuple[str, ...]
) -> dict[str, int]:
    """Read a tick file into the table ``parsed``; return how many rows were excluded, by reason.

    ``parsed`` has row (file order), source, feed, symbol, ts, venue, trade_id, conditions, tape,
    and price and size, or bid and ask (null where absent). No symbols: all of them.

    Raises
    ------
    InputError
        If the file cannot be read.
    HeaderError
        If it lacks a needed column.
    """
    connection.execute(MACROS)
    try:
        header, query = _raw_query(connection, path)
        _check_header(path, header, quotes=quotes)
        wanted = ", ".join(sql_text(symbol) for symbol in symbols)
        only = f"WHERE symbol IN ({wanted})" if symbols else ""
        connection.execute(
            f"CREATE TEMP TABLE judged AS SELECT *, {_reason(header, quotes=quotes)} AS reason "  # noqa: S608
            f"FROM (SELECT {_columns(header, quotes=quotes)} FROM ({query}) {only})"
        )
    except duckdb.Error as error:
        raise InputError(f"{path.name}: cannot be read: {' '.join(str(error).split())}") from error
    excluded = dict(
        connection.execute(
            "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    )
    undecodable = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"
    ).fetchall()[0][0]
    if undecodable:
        rejects = connection.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchall()
        excluded |= {"bad_utf8": rejects[0][0]} if rejects[0][0] else {}
    connection.execute(
        "CREATE TEMP VIEW parsed AS SELECT * EXCLUDE (reason) FROM judged WHERE reason IS NULL"
    )
    return excluded


def _raw_query(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[list[str], str]:
    """Return the columns and a query of ``row`` and the columns as text, null or '' if empty."""
    if path.suffix == ".parquet":
        source = f"read_parquet({sql_text(str(path))}, file_row_number = true)"
        described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
        kinds = {name: kind for name, kind, *_ in described if name != "file_row_number"}
        columns = ", ".join(
            f"{_parquet_text(n, kind)} AS {sql_name(n)}" for n, kind in kinds.items()
        )
        query = f"SELECT file_row_number AS row, true AS whole, {columns} FROM {source}"  # noqa: S608
        return list(kinds), query
    header = _read_header(path)
    packed = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix, "none")
    lines = (
        f"read_csv({sql_text(str(path))}, header = false, auto_detect = false, delim = '\x01', "
        "quote = '', escape = '', columns = {'line': 'VARCHAR'}, strict_mode = false, "
        f"ignore_errors = true, store_rejects = true, compression = '{packed}')"
    )
    split = (
        "CASE WHEN contains(line, '\"') THEN "
        f"list_transform(regexp_extract_all(line, {sql_text(_FIELD)}, 1), lambda x: CASE WHEN "
        "x LIKE '\"%' THEN replace(x[2:-2], '\"\"', '\"') ELSE x END) "
        "ELSE string_split(line, ',') END"
    )
    columns = ", ".join(f"f[{i}] AS {sql_name(name)}" for i, name in enumerate(header, start=1))
    query = (
        f"SELECT row, len(f) = {len(header)} AS whole, {columns} FROM (SELECT row, {split} AS f "  # noqa: S608
        f"FROM (SELECT row_number() OVER () AS row, rtrim(line, chr(13)) AS line FROM {lines}) "
        "WHERE row > 1 AND line <> '')"
    )
    return header, query


def _parquet_text(name: str, kind: str) -> str:
    column = sql_name(name)
    if kind.startswith("TIMESTAMP"):
        return f"(epoch_ns({column}))::VARCHAR"
    if kind.endswith("[]"):
        return f"array_to_string({column}, ' ')"
    return f"{column}::VARCHAR"


def _read_header(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                line = gzip.GzipFile(fileobj=file).readline()
            elif path.suffix == ".zst":
                line = zstandard.ZstdDecompressor().stream_reader(file).read(1 << 16)
            else:
                line = file.readline()
        text = line.decode("utf-8-sig").splitlines()
        return next(csv.reader(text[:1]), [])
    except (OSError, UnicodeDecodeError, zstandard.ZstdError, csv.Error) as error:
        raise InputError(f"{path.name}: its header cannot be read: {error}") from error


def _check_header(path: Path, header: list[str], *, quotes: bool) -> None:
    needed = ["symbol", *(("bid", "ask") if quotes else ("price", "size"))]
    missing = [name for name in needed if name not in header]
    if not any(name in header for name in TIMES):
        missing.append(" or ".join(TIMES))
    doubled = sorted({name for name in header if header.count(name) > 1})
    if missing or doubled:
        raise HeaderError(
            f"{path.name}: header was {','.join(header)!r}; it lacks {', '.join(missing) or '-'}, "
            f"and has twice {', '.join(doubled) or '-'}"
        )


def _time_column(header: list[str]) -> str:
    return next(name for name in TIMES if name in header)


def _numbers(header: list[str], *, quotes: bool) -> list[str]:
    names = ("bid", "ask", "bid_size", "ask_size") if quotes else ("price", "size")
    return [name for name in names if name in header]


def _columns(header: list[str], *, quotes: bool) -> str:
    clock = _time_column(header)
    numbers = _numbers(header, quotes=quotes)
    parts = ["row", "whole", "symbol", f"{sql_name(clock)} AS ts_text"]
    parts += [
        f"coalesce({name}, '') AS {name}" if name in header else f"'' AS {name}"
        for name in _OPTIONAL
    ]
    known = "ts_recv_ns" if "ts_recv_ns" in header else "''"
    parts.append(f"coalesce({known}, '') AS known_text")
    parts.append(f"{_time_ns(clock, TIMES[clock])} AS ts")
    parts += [f"{name} AS {name}_text, exact_decimal({name}) AS {name}" for name in numbers]
    return ", ".join(parts)


def _time_ns(column: str, unit_ns: int) -> str:
    number = f"TRY_CAST({column} AS BIGINT)"
    if unit_ns == 0:
        # a timestamp column of a Parquet file arrives as a count of ns
        return (
            f"CASE WHEN regexp_full_match({column}, '-?[0-9]+') THEN {number} "
            f"ELSE instant_ns({column}) END"
        )
    return (
        f"CASE WHEN regexp_full_match({column}, '[+-]?[0-9]+') "
        f"THEN TRY_CAST({number}::HUGEINT * {unit_ns} AS BIGINT) END"
    )


def _reason(header: list[str], *, quotes: bool) -> str:
    """Say why a row is no tick, null if it is one; the words are those of the findings."""
    known = "regexp_full_match(known_text, '[+]?[0-9]+') AND TRY_CAST(known_text AS BIGINT) >= 0"
    cases = [
        "NOT whole THEN 'bad_field_count'",
        f"NOT coalesce({_is_name('symbol')}, false) THEN 'bad_symbol'",
        "coalesce(ts_text, '') = '' THEN 'missing_value'",
        f"ts IS NULL OR NOT ts BETWEEN 0 AND {_MAX_TS_NS} THEN 'bad_timestamp'",
        *(f"{n} <> '' AND NOT {_is_name(n)} THEN 'bad_name'" for n in ("source", "feed")),
        f"lower(side) NOT IN ({_SIDES}) THEN 'bad_side'",
        f"known_text <> '' AND NOT coalesce({known}, false) THEN 'bad_timestamp'",
    ]
    for n in _numbers(header, quotes=quotes):
        text = f"{n}_text"
        present = f"coalesce({text}, '') <> ''"
        if not quotes:
            cases.append(f"NOT ({present}) THEN 'missing_value'")
        cases += [
            f"{present} AND NOT is_number({text}) THEN 'bad_number'",
            f"{present} AND {n} IS NULL AND decimal_places({text}) <= 9 THEN 'out_of_range'",
            f"abs({n}) >= 1000000000 THEN 'out_of_range'",
            f"{present} AND decimal_places({text}) > 9 THEN 'below_resolution'",
        ]
    if not quotes:
        cases += ["price <= 0 THEN 'non_positive_price'", "size < 0 THEN 'negative_size'"]
    return f"CASE {' '.join(f'WHEN {case}' for case in cases)} END"


def _is_name(column: str) -> str:
    shape = sql_text(f"{_NAME}(/{_NAME})*")
    return (
        f"(regexp_full_match({column}, {shape}) AND length({column}) <= 32 "
        f"AND NOT contains({column}, '..'))"
    )
