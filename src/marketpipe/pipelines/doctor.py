"""What a machine has for MarketPipe, and what it lacks."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_NEEDED = ("numpy", "numba", "pyarrow", "duckdb", "exchange-calendars", "zstandard")
_EXTRAS = {"databento-dbn": ("dbn", "reads Databento DBN files")}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``absent`` is an extra that is not installed, nothing wrong."""

    what: str
    verdict: Literal["ok", "absent", "broken"]
    found: str
    remedy: str = ""


def checks(data_dir: Path) -> Iterator[Check]:
    """Look at the machine, cheapest first."""
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
    yield _folder(data_dir)


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
    replays = data_dir / "replays"
    kept = len([p for p in replays.iterdir() if p.name.isdigit()]) if replays.is_dir() else 0
    state = f"holds {kept} replays" if data_dir.exists() else "does not exist yet; made when needed"
    return Check(what, "ok", state)
