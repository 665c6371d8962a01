"""Laws of what is derived from a journal, whatever the feed does."""

import random  # noqa: TID251
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit import (
    FAULTY,
    OPEN_NS,
    Message,
    cancel,
    correction,
    derivation,
    derive_settings,
    derived,
    framed,
    numbered,
    records,
    reloaded,
    trade,
)
from marketpipe.domain.records import CLOCK
from marketpipe.domain.units import NANOS
from marketpipe.pipelines.derive import Derived
from marketpipe.verify.digest import DigestTree
from marketpipe.verify.rawmessages import bars_of_messages

TIMEFRAMES = ["1s", "1m", "5m"]
SETTINGS = derive_settings(",".join(TIMEFRAMES))
ROWS = numbered(records(replace(FAULTY, trades=400, minutes=3, bad=0.01)))
WHOLE = derived(SETTINGS, ROWS)
CLOCKS = (np.flatnonzero(np.asarray(pc.equal(ROWS["kind"], CLOCK))) + 1).tolist()

SESSION = [trade(n, OPEN_NS + n * 7 * NANOS, f"{10 + n % 5}.5", 10 * n) for n in range(1, 13)]
REPAIRS = [
    cancel(SESSION[0], OPEN_NS + 200 * NANOS),
    correction(SESSION[3], OPEN_NS + 201 * NANOS, new_id=104, price="20"),
    correction({**SESSION[3], "i": 104}, OPEN_NS + 202 * NANOS, new_id=204, price="9", size=1),
    correction(SESSION[4], OPEN_NS + 203 * NANOS, new_id=105, price="11.25"),
    cancel({**SESSION[4], "i": 105}, OPEN_NS + 204 * NANOS),
    correction(SESSION[5], OPEN_NS + 205 * NANOS, new_id=106, price="12"),
    correction(SESSION[5], OPEN_NS + 206 * NANOS, new_id=107, price="13"),
]


def joined(parts: list[Derived]) -> tuple[pa.Table, pa.Table, dict[str, pa.Table], str]:
    """Put the output of parts together: bars, their offsets, tables, findings."""
    names = sorted({name for part in parts for name in part.tables})
    found = sum((part.findings for part in parts[1:]), parts[0].findings)
    return (
        pa.concat_tables([part.bars for part in parts]),
        pa.table({"offset": np.concatenate([part.bar_offsets for part in parts])}),
        {
            name: pa.concat_tables([part.tables[name] for part in parts if name in part.tables])
            for name in names
        },
        found.to_json().decode(),
    )


@settings(max_examples=12)
@given(st.sets(st.sampled_from(CLOCKS[:-1]), max_size=12), st.integers(0, 2**12 - 1))
def test_any_cut_at_clock_records_and_any_save_and_load_changes_nothing(
    cuts: set[int], loads: int
) -> None:
    made, parts = derivation(SETTINGS), []
    bounds = [0, *sorted(cuts), CLOCKS[-1]]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        if loads >> number & 1 and number:
            made = reloaded(made)
        parts.append(made.apply(ROWS.slice(start, stop - start)))
    assert joined(parts) == joined([WHOLE])


def arrivals(messages: list[Message], seed: int, clocks: list[int]) -> pa.Table:
    """Deal messages out over a minute each after all have happened, with ticks between."""
    rng = random.Random(seed)
    order = rng.sample(messages, len(messages))
    events: list[tuple[int, Message | None]] = [
        (OPEN_NS + (300 + 10 * n) * NANOS, message) for n, message in enumerate(order)
    ]
    events += [(OPEN_NS + (295 + 10 * n) * NANOS, None) for n in clocks]
    events.sort(key=lambda event: event[0])
    return numbered(framed([*events, (OPEN_NS + 900 * NANOS, None)]))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 18), max_size=4, unique=True))
def test_final_bars_do_not_depend_on_the_order_in_which_messages_arrive(
    seed: int, clocks: list[int]
) -> None:
    rows = arrivals([*SESSION, *REPAIRS], seed, clocks)
    done = derived(SETTINGS, rows)
    watermark = OPEN_NS + 899 * NANOS
    in_order = numbered(framed([*((OPEN_NS + 300 * NANOS, m) for m in [*SESSION, *REPAIRS])]))
    wanted = bars_of_messages(in_order, TIMEFRAMES, watermark_ns=watermark)
    assert DigestTree.build(done.bars, watermark).root == DigestTree.build(wanted).root


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 18), max_size=4, unique=True))
def test_every_revision_has_a_cause_and_follows_on_the_one_before(
    seed: int, clocks: list[int]
) -> None:
    bars = derived(SETTINGS, arrivals([*SESSION, *REPAIRS], seed, clocks)).bars
    last: dict[tuple[str, int], dict[str, object]] = {}
    for row in bars.to_pylist():
        before = last.get((row["timeframe"], row["ts_open"]))
        last[row["timeframe"], row["ts_open"]] = row
        if before is None:
            assert (row["revision"], row["cause"] in ("first", "late")) == (0, True)
            continue
        assert row["revision"] == int(str(before["revision"])) + 1
        assert row["cause"] in ("late", "cancel", "correction")
        assert row["known_at"] >= int(str(before["known_at"]))
        content = ("open", "high", "low", "close", "volume", "notional", "trade_count", "coverage")
        assert [row[name] for name in content] != [before[name] for name in content]
