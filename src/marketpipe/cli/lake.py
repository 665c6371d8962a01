"""`marketpipe lake`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.clock import now_ns
from marketpipe.cli.common import settings

if TYPE_CHECKING:
    from marketpipe.settings import Settings


class Action(StrEnum):
    """What to do with a table, or to know of it."""

    COMPACT = "compact"
    VACUUM = "vacuum"
    DROP = "drop"
    HISTORY = "history"
    FILES = "files"
    USAGE = "usage"


def lake(
    ctx: typer.Context,
    action: Annotated[Action, typer.Argument(help="What to do.")],
    table: Annotated[
        str | None, typer.Argument(help="Which table, such as bars; usage tells of all.")
    ] = None,
    horizon_hours: Annotated[
        int, typer.Option(min=1, max=24, help="vacuum: longest that a reader holds old files.")
    ] = 24,
    before: Annotated[
        str | None,
        typer.Option(help="drop: days before this one; default: lake.retention_days ago."),
    ] = None,
    also_raw: Annotated[
        bool, typer.Option("--also-raw", help="drop: of raw too, which all else comes from.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="history: how many versions to show.")] = 20,
) -> None:
    """Look after the tables of the lake: raw, bars, quarantine, trades, quotes and so on.

    Example: marketpipe lake usage
    """
    from marketpipe.errors import UsageError

    read = settings(ctx)
    if action is Action.USAGE:
        _usage(read)
        return
    if table is None:
        raise UsageError(f"table: was none; say which, as in marketpipe lake {action.value} bars")
    _check_table(table)
    if action is Action.DROP:
        _drop(read, table, before, also_raw=also_raw)
    elif action in (Action.HISTORY, Action.FILES):
        _tell(read, action, table, limit)
    else:
        _rearrange(read, action, table, horizon_hours)


def _check_table(table: str) -> None:
    from marketpipe.errors import UsageError
    from marketpipe.lake import TABLES

    if table not in TABLES:
        raise UsageError(f"table: was '{table}'; valid are {', '.join(TABLES)}")


def _usage(read: "Settings") -> None:
    from marketpipe.access import folder_of
    from marketpipe.lake import usage

    sizes = usage(folder_of(read).lake)
    for name, size in sizes.items():
        print(f"{name:<12} {size:>16,} bytes")
    budget = read.lake.disk_budget_bytes
    of = "" if budget is None else f" of a budget of {budget:,}"
    total = sum(sizes.values())
    print(f"{'total':<12} {total:>16,} bytes{of}")
    if budget is not None and total > budget:
        raise typer.Exit(1)


def _tell(read: "Settings", action: Action, name: str, limit: int) -> None:
    from marketpipe.cli.wiring import table_of
    from marketpipe.domain.units import format_ns

    table = table_of(read, name)
    if action is Action.FILES:
        for path in table.files():
            print(path)
        return
    for commit in table.history(limit):
        print(f"{commit.version:>8}  {format_ns(commit.ts_ns)}  {commit.operation}")


def _rearrange(read: "Settings", action: Action, name: str, horizon_hours: int) -> None:
    from marketpipe.cli.wiring import table_of
    from marketpipe.lake import compact, vacuum

    table = table_of(read, name)
    if action is Action.COMPACT:
        done = compact(table)
        print(
            f"compacted  {name}: {done.files_before:,} files became {done.files_after:,}, "
            f"{done.rows:,} rows"
        )
    else:
        print(f"vacuumed   {name}: {vacuum(table, horizon_hours=horizon_hours):,} files deleted")


def _drop(read: "Settings", name: str, before: str | None, *, also_raw: bool) -> None:
    from marketpipe.cli.keeping import first_kept
    from marketpipe.cli.wiring import table_of
    from marketpipe.errors import UsageError
    from marketpipe.lake import drop_before

    day = first_kept(before, read.lake.retention_days, "lake.retention_days")
    if name == "raw" and not also_raw:
        raise UsageError(
            "table: was 'raw', from which all else can be rebuilt; what is dropped of it is gone; "
            "say --also-raw to go on"
        )
    rows = drop_before(table_of(read, name), day, ts_now_ns=now_ns(), also_append_only=also_raw)
    print(f"dropped    {name}: {rows:,} rows of days before {day}")
