"""`marketpipe`: the commands, and how errors become exit codes."""

import os
import sys
from typing import Annotated

import typer

from marketpipe.cli.common import note
from marketpipe.errors import MarketPipeError

app = typer.Typer(
    name="marketpipe",
    help="Market data that can be trusted: deterministic bars from ticks, proved by a hash.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

BUILD = "Build bars"
CHECK = "Check and take out"
HELP = "Find out"


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
    from marketpipe.cli.demo import demo
    from marketpipe.cli.doctor import doctor
    from marketpipe.cli.export import export
    from marketpipe.cli.parity import parity
    from marketpipe.cli.replay import replay

    app.command(rich_help_panel=BUILD)(replay)
    app.command(rich_help_panel=BUILD)(demo)
    app.command(rich_help_panel=CHECK)(parity)
    app.command(rich_help_panel=CHECK)(export)
    app.command(rich_help_panel=HELP)(doctor)


_commands()


def run() -> None:
    """Run the command line; errors made on purpose become one message and an exit code.

    0 done, 1 a check found differences, 2 wrong usage or input.
    """
    try:
        app()
    except BrokenPipeError:
        # the reader of our output has gone: nothing is left to say, and to nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MarketPipeError as problem:
        note(f"marketpipe: {problem}")
        sys.exit(2)
    except OSError as problem:
        note(f"marketpipe: {problem}; check the folder's permissions and the space left")
        sys.exit(2)
    except KeyboardInterrupt:
        note("marketpipe: stopped")
        sys.exit(130)
