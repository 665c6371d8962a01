"""`IngestionService`: a feed into a journal, and the journal into bars, both at once."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.cancelling import finished
from marketpipe.domain.findings import Findings
from marketpipe.domain.records import DATA
from marketpipe.journal import Durability
from marketpipe.lake import Compression, LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.deriver import Deriver
from marketpipe.pipelines.intake import Feed, Intake
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.live import AtBoundary, LivePipeline, LiveSettings, nowhere
from marketpipe.pipelines.mend import mend_bars
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.pipelines.ownership import batch_lock
from marketpipe.pipelines.tally import Tally, tally
from marketpipe.store import BarRepository

Progress = Callable[[int, int | None, int], None]
"""Called with bytes done, bytes in all (None: unknown) and messages."""

_log = logging.getLogger("marketpipe.stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What a run of the service came to.

    Attributes
    ----------
    appended : messages that this run put into the journal
    settings : what shapes bars, by the names that users know
    journal_id, next_offset : the journal, and how many records it ever got
    complete : whether the feed came to its end
    absent : wanted symbols that the file has no row of
    watermark_ns : up to when bars are confirmed, ns since the epoch; None where nothing came that
        bears a time
    findings : what was noticed, from the beginning of the journal
    held : what the lake holds now
    """

    appended: int
    settings: dict[str, str | int]
    journal_id: str
    next_offset: int
    complete: bool
    absent: tuple[str, ...]
    watermark_ns: int | None
    findings: Findings
    held: Tally


