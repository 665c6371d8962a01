"""`marketpipe`: the commands, and how errors become exit codes."""

import os
import sys
from typing import Annotated

import typer

from marketpipe.cli.common import fail, note
from marketpipe.cli.flags import Command
from marketpipe.errors import MarketPipeError, StorageError, VendorError

app = typer.Typer(
    name="marketpipe",
    help="Market data that can be trusted: deterministic bars from ticks, proved by a hash.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

BUILD = "Build bars"
READ = "Read"
CHECK = "Check"
KEEP = "Look after what is kept"
DEVELOP = "Develop against"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"marketpipe {version('marketpipe')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def _commands() -> None:
    from marketpipe.cli.backup import backup, restore
    from marketpipe.cli.db import db
    from marketpipe.cli.demo import demo
    from marketpipe.cli.doctor import doctor
    from marketpipe.cli.explain import explain
    from marketpipe.cli.export import export
    from marketpipe.cli.gaps import gaps
    from marketpipe.cli.lake import lake
    from marketpipe.cli.parity import parity
    from marketpipe.cli.rebuild import rebuild
    from marketpipe.cli.replay import replay
    from marketpipe.cli.simulate import simulate
    from marketpipe.cli.sql import sql
    from marketpipe.cli.stream import stream
    from marketpipe.cli.verify import verify

    for panel, commands in {
        BUILD: (stream, replay, rebuild, demo),
        READ: (sql, export, explain),
        CHECK: (verify, parity, gaps, doctor),
        KEEP: (lake, db, backup, restore),
        DEVELOP: (simulate,),
    }.items():
        for command in commands:
            app.command(rich_help_panel=panel, cls=Command)(command)


_commands()


def run() -> None:
    """Run the command line; errors made on purpose become one message and an exit code.

    0 done, 1 a check found differences, 2 wrong usage or input, 3 what keeps the data, or a
    vendor of it, failed.
    """
    try:
        app()
    except BrokenPipeError:
        # the reader of our output has gone: nothing is left to say, and to nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MarketPipeError as problem:
        fail(str(problem))
        sys.exit(3 if isinstance(problem, (StorageError, VendorError)) else 2)
    except OSError as problem:
        fail(f"{problem}; check the folder's permissions and the space left")
        sys.exit(2)
    except KeyboardInterrupt:
        note("marketpipe: stopped")
        sys.exit(130)
