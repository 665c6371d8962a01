"""A replay as the user asks for it: which file in, which files out."""

import csv
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from marketpipe.domain.batches import BadRow
from marketpipe.domain.findings import Findings
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.timeframe import parse_many
from marketpipe.errors import UsageError
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.replay import Progress, Replay, ReplaySettings
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.verify.digest import DigestTree
from marketpipe.verify.exporter import CanonicalExporter
from marketpipe.verify.manifest import RunInput, RunManifest
from marketpipe.verify.recompute import RULE_SETS

if TYPE_CHECKING:
    from marketpipe.sources.base import Source

FORMATS = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """What `marketpipe replay` was asked to do; exactly one of csv, parquet, dbn is given.

    ``csv`` may be ``-``. ``time`` says which time of a DBN record picks its bar. ``source`` and
    ``feed`` are those of rows that name none.
    """

    csv: str | None = None
    parquet: Path | None = None
    dbn: Path | None = None
    symbols: frozenset[str] | None = None
    timeframes: str = "1m,5m,15m,1h,1d"
    output: Path | None = None
    calendar: str = "24/7"
    session: str | None = None
    rules: str = "plain"
    price: str = "trade"
    overrides: Path | None = None
    history: bool = False
    all_series: bool = False
    quarantine: Path | None = None
    manifest: Path | None = None
    source: str = "file"
    feed: str = ""
    confirm: bool = False
    workers: int = 1
    time: Literal["event", "recv"] = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay came to. ``confirmed`` is None where no confirmation was asked for."""

    described: str
    calendar: str
    session: str
    rules: str
    price: str
    rows: int
    ticks: int
    first_ns: int | None
    last_ns: int | None
    bars: dict[str, int]
    revisions: int | None
    findings: Findings
    root: str
    history_root: str | None
    output: Path | None
    digest: str | None
    confirmed: bool | None
    confirmation: str
    warnings: tuple[str, ...]


def run_job(job: ReplayJob, progress: Progress | None = None) -> ReplayReport:
    """Run a replay.

    Raises
    ------
    MarketPipeError
        For wrong words or input; nothing is written then but the quarantine file.
    """
    target = None if job.output is None else _format(job.output)
    if job.manifest is not None and not job.manifest.parent.is_dir():
        raise UsageError(f"manifest: the folder of '{job.manifest}' does not exist; create it")
    _check_apart(job)
    if job.symbols is not None and not job.symbols:
        raise UsageError("symbols: were empty; name at least one, or leave the option out for all")
    if job.confirm and job.csv is None and job.parquet is None:
        raise UsageError("--confirm: recomputes from a CSV or Parquet file; leave it out for DBN")
    if job.confirm and job.rules not in RULE_SETS:
        raise UsageError(
            f"--confirm: knows the rules {', '.join(RULE_SETS)}, was {job.rules!r}; leave it out "
            "for a rule table of your own"
        )
    if job.confirm and job.csv == "-":
        raise UsageError("--confirm: reads the file a second time, so it cannot be standard input")
    settings = ReplaySettings(
        timeframes=parse_many(job.timeframes),
        calendar=job.calendar,
        session=job.session,
        overrides=Overrides.load(job.overrides) if job.overrides else None,
        rule_set=RuleSet.load(job.rules),
        price_type=job.price,
        history=job.history,
        workers=job.workers,
    )
    with tempfile.TemporaryDirectory(prefix="marketpipe-") as folder:
        source = open_source(job)
        try:
            _check_confirmable(job)
            with _quarantine(job.quarantine) as refuse:
                run = Replay(source, settings, SessionSpool(Path(folder)), refuse, progress)
                _check_kind(source, job.price)
                run.run()
        finally:
            source.close()
        return _report(job, run, source, target)


def _report(job: ReplayJob, run: Replay, source: "Source", target: str | None) -> ReplayReport:
    tree, counts = run.digest()
    history = run.history() if run.settings.history else None
    history_root = None
    if history is not None:
        history_root = DigestTree.build(history, history=True).root
    digest = None
    if job.output is not None and target is not None:
        digest = _write(job, run, history, target)
    if job.manifest is not None:
        made = _manifest(job, run, counts, tree.root, history_root)
        job.manifest.write_text(made.to_json(), "ascii")
    confirmed, words = _confirm(job, run) if job.confirm else (None, "")
    return ReplayReport(
        described=source.describe(),
        calendar=job.calendar,
        session=run.engine.session,
        rules=run.settings.rule_set.name,
        price=job.price,
        rows=run.rows,
        ticks=run.ticks,
        first_ns=run.first_ns,
        last_ns=run.last_ns,
        bars=counts,
        revisions=None if history is None else len(history),
        findings=run.findings,
        root=tree.root,
        history_root=history_root,
        output=job.output,
        digest=digest,
        confirmed=confirmed,
        confirmation=words,
        warnings=_warnings(job, run),
    )


def open_source(job: ReplayJob) -> "Source":
    """Open the one file that a job names.

    Raises
    ------
    UsageError
        If none or several are named.
    InputError
        If it cannot be opened or read.
    """
    named = [n for n in ("csv", "parquet", "dbn") if getattr(job, n) is not None]
    if len(named) != 1:
        raise UsageError(
            f"input: {len(named)} were named; give exactly one of --csv FILE, --parquet FILE, "
            "--dbn FILE (--csv - reads standard input)"
        )
    if job.csv is not None:
        from marketpipe.sources.csvfile import CsvSource

        return CsvSource(
            sys.stdin.buffer if job.csv == "-" else job.csv,
            symbols=job.symbols,
            default_source=job.source,
            default_feed=job.feed,
        )
    if job.parquet is not None:
        from marketpipe.sources.parquet import ParquetSource

        return ParquetSource(
            job.parquet,
            symbols=job.symbols,
            default_source=job.source,
            default_feed=job.feed,
        )
    from marketpipe.sources.dbn import DbnSource

    assert job.dbn is not None  # noqa: S101 - one of the three is named
    return DbnSource(job.dbn, symbols=job.symbols, time=job.time)


def _check_kind(source: "Source", price: str) -> None:
    if (source.kind == "trades") != (price == "trade"):
        fits = "--price trade" if source.kind == "trades" else "--price bid, ask or mid"
        raise UsageError(f"price: was {price!r}, but the input holds {source.kind}; use {fits}")


def _format(path: Path) -> str:
    if path.suffix not in FORMATS:
        raise UsageError(f"output: was '{path}'; expected a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"output: the folder of '{path}' does not exist; create it first")
    return FORMATS[path.suffix]


def _check_confirmable(job: ReplayJob) -> None:
    """Refuse before the work what the independent side could not read after it."""
    if not job.confirm or job.parquet is None:
        return
    import pyarrow.parquet as pq

    names = pq.read_schema(job.parquet).names
    ours = [n for n in names if n == "ts_event" or n.endswith("_nanos")]
    if ours:
        raise UsageError(
            f"--confirm: reads columns of the names of the tick CSV alone, '{job.parquet}' has "
            f"{', '.join(ours)}; leave --confirm out, or name the columns ts_ns, price, size"
        )


def _check_apart(job: ReplayJob) -> None:
    """Refuse to write over the input, or two outputs into one file."""
    named = {
        "--csv": None if job.csv in (None, "-") else Path(str(job.csv)),
        "--parquet": job.parquet,
        "--dbn": job.dbn,
        "--output": job.output,
        "--quarantine": job.quarantine,
        "--manifest": job.manifest,
    }
    seen: dict[Path, str] = {}
    for option, path in named.items():
        if path is None:
            continue
        other = seen.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{option}: '{path}' is the file of {other} too; choose another")


def _write(job: ReplayJob, run: Replay, history: Any, target: str) -> str | None:
    assert job.output is not None  # noqa: S101 - the caller has looked
    bars = history if job.history else run.bars()
    exporter = CanonicalExporter(bars, all_series=job.all_series, history=job.history)
    if target == "csv":
        return exporter.write(job.output)
    if target == "parquet":
        exporter.to_parquet(job.output)
    else:
        exporter.to_arrow(job.output)
    return exporter.compute_hash()


def _manifest(
    job: ReplayJob, run: Replay, counts: dict[str, int], root: str, history_root: str | None
) -> RunManifest:
    name = job.csv or str(job.parquet or job.dbn)
    path = None if name == "-" else Path(name)
    return RunManifest(
        configuration={
            "timeframes": [str(tf) for tf in sorted(run.settings.timeframes)],
            "session": run.engine.session,
            "price": job.price,
            "symbols": sorted(job.symbols) if job.symbols is not None else None,
            "time": job.time,
        },
        rule_tables={run.settings.rule_set.name: run.settings.rule_set.digest},
        calendar=job.calendar,
        calendar_version=run.engine.grid.version,
        code_version=version("marketpipe"),
        inputs=(
            RunInput(
                name=name if path is None else path.name,
                size_bytes=None if path is None else path.stat().st_size,
                digest=None if path is None else _digest(path),
            ),
        ),
        counts={
            "rows": run.rows,
            "ticks": run.ticks,
            **{f"bars.{tf}": n for tf, n in counts.items()},
            **{f"findings.{code}": n for code, n in run.findings.counts.items()},
        },
        root=root,
        history_root=history_root,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _confirm(job: ReplayJob, run: Replay) -> tuple[bool, str]:
    from marketpipe.pipelines.confirm import confirm_file

    return confirm_file(job, run)


def _warnings(job: ReplayJob, run: Replay) -> tuple[str, ...]:
    found = []
    if job.symbols is not None:
        missing = sorted(job.symbols - {key.symbol for key in run.engine.streams})
        if missing:
            found.append(f"no rows of {', '.join(missing)} in the input")
    if not run.ticks:
        found.append("no tick was admitted, so there are no bars")
    return tuple(found)


@contextmanager
def _quarantine(path: Path | None) -> Iterator[Any]:
    """Give a function that writes refused rows; None where they are only counted."""
    if path is None:
        yield None
        return
    try:
        file = path.open("w", newline="", encoding="utf-8")
    except OSError as problem:
        raise UsageError(f"quarantine: '{path}' cannot be written: {problem}") from problem
    with file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["row", "reason", "field", "raw", "raw_bytes"])

        def write(rows: tuple[BadRow, ...]) -> None:
            for row in rows:
                raw = row.raw.decode("utf-8", "backslashreplace")
                out.writerow([row.row, row.reason, row.field, raw, row.raw_bytes])

        yield write
