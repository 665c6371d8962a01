"""The process in which one query of a user runs: one SELECT over given views, nothing else.

Run by its path, so that it imports DuckDB and Arrow and nothing of ours. A request (JSON: views,
withheld ones, files, query, limits) comes in on standard input, the answer goes out on standard
output as an Arrow stream. If there is none, the exit code is 1 and the last line of standard error
is JSON with ``kind`` (``usage`` or ``lake``) and ``message``.

What DuckDB can be made to do is bounded three times: its settings allow the files of the views
alone and are locked; the parse tree of the query must be one of reading, node by node (a CTE can
write: ``WITH x AS (COPY … TO …)`` counts as a SELECT); memory and time are limited from outside.
"""

import contextlib
import json
import os
import re
import resource
import sys
import threading
from pathlib import Path
from typing import Any, Final, NoReturn

import duckdb
import pyarrow as pa

QUERY_NODES: Final = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
TABLE_FUNCTIONS: Final = ("range", "generate_series", "unnest", "repeat", "json_each", "json_tree")
SPECIAL_TABLES: Final = ('"tables"', "__show_tables_expanded")
TELLING_FUNCTIONS: Final = ("current_setting",)
SCHEMAS: Final = ("main", "memory")
# Other names could be files, or tables in which DuckDB tells where the lake is.
_CTE_NAME: Final = re.compile(r"(?!duckdb_|pg_|sqlite_|pragma_|information_)[a-z_]\w*", re.ASCII)
_HEADROOM_BYTES: Final = 512 << 20
_MAX_QUERY_CHARS: Final = 100_000
_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
}


class Damaged(Exception):  # noqa: N818 - an answer, not a fault
    """A file of the views cannot be read."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The query may not run, or not to its end."""


def main() -> int:
    """Answer one request; return the exit code."""
    ask = json.load(sys.stdin)
    try:
        con = connect(ask)
        _limit_memory(int(ask["memory_bytes"]))
        check(con, ask["query"], set(ask["views"]), ask["withheld"])
        _stream(con, ask)
    except Refused as error:
        return _fail("usage", str(error))
    except duckdb.InterruptException:
        message = f"took longer than {ask['seconds']:g} s; read less of it: name symbols and dates"
        return _fail("usage", message)
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        message = (
            f"needs more memory than {ask['memory_bytes'] >> 20} MiB; read less of it: "
            "name columns, symbols and dates, or aggregate"
        )
        return _fail("usage", message)
    except (duckdb.IOException, OSError, Damaged) as error:
        return _fail("lake", _first_line(error))
    except (duckdb.Error, pa.ArrowException) as error:
        if _is_of_a_file(error):
            return _fail("lake", _first_line(error))
        return _fail("usage", _first_line(error))
    return 0


def _is_of_a_file(error: Exception) -> bool:
    """Say whether a query failed for a damaged file and not for what it asks.

    What the reader of Parquet finds wrong comes as a bare error, or names the file that it reads.
    """
    return type(error) is duckdb.Error or "Failed to read file" in str(error)


def check(
    con: duckdb.DuckDBPyConnection, query: str, views: set[str], withheld: dict[str, str]
) -> None:
    """Refuse what is not one SELECT over the views; of a withheld one it says why.

    Raises
    ------
    Refused
        With the reason, for the user.
    """
    if len(query) > _MAX_QUERY_CHARS:
        raise Refused(f"had {len(query):,} characters; valid are {_MAX_QUERY_CHARS:,}")
    statements = duckdb.extract_statements(query)
    if len(statements) != 1:
        raise Refused(f"was {len(statements)} statements; valid is one SELECT")
    if statements[0].type != duckdb.StatementType.SELECT:
        _refuse_kind(str(statements[0].type.name))
    try:
        rows = con.sql("SELECT json_serialize_sql(?::VARCHAR)", params=[query]).fetchall()
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise Refused("is nested too deeply") from None
    if tree["error"]:
        raise Refused(f"cannot be checked: {tree['error_message']}")
    _check_tree(tree["statements"], views, withheld)


def _refuse_kind(kind: str) -> NoReturn:
    if kind == "MULTI":
        raise Refused("was PIVOT without its values; write PIVOT … ON … IN (…) inside a SELECT")
    raise Refused(f"was {kind}; valid is one SELECT: the lake is read-only")


