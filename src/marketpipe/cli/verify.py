"""`marketpipe verify`."""

from typing import Annotated

import typer

from marketpipe.cli.common import settings, split


def verify(
    ctx: typer.Context,
    symbols: Annotated[str | None, typer.Option(help="Only these; default: all.")] = None,
    date: Annotated[
        str | None, typer.Option(help="Only bars of this session date, such as 2026-01-05.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(help="Of this journal's feed; default: of every one.")
    ] = None,
) -> None:
    """Compare the bars that are kept with a replay of the journal and an independent batch in SQL.

    Prints the roots side by side; exits 1 and names the first bar that differs if one does. A
    journal is read from its first record on, whatever the options pick.

    Example: marketpipe verify --symbols AAPL --date 2026-01-05
    """
    from datetime import date as day_of

    from marketpipe.cli.wiring import folder_of
    from marketpipe.domain.units import format_ns
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.journals import feeds
    from marketpipe.pipelines.proof import prove

    read = settings(ctx)
    folder = folder_of(read)
    names = feeds(folder) if journal is None else [journal]
    if not names:
        raise UsageError(f"data-dir: '{read.data_dir}' holds no feed; see marketpipe stream")
    day = None
    if date is not None:
        try:
            day = (day_of.fromisoformat(date) - day_of(1970, 1, 1)).days
        except ValueError as problem:
            raise UsageError(f"date: was {date!r}; expected one such as 2026-01-05") from problem
    agrees = True
    for name in names:
        proof = prove(
            folder,
            name,
            symbols=frozenset(split(symbols)) if symbols is not None else None,
            day=day,
        )
        agrees &= proof.agrees
        print(f"journal    {name}")
        if proof.watermark_ns is None:
            print("           nothing was confirmed yet")
            continue
        print(f"watermark  {format_ns(proof.watermark_ns)}")
        for side in proof.sides:
            print(f"{side.name:<10} {side.bars:>9,} bars  root {side.root}")
            if side.history_root is not None:
                print(f"           {'':>9}  history root {side.history_root}")
            if side.difference is not None:
                print(f"           differs: {side.difference}")
        if proof.no_batch:
            print(f"batch      none: {proof.no_batch}")
        if proof.left_out:
            print(
                f"left out   {proof.left_out:,} bars of sessions that loads or rebuilds changed: "
                "the journal cannot give them"
            )
    if not agrees:
        raise typer.Exit(1)
