"""What a writer does before its first append: put the end of the journal in order."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from marketpipe.errors import JournalError
from marketpipe.journal.base import Damage, Durability, Repair
from marketpipe.journal.block import Block
from marketpipe.journal.faults import code, translated
from marketpipe.journal.segment import SIDE_FILES, WAL, Segment, draft, publish
from marketpipe.journal.survey import Survey
from marketpipe.journal.wal import wal_commits

_DRAFTS: Final = (".new", ".new-journal", ".new-wal", ".new-shm")
_ASIDE: Final = ".damaged"
_UNREADABLE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")


def tidy(folder: Path) -> None:
    """Undo or finish what a writer that was killed had begun with files."""
    with translated(folder, "tidy"):
        for path in sorted(folder.iterdir()):
            if path.name.endswith(_DRAFTS):
                path.unlink()
        for path in sorted(folder.glob("*.db" + _ASIDE)):
            _put_back(path)
        for suffix in SIDE_FILES:
            for path in sorted(folder.glob("*.db" + suffix)):
                if not path.with_name(path.name.removesuffix(suffix)).exists():
                    path.unlink()


def _put_back(aside: Path) -> None:
    """Undo a repair that did not come to its end."""
    path = aside.with_name(aside.name.removesuffix(_ASIDE))
    if path.exists():
        return
    for suffix in (*SIDE_FILES, ""):
        part = aside.with_name(aside.name + suffix)
        if part.exists():
            part.replace(path.with_name(path.name + suffix))


def remove(path: Path) -> None:
    """Delete a segment, its file first: what is left of one that is cut short is `tidy`'s."""
    for suffix in ("", *SIDE_FILES, *(_ASIDE + side for side in ("", *SIDE_FILES))):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class Recovery(NamedTuple):
    """What a writer found of the last segment when it opened it.

    Attributes
    ----------
    repairs : what was lost, and is cut or left out now
    damages : what is damaged further in, and was left as it is
    """

    repairs: tuple[Repair, ...] = ()
    damages: tuple[Damage, ...] = ()


def recovered(path: Path, journal_id: str, durability: Durability) -> Recovery:
    """Check the last segment of a journal, and cut off its end if that is damaged.

    A block that is damaged further in stays as it is, for reading to report. Where the database
    itself is in disorder, or the end is damaged, the segment is written anew from all that can be
    read of it, and the file as it was is kept aside.

    Raises
    ------
    JournalError
        If nothing of the segment can be read.
    """
    with translated(path, "check"):
        commits = wal_commits(path.with_name(path.name + WAL))
        damages, is_to_rewrite = _survey(path, journal_id)
        if is_to_rewrite:
            return Recovery(_rewritten(path, journal_id, damages))
        with closing(Segment(path, journal_id, durability)) as segment:
            taken, tail = segment.checkpoint(), segment.tail()
    if commits.beyond(taken):
        reason = "the write-ahead log goes on after what checks out: a crash cut it off, or damage"
        return Recovery((Repair(tail.next_offset, None, str(path), None, reason),), damages)
    return Recovery((), damages)


def _survey(path: Path, journal_id: str) -> tuple[tuple[Damage, ...], bool]:
    """Return what is damaged, and whether the segment has to be written anew for it."""
    try:
        with closing(Segment(path, journal_id)) as segment:
            survey = Survey(segment)
            damages, last = [], None
            for last in survey.run(segment.meta.start.next_offset, None):
                if isinstance(last, Damage):
                    damages.append(last)
            torn = survey.disordered or isinstance(last, Damage)
            return tuple(damages), torn and bool(damages)
    except sqlite3.DatabaseError as error:
        if not code(error).startswith(_UNREADABLE):
            raise
        raise JournalError(
            f"nothing of {path}, the journal's last segment, can be read ({error}). Put it back "
            "from a backup; or move it away and discard the checkpoints above its first offset"
        ) from error


def _rewritten(path: Path, journal_id: str, damages: tuple[Damage, ...]) -> tuple[Repair, ...]:
    aside = path.with_name(path.name + _ASIDE)
    with closing(Segment(path, journal_id)) as segment:
        survey = Survey(segment).run(segment.meta.start.next_offset, None)
        blocks = (found for found in survey if isinstance(found, Block))
        rebuilt = draft(path, segment.meta, blocks)
    # In this order `tidy` can tell at every step whether to go back or on.
    aside.with_name(aside.name + WAL).unlink(missing_ok=True)
    path.replace(aside)
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(aside.with_name(aside.name + suffix))
    publish(rebuilt, path)
    return tuple(
        Repair(damage.first_offset, damage.last_offset, str(path), str(aside), damage.reason)
        for damage in damages
    )
