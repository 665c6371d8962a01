"""`GapFiller`: what a feed missed, taken from its vendor's history, and a ledger of it."""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import (
    AuthError,
    EntitlementError,
    RefusedError,
    StorageError,
    VendorError,
)
from marketpipe.pipelines.feeddays import DaysOf
from marketpipe.pipelines.gapledger import GapLedger, Noted
from marketpipe.pipelines.intake import Append
from marketpipe.sources.clocks import Clock
from marketpipe.sources.connector import Gap
from marketpipe.store import GapEntry, GapStore
from marketpipe.store.gaps import DAY

MINUTE_NS: Final = 60 * NANOS
LOOKBACK_NS: Final = MINUTE_NS
"""How long before a gap its trades may have happened; the day's look finds what was later."""
SETTLE_NS: Final = 2 * NANOS
"""How long after a gap its history is asked for, and again if that fails."""
BARS_AFTER_NS: Final = 40 * NANOS
"""How long after a minute the vendor's bar of it is asked for: it may be restated at 30 s."""
LOOKS: Final = 3
"""How often bars are compared before they pass for different."""
DAY_AFTER_NS: Final = 15 * MINUTE_NS
"""How long after its end a day with gaps is looked over whole."""
EMBARGO_NS: Final = 16 * MINUTE_NS
"""After so long history is to be had without a plan for what is recent."""
LONGEST_WAIT_NS: Final = 5 * MINUTE_NS

RecordKind: TypeAlias = Literal["trades", "bars"]

_log = logging.getLogger("marketpipe.gaps")


class Compared(NamedTuple):
    """Minute bars of the vendor beside those built of its trades."""

    compared: int
    exact: int
    first: str


class Pages(Protocol):
    """Trades and bars of one stretch of history, as they come in."""

    def records(
        self, kind: RecordKind, start_ns: int, end_ns: int
    ) -> AsyncIterator[pa.RecordBatch]:
        """Fetch ``[start_ns, end_ns)``; yields records, a page at a time."""

    @property
    def trades(self) -> int:
        """How many trades there were so far, each counted once."""

    def compare(self, start_ns: int, end_ns: int) -> Compared:
        """Compare the vendor's minute bars in ``[start_ns, end_ns)`` with those of the trades."""


class History(Protocol):
    """A vendor's history."""

    def pages(self, symbols: tuple[str, ...]) -> Pages:
        """Begin to take in a stretch of it."""

    def control(self, facts: dict[str, Any], at_ns: int) -> pa.RecordBatch:
        """Make a control record."""


@dataclass(slots=True)
class _Work:
    """A gap on its way; ``pages`` is None until its trades are asked for."""

    entry: GapEntry
    pages: Pages | None = None
    failures: int = 0
    looks: int = 0


