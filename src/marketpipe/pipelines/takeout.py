"""Taking bars and ticks out of the lake: as of a time, in one file or many."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe.domain.schemas import BARS, CANONICAL
from marketpipe.domain.timeframe import Timeframe, parse_many
from marketpipe.errors import UsageError
from marketpipe.lake import Lake
from marketpipe.verify.csvtext import csv_chunks
from marketpipe.verify.exporter import CanonicalExporter

Kind: TypeAlias = Literal["bars", "trades", "quotes", "corrections"]
Format: TypeAlias = Literal["csv", "parquet", "arrow"]

_BAR_SERIES: Final = {
    "source": "source",
    "feed": "feed",
    "price": "price_type",
    "rules": "rule_set",
    "session": "session",
}
"""What names a series of bars, and the columns of `Lake.series`; of ticks, the first two do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeout:
    """What `marketpipe export` was asked for.

    Attributes
    ----------
    symbols : None means all that there are
    timeframes : of bars, with commas; None means all that there are
    start, end : inclusive, exclusive; by ``ts_open`` of bars, else ``ts_event``
    named : parts of a series: source, feed; of bars also price, rules, session
    all_series : every series, rather than the preferred one of each symbol
    """

    kind: Kind
    output: Path
    symbols: tuple[str, ...] | None = None
    timeframes: str | None = None
    start: str | None = None
    end: str | None = None
    as_of: str | None = None
    knowledge: Literal["assumed", "strict"] = "assumed"
    named: Mapping[str, str | None]
    history: bool = False
    all_series: bool = False
    format: Format = "csv"
    layout: Literal["flat", "hive"] = "flat"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was written; ``digest`` is that of the CSV, None for other formats and for hive."""

    rows: int
    digest: str | None


def take_out(lake: Lake, job: Takeout) -> Taken:
    """Write bars or ticks of the lake.

    Raises
    ------
    UsageError, SeriesError
        If the request cannot be read, names what is not there, or more than one series.
    LakeError
        If the lake cannot be read.
    """
    _check(job)
    listed = _listed(lake, job)
    frames = [_read(lake, job, chosen) for chosen in _reads(job, listed)]
    kept = [frame for frame in frames if frame.height]
    schema = BARS if job.kind == "bars" else CANONICAL[job.kind]
    rows = pa.concat_tables(
        [schema.empty_table(), *(f.select(schema.names).to_arrow().cast(schema) for f in kept)]
    )
    return _write_bars(job, rows) if job.kind == "bars" else _write_ticks(job, rows)


def _check(job: Takeout) -> None:
    if job.kind != "bars":
        only = {"timeframes": job.timeframes is not None, "history": job.history}
        only |= {name: job.named.get(name) is not None for name in ("price", "rules", "session")}
        for name in (name for name, said in only.items() if said):
            raise UsageError(
                f"--{name}: was given for {job.kind}; it is of bars alone; leave it out"
            )
    if job.layout == "hive" and job.output.is_dir() and any(job.output.iterdir()):
        raise UsageError(
            f"output: '{job.output}' is not empty; files of another export would stand among "
            "these: name a new folder, or empty it"
        )
    if job.layout == "flat" and not job.output.parent.is_dir():
        raise UsageError(f"output: the folder of '{job.output}' does not exist; create it first")


def _listed(lake: Lake, job: Takeout) -> pl.DataFrame:
    """Return what series there are of what is asked for."""
    there = lake.series().filter(pl.col("table") == job.kind)
    if there.is_empty():
        raise UsageError(
            f"export: the lake holds no {job.kind}; take some in first: "
            "marketpipe stream --mode mock --csv FILE, or marketpipe replay --csv FILE --store"
        )
    if job.symbols is None:
        return there
    known = set(there["symbol"])
    missing = [symbol for symbol in job.symbols if symbol not in known]
    if missing:
        raise UsageError(
            f"symbols: {', '.join(missing)} are not in the lake's {job.kind}; it holds "
            f"{', '.join(sorted(known)[:20])}"
        )
    return there.filter(pl.col("symbol").is_in(list(job.symbols)))


def _reads(job: Takeout, listed: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each read: one a timeframe, and one a series where all are asked."""
    names = _BAR_SERIES if job.kind == "bars" else dict(list(_BAR_SERIES.items())[:2])
    given = {name: job.named.get(name) for name in names}
    chosen: list[dict[str, str | None]] = [given]
    if job.all_series:
        rows = listed.select(list(names.values())).unique().sort(list(names.values())).rows()
        every = [dict(zip(names, row, strict=True)) for row in rows]
        chosen = [s for s in every if all(v is None or s[k] == v for k, v in given.items())]
    symbols = sorted(set(listed["symbol"]))
    if job.kind != "bars":
        yield from ({"symbols": symbols, **series} for series in chosen)
        return
    if job.timeframes is not None:
        timeframes = list(parse_many(job.timeframes))
    else:
        timeframes = sorted(Timeframe.parse(name) for name in set(listed["timeframe"]))
    for series in chosen:
        for timeframe in timeframes:
            yield {"symbols": symbols, "timeframe": str(timeframe), **series}