class IngestionService:
    """Takes a feed in: one task appends it to the journal, another derives from the journal.

    A message is durable before anything comes of it. If the lake or the store fails, what is in
    the journal stays there. A feed that waits for what is derived of it is then stopped, and the
    next run goes on. One that does not wait (its ``lead`` is 0) is taken into the journal
    meanwhile: deriving is tried again from the last checkpoint, after pauses that grow to a
    minute, until it works or the feed ends.

    Parameters
    ----------
    folder : where everything is kept
    settings : what is built, and how it is written
    feed : what is taken in
    durability, compression : of the journal, of the lake
    progress : told now and then how far the feed has come
    at_boundary : see `LivePipeline`
    """

    def __init__(
        self,
        folder: DataFolder,
        settings: LiveSettings,
        feed: Feed,
        *,
        durability: Durability = "process",
        compression: Compression = "zstd",
        progress: Progress | None = None,
        at_boundary: AtBoundary = nowhere,
    ) -> None:
        self._folder, self._settings, self._feed = folder, settings, feed
        self._durability: Durability = durability
        self._compression: Compression = compression
        self._progress = progress
        self._at_boundary = at_boundary
        self._stopped = asyncio.Event()
        self._one_by_one = asyncio.Lock()
        # What waits to be derived; it is in the journal. A feed may be held back by it.
        self._waiting: asyncio.Queue[bool] = asyncio.Queue(feed.lead)
        self._read_failure: Exception | None = None
        self._complete = False
        self._absent: tuple[str, ...] = ()
        self._appended = 0
        self._done_bytes = 0

    @property
    def journal_id(self) -> str:
        """Name of the feed's journal."""
        return self._feed.journal_id

    def stop(self) -> None:
        """Stop cleanly: append no more, derive what is in the journal, flush, save a checkpoint."""
        self._stopped.set()

    async def run(self) -> Ingested:
        """Run until the feed ends or `stop` is called.

        Raises
        ------
        UsageError
            If the feed does not fit what the journal holds.
        InputError, VendorError
            If the feed cannot go on; what came before is derived and kept.
        StorageError
            If something cannot be written, and still could not when the feed had ended; run
            again once it can.
        """
        self._absent = await asyncio.to_thread(self._feed.absent)
        async with live_pipeline(
            self._folder,
            self._settings,
            self._feed.make_parser,
            durability=self._durability,
            compression=self._compression,
            at_boundary=self._at_boundary,
        ) as pipeline:
            journal = pipeline.journal
            _log.info("journal %s: going on at offset %d", journal.journal_id, journal.next_offset)
            await pipeline.catch_up()
            intake = Intake(
                journal=journal,
                raw=await self._table("raw"),
                database=pipeline.database,
                settings=settings_facts(self._settings.derive),
                append=partial(self._append, pipeline),
                stopped=self._stopped,
            )
            deriver = Deriver(pipeline, tries_again=self._feed.lead == 0)
            await asyncio.gather(self._feed_in(intake), self._derive(deriver))
            if deriver.failure is not None:
                raise deriver.failure
            await pipeline.stop()
            await self._mend(pipeline)
            if self._read_failure is not None:
                raise self._read_failure
            return await self._ingested(pipeline)

    async def _mend(self, pipeline: LivePipeline) -> None:
        """Bring back what batches made of this feed's bars, if the store or the lake lost it."""
        if pipeline.went_on or not pipeline.closed:
            return
        dates = [session.date for session in pipeline.closed]
        symbols = sorted({session.stream.symbol for session in pipeline.closed})
        with batch_lock(self._folder):
            async with await BarRepository.open(self._folder.store_url) as store:
                bars = await self._table("bars")
                found = await mend_bars(store, bars, Days(min(dates), max(dates)), symbols)
        _log.info("bars of batches: %d given to the store, %d to the lake", *found)

    # Neither task cancels the other: a thread of the one may be at work. What fails is kept, and
    # raised when both have ended.

    async def _feed_in(self, intake: Intake) -> None:
        try:
            self._complete = await self._feed.run(intake)
        except Exception as failure:
            self._read_failure = failure
        finally:
            await self._waiting.put(False)

    @finished
    async def _append(self, pipeline: LivePipeline, batch: pa.RecordBatch) -> None:
        async with self._one_by_one:
            await pipeline.append(batch)
            self._count(batch)
            await self._waiting.put(True)

    async def _derive(self, deriver: Deriver) -> None:
        while await self._more(deriver.pause_s):
            await deriver.derive()
            if deriver.has_given_up:
                self._stopped.set()
        if deriver.failure is None:
            await deriver.derive()

    async def _more(self, pause_s: float) -> bool:
        """Wait for records, or for a whole pause; return False as soon as the feed has ended."""
        if not pause_s:
            more = await self._waiting.get()
            while more and not self._waiting.empty():
                more = self._waiting.get_nowait()
            return more
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                while await self._waiting.get():
                    pass
                return False
        return True

    def _count(self, batch: pa.RecordBatch) -> None:
        is_data = pc.equal(batch["kind"], DATA)
        self._appended += int(pc.sum(is_data).as_py() or 0)
        sizes = pc.sum(pc.binary_length(batch["payload"].filter(is_data))).as_py() or 0
        self._done_bytes += int(sizes) + len(batch)
        if self._progress is not None:
            self._progress(self._done_bytes, self._feed.total_bytes(), self._appended)

    async def _table(self, name: str) -> LakeTable:
        return await asyncio.to_thread(LakeTable.open, self._folder.lake, name, create=False)

    async def _ingested(self, pipeline: LivePipeline) -> Ingested:
        tables = {name: await self._table(name) for name in TABLES}
        # A clock of no known time stands at 0.
        reached = pipeline.derivation.watermark_ns or 0
        return Ingested(
            appended=self._appended,
            settings=settings_facts(self._settings.derive),
            journal_id=pipeline.journal.journal_id,
            next_offset=pipeline.journal.next_offset,
            complete=self._complete,
            absent=self._absent,
            watermark_ns=reached if reached > 0 else None,
            findings=pipeline.findings,
            held=await asyncio.to_thread(tally, tables),
        )


def settings_facts(derive: DeriveSettings) -> dict[str, str | int]:
    """Return what shapes bars, by the names that users know; part of the journal."""
    return {
        "timeframes": ",".join(str(tf) for tf in derive.timeframes),
        "calendar": derive.calendar,
        "session": derive.session or "",
        "rules": f"{derive.rule_set.name} {derive.rule_set.digest}",
        "price": ",".join(derive.price_types),
        "grace_ms": derive.grace_ns // 1_000_000,
        "delay_ms": derive.delay_ns // 1_000_000,
    }
