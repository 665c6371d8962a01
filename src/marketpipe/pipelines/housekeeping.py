"""Keeping the lake's files few while a pipeline writes many small ones."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from marketpipe.errors import BusyError, StorageError
from marketpipe.lake import Compression, LakeLayout, LakeTable, compact, vacuum
from marketpipe.pipelines.lakesink import TABLES

FILES_PER_PARTITION: Final = 32
"""A partition with more files than this has its table compacted."""

_log = logging.getLogger("marketpipe.lake")


def keep_files_few(
    layout: LakeLayout,
    compression: Compression,
    at_boundary: Callable[[str], None],
    *,
    files_per_partition: int = FILES_PER_PARTITION,
) -> list[str]:
    """Compact the tables that have too many small files; return their names.

    Parameters
    ----------
    compression : of the files it writes
    at_boundary : called before and after a table is compacted, for every new file in it, and
        after its vacuum
    files_per_partition : most files of a partition that are left alone

    Notes
    -----
    Files that are taken out stay for readers until they are past the horizon of `vacuum`. A table
    that another process rearranges is left to it; one that cannot be rearranged is told in the
    log, and what is written to it goes on.
    """
    return [
        name
        for name in TABLES
        if _compacted(layout, name, compression, at_boundary, files_per_partition)
    ]


def _compacted(
    layout: LakeLayout,
    name: str,
    compression: Compression,
    at_boundary: Callable[[str], None],
    files_per_partition: int,
) -> bool:
    try:
        table = LakeTable.open(layout, name, create=False, compression=compression)
        folders = Counter(path.rpartition("/")[0] for path in table.files())
        if not folders or max(folders.values()) <= files_per_partition:
            return False
        at_boundary("compaction:before")
        found = compact(table, progress=lambda *_: at_boundary("compaction:file"))
        at_boundary("compaction:after")
        vacuum(table)
        at_boundary("vacuum:after")
    except BusyError as busy:
        _log.info("%s: %s", name, busy)
        return False
    except StorageError as problem:
        _log.error("table %s cannot be compacted: %s", name, problem)
        return False
    _log.info("table %s: %d files became %d", name, found.files_before, found.files_after)
    return True
