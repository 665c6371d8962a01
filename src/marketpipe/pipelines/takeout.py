"""Taking stored bars out: a series, as of a time, in one file or many."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc

from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.pipelines.kept import kept_history
from marketpipe.verify.exporter import CanonicalExporter

_FRACTION = re.compile(r"(.*:\d\d)\.(\d+)(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeout:
    """What `marketpipe export` was asked for."""

    data_dir: Path
    replay: int | None
    output: Path
    symbols: frozenset[str] | None
    timeframes: str | None
    as_of: str | None
    history: bool
    all_series: bool
    format: Literal["csv", "parquet", "arrow"]
    layout: Literal["flat", "hive"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was written; the digest is that of the canonical CSV, None for the hive layout."""

    bars: int
    folder: Path
    digest: str | None


def take_out(job: Takeout) -> Taken:
    """Write stored bars.

    Raises
    ------
    UsageError, SeriesError
        If the request names no bars, or more than one series.
    """
    bars, folder = kept_history(job.data_dir, job.replay)
    known = set(bars["symbol"].unique().to_pylist())
    if job.symbols is not None:
        missing = sorted(job.symbols - known)
        if missing:
            raise UsageError(
                f"symbols: {', '.join(missing)} are not in {folder}; it holds "
                f"{', '.join(sorted(known)[:20])}"
            )
        bars = bars.filter(pc.field("symbol").isin(sorted(job.symbols)))
    if job.timeframes is not None:
        wanted = [str(tf) for tf in parse_many(job.timeframes)]
        bars = bars.filter(pc.field("timeframe").isin(wanted))
    if job.as_of is not None:
        bars = bars.filter(pc.field("known_at") <= instant(job.as_of))
    exporter = CanonicalExporter(bars, all_series=job.all_series, history=job.history)
    if job.layout == "hive":
        exporter.to_hive(job.output, job.format)
        return Taken(len(exporter), folder, None)
    if not job.output.parent.is_dir():
        raise UsageError(f"output: the folder of '{job.output}' does not exist; create it first")
    if job.format == "csv":
        return Taken(len(exporter), folder, exporter.write(job.output))
    if job.format == "parquet":
        exporter.to_parquet(job.output)
    else:
        exporter.to_arrow(job.output)
    return Taken(len(exporter), folder, exporter.compute_hash())


def instant(text: str) -> int:
    """Read an RFC 3339 instant, 0 to 9 digits of a second, as ns; a zone is required.

    Raises
    ------
    UsageError
        If it is none, or has no zone.
    """
    found = _FRACTION.fullmatch(text)
    if found is not None and len(found[2]) > 9:
        raise UsageError(f"as-of: was {text!r}; at most nine digits of a second are known")
    try:
        moment = datetime.fromisoformat(text if found is None else found[1] + found[3])
    except ValueError as problem:
        raise UsageError(
            f"as-of: was {text!r}; expected a time such as 2026-01-05T15:00:00Z"
        ) from problem
    if moment.tzinfo is None:
        raise UsageError(f"as-of: was {text!r}, without a zone; add Z or an offset such as -05:00")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    fraction = 0 if found is None else int(found[2].ljust(9, "0"))
    return (since.days * 86_400 + since.seconds) * NANOS + fraction
