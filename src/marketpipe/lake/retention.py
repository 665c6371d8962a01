"""Old days, dropped on demand."""

from datetime import date, timedelta

from deltalake import DeltaTable

from marketpipe.errors import LakeError
from marketpipe.lake.compaction import commit_fenced
from marketpipe.lake.datafiles import LiveFile
from marketpipe.lake.evolution import DROPPED_BEFORE
from marketpipe.lake.faults import told_as_ours
from marketpipe.lake.layout import day_of
from marketpipe.lake.lease import lease
from marketpipe.lake.rewrite import live_files, removals
from marketpipe.lake.table import LakeTable

_APPEND_ONLY = "delta.appendOnly"


def first_day_kept(days: int, ts_now_ns: int) -> date:
    """Return the first day to keep so that ``days`` whole UTC days are, besides today.

    Raises
    ------
    LakeError
        If ``days`` is below 1.
    """
    if days < 1:
        raise LakeError(f"retention days was '{days}'; valid is 1 or more; or set none")
    return day_of(ts_now_ns) - timedelta(days=days)


def drop_before(
    table: LakeTable, day: date, *, ts_now_ns: int, also_append_only: bool = False
) -> int:
    """Drop the partitions of the days before ``day`` (exclusive), whole.

    The files stay on disk until `marketpipe.lake.vacuum`. The table keeps the day as its `floor`,
    so that nobody takes what was dropped for what never was. Raw is append-only: its rows are what
    everything else can be rebuilt from, so they go only if ``also_append_only`` is said; the
    table's own protection is then off for the moment of the commit.

    Parameters
    ----------
    day : of ``session_date`` or ``received_date``, whichever the table has
    ts_now_ns : the time, ns since the epoch; `marketpipe.lake.vacuum` counts its horizon from it

    Returns
    -------
    How many rows were dropped.

    Raises
    ------
    LakeError
        If the table is append-only and that was not said.
    BusyError
        If another process rearranges the table.
    """
    spec = table.spec
    if spec.append_only and not also_append_only:
        raise LakeError(
            f"table {spec.name} is append-only; dropping the days before '{day}' cannot be undone "
            "and what came of them can no longer be rebuilt; say so explicitly to go on"
        )
    with lease(table.path), told_as_ours(f"dropping days of table {spec.name}"):
        handle = DeltaTable(table.path)
        old = [file for file in live_files(handle) if _day(file, spec.date_column) < day]
        if not old:
            return 0
        # before the rows go: a process killed in between leaves a floor too many, never one too few
        if table.floor is None or table.floor < day:
            told = {DROPPED_BEFORE: day.isoformat()}
            handle.alter.set_table_properties(told, raise_if_not_exists=False)
        if spec.append_only:
            handle.alter.set_table_properties({_APPEND_ONLY: "false"})
        try:
            actions = removals(old, ts_now_ns // 1_000_000, change=True)
            commit_fenced(handle, spec, actions, f"drop before {day}")
        finally:
            if spec.append_only:
                DeltaTable(table.path).alter.set_table_properties({_APPEND_ONLY: "true"})
        return sum(file.rows for file in old)


def _day(file: LiveFile, column: str) -> date:
    return date.fromisoformat(dict(file.partition)[column])
