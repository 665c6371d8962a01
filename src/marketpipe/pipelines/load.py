"""Loading a file of trades into the lake and the store: what is known stays, what is new is added.

Every line goes into a journal of its own first, as it is. A load that broke off is taken up again
before the next one; the journal says when it began, which is when its rows were received.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from marketpipe.domain.findings import Findings
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.timeframe import parse_many
from marketpipe.errors import StorageError, UsageError
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.dropped import refuse_dropped
from marketpipe.pipelines.files import ReplayJob
from marketpipe.pipelines.fresh import FreshBars
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.ledgerbars import REBUILT_FROM, days_read
from marketpipe.pipelines.live import AtBoundary, nowhere
from marketpipe.pipelines.loaded import LoadStage, Part
from marketpipe.pipelines.loadlog import JOURNAL, LoadLog, Run
from marketpipe.pipelines.mend import mend_bars
from marketpipe.pipelines.ownership import feeds_of, refuse_live, stopped_feeds, touched
from marketpipe.pipelines.scratch import scratch
from marketpipe.sources.csvfile import CsvSource
from marketpipe.sources.mock.messages import CsvMessages
from marketpipe.store import BarRepository

_SHAPING: Final = ("bars", "overrides")
"""Facts of a load that shape its bars."""

_INSTEAD: Final = (
    "leave earlier days out of the file, or replay it without --store, which reads nothing that "
    "is kept"
)


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


def loadable(csv: str | None, price: str) -> Path:
    """Return the file that a replay is to load.

    Raises
    ------
    UsageError
        If its input cannot be loaded.
    """
    if csv is None or csv == "-":
        raise UsageError(
            "--store: loads the lines of a CSV file; write the ticks to one first, or leave it out"
        )
    if price != "trade":
        raise UsageError(f"--store: loads trades so far, price was {price!r}; leave it out")
    return Path(csv)


def replayed_settings(job: ReplayJob) -> DeriveSettings:
    """Return the settings of the bars that a replay was asked for."""
    return DeriveSettings(
        journal_id=JOURNAL,
        timeframes=parse_many(job.timeframes),
        calendar=job.calendar,
        session=job.session,
        overrides=Overrides.load(job.overrides) if job.overrides else None,
        rule_set=RuleSet.load(job.rules),
    )


@dataclass(slots=True)
class LoadReport:
    """What a load came to.

    Attributes
    ----------
    already : whether the very same file had been loaded before, so that nothing was done
    given_up : name of a file whose load broke off before all of its lines were there, and is
        given up for this one: nothing was written of it; empty for none
    rows : messages of the file
    new, restated, known : trades that were not there, that say something else, that were there
    bars : first revisions of bars added; revisions : further ones
    findings : what was noticed
    """

    already: bool = False
    given_up: str = ""
    rows: int = 0
    new: int = 0
    restated: int = 0
    known: int = 0
    bars: int = 0
    revisions: int = 0
    findings: Findings = field(default_factory=Findings)


async def load_file(job: LoadJob, at_boundary: AtBoundary = nowhere) -> LoadReport:
    """Load a file; a load that broke off before is finished first.

    Parameters
    ----------
    at_boundary : called with its name before and after every write

    Raises
    ------
    UsageError, InputError
        If the file cannot be used, a feed has not finished a session that it holds, or days were
        dropped of a table that its bars are computed of.
    StorageError
        If the journal, the lake or the store cannot be written, or a feed is running; loading
        again goes on from there.
    """
    facts = await asyncio.to_thread(facts_of, job)
    with (
        stopped_feeds(job.folder),
        SqliteJournal(job.folder.journal(JOURNAL), JOURNAL) as journal,
    ):
        async with await BarRepository.open(job.folder.store_url) as store:
            budget = job.folder.budget
            tables = {name: LakeTable.open(job.folder.lake, name, budget=budget) for name in TABLES}
            log = LoadLog(journal, tables["raw"])
            return await _Loader(job, log, store, tables, at_boundary).load(facts)


def facts_of(job: LoadJob) -> dict[str, str]:
    """Return what tells a load from another: the file's content, and how it is read."""
    if not job.path.is_file():
        raise UsageError(f"--csv: '{job.path}' is not a file; --store needs one it can read twice")
    with closing(CsvSource(job.path)) as source:
        if source.kind != "trades":
            raise UsageError(
                f"--store: '{job.path}' holds {source.kind}; only trades can be loaded so far"
            )
    with job.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    symbols = "*" if job.symbols is None else ",".join(sorted(job.symbols))
    facts = {
        "file": job.path.name,
        "digest": f"sha256:{digest}",
        "source": job.source,
        "feed": job.feed,
        "symbols": symbols,
        "bars": bars_of(job.settings),
    }
    return facts | _overrides_of(job.settings)


