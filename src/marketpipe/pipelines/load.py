"""Loading a file of trades into the lake and the store: what is known stays, what is new is added.

Every line goes into a journal of its own first, as it is. A load that broke off is taken up again
before the next one; the journal says when it began, which is when its rows were received.
"""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.findings import Findings
from marketpipe.domain.records import CLOCK, CONTROL, RECORDS
from marketpipe.errors import StorageError, UsageError
from marketpipe.journal import Journal, SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.loaded import LoadStage, Part
from marketpipe.sources.mock.messages import CsvMessages
from marketpipe.sources.records import RecordBuilder
from marketpipe.store import BarRepository

JOURNAL: Final = "load"
"""Name of the journal of loaded files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadJob:
    """What to load.

    Attributes
    ----------
    folder : where to
    path : a tick CSV of trades, plain, gzip or zstd
    source, feed : of rows that name none
    symbols : only these; None for all
    settings : the bars to build; its ``delay_ns`` is how long after a trade the vendor publishes
        its history
    now_ns : when the file is received, ns
    """

    folder: DataFolder
    path: Path
    source: str
    feed: str
    symbols: frozenset[str] | None
    settings: DeriveSettings
    now_ns: int


@dataclass(slots=True)
class LoadReport:
    """What a load came to.

    Attributes
    ----------
    already : whether the very same file had been loaded before, so that nothing was done
    rows : messages of the file
    new, restated, known : trades that were not there, that say something else, that were there
    bars : first revisions of bars added; revisions : further ones
    findings : what was noticed
    """

    already: bool = False
    rows: int = 0
    new: int = 0
    restated: int = 0
    known: int = 0
    bars: int = 0
    revisions: int = 0
    findings: Findings = field(default_factory=Findings)


class Run(NamedTuple):
    """One load in the journal: offsets of its first and last record, when it began, its facts."""

    first: int
    last: int | None
    recorded_at: int
    facts: Mapping[str, str]


async def load_file(job: LoadJob) -> LoadReport:
    """Load a file; a load that broke off before is finished first.

    Raises
    ------
    UsageError, InputError
        If the file cannot be used.
    StorageError
        If the journal, the lake or the store cannot be written; loading again goes on from there.
    """
    with SqliteJournal(job.folder.journal(JOURNAL), JOURNAL) as journal:
        async with await BarRepository.open(job.folder.store_url) as store:
            tables = {name: LakeTable.open(job.folder.lake, name) for name in TABLES}
            loader = _Loader(job.folder, journal, store, tables)
            done = list(runs(journal))
            if done and done[-1].last is None:
                await loader.finish(done.pop(), job.settings)
            facts = await asyncio.to_thread(facts_of, job)
            if any(run.facts == facts for run in done):
                return LoadReport(already=True)
            run = await asyncio.to_thread(loader.receive, job, facts)
            return await loader.finish(run, job.settings)


def facts_of(job: LoadJob) -> dict[str, str]:
    """Return what tells a load from another: the file's content, and how it is read."""
    if not job.path.is_file():
        raise UsageError(f"--csv: '{job.path}' is not a file; --store needs one it can read twice")
    with job.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    symbols = "*" if job.symbols is None else ",".join(sorted(job.symbols))
    return {
        "file": job.path.name,
        "digest": f"sha256:{digest}",
        "source": job.source,
        "feed": job.feed,
        "symbols": symbols,
        "bars": bars_of(job.settings),
    }


def bars_of(settings: DeriveSettings) -> str:
    """Return what bars settings make, in one line."""
    return "|".join(
        (
            ",".join(str(tf) for tf in settings.timeframes),
            *(settings.calendar, settings.session or "", settings.rule_set.digest),
        )
    )


