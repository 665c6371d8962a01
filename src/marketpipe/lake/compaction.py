"""Compaction: many small files of a partition become few sorted ones; then vacuum."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from marketpipe.errors import BusyError, LakeError
from marketpipe.lake.datafiles import Action, LiveFile
from marketpipe.lake.faults import told_as_ours
from marketpipe.lake.layout import TableSpec
from marketpipe.lake.lease import lease
from marketpipe.lake.rewrite import live_files, rewrite
from marketpipe.lake.table import HORIZON_HOURS, LakeTable

TARGET_BYTES: Final = 64 * 1024 * 1024
"""Files at least this large are left alone; smaller ones are put together up to it."""
FENCE: Final = "marketpipe/maintenance"
"""``app_id`` that counts how often files were rearranged."""

_COMMIT_BYTES: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What a compaction did: files taken out and put in, and the rows in them."""

    files_before: int = 0
    files_after: int = 0
    rows: int = 0


def compact(
    table: LakeTable,
    *,
    target_bytes: int = TARGET_BYTES,
    wait: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Put the small files of each partition together, in the table's order.

    Readers and appenders go on meanwhile. The rows are the same before and after, which is
    checked; what is taken out stays on disk until `vacuum`.

    Parameters
    ----------
    target_bytes : size of the files it aims at
    wait : wait for another compaction to end, rather than refuse
    progress : called with (groups of files done, groups in all)

    Raises
    ------
    BusyError
        If another process rearranges the table.
    LakeError
        If the rows are not the same before and after.
    """
    spec = table.spec
    with lease(table.path, wait=wait), told_as_ours(f"compacting table {spec.name}"):
        handle = DeltaTable(table.path)
        before = live_files(handle)
        groups = list(_groups(before, target_bytes))
        new: list[LiveFile] = []
        actions: list[Action] = []
        pending = 0
        for number, group in enumerate(groups, 1):
            file, put = rewrite(table.path, group, spec, table.compression)
            new.append(file)
            actions += put
            pending += file.size_bytes
            if number == len(groups) or pending >= _COMMIT_BYTES:
                commit_fenced(handle, spec, actions, "compact")
                handle, actions, pending = DeltaTable(table.path), [], 0
            if progress is not None:
                progress(number, len(groups))
        old = [file for group in groups for file in group]
        _check(spec, before, old, new, live_files(handle))
        return Compaction(
            files_before=len(old), files_after=len(new), rows=sum(file.rows for file in new)
        )


def vacuum(table: LakeTable, *, horizon_hours: int = HORIZON_HOURS, wait: bool = False) -> int:
    """Delete files that were taken out, or never committed, more than the horizon ago.

    Parameters
    ----------
    horizon_hours : longest that a reader may still use a list of files, 1 to 24

    Returns
    -------
    How many files were deleted.

    Raises
    ------
    LakeError
        If the horizon is outside its range.
    BusyError
        If another process rearranges the table.
    """
    if not 1 <= horizon_hours <= HORIZON_HOURS:
        raise LakeError(
            f"horizon_hours was '{horizon_hours}'; valid is 1 to {HORIZON_HOURS}: what was taken "
            "out is remembered no longer, and below an hour readers would lose their files"
        )
    with lease(table.path, wait=wait), told_as_ours(f"vacuuming table {table.spec.name}"):
        deleted = DeltaTable(table.path).vacuum(
            horizon_hours, dry_run=False, enforce_retention_duration=False, full=True
        )
        return len(deleted)


def commit_fenced(
    handle: DeltaTable, spec: TableSpec, actions: list[Action], operation: str
) -> None:
    """Commit a rearrangement that refuses to follow one which the handle has not seen.

    Delta alone lets two of them take out the same files, and then every row is there twice. The
    count stored under `FENCE` makes the second commit a conflict.

    Raises
    ------
    BusyError
        If the table was rearranged since the handle was opened; nothing was changed.
    """
    turn = (handle.transaction_version(FENCE) or 0) + 1
    try:
        handle.create_write_transaction(
            actions,
            "append",
            handle.schema(),
            list(spec.partition_by),
            commit_properties=CommitProperties(
                custom_metadata={"marketpipe.operation": operation},
                app_transactions=[Transaction(FENCE, turn)],
            ),
        )
    except CommitFailedError as error:
        now = DeltaTable(handle.table_uri).transaction_version(FENCE) or 0
        if now < turn:
            raise
        raise BusyError(
            f"table {spec.name}: another process rearranged it meanwhile; nothing was changed; "
            "try again"
        ) from error


def _groups(files: list[LiveFile], target_bytes: int) -> Iterator[list[LiveFile]]:
    """Put small files of a partition together up to the target, in the order of their paths."""
    by_partition = sorted(files, key=lambda file: (file.partition, file.size_bytes, file.path))
    for _, of_partition in groupby(by_partition, key=lambda file: file.partition):
        group: list[LiveFile] = []
        size = 0
        for file in of_partition:
            if group and size + file.size_bytes > target_bytes:
                if len(group) > 1:
                    yield group
                group, size = [], 0
            group.append(file)
            size += file.size_bytes
        if len(group) > 1:
            yield group


def _check(
    spec: TableSpec,
    before: list[LiveFile],
    old: list[LiveFile],
    new: list[LiveFile],
    after: list[LiveFile],
) -> None:
    """Hold the snapshot after against the one before: the new files stand for the old, all of them.

    Whatever else there is was appended meanwhile.
    """
    gone, there = {file.path for file in old}, [file.path for file in after]
    expected = {file.path for file in (*before, *new)} - gone
    rows_old, rows_new = sum(file.rows for file in old), sum(file.rows for file in new)
    twice = len(there) - len(set(there))
    lost = len(expected - set(there))
    still = len(gone & set(there))
    if twice or lost or still or rows_old != rows_new:
        raise LakeError(
            f"table {spec.name}: after compaction {lost} files are lost, {still} old ones are "
            f"still there, {twice} are there twice, and {rows_new} rows stand for {rows_old}; "
            "stop writing and put back the version before"
        )