class GapFiller:
    """Fills gaps one after the other, each as soon as the vendor can have it.

    A gap's trades are fetched from a minute before it to now, and go through the journal like
    any message: what is there already is left out by its id. When its last minute is over, the
    vendor's minute bars are fetched too, and compared with bars built of the fetched trades; so
    a history that leaves something out does not pass for a repair. A day with gaps is fetched
    whole once it is over: then cancels, corrections and late prints that fell into a gap are
    found as well.

    Parameters
    ----------
    history, clock : of the vendor, of the feed
    store : keeps the ledger
    append : takes records for the journal
    journal_id, source, feed : of the feed
    symbols : returns what the feed is to have, when a gap is opened
    days_of : the days of the feed
    unfilled : what else the feed subscribes and no history is asked for; entries name it
    day_after_ns : how long after its end a day with gaps is looked over whole
    """

    def __init__(
        self,
        history: History,
        clock: Clock,
        store: GapStore,
        append: Append,
        *,
        journal_id: str,
        source: str,
        feed: str,
        symbols: Callable[[], tuple[str, ...]],
        days_of: DaysOf,
        unfilled: tuple[str, ...] = (),
        day_after_ns: int = DAY_AFTER_NS,
    ) -> None:
        self._history, self._clock, self._append = history, clock, append
        self._ledger = GapLedger(
            store, append, lambda facts: history.control(facts, clock.now_ns())
        )
        self._journal_id, self._source, self._feed = journal_id, source, feed
        self._symbols, self._days_of, self._day_after_ns = symbols, days_of, day_after_ns
        self._unfilled = unfilled
        self._last = 0
        self._days: set[tuple[int, int]] = set()
        self._due: list[tuple[int, int]] = []
        self._works: dict[int, _Work] = {}
        self._news = asyncio.Event()

    @property
    def open(self) -> int:
        """How many entries wait to be filled."""
        return len(self._works)

    @property
    def unsaved(self) -> int:
        """How many entries are in the journal, and not yet in the store."""
        return self._ledger.unsaved

    async def load(self, noted: Noted) -> None:
        """Take up what earlier runs left open; ``noted`` as of `GapLedger.load`."""
        entries = await self._ledger.load(self._journal_id, noted)
        for entry in entries:
            self._last = max(self._last, entry.number)
            if entry.reason == DAY:
                self._days.add((entry.start_ns, entry.end_ns))
            if entry.state == "open":
                self._line_up(entry)

    async def opened(self, gap: Gap) -> None:
        """Note a gap; it is filled by `run`."""
        symbols = self._symbols()
        if gap.start_ns >= gap.end_ns or not symbols:
            return
        await self._enter(gap, symbols)
        for day in self._days_of(gap.start_ns, gap.end_ns):
            if day not in self._days:
                self._days.add(day)
                await self._enter(Gap(*day, DAY), symbols)

    async def _enter(self, gap: Gap, symbols: tuple[str, ...]) -> None:
        self._last += 1
        entry = GapEntry(
            journal_id=self._journal_id,
            number=self._last,
            source=self._source,
            feed=self._feed,
            start_ns=gap.start_ns,
            end_ns=gap.end_ns,
            reason=gap.reason,
            symbols=symbols,
        )
        await self._ledger.enter(entry)
        self._line_up(entry)

    def _line_up(self, entry: GapEntry) -> None:
        self._works[entry.number] = _Work(entry)
        self._again(
            entry, entry.end_ns + (self._day_after_ns if entry.reason == DAY else SETTLE_NS)
        )

    def _again(self, entry: GapEntry, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, entry.number))
        self._news.set()

    async def run(self) -> None:
        """Fill gaps, and save the ledger, until cancelled.

        Raises
        ------
        StorageError
            If the journal cannot be written, or what the store says no waiting mends.
        """
        tasks = [asyncio.create_task(work()) for work in (self._fill, self._ledger.run)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Save what `run` did not, if the store lets us; else the next run does."""
        try:
            await self._ledger.save()
        except StorageError as failure:
            _log.warning(
                "gaps that cannot be listed now: %d; the next run lists them: %s",
                self.unsaved,
                failure,
            )

    async def _fill(self) -> None:
        while True:
            work = self._works[await self._next()]
            try:
                await self._step(work)
            except (AuthError, EntitlementError, RefusedError) as problem:
                await self._refused(work, problem)
            except VendorError as problem:
                await self._postponed(work, problem)

    async def _next(self) -> int:
        """Wait until something is due."""
        while True:
            self._news.clear()
            if not self._due:
                await self._news.wait()
                continue
            wait_ns = self._due[0][0] - self._clock.now_ns()
            if wait_ns <= 0:
                return heapq.heappop(self._due)[1]
            with suppress(TimeoutError):
                await self._sleep_or_news(wait_ns / NANOS)

    async def _sleep_or_news(self, seconds: float) -> None:
        waits = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._news.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _step(self, work: _Work) -> None:
        """Fetch trades first; bars, and the trades of the last minute, once that is over."""
        entry = work.entry
        start_ns, end_ns = _minutes(entry)
        if work.pages is None:
            pages = self._history.pages(entry.symbols)
            if entry.reason == DAY:
                await self._fetch(pages, "trades", start_ns, end_ns)
            else:
                await self._fetch(pages, "trades", start_ns, self._clock.now_ns())
            work.pages, work.failures = pages, 0
            self._again(entry, max(end_ns + BARS_AFTER_NS, self._clock.now_ns()))
            return
        if entry.reason != DAY:
            await self._fetch(work.pages, "trades", end_ns - MINUTE_NS, end_ns)
        await self._fetch(work.pages, "bars", start_ns, end_ns)
        found = work.pages.compare(start_ns, end_ns)
        work.looks += 1
        if found.exact < found.compared and work.looks < LOOKS:
            # Trades may have come late, or been cancelled, since they were asked for.
            work.pages = None
            self._again(entry, self._clock.now_ns() + BARS_AFTER_NS)
            return
        await self._repaired(work, work.pages.trades, found)

    async def _fetch(self, pages: Pages, kind: RecordKind, start_ns: int, end_ns: int) -> None:
        async for records in pages.records(kind, start_ns, end_ns):
            await self._append(records)

    async def _repaired(self, work: _Work, trades: int, found: Compared) -> None:
        differ, remarks = found.compared - found.exact, []
        if differ:
            remarks.append(f"{differ} minute bars differ, first {found.first}")
        if self._unfilled and work.entry.reason != DAY:
            remarks.append(f"not fetched: {', '.join(self._unfilled)}")
        entry = replace(
            work.entry,
            state="repaired",
            trades=trades,
            bars_compared=found.compared,
            bars_exact=found.exact,
            detail="; ".join(remarks),
        )
        await self._close(entry)

    async def _refused(self, work: _Work, problem: VendorError) -> None:
        free_ns = work.entry.end_ns + EMBARGO_NS
        if isinstance(problem, EntitlementError) and self._clock.now_ns() < free_ns:
            # What is recent may cost more than what is not.
            self._ledger.remark(replace(work.entry, detail=str(problem)))
            self._again(work.entry, free_ns)
            return
        await self._close(replace(work.entry, state="refused", detail=str(problem)))

    async def _postponed(self, work: _Work, problem: VendorError) -> None:
        work.failures += 1
        wait_ns = min(SETTLE_NS << min(work.failures, 8), LONGEST_WAIT_NS)
        work.entry = replace(work.entry, detail=str(problem))
        self._ledger.remark(work.entry)
        _log.warning("gap %d waits for %d s: %s", work.entry.number, wait_ns // NANOS, problem)
        self._again(work.entry, self._clock.now_ns() + wait_ns)

    async def _close(self, entry: GapEntry) -> None:
        del self._works[entry.number]
        await self._ledger.enter(entry)
        _log.info(
            "gap %d of %s, %s to %s: %s, %d trades, %d of %d bars exact",
            entry.number,
            entry.feed,
            format_ns(entry.start_ns),
            format_ns(entry.end_ns),
            entry.state,
            entry.trades,
            entry.bars_exact,
            entry.bars_compared,
        )


def _minutes(entry: GapEntry) -> tuple[int, int]:
    """Return the whole minutes ``[start, end)`` in which an entry's trades may have happened."""
    if entry.reason == DAY:
        return entry.start_ns, entry.end_ns
    start_ns = entry.start_ns - LOOKBACK_NS
    return start_ns // MINUTE_NS * MINUTE_NS, -(-entry.end_ns // MINUTE_NS) * MINUTE_NS