def runs(journal: Journal) -> Iterator[Run]:
    """Yield the loads of a journal in order; the last one may not be finished."""
    reader = journal.reader()
    first: tuple[int, int, dict[str, str]] | None = None
    try:
        for batch in reader.read(reader.first_offset):
            for row in batch.filter(pc.equal(batch["kind"], CONTROL)).to_pylist():
                facts = json.loads(row["payload"])
                if facts.get("event") == "load":
                    first = row["offset"], row["ts_recv"], facts["facts"]
                elif facts.get("event") == "loaded" and first is not None:
                    yield Run(first[0], row["offset"], *first[1:])
                    first = None
    finally:
        reader.close()
    if first is not None:
        yield Run(first[0], None, *first[1:])


class _Loader:
    """Does one load, step by step; every step can be done again."""

    def __init__(
        self,
        folder: DataFolder,
        journal: Journal,
        store: BarRepository,
        tables: dict[str, LakeTable],
    ) -> None:
        self._folder, self._journal, self._store, self._tables = folder, journal, store, tables

    def receive(self, job: LoadJob, facts: dict[str, str]) -> Run:
        """Append the file's lines to the journal."""
        first = self._control(job, {"event": "load", "facts": facts})
        self._append_lines(job)
        return Run(first, None, job.now_ns, facts)

    def _append_lines(self, job: LoadJob) -> None:
        with CsvMessages(
            job.path,
            source=job.source,
            feed=job.feed,
            journal_id=JOURNAL,
            symbols=job.symbols,
            conn_id=self._journal.next_offset,
        ) as messages:
            for batch in messages.records():
                self._journal.append(received(batch, job.now_ns))

    def _control(self, job: LoadJob, payload: dict[str, object]) -> int:
        builder = RecordBuilder(
            source=job.source,
            feed=job.feed,
            stream=job.path.name,
            conn_id=self._journal.next_offset,
            conn_started_ns=job.now_ns,
        )
        builder.add_control(payload, job.now_ns)
        return self._journal.append(builder.take())

    async def finish(self, run: Run, settings: DeriveSettings) -> LoadReport:
        """Derive what a load adds, write it, and note that it is done."""
        if bars_of(settings) != run.facts["bars"]:
            raise StorageError(
                f"journal load: the load of {run.facts['file']} broke off and was for other bars "
                f"({run.facts['bars']}); finish it with the same options first"
            )
        end = self._journal.next_offset - 1
        report = LoadReport()
        with tempfile.TemporaryDirectory(prefix="marketpipe-load-") as folder:
            stage = LoadStage(
                Path(folder), settings, self._tables, run.recorded_at, (run.first, end)
            )
            await asyncio.to_thread(stage.read, self._journal, report)
            for part in stage.parts():
                await asyncio.to_thread(stage.write_ticks, part, report)
            for part in stage.changed():
                await self._write_bars(stage, part, report)
        self._close(run)
        return report

    async def _write_bars(self, stage: LoadStage, part: Part, report: LoadReport) -> None:
        bars = await asyncio.to_thread(stage.bars, part)
        await self._store.add(bars)
        await asyncio.to_thread(stage.write_bars, part, bars)
        first = int(pc.sum(pc.equal(bars["revision"], 0)).as_py() or 0)
        report.bars += first
        report.revisions += len(bars) - first

    def _close(self, run: Run) -> None:
        builder = RecordBuilder(
            source=run.facts["source"],
            feed=run.facts["feed"],
            stream=run.facts["file"],
            conn_id=run.first,
            conn_started_ns=run.recorded_at,
        )
        builder.add_control({"event": "loaded", "first": run.first}, run.recorded_at)
        self._journal.append(builder.take())


def received(batch: pa.RecordBatch, now_ns: int) -> pa.RecordBatch:
    """Return messages as received now, without the ticks of a clock that is not ours."""
    kept = batch.filter(pc.not_equal(batch["kind"], CLOCK))
    at = RECORDS.names.index("ts_recv")
    stamps = pa.array(np.full(len(kept), now_ns, np.int64))
    return kept.set_column(at, RECORDS.field(at), stamps)
