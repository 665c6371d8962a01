"""Quotes that came by the stream and by the history of a gap: each copy stands once."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import crashkit
from livekit import OPEN_NS, derivation, derive_settings, derived, numbered, reloaded
from marketpipe.domain import records
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.fetched import Fetched
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.opening import live_pipeline, versions_of
from marketpipe.pipelines.quotehistory import QuoteHistory, QuotesWanted, Standing
from marketpipe.pipelines.rederive import rederive
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.verify.digest import DigestTree
from quotekit import CLOCK, Event, Page, arriving, contents, quote

SETTINGS = derive_settings("1s,1m,5m", price_types=("trade", "bid", "ask", "mid"))
ONE, TWO, THREE = (quote(n) for n in (1, 2, 3))
LIKE_ONE = [
    quote(1, symbol="MSFT"),
    quote(1, size=7),
    *({**ONE, key: other} for key, other in (("bx", "X"), ("ax", "X"), ("z", "A"), ("c", ["A"]))),
    *({**ONE, key: 50} for key in ("bp", "ap", "bs", "as")),
    {key: value for key, value in ONE.items() if key not in ("bp", "bs")},
    quote(1, at_ns=OPEN_NS + 3 * NANOS + 1),
]
FOUND = {"one_sided_quote", "crossed_quote", "unparsed_message"}


def stood(events: Sequence[Event]) -> tuple[list[int], int]:
    """Return the offsets of the quotes that stand, and how many were left out."""
    done = derived(SETTINGS, numbered(arriving(events)))
    quotes = done.tables.get("quotes")
    offsets = [] if quotes is None else quotes["offset"].to_pylist()
    assert set(done.findings.counts) <= {"refetched", "late", *FOUND}
    return offsets, done.findings.counts.get("refetched", 0)


@pytest.mark.parametrize(
    ("events", "standing", "refetched"),
    [
        # the record of the first event has offset 1
        pytest.param([ONE, Page((ONE, TWO))], [1, 3], 1, id="streamed before"),
        pytest.param([Page((ONE, TWO)), ONE], [1, 2], 1, id="streamed after"),
        pytest.param([TWO, Page((ONE, TWO, THREE))], [1, 2, 4], 1, id="out of order"),
        pytest.param([Page((ONE, TWO)), Page((ONE, TWO))], [1, 2], 2, id="fetched again"),
        pytest.param([ONE, ONE], [1, 2], 0, id="copies of a stream"),
        pytest.param([ONE, ONE, Page((ONE,))], [1, 2], 1, id="fewer copies fetched"),
        pytest.param([ONE, Page((ONE, ONE, ONE))], [1, 3, 4], 1, id="more copies fetched"),
        pytest.param([Page((ONE, ONE)), ONE, ONE], [1, 2], 2, id="copies streamed after"),
        pytest.param([Page((ONE,)), Page((ONE, ONE))], [1, 3], 1, id="more copies fetched again"),
        pytest.param(
            [Page((ONE, ONE)), Page((ONE, TWO), follows=True)], [1, 2, 3, 4], 0, id="over two pages"
        ),
        pytest.param(
            [Page((ONE,)), Page((ONE,), follows=True), Page((ONE, TWO), follows=True)],
            [1, 2, 3, 4],
            0,
            id="over three pages",
        ),
        pytest.param(
            [Page((ONE, TWO)), Page((ONE,)), Page((ONE,), follows=True)],
            [1, 2, 4],
            1,
            id="one page as two",
        ),
        pytest.param([Page(()), ONE, Page(()), ONE], [2, 4], 0, id="empty pages"),
    ],
)
@pytest.mark.parametrize("ticking", [False, True])
def test_each_copy_stands_once(
    events: list[Event], standing: list[int], refetched: int, ticking: bool
) -> None:
    if ticking:  # all in an interval of its own: offsets grow, the outcome stays
        ticks = [CLOCK] * len(events)
        events = [one for pair in zip(events, ticks, strict=True) for one in pair]
    offsets, left_out = stood(events)
    assert (len(offsets), left_out) == (len(standing), refetched)
    if not ticking:
        assert offsets == standing


@pytest.mark.parametrize("other", LIKE_ONE, ids=range(len(LIKE_ONE)))
def test_quote_that_differs_in_anything_is_another(other: dict[str, object]) -> None:
    assert stood([ONE, Page((other,))]) == ([1, 2], 0)
    assert stood([Page((other,)), ONE]) == ([1, 2], 0)


def test_quote_left_out_is_told_with_the_one_that_stands() -> None:
    done = derived(SETTINGS, numbered(arriving([ONE, Page((TWO, ONE))])))
    assert [tuple(one) for one in done.findings.examples("refetched")] == [
        (3, "", "first in row 1; here symbol=AAPL ts_ns=1767623403000000000 bid=101 ask=103")
    ]


def test_streamed_copy_out_of_reach_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetched, "reach", 3)
    assert stood([Page((ONE,)), TWO, THREE, ONE]) == ([1, 2, 3], 1)
    assert stood([Page((ONE,)), TWO, THREE, TWO, ONE]) == ([1, 2, 3, 4, 5], 0)
    assert stood([Page((ONE,)), TWO, THREE, CLOCK, ONE]) == ([1, 2, 3, 5], 0)
    # what is fetched is compared with all there is
    assert stood([ONE, TWO, THREE, TWO, TWO, Page((ONE,))]) == ([1, 2, 3, 4, 5], 1)


TRUTH = [quote(n, symbol=s) for n in range(1, 9) for s in ("AAPL", "MSFT")]
TRUTH += [TRUTH[4], TRUTH[4], TRUTH[9]]
WHOLE: list[Event] = [
    event for n, one in enumerate(TRUTH) for event in (one, *([CLOCK] * (n % 3 == 0)))
]
LOST = [one for n, one in enumerate(WHOLE) if not 5 <= n < 15]
PAGES = [
    Page(tuple(TRUTH[2:9])),
    Page((TRUTH[4],) * 2),
    Page((*TRUTH[4:5], *TRUTH[9:14]), follows=True),
    Page((TRUTH[9], TRUTH[4], TRUTH[4], TRUTH[4], TRUTH[9])),
]
STORY: list[Event] = [
    *LOST[:9], PAGES[0], CLOCK, TRUTH[8], *LOST[9:11], TRUTH[7], CLOCK, PAGES[1], CLOCK, PAGES[2],
    LOST[11], CLOCK, TRUTH[6], PAGES[3], *LOST[12:], CLOCK, PAGES[1], CLOCK,
]  # fmt: skip


@pytest.mark.parametrize("symbols", [2, 64, 65])
def test_page_is_compared_with_quotes_of_its_own_symbols_alone(
    symbols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    standing = QuoteHistory.standing

    def counted(history: QuoteHistory, wanted: QuotesWanted) -> Standing:
        found = standing(history, wanted)
        read.append(len(found.keys))
        return found

    monkeypatch.setattr(QuoteHistory, "standing", counted)
    busy = [quote(n, symbol="SPY", at_ns=OPEN_NS + n * NANOS) for n in range(20)]
    mine = [
        quote(1, symbol=f"A{n}", at_ns=OPEN_NS + at * NANOS)
        for n in range(symbols)
        for at in (0, 19)
    ]
    rows = numbered(arriving([*busy, mine[0], CLOCK, Page(tuple(mine))]))
    at = rows["kind"].to_pylist().index("clock") + 1
    one = derivation(SETTINGS)
    for part in (rows.slice(0, at), rows.slice(at)):
        one.apply(part)
    assert read == [1]


def test_what_a_stream_lost_is_there_once_all_is_fetched() -> None:
    whole = derived(SETTINGS, numbered(arriving(WHOLE)))
    done = derived(SETTINGS, numbered(arriving(STORY)))
    lossy = derived(SETTINGS, numbered(arriving([one for one in STORY if not is_page(one)])))
    assert contents(done.tables["quotes"]) == contents(whole.tables["quotes"])
    assert len(lossy.tables["quotes"]) < len(whole.tables["quotes"])
    roots = [DigestTree.build(one.bars).root for one in (done, whole, lossy)]
    assert roots[0] == roots[1] != roots[2]


def is_page(event: Event) -> bool:
    return isinstance(event, Page)


def cuts_of(rows: pa.Table) -> list[int]:
    """Return where records may be cut: behind each tick of the clock."""
    ticks = np.flatnonzero(np.asarray(pc.equal(rows["kind"], records.CLOCK)))
    return [int(at) + 1 for at in ticks]


def test_no_cut_and_no_saving_shows_in_what_stands() -> None:
    rows = numbered(arriving(STORY))
    whole = derived(SETTINGS, rows)
    made, parts, start = derivation(SETTINGS), [], 0
    for stop in cuts_of(rows):
        parts.append(made.apply(rows.slice(start, stop - start)))
        made, start = reloaded(made), stop
    assert pa.concat_tables([p.tables["quotes"] for p in parts if "quotes" in p.tables]).equals(
        whole.tables["quotes"]
    )
    assert pa.concat_tables([part.bars for part in parts]).equals(whole.bars)
    found = sum((part.findings for part in parts[1:]), parts[0].findings)
    assert found.to_json() == whole.findings.to_json()


def test_journal_derived_again_gives_the_same_bars() -> None:
    rows = numbered(arriving(STORY))
    again = rederive(SETTINGS, AlpacaParser, rows.to_batches(max_chunksize=7))
    assert again.history.equals(derived(SETTINGS, rows).bars)


@pytest.mark.parametrize(
    ("pieces", "flushes", "dying"),
    [(100, 0, False), (100, 2, False), (1, 1, False), (2, 0, True), (2, 1, True)],
    ids=["in line", "in part", "in the lake", "derived again", "in both"],
)
def test_pipeline_reads_back_from_the_lake_what_stands(
    tmp_path: Path, pieces: int, flushes: int, dying: bool
) -> None:
    """A life takes some pieces in, and begins with a checkpoint; the lake may be ahead of that."""
    feed = arriving(STORY)
    cuts = [0, *cuts_of(numbered(feed))]
    live = replace(crashkit.settings(), derive=SETTINGS, versions=versions_of(SETTINGS))
    left = deque(pairwise(cuts))

    async def one_life() -> None:
        async with live_pipeline(
            DataFolder(tmp_path), live, AlpacaParser, segment_bytes=1
        ) as pipeline:
            for n in range(min(pieces, len(left))):
                start, stop = left.popleft()
                (piece,) = feed.slice(start, stop - start).combine_chunks().to_batches()
                await pipeline.append(piece)
                await pipeline.catch_up()
                if flushes and (len(left) + n) % flushes == 0:
                    await pipeline.flush()
            if not (dying and left):
                await pipeline.stop()

    while left:
        asyncio.run(one_life())
    kept = read_rows(LakeTable.open(DataFolder(tmp_path).lake, "quotes"))
    whole = derived(SETTINGS, numbered(feed)).tables["quotes"]
    assert kept.sort_by("offset").equals(whole)
