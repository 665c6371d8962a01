"""What commands share: settings, and where words go."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from marketpipe.settings import Settings

DEFAULT_DATA_DIR = Path("data")

GIVEN: Final = "marketpipe.given"
"""Where a context keeps what the common flags said."""


def settings(ctx: typer.Context, **sections: dict[str, Any]) -> "Settings":
    """Read the configuration; what the command line said wins.

    Parameters
    ----------
    sections : by name, what the command's own flags said; None stands for a flag not given
    """
    from marketpipe.settings import read_settings

    given = dict(ctx.meta.get(GIVEN, {}))
    config = given.pop("config", None)
    for name, values in sections.items():
        said = {key: value for key, value in values.items() if value is not None}
        given[name] = {**given.get(name, {}), **said}
    read = read_settings(config, given=given)
    set_logging(read.log.level, read.log.format)
    return read


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        facts = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def set_logging(level: str, form: str) -> None:
    """Send the program's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_Json() if form == "json" else text)
    log = logging.getLogger("marketpipe")
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def note(text: str) -> None:
    """Say something on standard error."""
    print(text, file=sys.stderr)


def fail(text: str) -> None:
    """Say what went wrong: in a log of JSON as a line of it, else as it is."""
    log = logging.getLogger("marketpipe")
    if any(isinstance(handler.formatter, _Json) for handler in log.handlers):
        log.error(text)
    else:
        note(f"marketpipe: {text}")


def writable(output: Path) -> Path:
    """Return a path whose folder exists.

    Raises
    ------
    UsageError
        If it does not.
    """
    from marketpipe.errors import UsageError

    if not output.parent.is_dir():
        raise UsageError(f"output: the folder of '{output}' does not exist; create it first")
    return output


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
