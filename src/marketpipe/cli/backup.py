"""`marketpipe backup` and `marketpipe restore`."""

from pathlib import Path
from typing import Annotated

import typer

from marketpipe.cli.common import settings


def backup(
    ctx: typer.Context,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="FILE.tar.zst, or a folder; must not exist."),
    ],
) -> None:
    """Copy journals, lake and store as of one point, also while a pipeline runs.

    Example: marketpipe backup --output backup.tar.zst
    """
    from marketpipe.access import folder_of
    from marketpipe.pipelines.backup import back_up

    done = back_up(folder_of(settings(ctx)), output)
    for name, (first, end) in done.journals.items():
        print(f"journal    {name}: offsets {first:,} to {end - 1:,}")
    for name, version in done.tables.items():
        print(f"table      {name}: version {version:,}")
    print(f"store      {'marketpipe.db' if done.store else 'none'}")
    print(f"backup     {done.files:,} files, {done.size_bytes:,} bytes, in {output}")


def restore(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Option("--input", "-i", help="What backup wrote: a file or a folder.")
    ],
) -> None:
    """Put a backup back as a data folder, which must be empty or not there.

    Example: marketpipe restore --input backup.tar.zst --data-dir restored
    """
    from marketpipe.access import folder_of
    from marketpipe.pipelines.backup import restore as put_back

    folder = folder_of(settings(ctx))
    files = put_back(source, folder)
    print(f"restored   {files:,} files to {folder.root}")
