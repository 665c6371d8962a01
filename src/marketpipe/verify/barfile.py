"""Reading a CSV of bars into DuckDB, every value checked, with the line of what is wrong."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from marketpipe.domain.units import format_ns
from marketpipe.errors import HeaderError, InputError
from marketpipe.verify.sqltext import MACROS, sql_name, sql_text

KEY_TEXTS: Final = (
    *("source", "feed", "price_type", "rule_set", "symbol", "timeframe", "revision"),
)
_INSTANTS: Final = ("ts_open", "ts_close")
_PRICES: Final = ("open", "high", "low", "close")
_MAY_BE_EMPTY: Final = ("volume", "notional", "trade_count")
_SCALE: Final = 18


@dataclass(frozen=True, slots=True)
class BarFile:
    """A file of bars, loaded.

    Attributes
    ----------
    table : its table in the connection: line (BIGINT), ts_open and ts_close (BIGINT, ns), texts,
        and values as DECIMAL(38,18)
    texts : the key columns that the file has
    values : the comparable columns that the file has
    """

    connection: duckdb.DuckDBPyConnection
    path: Path
    table: str
    texts: tuple[str, ...]
    values: tuple[str, ...]

    def distinct(self, name: str) -> list[str]:
        """Return the different texts of a key column, sorted."""
        query = f"SELECT DISTINCT {sql_name(name)} AS v FROM {self.table} ORDER BY v"  # noqa: S608
        return [row[0] for row in self.connection.execute(query).fetchall()]

    def set_text(self, name: str, value: str) -> None:
        """Give all bars the same text in a column that the file lacks."""
        self.connection.execute(
            f"ALTER TABLE {self.table} ADD COLUMN {sql_name(name)} VARCHAR "
            f"DEFAULT {sql_text(value)}"
        )

    def refuse_doubles(self, names: tuple[str, ...]) -> None:
        """Raise InputError if two lines have the same ``names`` and ts_open."""
        keys = ", ".join(sql_name(name) for name in (*names, "ts_open"))
        double = self.connection.execute(
            f"SELECT min(line), max(line), {keys} FROM {self.table} "  # noqa: S608
            f"GROUP BY {keys} HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
        ).fetchall()
        if double:
            first, second, *key = double[0]
            where = " ".join((*key[:-1], format_ns(key[-1])))
            raise InputError(
                f"{self.path.name}: lines {first} and {second} are the same bar, {where}; "
                "each bar may be there once"
            )


def load_bar_file(connection: duckdb.DuckDBPyConnection, path: Path, table: str) -> BarFile:
    """Load a canonical or TradingView CSV as ``table``.

    Raises
    ------
    InputError
        If the file is missing, empty, or has a value that cannot be read exactly.
    HeaderError
        If columns are missing or doubled.
    """
    header = _read_header(path)
    canonical = _canonical_names(path, header)
    _load_text(connection, path, header, table)
    texts = tuple(name for name in KEY_TEXTS if name in canonical)
    values = tuple(name for name in ("ts_close", *_PRICES, *_MAY_BE_EMPTY) if name in canonical)
    read = {name: canonical[name] for name in ("ts_open", *values)}
    columns = [f"{_conversion(name, raw)} AS {name}" for name, raw in read.items()]
    columns += [f"coalesce({sql_name(canonical[name])}, '') AS {name}" for name in texts]
    connection.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT line, {', '.join(columns)} "  # noqa: S608
        f"FROM {table}_text ORDER BY line"
    )
    file = BarFile(connection, path, table, texts, values)
    _refuse_bad_values(file, read)
    connection.execute(f"DROP TABLE {table}_text")
    return file


def _read_header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} line 1: not CSV in UTF-8: {error}") from error
    if not header:
        raise InputError(f"{path.name}: is empty; expected a header and bars")
    return [name.strip() for name in header]


def _canonical_names(path: Path, header: list[str]) -> dict[str, str]:
    """Map our column names to those of the file."""
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise HeaderError(f"{path.name} line 1: column {', '.join(doubled)} is there twice")
    known = ("ts_open", *KEY_TEXTS, "ts_close", *_PRICES, *_MAY_BE_EMPTY)
    names = {name: name for name in header if name in known}
    if "ts_open" not in names:
        names |= _tradingview_names(header)
    missing = [name for name in ("ts_open", *_PRICES) if name not in names]
    if missing:
        raise HeaderError(
            f"{path.name} line 1: lacks {', '.join(missing)}; the header was "
            f"{','.join(header)[:200]!r}. Valid are a bar CSV (symbol,timeframe,ts_open,ts_close,"
            "open,high,low,close,volume,notional,trade_count) and a TradingView CSV "
            "(time,open,high,low,close,Volume)"
        )
    return names


def _tradingview_names(header: list[str]) -> dict[str, str]:
    return {
        {"time": "ts_open"}.get(name.lower(), name.lower()): name
        for name in header
        if name.lower() in ("time", *_PRICES, "volume")
    }


def _load_text(
    connection: duckdb.DuckDBPyConnection, path: Path, header: list[str], table: str
) -> None:
    names = [name or f"column_{i}" for i, name in enumerate(header)]
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in names)
    connection.execute(MACROS.replace("CREATE MACRO", "CREATE OR REPLACE MACRO"))
    try:
        connection.execute(
            f"CREATE OR REPLACE TABLE {table}_text AS "  # noqa: S608
            "SELECT row_number() OVER () + 1 AS line, * "
            f"FROM read_csv({sql_text(str(path))}, header = true, auto_detect = false, "
            f"delim = ',', quote = '\"', escape = '\"', columns = {{{columns}}})"
        )
    except duckdb.Error as error:
        reason = " ".join(str(error).split("Possible fixes")[0].split())[:300]
        raise InputError(f"{path.name}: cannot be read as CSV: {reason}") from error
    count = connection.execute(f"SELECT count(*) FROM {table}_text").fetchall()[0][0]  # noqa: S608
    if not count:
        raise InputError(f"{path.name}: holds a header and no bars")


def _refuse_bad_values(file: BarFile, read: dict[str, str]) -> None:
    """Raise for the first value that became null though it is there, or must be."""
    optional = [name for name in read if name in _MAY_BE_EMPTY]
    suspects = " OR ".join(f"v.{name} IS NULL" for name in read if name not in optional)
    if optional:
        suspects += " OR " + " OR ".join(
            f"(v.{name} IS NULL AND t.{sql_name(read[name])} IS NOT NULL)" for name in optional
        )
    found = file.connection.execute(
        f"SELECT t.line, {', '.join(f't.{sql_name(raw)}, v.{n}' for n, raw in read.items())} "  # noqa: S608
        f"FROM {file.table} v JOIN {file.table}_text t USING (line) "
        f"WHERE {suspects} ORDER BY line LIMIT 1"
    ).fetchall()
    if not found:
        return
    line, *pairs = found[0]
    name, text = next(
        (name, text)
        for name, text, value in zip(read, pairs[::2], pairs[1::2], strict=True)
        if value is None and (text is not None or name not in optional)
    )
    valid = (
        "RFC 3339 with a zone, such as 2026-01-05T14:30:00Z, or seconds since 1970"
        if name in _INSTANTS
        else f"a plain number below 1e18 with at most {_SCALE} decimals"
    )
    was = "" if text is None else text[:60]
    raise InputError(
        f"{file.path.name} line {line}, column {read[name]}: was {was!r}; valid is {valid}"
    )


def _conversion(name: str, raw: str) -> str:
    column = sql_name(raw)
    if name not in _INSTANTS:
        return f"exact_decimal({column})"
    return (
        f"CASE WHEN regexp_full_match({column}, '[0-9]{{1,10}}') "
        f"THEN TRY_CAST({column} AS BIGINT) * 1000000000 ELSE instant_ns({column}) END"
    )
