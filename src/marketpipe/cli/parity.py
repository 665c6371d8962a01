"""`marketpipe parity`."""

from pathlib import Path
from typing import Annotated

import typer


def parity(
    reference: Annotated[Path, typer.Option(help="Bars to compare against.")],
    csv: Annotated[Path, typer.Option("--csv", help="Bars that were generated.")],
    tolerance: Annotated[str, typer.Option(help="Largest allowed difference of a price.")] = "1e-6",
    volume_tolerance: Annotated[
        str, typer.Option(help="Largest allowed difference of volume and notional.")
    ] = "0",
    symbol: Annotated[
        str | None, typer.Option(help="Symbol of a file that does not say, as TradingView's.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="Timeframe of a file that does not say.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Differences to print of each kind.")] = 20,
) -> None:
    """Compare two files of bars (ours or TradingView's); exit 0 if they agree, 1 if not.

    Example: marketpipe parity --reference vendor.csv --csv bars.csv --tolerance 1e-6
    """
    from marketpipe.verify.comparator import BarComparator

    comparison = BarComparator(tolerance, volume_tolerance).compare(
        reference, csv, symbol=symbol, timeframe=timeframe, listed=limit
    )
    for title, items in (
        ("differs", comparison.differing),
        ("missing", comparison.missing),
        ("extra", comparison.extra),
    ):
        for item in items:
            print(f"{title:<10} {item}")
    print(f"compared   {', '.join(comparison.fields)}")
    print(
        f"bars       {comparison.matched_count:,} match, {comparison.differing_count:,} differ in "
        f"{comparison.differing_cell_count:,} cells, {comparison.missing_count:,} missing, "
        f"{comparison.extra_count:,} extra"
    )
    if not comparison.ok:
        raise typer.Exit(1)
