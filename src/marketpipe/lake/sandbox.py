"""A user's SQL, run where it can do no harm: in a child process over a fixed list of files."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from marketpipe.errors import LakeError, UsageError

_CHILD: Final = Path(__file__).with_name("_sandbox_child.py")
_BATCH_ROWS: Final = 65_536
_GRACE_S: Final = 5.0
"""How long after its time a child that does not end by itself is killed."""
_KEPT_ENV: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlLimits:
    """What one query may cost.

    Attributes
    ----------
    seconds : of wall clock
    memory_bytes : of its working memory; nothing is spilled to disk
    rows, result_bytes : of its answer, which is held in memory
    threads : that it may use
    """

    seconds: float = 60.0
    memory_bytes: int = 2 << 30
    rows: int = 5_000_000
    result_bytes: int = 1 << 30
    threads: int = 2


def run_query(
    query: str,
    views: Mapping[str, str],
    files: list[str],
    limits: SqlLimits,
    withheld: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Run one SELECT over views in a child process and return its rows.

    The child sees the files and no others, none of our environment variables, and writes nothing.

    Parameters
    ----------
    views : name and SELECT of each
    files : absolute paths of all that the views read
    withheld : views that this query cannot have, each with the reason

    Raises
    ------
    UsageError
        If the query is not one SELECT over the views, has a mistake, or exceeds a limit.
    LakeError
        If a file of the lake cannot be read.
    """
    request: dict[str, Any] = {
        "query": query,
        "views": dict(views),
        "files": files,
        "withheld": dict(withheld or {}),
        "seconds": limits.seconds,
        "memory_bytes": limits.memory_bytes,
        "rows": limits.rows,
        "result_bytes": limits.result_bytes,
        "threads": limits.threads,
        "batch_rows": _BATCH_ROWS,
    }
    code, out, err = _run(json.dumps(request).encode(), limits)
    if code:
        _raise(code, err, limits)
    return _frame(out)


def _run(request: bytes, limits: SqlLimits) -> tuple[int, bytes, bytes]:
    command = [sys.executable, "-P", "-B", str(_CHILD)]
    env = {name: os.environ[name] for name in _KEPT_ENV if name in os.environ}
    env |= {"TZ": "UTC", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    with subprocess.Popen(  # noqa: S603 - our own file, no shell
        command,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            out, err = child.communicate(request, timeout=limits.seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"sql: took longer than {limits.seconds:g} s and was ended; "
                "read less of it: name symbols and dates"
            ) from None
        finally:
            child.kill()
    return child.returncode, out, err


def _raise(code: int, err: bytes, limits: SqlLimits) -> None:
    last = err.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        told = json.loads(last)
    except ValueError:
        raise UsageError(
            f"sql: the process that ran it ended without an answer (exit code {code}), most "
            f"likely for want of memory: it had {limits.memory_bytes >> 20} MiB; read less of it"
        ) from None
    if told["kind"] == "lake":
        raise LakeError(
            f"sql: a file of the lake cannot be read: {told['message']}; try again, and if it "
            "stays so, rebuild the table from the raw layer"
        )
    raise UsageError(f"sql: the query {told['message']}")


def _frame(out: bytes) -> pl.DataFrame:
    table = pa.ipc.open_stream(out).read_all()
    table = table.rename_columns(_unique(table.column_names))
    try:
        frame = pl.from_arrow(table)
    except (pl.exceptions.PolarsError, NotImplementedError) as error:
        kinds = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise UsageError(
            f"sql: a column has a type that a table cannot hold ({error}); the columns are "
            f"{kinds}; cast it, for instance with ::VARCHAR"
        ) from None
    if not isinstance(frame, pl.DataFrame):
        raise UsageError("sql: the answer is no table")
    return frame


def _unique(names: list[str]) -> list[str]:
    """Tell columns of a join apart as DuckDB does: ``symbol``, then ``symbol_1``."""
    taken, unique = set(names), list[str]()
    for name in names:
        chosen, n = name, 0
        while chosen in unique or (n and chosen in taken):
            n += 1
            chosen = f"{name}_{n}"
        unique.append(chosen)
    return unique
