"""Folders for what does not stay in memory while a data folder is worked on."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marketpipe.pipelines.datafolder import DataFolder


@contextmanager
def scratch(folder: DataFolder, name: str) -> Iterator[Path]:
    """Give an empty folder in the data folder, for as long as it is needed.

    What a killed process leaves of it is cleared by the next that holds
    `marketpipe.pipelines.ownership.batch_lock`.

    Parameters
    ----------
    name : of the work, part of the folder's name
    """
    folder.scratch.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder.scratch) as path:
            yield Path(path)
    finally:
        with suppress(OSError):  # another one is in use
            folder.scratch.rmdir()


def clear_scratch(folder: DataFolder) -> None:
    """Delete what killed processes left. Nobody may be at work in it."""
    shutil.rmtree(folder.scratch, ignore_errors=True)
