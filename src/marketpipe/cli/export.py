"""`marketpipe export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marketpipe.cli.common import settings, split
from marketpipe.cli.options import AsOf, Knowledge, KnownBy, Symbols


class Kind(StrEnum):
    """What can be taken out."""

    BARS = "bars"
    TRADES = "trades"
    QUOTES = "quotes"
    CORRECTIONS = "corrections"


class Format(StrEnum):
    """File formats."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


class Layout(StrEnum):
    """One file, or one a symbol and day."""

    FLAT = "flat"
    HIVE = "hive"


def export(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What to take out.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File; for hive, a folder.")],
    symbols: Symbols = None,
    timeframes: Annotated[str | None, typer.Option(help="Only these; default: all.")] = None,
    start: Annotated[
        str | None, typer.Option(help="From this time or date on (inclusive).")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Before this time or date (exclusive).")] = None,
    as_of: AsOf = None,
    knowledge: KnownBy = Knowledge.ASSUMED,
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    feed: Annotated[str | None, typer.Option(help="Of this feed.")] = None,
    rules: Annotated[str | None, typer.Option(help="Bars of this rule set.")] = None,
    session: Annotated[str | None, typer.Option(help="Bars of this session.")] = None,
    price: Annotated[str | None, typer.Option(help="Bars of trade, bid, ask or mid.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Every revision.")] = False,
    all_series: Annotated[
        bool, typer.Option("--all-series", help="Allow several series in one output.")
    ] = False,
    format: Annotated[Format, typer.Option("--format", help="File format.")] = Format.CSV,  # noqa: A002
    layout: Annotated[
        Layout, typer.Option("--layout", help="One file, or one a symbol and day.")
    ] = Layout.FLAT,
) -> None:
    """Take bars or ticks out of the lake, bars in canonical form.

    Example: marketpipe export bars --symbols AAPL --format csv --output aapl.csv
    """
    from marketpipe.access import open_lake
    from marketpipe.pipelines.takeout import Takeout, take_out

    job = Takeout(
        kind=kind.value,
        output=output,
        symbols=tuple(split(symbols)) if symbols is not None else None,
        timeframes=timeframes,
        start=start,
        end=end,
        as_of=as_of,
        knowledge=knowledge.value,
        named={
            "source": source,
            "feed": feed,
            "rules": rules,
            "session": session,
            "price": price,
        },
        history=history,
        all_series=all_series,
        format=format.value,
        layout=layout.value,
    )
    done = take_out(open_lake(settings(ctx)), job)
    print(f"exported   {done.rows:,} {kind.value} to {output}")
    if done.digest is not None:
        print(f"digest     {done.digest}")
