"""Flags that every command takes, whatever its own are."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from marketpipe.cli.common import GIVEN

PANEL = "Common"


class Level(StrEnum):
    """Least important message that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line reads."""

    TEXT = "text"
    JSON = "json"


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Put a flag that was given where `marketpipe.cli.common.settings` finds it."""
    if value is None or ctx.resilient_parsing:
        return value
    given = ctx.meta.setdefault(GIVEN, {})
    section, _, key = str(param.name).partition("_")
    if section == "log":
        given.setdefault("log", {})[key] = value.value
    else:
        given[param.name] = value
    return value


def _common(
    config: Annotated[
        Path | None,
        typer.Option(
            callback=_keep, expose_value=False, rich_help_panel=PANEL, help="TOML or YAML file."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            callback=_keep,
            expose_value=False,
            rich_help_panel=PANEL,
            help="Folder of what MarketPipe keeps; default: data.",
        ),
    ] = None,
    log_level: Annotated[
        Level | None,
        typer.Option(
            callback=_keep, expose_value=False, rich_help_panel=PANEL, help="Default: warning."
        ),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            callback=_keep, expose_value=False, rich_help_panel=PANEL, help="Default: text."
        ),
    ] = None,
) -> None:
    """Stand for the flags that all commands share."""


def _flags() -> list[Any]:
    carrier = typer.Typer(add_completion=False)
    carrier.command()(_common)
    return list(typer.main.get_command(carrier).params)


COMMON = _flags()


class Command(TyperCommand):
    """A command that takes the common flags besides its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own flags, the common ones it lacks, and ``--help``."""
        own = super().get_params(ctx)
        names = {param.name for param in own}
        return [*own, *(flag for flag in COMMON if flag.name not in names)]
