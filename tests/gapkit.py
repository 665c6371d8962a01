"""A filler of gaps at work: a history that does as it is told, a clock, and the ledger."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.errors import VendorError
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.controls import noted_gaps
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.feeddays import utc_days
from marketpipe.pipelines.gapfill import GapFiller
from marketpipe.pipelines.gapwork import Compared, RecordKind
from marketpipe.sources.connector import Gap
from marketpipe.sources.records import RecordBuilder
from marketpipe.store import Database, GapEntry, GapStore
from vendorkit import HandClock, reached

MIDNIGHT = 1_767_571_200 * NANOS  # 2026-01-05
MINUTE = 60 * NANOS
NOON = MIDNIGHT + 12 * 60 * MINUTE
ENDS = NOON + 15 * NANOS
GAP = Gap(NOON + 10 * NANOS, ENDS, "disconnected")
SAME = Compared(2, 2, "")
DIFFERENT = Compared(2, 1, "AAPL 12:00")
DAY_COMES_S = (MIDNIGHT + DAY_NS + 15 * MINUTE - ENDS) / NANOS
"""Seconds from the end of the gap to the look at its day."""


@dataclass
class Script:
    """A vendor's history that fails, refuses quotes, and compares as told; then all is well."""

    failures: deque[VendorError] = field(default_factory=deque)
    refusals: deque[VendorError] = field(default_factory=deque)
    looks: deque[Compared] = field(default_factory=deque)
    asked: list[tuple[RecordKind, int, int]] = field(default_factory=list)
    begun: int = 0

    def pages(self, symbols: tuple[str, ...]) -> "ScriptPages":
        self.begun += 1
        return ScriptPages(self, symbols)

    def control(self, facts: dict[str, Any], at_ns: int) -> pa.RecordBatch:
        builder = RecordBuilder(
            source="alpaca", feed="iex", stream="control", conn_id=0, conn_started_ns=at_ns
        )
        builder.add_control(facts, at_ns)
        return builder.take()


@dataclass
class ScriptPages:
    """One trade on each page of trades, one quote on each of quotes."""

    script: Script
    symbols: tuple[str, ...]
    trades: int = 0
    quotes: int = 0

    async def records(
        self, kind: RecordKind, start_ns: int, end_ns: int
    ) -> AsyncIterator[pa.RecordBatch]:
        self.script.asked.append((kind, start_ns, end_ns))
        failures = self.script.refusals if kind == "quotes" else self.script.failures
        if failures:
            raise failures.popleft()
        self.trades += kind == "trades"
        self.quotes += kind == "quotes"
        yield self.script.control({"event": "page", "symbols": list(self.symbols)}, end_ns)

    def compare(self, start_ns: int, end_ns: int) -> Compared:
        assert (start_ns, end_ns) != (0, 0)
        return self.script.looks.popleft() if self.script.looks else SAME


@dataclass
class Run:
    """A filler at work, its clock and its ledger."""

    filler: GapFiller
    clock: HandClock
    store: GapStore

    async def waits(self, seconds: float) -> None:
        """See that nothing more is done for so long, then let the time pass."""
        await reached(partial(self.waits_for, seconds))
        self.clock.advance(seconds)

    def waits_for(self, seconds: float) -> bool:
        return self.clock.naps == [seconds]

    async def ledger(self) -> list[GapEntry]:
        """Return what the store has, once all is saved."""
        await reached(lambda: self.filler.unsaved == 0)
        return await self.store.every("j")

    async def entry(self, number: int = 1) -> GapEntry:
        return {entry.number: entry for entry in await self.ledger()}[number]


@asynccontextmanager
async def running(
    folder: Path,
    script: Script,
    journal: SqliteJournal,
    *,
    at_ns: int = ENDS,
    name: str = "store.db",
    symbols: tuple[str, ...] = ("AAPL", "MSFT"),
    busy_s: float = 5.0,
    with_quotes: bool = False,
    unfilled: tuple[str, ...] = (),
) -> AsyncIterator[Run]:
    """Run a filler over a journal, with the ledger in a database of that name.

    ``busy_s``: how long a write waits for another process.
    """

    async def append(records: pa.RecordBatch) -> None:
        journal.append(records)

    clock = HandClock(at_ns)
    raw = LakeTable.open(DataFolder(folder).lake, "raw")
    url = f"sqlite:///{folder / name}"
    async with await Database.open(url, busy_timeout_s=busy_s) as database:
        store = GapStore(database)
        filler = GapFiller(
            script,
            clock,
            store,
            append,
            journal_id="j",
            source="alpaca",
            feed="iex",
            symbols=lambda: symbols,
            days_of=utc_days,
            with_quotes=with_quotes,
            unfilled=unfilled,
        )
        await filler.load(partial(noted_gaps, journal, raw))
        task = asyncio.create_task(filler.run())
        try:
            yield Run(filler, clock, store)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await filler.close()
