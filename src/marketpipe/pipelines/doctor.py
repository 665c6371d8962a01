"""What a machine has for MarketPipe, and what it lacks."""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.folderstate import Check, folder_checks

_NEEDED = (
    *("numpy", "numba", "pyarrow", "duckdb", "polars", "exchange-calendars", "zstandard"),
    *("deltalake", "sqlalchemy", "aiosqlite", "alembic", "pydantic"),
)
_EXTRAS = {"databento-dbn": ("dbn", "reads Databento DBN files")}


def checks(folder: DataFolder) -> Iterator[Check]:
    """Look at the machine, cheapest first, then at what the data folder holds."""
    yield Check("python", "ok", sys.version.split()[0])
    for name in _NEEDED:
        yield _package(name)
    for name, (extra, use) in _EXTRAS.items():
        if find_spec(name.replace("-", "_")) is None:
            remedy = f"it {use}; to have it: pip install 'marketpipe[{extra}]'"
            yield Check(name, "absent", "not installed", remedy)
        else:
            yield _package(name)
    yield _zone()
    yield _calendar()
    yield _compiler_cache()
    here = _folder(folder.root)
    yield here
    if here.verdict == "ok":
        yield from folder_checks(folder)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "broken", "not installed", "run: pip install marketpipe, or make demo")


def _zone() -> Check:
    try:
        ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        return Check("time zones", "broken", "no data", "run: pip install tzdata")
    return Check("time zones", "ok", "America/New_York found")


def _calendar() -> Check:
    from marketpipe.domain.sessions import session_table
    from marketpipe.errors import CalendarError

    try:
        table = session_table("XNYS", "regular", 1_704_153_600 * 10**9, 1_704_153_600 * 10**9)
    except CalendarError as problem:
        return Check("calendars", "broken", str(problem), "reinstall exchange-calendars")
    return Check("calendars", "ok", table.version)


def _compiler_cache() -> Check:
    from marketpipe.bars import BarEngine

    engine = BarEngine(["1m"])
    engine.apply_trade("AAPL", 1_767_623_400 * 10**9, 10**9, 10**9)
    bars = len(engine.flush())
    where = os.environ.get("NUMBA_CACHE_DIR", "beside the package, or in your cache folder")
    verdict: Literal["ok", "broken"] = "ok" if bars == 1 else "broken"
    return Check("compiled kernels", verdict, f"work; cached in {where}")


def _folder(data_dir: Path) -> Check:
    nearest = next(p for p in (data_dir, *data_dir.absolute().parents) if p.exists())
    what = f"data folder {data_dir}"
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        return Check(what, "broken", "cannot be written", "choose another with --data-dir")
    state = "can be written" if data_dir.exists() else "does not exist yet; made when needed"
    return Check(what, "ok", state)
