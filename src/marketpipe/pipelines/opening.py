"""Opening what a live pipeline writes to, and letting go of it again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from marketpipe.domain.calendars import library_version
from marketpipe.domain.findings import Example, Findings
from marketpipe.journal import Durability, SqliteJournal
from marketpipe.journal.sqlite import SEGMENT_BYTES
from marketpipe.lake import Compression, LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.derivestate import STATE_FORMAT
from marketpipe.pipelines.housekeeping import FILES_PER_PARTITION, keep_files_few
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.live import AtBoundary, LivePipeline, LiveSettings, MakeParser, nowhere
from marketpipe.pipelines.ownership import owned_by_batches
from marketpipe.store import BarRepository, Database, FindingsStore

_log = logging.getLogger("marketpipe.journal")


def versions_of(derive: DeriveSettings) -> dict[str, str]:
    """Return what a checkpoint must share with the program that goes on from it."""
    return {
        "code": f"{version('marketpipe')}/{STATE_FORMAT}",
        "rules": derive.rule_set.digest,
        "calendar": f"{derive.calendar}/{library_version()}",
        "bars": "/".join(
            (
                ",".join(str(tf) for tf in derive.timeframes),
                ",".join(derive.price_types),
                derive.session or "",
                f"{derive.delay_ns}+{derive.grace_ns}",
            )
        ),
    }


@asynccontextmanager
async def live_pipeline(
    folder: DataFolder,
    settings: LiveSettings,
    make_parser: MakeParser,
    *,
    durability: Durability = "process",
    compression: Compression = "zstd",
    files_per_partition: int = FILES_PER_PARTITION,
    segment_bytes: int = SEGMENT_BYTES,
    at_boundary: AtBoundary = nowhere,
) -> AsyncIterator[LivePipeline]:
    """Open a pipeline where it stopped, and close what it used at the end.

    Parameters
    ----------
    folder : where everything is kept
    settings : what is built, and how it is written
    make_parser : makes the parser of the journal's source from streams and state
    durability, segment_bytes : of the journal
    compression, files_per_partition : of the lake; see `keep_files_few`
    at_boundary : see `LivePipeline`

    Raises
    ------
    StorageError
        If the journal has a writer already, or something cannot be opened.
    """
    journal_id = settings.derive.journal_id
    journal = await asyncio.to_thread(
        SqliteJournal,
        folder.journal(journal_id),
        journal_id,
        durability=durability,
        segment_bytes=segment_bytes,
    )
    try:
        _tell(journal)
        budget = folder.budget
        tables = {
            name: await asyncio.to_thread(
                LakeTable.open, folder.lake, name, compression=compression, budget=budget
            )
            for name in TABLES
        }
        async with await BarRepository.open(folder.store_url) as repository:
            pipeline = LivePipeline(
                settings,
                journal,
                repository,
                tables,
                make_parser,
                folder.aside(journal_id),
                await asyncio.to_thread(owned_by_batches, folder),
                partial(
                    keep_files_few,
                    folder.lake,
                    compression,
                    at_boundary,
                    files_per_partition=files_per_partition,
                ),
                at_boundary,
            )
            await _note(journal, repository.database)
            await pipeline.start()
            try:
                yield pipeline
            finally:
                await pipeline.let_go()
    finally:
        journal.close()


def _tell(journal: SqliteJournal) -> None:
    """Log what was cut from a journal when it was opened, and what of it is damaged."""
    for damage in journal.damages:
        _log.error(
            "journal %s: damaged, and left as it is: %s; what reads these records will fail",
            journal.journal_id,
            damage,
        )
    for repair in journal.repairs:
        _log.error(
            "journal %s: cut, because it was torn or damaged: %s; what the raw lake has of it is "
            "taken from there",
            journal.journal_id,
            repair,
        )


async def _note(journal: SqliteJournal, database: Database) -> None:
    """Count what was cut, apart from the findings of the pipeline: those follow from records."""
    if journal.repairs:
        name, store = f"journal/{journal.journal_id}", FindingsStore(database)
        lost = [Example(r.first_offset, Path(r.file).name, r.reason) for r in journal.repairs]
        before = await store.load(name)
        await store.save(name, before + Findings.of("journal_cut", len(lost), lost))