def _overrides_of(settings: DeriveSettings) -> dict[str, str]:
    """Return what tells that, and how, the calendar was corrected; nothing where it was not."""
    overrides = settings.overrides
    said = "" if overrides is None else overrides.version(settings.calendar).strip()
    return {"overrides": said} if said else {}


def bars_of(settings: DeriveSettings) -> str:
    """Return what bars settings make, in one line."""
    return "|".join(
        (
            ",".join(str(tf) for tf in settings.timeframes),
            *(settings.calendar, settings.session or "", settings.rule_set.digest),
        )
    )


class _Loader:
    """Does one load, step by step; every step can be done again.

    Parameters
    ----------
    job : what to load
    log : the journal of loads
    store, tables : where to
    at_boundary : see `load_file`
    """

    def __init__(
        self,
        job: LoadJob,
        log: LoadLog,
        store: BarRepository,
        tables: dict[str, LakeTable],
        at_boundary: AtBoundary,
    ) -> None:
        self._job, self._log, self._store, self._tables = job, log, store, tables
        self._at_boundary = at_boundary

    async def load(self, facts: Mapping[str, str]) -> LoadReport:
        """Load the job's file, after what an earlier load left to do."""
        await asyncio.to_thread(self._log.mend)
        runs = await asyncio.to_thread(self._log.runs)
        run = runs.pop() if runs and runs[-1].over is None else None
        given_up = ""
        if run is not None and not run.is_of(facts):
            if run.received is None:
                given_up = run.facts["file"]
                self._log.note(run, "given_up")
            else:
                await self._finish(run)
                runs.append(run)
            run = None
        if any(one.is_of(facts) and not one.given_up for one in runs):
            return LoadReport(already=True, given_up=given_up)
        if run is None:
            run = self._log.begin(facts, self._job.now_ns)
        if run.received is None:
            run = await asyncio.to_thread(self._receive, run)
        report = await self._finish(run)
        report.given_up = given_up
        return report

    def _receive(self, run: Run) -> Run:
        job = self._job
        with CsvMessages(
            job.path,
            source=job.source,
            feed=job.feed,
            journal_id=JOURNAL,
            symbols=job.symbols,
            conn_id=run.first,
        ) as messages:
            self._at_boundary("journal:before")
            run = self._log.take_in(run, messages.records(), self._at_boundary)
            self._at_boundary("journal:after")
            return run

    async def _finish(self, run: Run) -> LoadReport:
        """Derive what a load adds, write it, and note that it is done."""
        settings = self._job.settings
        ours = {"bars": bars_of(settings), **_overrides_of(settings)}
        if ours != {name: run.facts[name] for name in _SHAPING if name in run.facts}:
            raise StorageError(
                f"journal load: the load of {run.facts['file']} broke off and was for other bars "
                f"({run.facts['bars']}); finish it with the same options first"
            )
        await asyncio.to_thread(self._log.keep_raw)
        self._at_boundary("raw:after")
        report = LoadReport()
        feeds = await feeds_of(self._job.folder, self._store.database)
        with scratch(self._job.folder, "load") as aside:
            stage = LoadStage(aside, settings, self._tables, run, feeds)
            with closing(self._log.journal.reader()) as reader:
                await asyncio.to_thread(stage.read, reader, report)
            try:
                self._refuse_dropped(stage)
                if run.accepted is None:
                    refuse_live(stage.sessions(), feeds, FreshBars(settings).date_of)
            except UsageError:
                self._log.note(run, "given_up")
                raise
            if run.accepted is None:
                self._log.note(run, "accepted")
            for part in stage.parts():
                await asyncio.to_thread(stage.write_ticks, part, report)
                self._at_boundary("ticks:after")
            for part in stage.changed():
                await self._write_bars(run, stage, part, report)
        self._log.note(run, "loaded")
        self._at_boundary("loaded:after")
        await asyncio.to_thread(self._log.keep_raw)
        return report

    def _refuse_dropped(self, stage: LoadStage) -> None:
        dates = [session.date for session in stage.sessions()]
        if dates:
            days = days_read(self._job.settings, Days(min(dates), max(dates)))
            refuse_dropped(self._tables, REBUILT_FROM, days.first, _INSTEAD)

    async def _write_bars(self, run: Run, stage: LoadStage, part: Part, report: LoadReport) -> None:
        days = Days(part.date, part.date)
        await mend_bars(self._store, self._tables["bars"], days, stage.symbols_of(part))
        bars = await asyncio.to_thread(stage.bars, part)
        if not len(bars):
            return
        # a feed that starts after a crash must know whose the bars are before they are there
        self._log.note(run, "changes", touched=touched(bars))
        self._at_boundary("store:before")
        await self._store.add(bars)
        self._at_boundary("store:after")
        await asyncio.to_thread(stage.write_bars, part, bars)
        self._at_boundary("bars:after")
        first = int(pc.sum(pc.equal(bars["revision"], 0)).as_py() or 0)
        report.bars += first
        report.revisions += len(bars) - first
