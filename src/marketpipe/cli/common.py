"""What commands share: flags, and where words go."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path, typer.Option("--data-dir", help="Folder of what MarketPipe keeps.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

DEFAULT_DATA_DIR = Path("data")


def note(text: str) -> None:
    """Say something on standard error."""
    print(text, file=sys.stderr)


def split(text: str) -> list[str]:
    """Split a list with commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


@contextmanager
def progress_line(quiet: bool) -> Iterator[Callable[[int, int | None, int], None] | None]:
    """Give what shows progress on a terminal, None where nobody looks; the line is gone after."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.fields[rows]:>14,} rows"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("", rows=0, total=None)

        def show(done: int, total: int | None, rows: int) -> None:
            bar.update(task, completed=done, total=total, rows=rows)

        yield show
