"""`GapFiller`: what a feed missed, taken from its vendor's history, and a ledger of it."""

import asyncio
import heapq
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

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
from marketpipe.pipelines.gapwork import (
    JOINED_NS,
    NEAR_NS,
    Asked,
    GapWork,
    History,
    Pages,
    quotes_between,
)
from marketpipe.pipelines.intake import Append
from marketpipe.sources.clocks import Clock
from marketpipe.sources.connector import Gap
from marketpipe.store import GapEntry, GapStore
from marketpipe.store.gaps import DAY

MINUTE_NS: Final = 60 * NANOS
LOOKBACK_NS: Final = MINUTE_NS
"""How long before a gap its trades may have happened; the day's look finds what was later."""
SKEW_NS: Final = 30 * NANOS
"""So far the clock may be off the vendor's: trades are fetched until so long after now, quotes,
which are never late, from so long before a gap to so long after it."""
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

_log = logging.getLogger("marketpipe.gaps")


class GapFiller:
    """Fills gaps one after the other, each as soon as the vendor can have it.

    A gap's trades are fetched from a minute before it to now and a little more, and go through the
    journal like any message: what is there already is left out by its id. A long gap is done hour
    by hour, and where the vendor fails, it goes on behind the last page. When a piece's last minute
    is over, the vendor's minute bars are fetched too, and compared with bars built of the fetched
    trades; so a history that leaves something out does not pass for a repair. A day with gaps is
    fetched whole once it is over: then cancels, corrections and late prints that fell into a gap
    are found as well. Quotes, where the feed has them, are fetched after the trades of a gap, and
    those of its end once more with the bars; none with the day. Gaps of one reason that follow
    close upon one another are one entry, and after the first, which is filled at once, they are
    collected for minutes.

    Parameters
    ----------
    history, clock : of the vendor, of the feed
    store : keeps the ledger
    append : takes records for the journal
    journal_id, source, feed : of the feed
    symbols : returns what the feed is to have, when a gap is opened
    days_of : the days of the feed
    with_quotes : whether the feed subscribes quotes
    unfilled : what else the feed subscribes and no history is asked for; entries name it
    day_after_ns : how long after its end a day with gaps is looked over whole
    delay_ns : how much later than it happens the feed tells: gaps are of receipt, what is fetched
        and the days are of when it happened
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
        with_quotes: bool = False,
        unfilled: tuple[str, ...] = (),
        day_after_ns: int = DAY_AFTER_NS,
        delay_ns: int = 0,
    ) -> None:
        self._history, self._clock, self._append = history, clock, append
        self._ledger = GapLedger(
            store, append, lambda facts: history.control(facts, clock.now_ns())
        )
        self._journal_id, self._source, self._feed = journal_id, source, feed
        self._symbols, self._days_of, self._day_after_ns = symbols, days_of, day_after_ns
        self._with_quotes, self._unfilled, self._delay_ns = with_quotes, unfilled, delay_ns
        self._last = 0
        self._days: set[tuple[int, int]] = set()
        self._ends: dict[str, int] = {}
        self._due: list[tuple[int, int]] = []
        self._works: dict[int, GapWork] = {}
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
        near = next((work for work in self._works.values() if work.takes(gap, symbols)), None)
        if near is None:
            await self._enter(gap, symbols)
        else:
            await self._extend(near, gap.end_ns)
        for day in self._days_of(gap.start_ns - self._delay_ns, gap.end_ns - self._delay_ns):
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

    async def _extend(self, work: GapWork, end_ns: int) -> None:
        if end_ns > work.entry.end_ns:
            work.entry = replace(work.entry, end_ns=end_ns)
            self._ends[work.entry.reason] = end_ns
            self._again(work, max(work.due_ns, end_ns + SETTLE_NS))
            await self._ledger.enter(work.entry)

    def _line_up(self, entry: GapEntry) -> None:
        work = self._works[entry.number] = GapWork(entry)
        if entry.reason == DAY:
            self._again(work, entry.end_ns + self._delay_ns + self._day_after_ns)
            return
        before_ns = self._ends.get(entry.reason)
        due_ns = entry.end_ns + SETTLE_NS
        if before_ns is not None and entry.start_ns <= before_ns + NEAR_NS:
            # Where one gap follows another, more will: they are collected.
            due_ns = max(due_ns, entry.start_ns + JOINED_NS)
        self._ends[entry.reason] = max(entry.end_ns, before_ns or 0)
        self._again(work, due_ns)

    def _again(self, work: GapWork, due_ns: int) -> None:
        work.due_ns = due_ns
        heapq.heappush(self._due, (due_ns, work.entry.number))
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
            work = await self._next()
            try:
                await self._step(work)
            except (AuthError, EntitlementError, RefusedError) as problem:
                await self._refused(work, problem)
            except VendorError as problem:
                await self._postponed(work, problem)

    async def _next(self) -> GapWork:
        """Wait until something is due."""
        while True:
            self._news.clear()
            if not self._due:
                await self._news.wait()
                continue
            due_ns, number = self._due[0]
            work = self._works.get(number)
            if work is None or work.due_ns != due_ns:
                # It was put off since.
                heapq.heappop(self._due)
                continue
            wait_ns = due_ns - self._clock.now_ns()
            if wait_ns <= 0:
                heapq.heappop(self._due)
                return work
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

    async def _step(self, work: GapWork) -> None:
        """Fetch trades and quotes first; bars, and the last of the others, once that is over."""
        entry = work.entry
        is_day = entry.reason == DAY
        first_ns, last_ns = _minutes(entry, self._delay_ns)
        start_ns, end_ns = work.piece(first_ns, last_ns)
        is_tail = end_ns == last_ns and not is_day
        quotes = self._quotes_of(work) if is_tail else []
        pages = work.pages
        if pages is None:
            pages = self._history.pages(entry.symbols)
            until_ns = self._clock.now_ns() + SKEW_NS - self._delay_ns if is_tail else end_ns
            work.begin(pages, Asked("trades", start_ns, until_ns), *quotes)
        await self._fetch(work, pages)
        if work.left:
            self._again(work, self._clock.now_ns())
            return
        if not work.with_bars:
            tail = [Asked("trades", end_ns - MINUTE_NS, end_ns)] if is_tail else []
            work.go_on(*tail, *quotes[-1:], Asked("bars", start_ns, end_ns))
            bars_ns = end_ns + self._delay_ns + BARS_AFTER_NS
            self._again(work, max(bars_ns, self._clock.now_ns()))
            return
        found = await asyncio.to_thread(pages.compare, start_ns, end_ns)
        work.quotes = max(work.quotes, pages.quotes)
        work.looks += 1
        if found.exact < found.compared and work.looks < LOOKS:
            # Trades may have come late, or been cancelled, since they were asked for.
            work.begin_again()
            self._again(work, self._clock.now_ns() + BARS_AFTER_NS)
            return
        work.settle(pages, found, end_ns)
        if end_ns < last_ns:
            self._again(work, self._clock.now_ns())
        else:
            await self._repaired(work)

    def _quotes_of(self, work: GapWork) -> list[Asked]:
        """Return what is to be asked for of a gap's quotes; not again because bars differ."""
        if not self._with_quotes or work.no_quotes or work.looks:
            return []
        start_ns = work.entry.start_ns - self._delay_ns - SKEW_NS
        end_ns = work.entry.end_ns - self._delay_ns + SKEW_NS
        return quotes_between(start_ns, end_ns, 2 * SKEW_NS)

    async def _fetch(self, work: GapWork, pages: Pages) -> None:
        """Fetch what is left of the step; of quotes one part, as other gaps may be due."""
        while work.left:
            asked = work.left[0]
            async for records in pages.records(*asked):
                await self._append(records)
                work.failures, work.has_pages = 0, True
            work.left.popleft()
            if asked.kind == "quotes":
                return

    async def _repaired(self, work: GapWork) -> None:
        found = work.found
        differ, remarks = found.compared - found.exact, []
        if differ:
            remarks.append(f"{differ} minute bars differ, first {found.first}")
        if work.entry.reason != DAY:
            if self._with_quotes and (work.quotes or not work.no_quotes):
                remarks.append(f"{work.quotes:,} quotes")
            unfilled = [*(["quotes"] if work.no_quotes else []), *self._unfilled]
            if unfilled:
                remarks.append(f"not fetched: {', '.join(unfilled)}")
            if work.no_quotes:
                remarks.append(f"quotes refused: {work.no_quotes}")
        entry = replace(
            work.entry,
            state="repaired",
            trades=work.trades,
            bars_compared=found.compared,
            bars_exact=found.exact,
            detail="; ".join(remarks),
        )
        await self._close(entry)

    async def _refused(self, work: GapWork, problem: VendorError) -> None:
        free_ns = work.entry.end_ns + EMBARGO_NS
        if isinstance(problem, EntitlementError) and self._clock.now_ns() < free_ns:
            # What is recent may cost more than what is not.
            self._ledger.remark(replace(work.entry, detail=str(problem)))
            self._again(work, free_ns)
            return
        if work.left and work.left[0].kind == "quotes":
            # It gave the trades.
            work.go_without_quotes(str(problem))
            self._again(work, self._clock.now_ns())
            return
        await self._close(replace(work.entry, state="refused", detail=str(problem)))

    async def _postponed(self, work: GapWork, problem: VendorError) -> None:
        work.failures += 1
        if not work.has_pages:
            # It may still grow.
            work.begin_again()
        wait_ns = min(SETTLE_NS << min(work.failures, 8), LONGEST_WAIT_NS)
        work.entry = replace(work.entry, detail=str(problem))
        self._ledger.remark(work.entry)
        _log.warning("gap %d waits for %d s: %s", work.entry.number, wait_ns // NANOS, problem)
        self._again(work, self._clock.now_ns() + wait_ns)

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


def _minutes(entry: GapEntry, delay_ns: int) -> tuple[int, int]:
    """Return the whole minutes ``[start, end)`` in which an entry's trades may have happened."""
    if entry.reason == DAY:
        return entry.start_ns, entry.end_ns
    start_ns, end_ns = entry.start_ns - delay_ns - LOOKBACK_NS, entry.end_ns - delay_ns
    return start_ns // MINUTE_NS * MINUTE_NS, -(-end_ns // MINUTE_NS) * MINUTE_NS
