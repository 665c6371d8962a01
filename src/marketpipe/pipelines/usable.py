"""Whether a pipeline can go on from its checkpoint, and whether it can do without."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from marketpipe.errors import StorageError
from marketpipe.journal import Journal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.derivestate import read_state
from marketpipe.pipelines.rawlog import holds_start
from marketpipe.store import Checkpoint


def why_unusable(
    saved: Checkpoint, reached: Mapping[str, int | None], versions: Mapping[str, str], aside: Path
) -> str:
    """Say what a checkpoint builds on that is lost, or is made otherwise by now; "" for nothing.

    Parameters
    ----------
    reached : offset that each table of the lake has come to (inclusive), None for nowhere
    versions : of the running program
    aside : folder of sessions that were put aside
    """
    for table, offset in reached.items():
        if offset is None or offset < saved.offset:
            return f"table {table} of the lake lacks rows that it builds on"
    for part in sorted({*saved.versions, *versions}):
        was, now = saved.versions.get(part), versions.get(part)
        if was != now:
            return f"it was made with {part} '{was}', which is '{now}' now"
    _, blob = msgspec.msgpack.decode(saved.state, type=tuple[bytes, bytes])
    for price_type, index in read_state(blob)[0]["aside"].items():
        for _, name in index:
            path = aside / price_type / name
            if not path.is_file():
                return f"'{path}' is gone"
    return ""


def refuse_without_start(saved: Checkpoint, why: str, journal: Journal, raw: LakeTable) -> None:
    """Refuse to give a checkpoint up where it is all that is left of the first records.

    Parameters
    ----------
    why : it cannot be used
    raw : table ``raw`` of the lake

    Raises
    ------
    StorageError
        If journal and raw lake together lack records from offset 0 on.
    """
    with closing(journal.reader()) as reader:
        # a journal that was lost is made anew from the raw lake
        kept_from = reader.first_offset if reader.next_offset else saved.offset + 1
    if not holds_start(raw, journal.journal_id, kept_from):
        raise StorageError(
            f"journal {journal.journal_id}: its checkpoint cannot be used: {why}; and nothing can "
            "be derived again from the first record, for records before offset "
            f"{kept_from} were dropped from the raw table, or lost. The checkpoint is left as it "
            "is: go on with the version that made it, restore a backup, or begin a new data folder"
        )
