"""`LiveFeed`: a vendor's stream, and what its history fills, as one journal's records."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CLOCK
from marketpipe.pipelines.controls import last_control, noted_gaps
from marketpipe.pipelines.facts import Facts, check_settings, with_facts
from marketpipe.pipelines.feeddays import DaysOf
from marketpipe.pipelines.gapfill import DAY_AFTER_NS, GapFiller
from marketpipe.pipelines.gapwork import History
from marketpipe.pipelines.intake import Append, Intake
from marketpipe.pipelines.lastgood import NewestOf, last_good_ns
from marketpipe.pipelines.live import MakeParser
from marketpipe.sources.clocks import Clock
from marketpipe.sources.connector import BaseConnector, Gap
from marketpipe.store import GapStore

ANY_LEAD: Final = 0
FORM: Final = "frames"

_log = logging.getLogger("marketpipe.feed")


def nothing() -> None:
    """Do nothing."""


@dataclass(slots=True, kw_only=True)
class LiveFeed:
    """A live feed with its gaps filled, for `IngestionService`.

    It never waits for what is derived of it: messages that came are in the journal, however far
    behind the bars are.

    Attributes
    ----------
    journal_id : name of its journal
    connector : the stream
    history : fills its gaps
    clock : the feed's time
    source, feed : names of the vendor and its feed
    symbols : what is subscribed
    days_of : the days of the feed
    with_quotes : whether quotes are subscribed, and so fetched for gaps
    unfilled : what is subscribed and stays missing after a gap
    day_after_ns : how long after its end a day with gaps is looked over whole
    delay_ns : how much later than it happens the feed tells
    is_crypto : whether it is of crypto, which trades at all times
    make_parser : what makes the parser of its records
    newest_of : reads from records when the newest of each channel happened
    warm_up : called in a thread before the feed connects; may take long the first time
    """

    journal_id: str
    connector: BaseConnector
    history: History
    clock: Clock
    source: str
    feed: str
    symbols: tuple[str, ...]
    days_of: DaysOf
    make_parser: MakeParser
    newest_of: NewestOf
    with_quotes: bool = False
    unfilled: tuple[str, ...] = ()
    day_after_ns: int = DAY_AFTER_NS
    delay_ns: int = 0
    is_crypto: bool = False
    warm_up: Callable[[], object] = nothing
    lead: int = ANY_LEAD

    def total_bytes(self) -> int | None:
        """Return None: a feed has no end."""
        return None

    def absent(self) -> tuple[str, ...]:
        """Return nothing: only the vendor knows what it has."""
        return ()

    async def run(self, intake: Intake) -> bool:
        """Take the feed in until it is stopped.

        Raises
        ------
        UsageError
            If the journal was made with other settings.
        VendorError
            What waiting cannot mend: a wrong key, a plan that does not include the feed.
        StorageError
            If the journal cannot be written, or the store will never take the ledger.
        """

        async def append(records: pa.RecordBatch) -> None:
            await intake.append(with_facts(records, facts))

        facts = {
            "input": {"form": FORM, "source": self.source, "feed": self.feed},
            "settings": intake.settings,
        }
        await asyncio.to_thread(self._check, intake, facts)
        await asyncio.to_thread(self.warm_up)
        filler = GapFiller(
            self.history,
            self.clock,
            GapStore(intake.database),
            append,
            journal_id=self.journal_id,
            source=self.source,
            feed=self.feed,
            symbols=lambda: self.symbols,
            days_of=self.days_of,
            with_quotes=self.with_quotes,
            unfilled=self.unfilled,
            day_after_ns=self.day_after_ns,
            delay_ns=self.delay_ns,
        )
        await filler.load(partial(noted_gaps, intake.journal, intake.raw))
        good_ns = await asyncio.to_thread(
            last_good_ns, intake.journal, self.newest_of, self.delay_ns
        )
        seam = _Seam(append, filler, good_ns)
        started = {"event": "started", "symbols": list(self.symbols), "good_until_ns": good_ns}
        await append(self.history.control(started, self.clock.now_ns()))
        self.connector.register_callback(seam.take, filler.opened)
        await self.connector.subscribe(self.symbols)
        stopped = asyncio.create_task(intake.stopped.wait())
        try:
            await self._connect(stopped)
        except BaseException:
            stopped.cancel()
            raise
        listening = asyncio.create_task(self.connector.run())
        filling = asyncio.create_task(filler.run())
        await asyncio.wait([listening, filling, stopped], return_when=asyncio.FIRST_COMPLETED)
        await self.connector.disconnect()
        filling.cancel()
        stopped.cancel()
        # Both are waited for, whichever ended first; what the one raised is what the feed says.
        ended = await asyncio.gather(listening, filling, return_exceptions=True)
        await filler.close()
        for failure in ended:
            if isinstance(failure, Exception):
                raise failure
        if filler.open:
            _log.warning(
                "%s: gaps not filled yet: %d; the next run goes on with them",
                self.journal_id,
                filler.open,
            )
        return True

    async def _connect(self, stopped: "asyncio.Task[bool]") -> None:
        """Connect, unless the feed is stopped before there is an answer."""
        connecting = asyncio.create_task(self.connector.connect())
        await asyncio.wait([connecting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            await self.connector.disconnect()
        await connecting

    def _check(self, intake: Intake, facts: Facts) -> None:
        """Refuse a journal that was made with other settings."""
        with closing(intake.journal.reader()) as reader:
            last = last_control(reader, intake.raw)
        if last is not None:
            check_settings(json.loads(last[2]), facts, self.journal_id)


@dataclass(slots=True)
class _Seam:
    """Hands records on, and notes the gap between the last run and this one."""

    append: Append
    filler: GapFiller
    good_ns: int | None

    async def take(self, records: pa.RecordBatch) -> None:
        """Append records; the first tick of the clock ends the gap since the last run."""
        if self.good_ns is not None:
            ticks = np.flatnonzero(np.asarray(pc.equal(records["kind"], CLOCK)))
            if len(ticks):
                begins_ns = int(records["ts_recv"][int(ticks[0])].as_py())
                gap, self.good_ns = Gap(self.good_ns, begins_ns, "stopped"), None
                await self.filler.opened(gap)
        await self.append(records)
