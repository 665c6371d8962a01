"""`marketpipe gaps`."""

from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.common import settings
from marketpipe.cli.options import Journal

if TYPE_CHECKING:
    from marketpipe.pipelines.datafolder import DataFolder
    from marketpipe.store import GapEntry


def gaps(
    ctx: typer.Context,
    journal: Journal = None,
    unrepaired: Annotated[
        bool, typer.Option("--open", help="Only those that are not repaired.")
    ] = False,
) -> None:
    """List when feeds may have missed messages, and what became of it.

    Exits 1 if a gap is not repaired, or the vendor's bars over it differ from those of its trades.
    The look at a whole day with gaps, which waits for the day to be over, counts once it is done.

    Example: marketpipe gaps --open
    """
    from marketpipe.access import folder_of
    from marketpipe.errors import UsageError

    read = settings(ctx)
    folder = folder_of(read)
    known = folder.journals()
    if not known:
        raise UsageError(
            f"data-dir: '{read.data_dir}' holds no feed and no loaded file; see marketpipe stream, "
            "and marketpipe replay --store"
        )
    if journal is not None and journal not in known:
        raise UsageError(
            f"journal: was {journal!r}; journals of this data folder are {', '.join(known)}"
        )
    if not print_gaps(folder, journal, unrepaired=unrepaired):
        raise typer.Exit(1)


def print_gaps(
    folder: "DataFolder", journal: str | None = None, *, unrepaired: bool = False
) -> bool:
    """Print the gap ledger, an entry a line; say whether every gap is repaired and compared."""
    entries = _entries(folder, journal)
    for entry in entries:
        if unrepaired and entry.state == "repaired":
            continue
        print(_line(entry))
        if entry.detail:
            print(f"           {entry.detail}")
    if not entries:
        print("gaps       none")
    return all(entry.is_fine for entry in entries)


def _entries(folder: "DataFolder", journal: str | None) -> "list[GapEntry]":
    import asyncio

    from marketpipe.store import BarRepository, GapStore

    async def read() -> "list[GapEntry]":
        async with await BarRepository.open(folder.store_url) as store:
            return await GapStore(store.database).every(journal)

    return asyncio.run(read())


def _line(entry: "GapEntry") -> str:
    from marketpipe.domain.units import format_ns

    found = f"{entry.trades:,} trades, {entry.bars_exact} of {entry.bars_compared} bars exact"
    return (
        f"gap        {entry.journal_id} {entry.number}: {format_ns(entry.start_ns)} to "
        f"{format_ns(entry.end_ns)}, {entry.reason}: {entry.state}"
        + (f", {found}" if entry.state == "repaired" else "")
    )
