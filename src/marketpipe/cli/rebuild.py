"""`marketpipe rebuild`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.clock import now_ns
from marketpipe.cli.common import settings, split
from marketpipe.cli.options import Journal, Symbols

if TYPE_CHECKING:
    from marketpipe.pipelines.lakereads import Days
    from marketpipe.pipelines.rebuild import Rebuilt


class Origin(StrEnum):
    """From what."""

    RAW = "raw"
    CANONICAL = "canonical"


def rebuild(
    ctx: typer.Context,
    start: Annotated[str, typer.Option(help="First session date, such as 2026-01-05.")],
    end: Annotated[str, typer.Option(help="Session date to stop before, such as 2026-01-06.")],
    origin: Annotated[
        Origin, typer.Option("--from", help="Every raw message again, or the canonical trades.")
    ] = Origin.RAW,
    symbols: Symbols = None,
    journal: Journal = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write what differs, as revisions; else only show it.")
    ] = False,
) -> None:
    """Compute bars again from the lake, show what differs, and with --write write it as revisions.

    Exits 1 if bars differ and nothing was written, 2 if there is no bar to compare of what the
    options pick, 3 while a feed of the data folder runs.

    Example: marketpipe rebuild --from raw --symbols AAPL --start 2026-01-05 --end 2026-01-06
    """
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.cli.verify import refuse_unknown
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.ownership import OR_A_COPY, stopped_feeds
    from marketpipe.pipelines.rebuild import described, plan, symbols_of
    from marketpipe.pipelines.rebuild import write as write_revisions
    from marketpipe.pipelines.rebuildjobs import jobs_of

    read = settings(ctx)
    folder = folder_of(read)
    wanted = None if symbols is None else frozenset(split(symbols))
    jobs = jobs_of(folder, journal, origin.value, wanted, _days(start, end))
    refuse_unknown(wanted, frozenset() if wanted is None else symbols_of(folder))
    with stopped_feeds(folder, "" if write else OR_A_COPY):
        plans = [(job, plan(job)) for job in jobs]
    if all(found.is_empty for _, found in plans):
        raise UsageError(
            f"start and end: were '{start}' and '{end}'; there is no bar to compare of "
            f"{described(jobs[0])}"
        )
    differs = False
    for job, found in plans:
        print(f"journal    {job.settings.journal_id}: {described(job)}")
        _show(found)
        if write:
            count = asyncio.run(write_revisions(job, found, now_ns()))
            print(f"written    {count:,} revisions with cause rebuild")
        elif found:
            differs = True
    if differs:
        raise typer.Exit(1)


def _days(start: str, end: str) -> "Days":
    from datetime import date

    from marketpipe.errors import UsageError
    from marketpipe.pipelines.lakereads import Days

    days = []
    for name, text in (("start", start), ("end", end)):
        try:
            days.append((date.fromisoformat(text) - date(1970, 1, 1)).days)
        except ValueError as problem:
            raise UsageError(
                f"{name}: was {text!r}; expected a date such as 2026-01-05"
            ) from problem
    if days[1] <= days[0]:
        raise UsageError(f"end: was {end!r}; expected a date after start {start!r}")
    return Days(days[0], days[1] - 1)


def _show(found: "Rebuilt") -> None:
    from marketpipe.domain.units import format_ns

    print(
        f"bars       {found.equal:,} agree, {found.changed:,} changed, {found.absent:,} not kept, "
        f"{found.gone:,} without a trade"
    )
    if found.left_out:
        print(
            f"left out   {found.left_out:,} bars of sessions that loads changed: "
            "rebuild them --from canonical"
        )
    for d in found.differences:
        print(
            f"           {d.symbol}@{d.timeframe} {format_ns(d.ts_open)} {d.field}: kept {d.kept}, "
            f"now {d.fresh}"
        )
