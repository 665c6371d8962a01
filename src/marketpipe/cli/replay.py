"""`marketpipe replay`."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.clock import now_ns
from marketpipe.cli.common import note, progress_line, settings, split
from marketpipe.cli.options import Quiet

if TYPE_CHECKING:
    from marketpipe.pipelines.files import ReplayJob

CsvOption = Annotated[
    str | None,
    typer.Option("--csv", help="Tick CSV; .gz and .zst are unpacked; - reads standard input."),
]


class RecordTime(StrEnum):
    """Times of a DBN record."""

    EVENT = "event"
    RECV = "recv"


def replay(
    ctx: typer.Context,
    csv: CsvOption = None,
    parquet: Annotated[Path | None, typer.Option(help="Parquet file of ticks.")] = None,
    dbn: Annotated[Path | None, typer.Option(help="Databento DBN file (extra: dbn).")] = None,
    time: Annotated[
        RecordTime, typer.Option(help="Which time of a DBN record picks its bar.")
    ] = RecordTime.EVENT,
    symbols: Annotated[
        str | None, typer.Option(help="Only these, such as AAPL,BTC/USD; default: all.")
    ] = None,
    timeframes: Annotated[
        str, typer.Option(help="Any of <n><s|m|h|d|w>, separated by commas.")
    ] = "1m,5m,15m,1h,1d",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write bars: .csv, .parquet or .arrow.")
    ] = None,
    calendar: Annotated[
        str, typer.Option(help="24/7, or an exchange calendar such as XNYS, XTKS, CMES.")
    ] = "24/7",
    session: Annotated[
        str | None,
        typer.Option(
            help="regular, extended or continuous. Default: continuous for 24/7, else regular."
        ),
    ] = None,
    rules: Annotated[
        str, typer.Option(help="Condition rules: plain, alpaca-v1, or a TOML file.")
    ] = "plain",
    price: Annotated[str, typer.Option(help="trade, or bid, ask or mid of quotes.")] = "trade",
    overrides: Annotated[
        Path | None, typer.Option(help="TOML file that corrects the calendar.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Write every revision, with cause and known_at.")
    ] = False,
    all_series: Annotated[
        bool, typer.Option("--all-series", help="Allow several series in one output.")
    ] = False,
    quarantine: Annotated[
        Path | None, typer.Option(help="Write the refused rows to this CSV.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Write what the bars follow from, and the roots (JSON).")
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Load the file into the data folder: ticks and bars.")
    ] = False,
    source: Annotated[str, typer.Option(help="Source of rows that name none.")] = "file",
    feed: Annotated[str, typer.Option(help="Feed of rows that name none.")] = "",
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm", help="Recompute the bars independently in SQL; exit 1 if they differ."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads of the bar engine.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Build bars from a file of ticks: deterministic, with a root that proves it.

    Example: marketpipe replay --csv ticks.csv.gz --timeframes 1m,1h --output bars.csv
    """
    from marketpipe.pipelines.files import ReplayJob, run_job

    load = _loader(ctx, csv, price) if store else None
    job = ReplayJob(
        csv=csv,
        parquet=parquet,
        dbn=dbn,
        symbols=frozenset(split(symbols)) if symbols is not None else None,
        timeframes=timeframes,
        output=output,
        calendar=calendar,
        session=session,
        rules=rules,
        price=price,
        overrides=overrides,
        history=history,
        all_series=all_series,
        quarantine=quarantine,
        manifest=manifest,
        source=source,
        feed=feed,
        confirm=confirm,
        workers=workers,
        time=time.value,
    )
    with progress_line(quiet) as show:
        report = run_job(job, show)
    from marketpipe.cli.report import print_report

    print_report(report)
    if load is not None:
        load(job)
    for warning in report.warnings:
        note(f"marketpipe: {warning}")
    if report.confirmed is False:
        raise typer.Exit(1)


def _loader(ctx: typer.Context, csv: str | None, price: str) -> "Callable[[ReplayJob], None]":
    """Return what loads a replay's file into the data folder, and says what that came to.

    What it takes to load is imported here: a replay that loads nothing starts without it.
    """
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.cli.report import stored_words
    from marketpipe.pipelines.load import LoadJob, load_file, loadable, replayed_settings

    path, folder, now = loadable(csv, price), folder_of(settings(ctx)), now_ns()

    def load(job: "ReplayJob") -> None:
        done = asyncio.run(
            load_file(
                LoadJob(
                    folder=folder,
                    path=path,
                    source=job.source,
                    feed=job.feed,
                    symbols=job.symbols,
                    settings=replayed_settings(job),
                    now_ns=now,
                )
            )
        )
        print(f"stored     {stored_words(done)}")
        if done.given_up:
            note(
                f"marketpipe: the load of {done.given_up} broke off before all of its lines were "
                "read; nothing of it was written: load it again"
            )

    return load
