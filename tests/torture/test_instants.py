"""What was visible as of an instant is what a fresh computation makes of what was known then."""

import random  # noqa: TID251
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from livekit import FAULTY, FeedSpec, derive_settings, derived, numbered, records
from marketpipe.domain.columns import i64_of
from marketpipe.domain.records import CLOCK
from marketpipe.verify import first_difference
from marketpipe.verify.rawmessages import bars_of_messages

TIMEFRAMES = ["1s", "1m", "5m"]
SEED = 20260105
GRACE_NS = derive_settings().grace_ns


def instants(rng: random.Random, bars: pa.Table, rows: pa.Table, count: int) -> list[int]:
    """Draw instants over a run, half of them within a nanosecond of a known time."""
    known = sorted(set(bars["known_at"].to_pylist()))
    received = i64_of(rows["ts_recv"])
    near = [rng.choice(known) + rng.choice((-1, 0, 1)) for _ in range(count // 2)]
    span = int(received[0]), int(received[-1]) + 10**9
    return sorted([*near, *(rng.randrange(*span) for _ in range(count - count // 2))])


def assert_as_of(spec: FeedSpec, count: int) -> int:
    """Compare at ``count`` instants; return at how many different states of knowledge."""
    rows = numbered(records(spec))
    bars = derived(derive_settings(",".join(TIMEFRAMES)), rows).bars
    received = i64_of(rows["ts_recv"])
    clocks = received[np.flatnonzero(np.asarray(pc.equal(rows["kind"], CLOCK)))]
    states: dict[int, pa.Table] = {}
    for at in instants(random.Random(SEED), bars, rows, count):
        end = int(np.searchsorted(received, at, side="right"))
        passed = int(np.searchsorted(clocks, at, side="right"))
        watermark = int(clocks[passed - 1]) - GRACE_NS if passed else 0
        if end not in states:
            states[end] = bars_of_messages(rows.slice(0, end), TIMEFRAMES, watermark_ns=watermark)
        visible = bars.filter(pc.field("known_at") <= at)
        assert first_difference(visible, states[end]) is None, at
    return len(states)


def test_bars_visible_as_of_random_instants_are_those_of_what_was_known() -> None:
    assert assert_as_of(replace(FAULTY, trades=500, minutes=4), 80) > 40


@pytest.mark.torture
@pytest.mark.timeout(3_600)
def test_bars_visible_as_of_a_thousand_instants_are_those_of_what_was_known(
    figures: dict[str, str],
) -> None:
    states = assert_as_of(replace(FAULTY, trades=6_000, minutes=20, seed=7), 1_000)
    figures["instants"] = f"seed {SEED}: 1,000 instants, {states} states, 0 differences"