def _check_tree(tree: Any, views: set[str], withheld: dict[str, str]) -> None:
    # Not recursive: the tree may be deeper than Python's stack.
    names, nodes = set(views), []
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            nodes.append(node)
            names |= _named_queries(node)
            todo.extend(node.values())
    for node in nodes:
        _check_withheld(node, names, withheld)
        _check_node(node, names, views)


def _named_queries(node: dict[str, Any]) -> set[str]:
    entries = (node.get("cte_map") or {}).get("map") or []
    names = {str(entry["key"]).lower() for entry in entries}
    for name in names:
        if not _CTE_NAME.fullmatch(name):
            raise Refused(f"calls a part of itself {name!r}; valid are letters, digits and _")
    return names


def _check_node(node: dict[str, Any], names: set[str], views: set[str]) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        _refuse_kind(kind.removesuffix("_QUERY_NODE"))
    if kind in ("BASE_TABLE", "SHOW_REF"):
        _check_table(node, names, views)
    if kind == "TABLE_FUNCTION":
        function = str(node["function"].get("function_name", "")).lower()
        if function not in TABLE_FUNCTIONS:
            _refuse_table(f"{function}()", views)
    if str(node.get("function_name", "")).lower() in TELLING_FUNCTIONS:
        raise Refused(f"calls {node['function_name']}, which is not allowed")


def _check_withheld(node: dict[str, Any], names: set[str], withheld: dict[str, str]) -> None:
    if node.get("type") in ("BASE_TABLE", "SHOW_REF"):
        table = str(_path(node)[-1]).lower()
        if table in withheld and table not in names:
            raise Refused(f"reads {table!r}, {withheld[table]}")


def _path(node: dict[str, Any]) -> list[str]:
    return (node.get("qualified_name") or {}).get("path") or [node.get("table_name") or ""]


def _check_table(node: dict[str, Any], names: set[str], views: set[str]) -> None:
    path = _path(node)
    *schema, table = (str(part).lower() for part in path)
    special = node["type"] == "SHOW_REF" and (table in SPECIAL_TABLES or not table)
    if not special and (table not in names or any(part not in SCHEMAS for part in schema)):
        _refuse_table(".".join(path), views)


def _refuse_table(table: str, views: set[str]) -> NoReturn:
    raise Refused(f"reads {table!r}; valid are {', '.join(sorted(views))}")


def connect(ask: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """Open DuckDB over the request's views and files, its settings locked."""
    con = duckdb.connect(":memory:", config=_CONFIG)
    con.execute("SET memory_limit = ?", [f"{ask['memory_bytes'] >> 20}MiB"])
    con.execute("SET threads = ?", [ask["threads"]])
    con.execute("SET temp_directory = ''")
    con.execute("SET allowed_paths = ?", [ask["files"]])
    for name, query in ask["views"].items():
        try:
            con.execute(f'CREATE VIEW "{name}" AS {query}')
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise Damaged(_first_line(error)) from error
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def _limit_memory(memory_bytes: int) -> None:
    # DuckDB's own limit does not bind every function: repeat('a', 3e9) passes it.
    with contextlib.suppress(OSError, ValueError):  # macOS has neither file nor limit
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limit = pages * resource.getpagesize() + memory_bytes + _HEADROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _stream(con: duckdb.DuckDBPyConnection, ask: dict[str, Any]) -> None:
    timer = threading.Timer(ask["seconds"], con.interrupt)
    timer.daemon = True
    timer.start()
    reader = con.sql(ask["query"]).to_arrow_reader(ask["batch_rows"])
    rows = size = 0
    with os.fdopen(os.dup(1), "wb") as out, pa.ipc.new_stream(out, reader.schema) as stream:
        for batch in reader:
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows > ask["rows"]:
                raise Refused(f"gives more than {ask['rows']:,} rows; add LIMIT, or aggregate")
            if size > ask["result_bytes"]:
                bound = ask["result_bytes"] >> 20
                raise Refused(f"gives more than {bound:,} MiB; add LIMIT, or name fewer columns")
            stream.write_batch(batch)
    timer.cancel()


def _first_line(error: Exception) -> str:
    # What follows shows the query again, and the views with it.
    return str(error).split("\n\nLINE ", maxsplit=1)[0].replace("\n", " ").strip()


def _fail(kind: str, message: str) -> int:
    sys.stderr.write("\n" + json.dumps({"kind": kind, "message": message}) + "\n")
    return 1


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Without the threads' orderly end: a query that was given up may still be running in one.
    os._exit(code)
