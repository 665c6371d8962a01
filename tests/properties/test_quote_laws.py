"""What a stream lost of quotes, and a history has: rows and bars are those of a whole stream."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit import Message, derivation, derive_settings, derived, numbered, reloaded
from marketpipe.domain.records import CLOCK as TICK
from marketpipe.verify.digest import DigestTree
from quotekit import CLOCK, Event, Page, arriving, contents, quote

SETTINGS = derive_settings("1s,1m", price_types=("bid", "mid"))
ONCE = [quote(n, symbol=symbol) for n in range(1, 7) for symbol in ("AAPL", "MSFT")]
COPIES = st.lists(st.integers(1, 3), min_size=len(ONCE), max_size=len(ONCE))


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Message], list[Event]]:
    """Draw what a vendor has, and how it arrives.

    The stream loses some and shuffles the rest; the history is asked for whole some times, by
    symbol and then by time, in one page or several after one another, between messages.
    """
    told = zip(ONCE, draw(COPIES), strict=True)
    truth = [message for message, copies in told for _ in range(copies)]
    lost = draw(st.sets(st.integers(0, len(truth) - 1)))
    streamed = draw(st.permutations([n for n in range(len(truth)) if n not in lost]))
    kept = sorted(truth, key=lambda message: str(message["S"]))
    parts: list[list[Event]] = [[truth[n]] for n in streamed]
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted(draw(st.sets(st.integers(1, len(truth) - 1), max_size=3)))
        pages: list[Event] = []
        for start, stop in pairwise([0, *cuts, len(truth)]):
            pages.append(Page(tuple(kept[start:stop]), follows=start > 0))
            pages += [CLOCK] * draw(st.integers(0, 1))
        parts.insert(draw(st.integers(0, len(parts))), pages)
    for at in draw(st.lists(st.integers(0, len(parts)), max_size=4)):
        parts.insert(at, [CLOCK])
    return truth, [event for part in parts for event in part]


@settings(max_examples=50)
@given(stories(), st.integers(0, 2**16 - 1))
def test_quotes_and_their_bars_are_those_of_a_whole_stream_however_they_came(
    story: tuple[list[Message], list[Event]], saves: int
) -> None:
    truth, events = story
    whole = derived(SETTINGS, numbered(arriving(truth)))
    rows = numbered(arriving(events))
    done = derived(SETTINGS, rows)
    assert contents(done.tables["quotes"]) == contents(whole.tables["quotes"])
    assert DigestTree.build(done.bars).root == DigestTree.build(whole.bars).root
    made, bars, quotes, start = derivation(SETTINGS), [], [], 0
    for number, at in enumerate(np.flatnonzero(np.asarray(pc.equal(rows["kind"], TICK))).tolist()):
        part = made.apply(rows.slice(start, at + 1 - start))
        start = at + 1
        bars.append(part.bars)
        quotes += [part.tables["quotes"]] if "quotes" in part.tables else []
        if saves >> number & 1:
            made = reloaded(made)
    assert pa.concat_tables(bars).equals(done.bars)
    assert pa.concat_tables(quotes).equals(done.tables["quotes"])
