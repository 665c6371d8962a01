"""`IngestionService`: a feed into a journal, and the journal into bars, both at once."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.findings import Findings
from marketpipe.domain.records import DATA
from marketpipe.journal import Durability
from marketpipe.lake import LakeTable
from marketpipe.lake.table import Compression
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.live import AtBoundary, LivePipeline, LiveSettings, nowhere
from marketpipe.pipelines.mend import mend_bars
from marketpipe.pipelines.mockfeed import MockFeed
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.pipelines.ownership import batch_lock
from marketpipe.pipelines.tally import Tally, tally
from marketpipe.store import BarRepository

LEAD_BATCHES: Final = 16
"""How many batches the journal may be ahead of what is derived of it."""

Progress = Callable[[int, int | None, int], None]
"""Called with bytes done, bytes in all (None: unknown) and messages."""

_log = logging.getLogger("marketpipe.stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What a run of the service came to.

    Attributes
    ----------
    appended : messages that this run put into the journal
    journal_id, next_offset : the journal, and how many records it ever got
    complete : whether the feed came to its end
    watermark_ns : up to when bars are confirmed, ns since the epoch; None where nothing came
    findings : what was noticed, from the beginning of the journal
    held : what the lake holds now
    """

    appended: int
    journal_id: str
    next_offset: int
    complete: bool
    watermark_ns: int | None
    findings: Findings
    held: Tally


class IngestionService:
    """Takes a feed in: one task appends it to the journal, another derives from the journal.

    A message is durable before anything comes of it. If the lake or the store fails, what is in
    the journal stays there, the feed is stopped, and the next run derives it.

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
        feed: MockFeed,
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
        self._stopping = False
        self._read_failure: Exception | None = None
        self._derive_failure: Exception | None = None
        self._complete = False
        self._appended = 0
        self._done_bytes = 0

    def stop(self) -> None:
        """Stop cleanly: append no more, derive what is in the journal, flush, save a checkpoint."""
        self._stopping = True

    async def run(self) -> Ingested:
        """Run until the feed ends or `stop` is called.

        Raises
        ------
        UsageError
            If the feed does not fit what the journal holds.
        InputError
            If the feed cannot be read on; what came before is derived and kept.
        StorageError
            If something cannot be written; run again once it can.
        """
        facts = await asyncio.to_thread(self._feed.facts, settings_facts(self._settings.derive))
        async with live_pipeline(
            self._folder,
            self._settings,
            self._feed.make_parser,
            durability=self._durability,
            compression=self._compression,
            at_boundary=self._at_boundary,
        ) as pipeline:
            journal, raw = pipeline.journal, await self._table("raw")
            place = await asyncio.to_thread(self._feed.place, facts, journal, raw)
            _log.info("journal %s: going on at offset %d", journal.journal_id, journal.next_offset)
            await pipeline.catch_up()
            self._complete = place is None
            if place is not None:
                await self._follow(pipeline, self._feed.records(place, facts, journal.last_ts_recv))
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

    async def _follow(self, pipeline: LivePipeline, batches: Iterator[pa.RecordBatch]) -> None:
        # The queue bounds how far the journal is ahead; what waits in it is in the journal.
        queue: asyncio.Queue[bool] = asyncio.Queue(LEAD_BATCHES)
        await asyncio.gather(self._append(pipeline, batches, queue), self._derive(pipeline, queue))
        if self._derive_failure is not None:
            raise self._derive_failure

    # Neither task cancels the other: a thread of the one may be at work. What fails is kept, and
    # raised when both have ended.

    async def _append(
        self,
        pipeline: LivePipeline,
        batches: Iterator[pa.RecordBatch],
        queue: "asyncio.Queue[bool]",
    ) -> None:
        try:
            while not self._stopping:
                batch = await asyncio.to_thread(next, batches, None)
                if batch is None:
                    self._complete = True
                    break
                await pipeline.append(batch)
                self._count(batch)
                await queue.put(True)
        except Exception as failure:
            self._read_failure = failure
        finally:
            await queue.put(False)

    async def _derive(self, pipeline: LivePipeline, queue: "asyncio.Queue[bool]") -> None:
        more = True
        while more:
            more = await queue.get()
            while more and not queue.empty():
                more = queue.get_nowait()
            if self._derive_failure is None:
                try:
                    await pipeline.catch_up()
                except Exception as failure:
                    _log.error("cannot derive, so the feed is stopped: %s", failure)
                    self._derive_failure, self._stopping = failure, True

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
        return Ingested(
            appended=self._appended,
            journal_id=pipeline.journal.journal_id,
            next_offset=pipeline.journal.next_offset,
            complete=self._complete,
            watermark_ns=pipeline.derivation.watermark_ns,
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
    }