def _read(lake: Lake, job: Takeout, chosen: Mapping[str, Any]) -> pl.DataFrame:
    read: Callable[..., pl.DataFrame] = getattr(lake, job.kind)
    also = {"history": job.history} if job.kind == "bars" else {}
    return read(
        start=job.start,
        end=job.end,
        as_of=job.as_of,
        knowledge=job.knowledge,
        **chosen,
        **also,
    )


# -- files -----------------------------------------------------------------------------------------


def _write_bars(job: Takeout, rows: pa.Table) -> Taken:
    exporter = CanonicalExporter(rows, all_series=job.all_series, history=job.history)
    if job.layout == "hive":
        exporter.to_hive(job.output, job.format)
        return Taken(len(exporter), None)
    if job.format == "csv":
        return Taken(len(exporter), exporter.write(job.output))
    if job.format == "parquet":
        exporter.to_parquet(job.output)
    else:
        exporter.to_arrow(job.output)
    return Taken(len(exporter), None)


def _write_ticks(job: Takeout, rows: pa.Table) -> Taken:
    if job.layout == "flat":
        return Taken(len(rows), _write_file(job.output, rows, job.format))
    for (symbol, day), part in _by_symbol_and_day(rows):
        folder = f"symbol={quote(symbol, safe='')}/year={day:%Y}/month={day:%m}"
        path = job.output / folder / f"day={day:%d}.{job.format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, part, job.format)
    return Taken(len(rows), None)


def _by_symbol_and_day(rows: pa.Table) -> Iterator[tuple[tuple[str, Any], pa.Table]]:
    keys = pl.from_arrow(rows.select(["symbol", "session_date"]))
    if isinstance(keys, pl.DataFrame):
        places = keys.with_row_index("row").group_by("symbol", "session_date", maintain_order=True)
        for (symbol, day), group in places:
            yield (str(symbol), day), rows.take(group["row"].to_arrow())


def _write_file(path: Path, rows: pa.Table, form: Format) -> str | None:
    """Write one file, which appears whole or not at all; return a CSV's digest."""
    partial = path.with_name(f".{path.name}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            if form == "parquet":
                pq.write_table(rows, file, compression="zstd", row_group_size=65_536)
            elif form == "arrow":
                with pa.ipc.new_file(file, rows.schema) as writer:
                    writer.write_table(rows, max_chunksize=65_536)
            else:
                for chunk in _csv(rows):
                    digest.update(chunk)
                    file.write(chunk)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return f"sha256:{digest.hexdigest()}" if form == "csv" else None


def _csv(rows: pa.Table) -> Iterator[memoryview]:
    """Render ticks as CSV: exact decimals, instants as RFC 3339."""
    names = rows.column_names
    for at, column in enumerate(rows.columns):
        if pa.types.is_date(column.type) or pa.types.is_boolean(column.type):
            rows = rows.set_column(at, names[at], column.cast(pa.string()))
    # The renderer knows instants by their names.
    inner = [f"ts_{name}" if name == "recorded_at" else name for name in names]
    return csv_chunks(rows.rename_columns(inner), tuple(zip(names, inner, strict=True)))
