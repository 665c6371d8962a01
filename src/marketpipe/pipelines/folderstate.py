"""How a data folder is: what it holds, and what of that is damaged."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from marketpipe.domain.units import format_ns
from marketpipe.errors import MarketPipeError
from marketpipe.journal import SqliteJournalReader
from marketpipe.journal.survey import way_back
from marketpipe.lake import TABLES, LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.rawholes import raw_holes
from marketpipe.pipelines.storestate import store_state
from marketpipe.store import GapEntry
from marketpipe.store.migrate import known_revisions


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    ``absent`` is what is not there and need not be, ``note`` what is missing or odd though
    nothing is broken.
    """

    what: str
    verdict: Literal["ok", "absent", "note", "broken"]
    found: str
    remedy: str = ""


def folder_checks(folder: DataFolder) -> Iterator[Check]:
    """Look at journals, tables of the lake and the store; nothing is changed.

    Journals are read whole, so that damage shows; of tables it is seen whether all files exist and
    have their footers, and of raw whether it has every record of each journal once.
    """
    for name in folder.journals():
        yield _journal(folder, name)
    for name in TABLES:
        if folder.lake.exists(name):
            yield _table(folder, name)
    yield from _store(folder)


def _journal(folder: DataFolder, name: str) -> Check:
    what = f"journal {name}"
    try:
        with closing(SqliteJournalReader(folder.journal(name), name)) as reader:
            damages = reader.check()
            first, end = reader.first_offset, reader.next_offset
    except MarketPipeError as problem:
        return Check(what, "broken", str(problem), "restore a backup, or mend what it names")
    if damages:
        listed = "; ".join(str(damage) for damage in damages)
        return Check(what, "broken", listed, way_back(damages[0]))
    return Check(what, "ok", f"first offset {first}, next offset {end}")


def _table(folder: DataFolder, name: str) -> Check:
    what = f"table {name}"
    try:
        table = LakeTable.open(folder.lake, name, create=False)
        table.check()
        files, rows = len(table.files()), table.count()
        version = table.history(1)[0].version
        holes = raw_holes(table) if name == "raw" else []
        floor = table.floor
    except MarketPipeError as problem:
        return Check(what, "broken", str(problem), "restore a backup, or mend what it names")
    found = f"{files} files, {rows} rows, version {version}"
    lost = [hole for hole in holes if hole.first or floor is None]
    if lost:
        return Check(what, "broken", "; ".join(map(str, lost)), "restore a backup of the table")
    if floor is not None:
        found += f"; days before {floor} were dropped"
        return Check(what, "note", "; ".join([found, *map(str, holes)]))
    return Check(what, "ok", found)


def _store(folder: DataFolder) -> Iterator[Check]:
    try:
        state = asyncio.run(store_state(folder.store_url))
    except MarketPipeError as problem:
        yield Check("store", "broken", str(problem), "mend what it names; the lake has all bars")
        return
    if state is None:
        yield Check("store", "absent", "not there yet; made when needed")
        return
    known = known_revisions()
    if state.revision not in ("none", *known):
        yield Check(
            "store",
            "broken",
            f"schema {state.revision}, which this version of MarketPipe does not know; the newest "
            f"that it knows is {known[-1]}",
            "upgrade MarketPipe, or use another database",
        )
        return
    yield Check("store", "ok", f"schema {state.revision}, last seq {state.last_seq}")
    for (pipeline, journal_id), offset in state.checkpoints.items():
        yield Check(f"checkpoint {pipeline}", "ok", f"offset {offset} of journal {journal_id}")
    if state.gaps:
        yield gap_check(state.gaps)


def gap_check(entries: Sequence[GapEntry]) -> Check:
    """Say what of a gap ledger is not repaired, and what to do about it."""
    odd = [entry for entry in entries if not entry.is_fine]
    if not odd:
        return Check("gaps", "ok", f"{len(entries)} in the ledger, none that is not repaired")
    counts = ", ".join(
        f"{count} {what}"
        for what, count in (
            ("open", sum(entry.state == "open" for entry in odd)),
            ("refused", sum(entry.state == "refused" for entry in odd)),
            ("whose bars differ", sum(entry.state == "repaired" for entry in odd)),
        )
        if count
    )
    first = min(odd, key=lambda entry: entry.start_ns)
    span = f"{format_ns(first.start_ns)} to {format_ns(first.end_ns)}"
    return Check(
        "gaps",
        "note",
        f"{counts}; the oldest is {first.journal_id} {first.number}, {span}, {first.reason}",
        "`marketpipe gaps` lists them and says why; `marketpipe stream` fills those that are open",
    )
