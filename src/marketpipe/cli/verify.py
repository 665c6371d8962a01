"""`marketpipe verify`."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from marketpipe.cli.common import settings, split
from marketpipe.cli.options import Journal, Symbols

if TYPE_CHECKING:
    from marketpipe.pipelines.datafolder import DataFolder
    from marketpipe.pipelines.proof import Proof


def verify(
    ctx: typer.Context,
    symbols: Symbols = None,
    date: Annotated[
        str | None, typer.Option(help="Only bars of this session date, such as 2026-01-05.")
    ] = None,
    journal: Journal = None,
    against_vendor: Annotated[
        bool, typer.Option("--against-vendor", help="With the vendor's own bars of the stream.")
    ] = False,
) -> None:
    """Compare the bars that are kept with a replay of the journal and an independent batch in SQL.

    Prints the roots side by side; exits 1 and names the first bar that differs if one does, 2 if
    there is nothing to compare of what the options pick, 3 while a feed of the data folder runs:
    stop it, or verify a restored backup. A journal is read from its first record on, the lines of
    loaded files too; their bars are compared with the canonical trades as well. With
    --against-vendor the bars of alpaca-v1 are compared with the vendor's own bars of the same
    stream instead, cell by cell; exits 1 and explains the first that differs, 2 if there is
    nothing to compare.

    Example: marketpipe verify --symbols AAPL --date 2026-01-05
    """
    from datetime import date as day_of

    from marketpipe.access import folder_of
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.journals import feeds
    from marketpipe.pipelines.loadlog import JOURNAL as LOADS
    from marketpipe.pipelines.ownership import OR_A_COPY, stopped_feeds

    read = settings(ctx)
    folder = folder_of(read)
    loads = [LOADS] if LOADS in folder.journals() else []
    names = [*feeds(folder), *loads] if journal is None else [journal]
    if not names:
        raise UsageError(
            f"data-dir: '{read.data_dir}' holds no feed and no loaded file; see marketpipe stream, "
            "and marketpipe replay --store"
        )
    day = None
    if date is not None:
        try:
            day = (day_of.fromisoformat(date) - day_of(1970, 1, 1)).days
        except ValueError as problem:
            raise UsageError(f"date: was {date!r}; expected one such as 2026-01-05") from problem
    wanted = None if symbols is None else frozenset(split(symbols))
    if against_vendor:
        agrees = _against_vendor(folder, journal, wanted, day)
    else:
        with stopped_feeds(folder, OR_A_COPY):
            agrees = print_proofs(folder, names, wanted, day)
    if not agrees:
        raise typer.Exit(1)


def print_proofs(
    folder: "DataFolder", names: list[str], wanted: frozenset[str] | None, day: int | None
) -> bool:
    """Print what the four sides of each journal come to; say whether they agree."""
    from datetime import date as day_of
    from datetime import timedelta

    from marketpipe.domain.units import format_ns
    from marketpipe.errors import BusyError, UsageError
    from marketpipe.pipelines.loadlog import JOURNAL as LOADS
    from marketpipe.pipelines.loadproof import prove_loads
    from marketpipe.pipelines.proof import prove

    proofs = [prove(folder, name, symbols=wanted, day=day) for name in names if name != LOADS]
    not_compared = ""
    if LOADS in names:
        try:
            proofs += prove_loads(folder, symbols=wanted, day=day)
        except (BusyError, UsageError) as why:
            if not proofs:
                raise
            not_compared = str(why)
    if not proofs:
        raise UsageError(
            "journal load: has no bars of its own to compare: nothing was written, or its streams "
            "are those of feeds; name a feed's journal"
        )
    refuse_unknown(wanted, frozenset().union(*(proof.symbols for proof in proofs)))
    if day is not None and all(proof.is_empty for proof in proofs):
        _refuse_empty(proofs, day)
    for proof in proofs:
        print(f"journal    {proof.journal_id}{proof.what and ': '}{proof.what}")
        if proof.watermark_ns is None:
            print("           nothing was confirmed yet")
            continue
        print(f"{'loaded' if proof.what else 'watermark':<10} {format_ns(proof.watermark_ns)}")
        for side in proof.sides:
            print(f"{side.name:<10} {side.bars:>9,} bars  root {side.root}")
            if side.history_root is not None:
                print(f"           {'':>9}  history root {side.history_root}")
            if side.difference is not None:
                print(f"           differs: {side.difference}")
        for note in proof.notes:
            print(note)
        if proof.no_batch:
            print(f"batch      none: {proof.no_batch}")
        if proof.store_floor is not None:
            print(
                f"store      was pruned of sessions before "
                f"{day_of(1970, 1, 1) + timedelta(days=proof.store_floor)}: later ones are compared"
            )
        if proof.dropped and proof.floor is not None:
            print(
                f"left out   {proof.dropped:,} bars of sessions before "
                f"{day_of(1970, 1, 1) + timedelta(days=proof.floor)}, which were dropped from the "
                "lake"
            )
        if proof.left_out:
            print(
                f"left out   {proof.left_out:,} bars of {proof.sessions_left_out:,} sessions that "
                "loads or rebuilds changed: the journal cannot give them"
            )
    if not_compared:
        print(f"journal    {LOADS}\n           not compared: {not_compared}")
    return all(proof.agrees for proof in proofs)


def _against_vendor(
    folder: "DataFolder", journal: str | None, wanted: frozenset[str] | None, day: int | None
) -> bool:
    """Print what our bars and the vendor's come to; say whether they agree."""
    from marketpipe.cli.certificate import print_certificate
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.certify import certify
    from marketpipe.pipelines.journals import recorded
    from marketpipe.pipelines.whydiffers import why_differs

    if wanted is not None and not wanted:
        raise UsageError("symbols: was ',', no symbol; name some, or leave it out")
    made = None if journal is None else recorded(folder, journal)
    feeds = None if made is None else {(made.source, made.feed)}
    found = certify(folder, symbols=wanted or (), day=day, feeds=feeds)
    refuse_unknown(wanted, found.symbols)
    print_certificate(found, None if found.first is None else why_differs(folder, found.first))
    return found.agrees


def _refuse_empty(proofs: "list[Proof]", day: int) -> NoReturn:
    from datetime import date, timedelta

    from marketpipe.errors import UsageError

    dates = [one for proof in proofs for one in proof.dates or ()]
    kept = f"bars are kept of {min(dates)} to {max(dates)}" if dates else "no bar is kept yet"
    raise UsageError(
        f"date: was '{date(1970, 1, 1) + timedelta(days=day)}', a session date with nothing to "
        f"compare; {kept}"
    )


def refuse_unknown(wanted: frozenset[str] | None, known: frozenset[str]) -> None:
    """Refuse symbols that are not known; None asks for none."""
    from marketpipe.domain.symbols import near_first
    from marketpipe.errors import UsageError

    unknown = sorted((wanted or known) - known)
    if unknown or wanted == frozenset():
        was = ",".join(sorted(wanted or ())) or ","
        which = f"of which this data folder has no {', '.join(unknown)}" if unknown else "no symbol"
        raise UsageError(f"symbols: was '{was}', {which}; valid are {near_first(known, unknown)}")
