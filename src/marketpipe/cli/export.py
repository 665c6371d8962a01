"""`marketpipe export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marketpipe.cli.common import DEFAULT_DATA_DIR, DataDir, split


class Kind(StrEnum):
    """What can be taken out."""

    BARS = "bars"


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
    kind: Annotated[Kind, typer.Argument(help="What to take out.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File; for hive, a folder.")],
    symbols: Annotated[str | None, typer.Option(help="Only these; default: all.")] = None,
    timeframes: Annotated[str | None, typer.Option(help="Only these; default: all.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="As known at this time, such as 2026-01-05T15:00Z."),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Every revision.")] = False,
    all_series: Annotated[
        bool, typer.Option("--all-series", help="Allow several series in one output.")
    ] = False,
    format: Annotated[Format, typer.Option("--format", help="File format.")] = Format.CSV,  # noqa: A002
    layout: Annotated[
        Layout, typer.Option("--layout", help="One file, or one a symbol and day.")
    ] = Layout.FLAT,
    replay: Annotated[
        int | None, typer.Option(help="Number of a stored replay; default: the newest.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Take out bars that a replay kept (replay --store), in canonical form.

    Example: marketpipe export bars --symbols AAPL --format csv --output aapl.csv
    """
    from marketpipe.pipelines.takeout import Takeout, take_out

    done = take_out(
        Takeout(
            data_dir=data_dir,
            replay=replay,
            output=output,
            symbols=frozenset(split(symbols)) if symbols is not None else None,
            timeframes=timeframes,
            as_of=as_of,
            history=history,
            all_series=all_series,
            format=format.value,
            layout=layout.value,
        )
    )
    print(f"exported   {done.bars:,} {kind.value} of {done.folder} to {output}")
    if done.digest is not None:
        print(f"digest     {done.digest}")
