"""Gaps that are long or many: what is joined, what is asked for at once, where it goes on."""

import asyncio
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gapkit import DAY_COMES_S, ENDS, GAP, MINUTE, NOON, Script, running
from marketpipe.domain.units import NANOS
from marketpipe.errors import ConnectError
from marketpipe.journal import SqliteJournal
from marketpipe.pipelines.alpacafeed import AlpacaHistory
from marketpipe.pipelines.gapfill import SKEW_NS
from marketpipe.pipelines.gapwork import JOINED_NS, Compared, Pages
from marketpipe.sources.alpaca.rest import AlpacaRest
from marketpipe.sources.connector import Gap
from marketpipe.store.gaps import DAY
from restkit import DATA, START, FakeAlpaca, Reply, Used
from vendorkit import in_loop, reached

BAD = "unreadable_frame"
FAILS = [Reply(500, b"{}")] * 5
"""So often a request is made that fails for a passing reason."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal(tmp_path / "journal", "j") as made:
        yield made


@in_loop
async def test_gaps_that_follow_close_upon_one_another_are_one_entry(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script()
    begin = GAP.start_ns
    async with running(tmp_path, script, journal, at_ns=begin + 5 * NANOS) as run:
        for start, end in ((0, 1), (1, 2), (3, 5), (4, 5)):
            await run.filler.opened(Gap(begin + start * NANOS, begin + end * NANOS, BAD))
        await run.filler.opened(Gap(begin + 5 * NANOS, begin + 6 * NANOS, "disconnected"))
        await run.filler.opened(Gap(begin + 66 * NANOS, begin + 67 * NANOS, BAD))
        ledger = [(e.number, e.reason, e.start_ns, e.end_ns) for e in await run.ledger()]
    assert [entry for entry in ledger if entry[1] != DAY] == [
        (1, BAD, begin, begin + 5 * NANOS),
        (3, "disconnected", begin + 5 * NANOS, begin + 6 * NANOS),
        (4, BAD, begin + 66 * NANOS, begin + 67 * NANOS),
    ]


@in_loop
async def test_entry_that_grew_is_known_from_the_journal_too(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script, begin = Script(), GAP.start_ns
    for second in (0, 1):
        async with running(tmp_path, script, journal, at_ns=begin) as run:
            await run.filler.opened(Gap(begin + second * NANOS, begin + (second + 1) * NANOS, BAD))
            assert (await run.entry()).end_ns == begin + (second + 1) * NANOS
        if not second:
            shutil.copy(tmp_path / "store.db", tmp_path / "older.db")
    for name in ("older.db", "new.db"):
        async with running(tmp_path, script, journal, name=name, at_ns=begin) as run:
            assert (await run.entry()).end_ns == begin + 2 * NANOS


@in_loop
async def test_gaps_without_an_end_are_asked_for_every_five_minutes(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script()

    def gap(second: int) -> Gap:
        return Gap(NOON + second * NANOS, NOON + (second + 1) * NANOS, BAD)

    async with running(tmp_path, script, journal, at_ns=NOON) as run:
        for second in range(JOINED_NS // NANOS + 1):
            await run.filler.opened(gap(second))
            run.clock.advance(1)
            # nothing is asked for while it grows
            assert not script.asked
        entries = [entry for entry in await run.ledger() if entry.reason != DAY]
        assert [(e.start_ns, e.end_ns) for e in entries] == [
            (NOON, NOON + JOINED_NS),
            (NOON + JOINED_NS, NOON + JOINED_NS + NANOS),
        ]
        # the first entry is asked for now, the next one once it has grown as long
        run.clock.advance(2)
        await reached(lambda: len(script.asked) == 1)
        await run.filler.opened(gap(JOINED_NS // NANOS + 50))
        entries = [entry for entry in await run.ledger() if entry.reason != DAY]
        assert [(e.start_ns, e.end_ns) for e in entries] == [
            (NOON, NOON + JOINED_NS),
            (NOON + JOINED_NS, NOON + JOINED_NS + 51 * NANOS),
        ]
        await reached(partial(run.waits_for, 37))  # the bars of the first
        run.clock.advance(37)
        await reached(partial(run.waits_for, 260))
        run.clock.advance(260)
        await reached(lambda: len(script.asked) >= 4)
        assert script.asked[3][:2] == ("trades", NOON + JOINED_NS - MINUTE)


@in_loop
async def test_long_gap_is_asked_for_hour_by_hour_and_goes_on_where_it_failed(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    hour = 60 * MINUTE
    script = Script(looks=deque(Compared(60, 60, "") for _ in range(3)))
    begin = NOON - 2 * hour
    async with running(tmp_path, script, journal) as run:
        await run.filler.opened(Gap(begin + MINUTE, ENDS, "stopped"))
        await run.waits(2)
        # the bars of the hour before noon are final at 12:00:40
        await run.waits(40 - 17)
        await reached(partial(run.waits_for, 60))
        script.failures.append(ConnectError("gone"))
        await run.waits(60)
        await reached(partial(run.waits_for, 4))
        assert (await run.entry()).detail == "gone"
        await run.waits(4)
        await reached(partial(run.waits_for, DAY_COMES_S - 89))
        entry = await run.entry()
    last = ("trades", NOON, NOON + MINUTE)
    assert script.asked == [
        ("trades", begin, begin + hour),
        ("bars", begin, begin + hour),
        ("trades", begin + hour, NOON),
        ("bars", begin + hour, NOON),
        ("trades", NOON, NOON + 40 * NANOS + SKEW_NS),
        *[last, last],
        ("bars", NOON, NOON + MINUTE),
    ]
    assert script.begun == 3
    assert (entry.state, entry.trades) == ("repaired", 4)
    assert (entry.bars_compared, entry.bars_exact) == (180, 180)


class Counting(ThreadPoolExecutor):
    """Threads that count what they are given."""

    calls = 0

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(*args, **options)


async def taken(pages: Pages, fake: FakeAlpaca, *then: Reply) -> list[int]:
    """Fetch all trades; return how many records each page made. Answers after a page: ``then``."""
    counts = []
    async for records in pages.records("trades", START, START + NANOS):
        counts.append(len(records))
        fake.first.extend(then)
    return counts


def test_pages_that_fail_go_on_behind_the_last_one() -> None:
    fake = FakeAlpaca(DATA, most=3)

    async def use(client: AlpacaRest) -> None:
        pages = AlpacaHistory(client, "sip", is_crypto=False).pages(("MSFT", "AAPL"))
        with pytest.raises(ConnectError):
            await taken(pages, fake, *FAILS)
        first, *failed = fake.asked
        assert "page_token" not in first.params
        assert len({asked.params["page_token"] for asked in failed}) == 1
        fake.asked.clear()
        assert await taken(pages, fake) == [3, 3, 2]
        assert fake.asked[0].params == failed[0].params
        assert pages.trades == 11
        # what is done is asked for anew
        fake.asked.clear()
        assert await taken(pages, fake) == [3, 3, 3, 2]
        assert pages.trades == 11

    Used(fake).run(use)


def test_quotes_are_counted_once_and_each_request_numbers_its_pages() -> None:
    fake = FakeAlpaca(DATA, most=3)

    async def use(client: AlpacaRest) -> None:
        pages = AlpacaHistory(client, "sip", is_crypto=False).pages(("MSFT", "AAPL"))

        async def asked(*then: Reply) -> list[tuple[int, int]]:
            places = []
            async for records in pages.records("quotes", START, START + NANOS):
                started, numbers = (
                    records[name].to_pylist()[0] for name in ("conn_started_ns", "frame_seq")
                )
                places.append((started, numbers))
                fake.first.extend(then)
            return places

        with pytest.raises(ConnectError):
            await asked(*FAILS)
        assert pages.quotes == 3
        resumed = await asked()
        assert pages.quotes == 11
        # the place of a page says which one it follows on
        assert [number for _, number in resumed] == [1, 2, 3]
        again = await asked()
        assert pages.quotes == 11
        assert [number for _, number in again] == [0, 1, 2, 3]
        assert len({started for started, _ in resumed}) == 1
        assert resumed[0][0] != again[0][0]
        assert pages.trades == 0

    Used(fake).run(use)


def test_pages_are_read_in_threads() -> None:
    fake = FakeAlpaca(DATA, most=3)
    threads = Counting()

    async def use(client: AlpacaRest) -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        pages = AlpacaHistory(client, "sip", is_crypto=False).pages(("MSFT", "AAPL"))
        assert await taken(pages, fake) == [3, 3, 3, 2]

    Used(fake).run(use)
    assert threads.calls == 4


def test_pages_begin_anew_where_the_vendor_forgot_their_place() -> None:
    fake = FakeAlpaca(DATA, most=3)

    async def use(client: AlpacaRest) -> None:
        pages = AlpacaHistory(client, "sip", is_crypto=False).pages(("MSFT", "AAPL"))
        with pytest.raises(ConnectError, match="asked for anew"):
            await taken(pages, fake, Reply(400, b'{"message":"invalid page_token"}'))
        assert await taken(pages, fake) == [3, 3, 3, 2]
        assert pages.trades == 11

    Used(fake).run(use)


def test_page_loop_goes_on_once_the_vendor_has_mended_it() -> None:
    fake = FakeAlpaca(DATA, most=3)

    async def use(client: AlpacaRest) -> None:
        pages = AlpacaHistory(client, "sip", is_crypto=False).pages(("MSFT", "AAPL"))
        with pytest.raises(ConnectError, match="in a circle"):
            await taken(pages, fake, Reply(body=b'{"trades":{},"next_page_token":"Mw=="}'))
        assert await taken(pages, fake) == [3, 3, 2]
        assert pages.trades == 11

    Used(fake).run(use)
