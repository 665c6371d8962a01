"""Filling gaps: when history is asked for, what becomes of an entry, how the ledger survives."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from gapkit import DAY_COMES_S, DIFFERENT, ENDS, GAP, MIDNIGHT, MINUTE, NOON, SAME, Script, running
from livekit import stored
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.errors import AuthError, EntitlementError, RefusedError, VendorError
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.gapwork import Compared
from marketpipe.sources.connector import Gap
from marketpipe.store import GapEntry
from marketpipe.store.gaps import DAY
from vendorkit import in_loop, reached


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    # Small segments, so that what the lake has can be deleted.
    with SqliteJournal(tmp_path / "journal", "j", segment_bytes=1) as made:
        yield made


@in_loop
async def test_gap_is_fetched_after_two_seconds_and_compared_when_its_minute_is_over(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script()
    async with running(tmp_path, script, journal) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        # the vendor's bar may be restated 30 s after 12:01: it is asked for at 12:01:40
        await run.waits(100 - 17)
        await reached(partial(run.waits_for, DAY_COMES_S - 85))
        entry = await run.entry()
    before = NOON - MINUTE
    assert script.asked == [
        ("trades", before, ENDS + (2 + 30) * NANOS),
        ("trades", NOON, NOON + MINUTE),
        ("bars", before, NOON + MINUTE),
    ]
    assert (entry.state, entry.trades, entry.bars_compared, entry.bars_exact, entry.detail) == (
        *("repaired", 2, 2, 2),
        "",
    )


@in_loop
async def test_vendor_failing_is_asked_again_after_growing_waits(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    waits = (4, 8, 16, 32, 64, 128, 256, 300, 300)
    script = Script(deque(VendorError(f"no answer {n}") for n in range(len(waits))))
    async with running(tmp_path, script, journal) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        for n, seconds in enumerate(waits):
            await reached(partial(run.waits_for, seconds))
            entry = await run.entry()
            assert (entry.state, entry.detail) == ("open", f"no answer {n}")
            await run.waits(seconds)
        await reached(lambda: run.filler.open == 1)
        await reached(partial(run.waits_for, DAY_COMES_S - 2 - sum(waits)))
        entry = await run.entry()
    assert (entry.state, entry.detail) == ("repaired", "")


@in_loop
async def test_plan_without_recent_history_is_asked_after_the_embargo_and_then_refused(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script(deque([EntitlementError("too recent"), EntitlementError("not in the plan")]))
    async with running(tmp_path, script, journal) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        await reached(partial(run.waits_for, 16 * 60 - 2))
        entry = await run.entry()
        assert (entry.state, entry.detail) == ("open", "too recent")
        await run.waits(16 * 60 - 2)
        await reached(lambda: run.filler.open == 1)
        await reached(partial(run.waits_for, DAY_COMES_S - 16 * 60))
        entry = await run.entry()
    assert (entry.state, entry.detail) == ("refused", "not in the plan")
    assert len(script.asked) == 2


@pytest.mark.parametrize("kind", [AuthError, RefusedError])
def test_request_that_no_waiting_mends_is_refused_at_once(
    tmp_path: Path, journal: SqliteJournal, kind: type[VendorError]
) -> None:
    async def refused() -> GapEntry:
        async with running(tmp_path, Script(deque([kind("no")])), journal) as run:
            await run.filler.opened(GAP)
            await run.waits(2)
            await reached(partial(run.waits_for, DAY_COMES_S - 2))
            return await run.entry()

    entry = asyncio.run(refused())
    assert (entry.state, entry.detail) == ("refused", "no")


@pytest.mark.parametrize(
    ("looks", "begun", "exact", "detail"),
    [
        ([DIFFERENT, SAME], 2, 2, ""),
        ([DIFFERENT, DIFFERENT, SAME], 3, 2, ""),
        ([DIFFERENT] * 3, 3, 1, "1 minute bars differ, first AAPL 12:00"),
    ],
)
def test_bars_that_differ_are_fetched_again_twice_at_most(
    tmp_path: Path,
    journal: SqliteJournal,
    looks: Sequence[Compared],
    begun: int,
    exact: int,
    detail: str,
) -> None:
    script = Script(looks=deque(looks))

    async def repaired() -> GapEntry:
        async with running(tmp_path, script, journal) as run:
            await run.filler.opened(GAP)
            await run.waits(2)
            await run.waits(83)
            for _ in range(begun - 1):
                await run.waits(40)
            await reached(partial(run.waits_for, DAY_COMES_S - 85 - 40 * (begun - 1)))
            return await run.entry()

    entry = asyncio.run(repaired())
    assert (entry.state, entry.bars_exact, entry.detail) == ("repaired", exact, detail)
    assert script.begun == begun


@in_loop
async def test_entry_names_what_is_not_fetched_and_the_look_at_its_day_does_not(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script(looks=deque([DIFFERENT] * 3))
    left = ("quotes", "statuses")
    async with running(tmp_path, script, journal, unfilled=left) as run:
        await run.filler.opened(GAP)
        for seconds in (2, 83, 40, 40):
            await run.waits(seconds)
        await reached(partial(run.waits_for, DAY_COMES_S - 165))
        run.clock.advance(DAY_COMES_S)
        await reached(lambda: run.filler.open == 0)
        details = [entry.detail for entry in await run.ledger()]
    assert details == [
        "1 minute bars differ, first AAPL 12:00; not fetched: quotes, statuses",
        "",
    ]


QUOTES_FROM, QUOTES_TO = GAP.start_ns - 30 * NANOS, ENDS + 30 * NANOS
END_OF_QUOTES = ("quotes", QUOTES_TO - MINUTE, QUOTES_TO)


@in_loop
async def test_quotes_are_fetched_after_the_trades_and_their_end_once_more_with_the_bars(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script(looks=deque([DIFFERENT, SAME]))
    async with running(tmp_path, script, journal, with_quotes=True) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        await run.waits(83)
        await run.waits(40)
        await reached(partial(run.waits_for, DAY_COMES_S - 125))
        entry = await run.entry()
        run.clock.advance(DAY_COMES_S)
        await reached(lambda: run.filler.open == 0)
        day = await run.entry(2)
    before = NOON - MINUTE
    trades, bars = ("trades", NOON, NOON + MINUTE), ("bars", before, NOON + MINUTE)
    assert script.asked[:10] == [
        ("trades", before, ENDS + (2 + 30) * NANOS),
        ("quotes", QUOTES_FROM, QUOTES_TO - MINUTE),
        END_OF_QUOTES,
        *[trades, END_OF_QUOTES, bars],
        # bars that differ say nothing of quotes
        ("trades", before, ENDS + (125 + 30) * NANOS),
        *[trades, bars],
        ("trades", MIDNIGHT, MIDNIGHT + 60 * MINUTE),
    ]
    assert [asked for asked in script.asked[10:] if asked[0] == "quotes"] == []
    assert (entry.state, entry.detail, day.detail) == ("repaired", "3 quotes", "")


@in_loop
async def test_quotes_of_a_long_gap_are_fetched_in_parts_after_all_of_its_trades(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script, begin = Script(), NOON - 90 * MINUTE
    async with running(tmp_path, script, journal, with_quotes=True) as run:
        await run.filler.opened(Gap(begin, ENDS, "stopped"))
        await reached(partial(run.waits_for, 2))
        # one that is due before the other's quotes are all there comes between
        await run.filler.opened(Gap(ENDS - NANOS, ENDS, "mute"))
        run.clock.advance(3)
        await reached(lambda: len(script.asked) == 17)
    parts = range(begin - 30 * NANOS, QUOTES_TO - MINUTE, 10 * MINUTE)
    quotes = [("quotes", *span) for span in pairwise([*parts, QUOTES_TO - MINUTE, QUOTES_TO])]
    mute = ENDS - NANOS - 30 * NANOS
    assert script.asked == [
        ("trades", begin - MINUTE, begin + 59 * MINUTE),
        # the other gap was due
        ("trades", NOON - MINUTE, ENDS + (3 + 30) * NANOS),
        ("quotes", mute, mute + NANOS),
        ("bars", begin - MINUTE, begin + 59 * MINUTE),
        ("trades", begin + 59 * MINUTE, ENDS + (3 + 30) * NANOS),
        *quotes,
        END_OF_QUOTES,
    ]


@pytest.mark.parametrize(
    ("refusal", "later"), [(AuthError("no"), 0), (EntitlementError("no"), 16 * 60)]
)
def test_quotes_that_are_refused_are_named_and_the_rest_is_repaired(
    tmp_path: Path, journal: SqliteJournal, refusal: VendorError, later: int
) -> None:
    script = Script(refusals=deque([refusal] * (2 if later else 1)))

    async def refused() -> GapEntry:
        async with running(
            tmp_path, script, journal, with_quotes=True, unfilled=("statuses",)
        ) as run:
            await run.filler.opened(GAP)
            await run.waits(2)
            if later:
                await run.waits(later - 2)
                passed = later
            else:
                await run.waits(83)
                passed = 85
            await reached(partial(run.waits_for, DAY_COMES_S - passed))
            return await run.entry()

    entry = asyncio.run(refused())
    assert (entry.state, entry.trades, entry.bars_exact) == ("repaired", 2, 2)
    assert entry.detail == "not fetched: quotes, statuses; quotes refused: no"
    assert [asked[0] for asked in script.asked] == [
        "trades",
        *(["quotes"] * (2 if later else 1)),
        *("trades", "bars"),
    ]


@in_loop
async def test_quotes_that_came_before_a_refusal_are_told_beside_it(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script()
    async with running(tmp_path, script, journal, with_quotes=True) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        await reached(partial(run.waits_for, 83))
        script.refusals.append(AuthError("no"))
        await run.waits(83)
        await reached(partial(run.waits_for, DAY_COMES_S - 85))
        entry = await run.entry()
    assert entry.state == "repaired"
    assert entry.detail == "2 quotes; not fetched: quotes; quotes refused: no"


@in_loop
async def test_day_with_gaps_is_fetched_whole_once_it_is_over(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    script = Script()
    evening = MIDNIGHT + DAY_NS - 5 * NANOS
    async with running(tmp_path, script, journal) as run:
        await run.filler.opened(GAP)
        await run.filler.opened(Gap(ENDS + NANOS, ENDS + 2 * NANOS, "mute"))
        entries = await run.ledger()
        assert [(e.number, e.reason) for e in entries] == [
            *[(1, "disconnected"), (2, DAY)],
            (3, "mute"),
        ]
        # one that goes past midnight touches the next day too
        await run.filler.opened(Gap(evening, evening + 10 * NANOS, "mute"))
        days = [e for e in await run.ledger() if e.reason == DAY]
        assert [(e.start_ns, e.end_ns) for e in days] == [
            (MIDNIGHT, MIDNIGHT + DAY_NS),
            (MIDNIGHT + DAY_NS, MIDNIGHT + 2 * DAY_NS),
        ]
        await reached(partial(run.waits_for, 2))
        run.clock.advance(DAY_COMES_S)
        await reached(lambda: run.filler.open == 1)
    hours = [(at, at + 60 * MINUTE) for at in range(MIDNIGHT, MIDNIGHT + DAY_NS, 60 * MINUTE)]
    assert [ask for ask in script.asked if ask[1:] in hours] == [
        (kind, *hour) for hour in hours for kind in ("trades", "bars")
    ]


@in_loop
async def test_gap_of_no_time_or_no_symbol_is_no_entry(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    async with running(tmp_path, Script(), journal) as run:
        await run.filler.opened(Gap(ENDS, ENDS, "mute"))
        assert await run.ledger() == []
    async with running(tmp_path, Script(), journal, symbols=()) as run:
        await run.filler.opened(GAP)
        assert await run.ledger() == []


@in_loop
async def test_entries_left_open_are_taken_up_by_the_next_run(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    async with running(tmp_path, Script(deque([VendorError("gone")])), journal) as run:
        await run.filler.opened(GAP)
        await run.waits(2)
        await reached(partial(run.waits_for, 4))
    script, later = Script(), ENDS + 600 * NANOS
    async with running(tmp_path, script, journal, at_ns=later) as run:
        await reached(partial(run.waits_for, DAY_COMES_S - 600))
        assert (await run.entry()).state == "repaired"
        await run.filler.opened(Gap(later - NANOS, later, "stopped"))
        entries = await run.ledger()
    assert [(e.number, e.reason) for e in entries] == [
        *[(1, "disconnected"), (2, DAY)],
        (3, "stopped"),
    ]


@pytest.mark.parametrize("deleted", [False, True], ids=["journal", "journal and raw table"])
def test_ledger_that_the_store_lost_is_read_back(
    tmp_path: Path, journal: SqliteJournal, deleted: bool
) -> None:
    async def lose() -> tuple[list[GapEntry], list[GapEntry], list[GapEntry]]:
        failing: deque[VendorError] = deque([RefusedError("no")])
        async with running(tmp_path, Script(failing), journal) as run:
            await run.filler.opened(GAP)
            await run.waits(2)
            await reached(partial(run.waits_for, DAY_COMES_S - 2))
            await run.filler.opened(Gap(ENDS, ENDS + NANOS, "mute"))
            await run.waits(1)
            await run.waits(82)
            await reached(lambda: run.filler.open == 1)
            await run.filler.opened(Gap(ENDS + 84 * NANOS, ENDS + 85 * NANOS, "mute"))
            known = await run.ledger()
        if deleted:
            rows = stored(journal)
            LakeTable.open(DataFolder(tmp_path).lake, "raw").append(
                rows, app_id="live/j/raw", through=len(rows) - 1
            )
            assert journal.retain(len(rows)) > 0
        at_ns = ENDS + 85 * NANOS
        async with running(tmp_path, Script(), journal, at_ns=at_ns, name="new.db") as run:
            back = await run.ledger()
            await reached(partial(run.waits_for, 2))
            assert run.filler.open == 2
            await run.filler.opened(Gap(at_ns, at_ns + NANOS, "disconnected"))
            return known, back, await run.ledger()

    known, back, after = asyncio.run(lose())
    assert [(e.number, e.state) for e in known] == [
        *[(1, "refused"), (2, "open"), (3, "repaired")],
        (4, "open"),
    ]
    assert back == known
    assert [e.number for e in after] == [1, 2, 3, 4, 5]
