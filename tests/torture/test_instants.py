"""What was visible as of an instant is what a fresh computation makes of what was known then."""

from dataclasses import replace

import pyarrow.compute as pc
import pytest

from instantkit import SEED, Knowledge
from livekit import FAULTY, FeedSpec, numbered, records
from marketpipe.verify import first_difference


def assert_as_of(spec: FeedSpec, count: int) -> int:
    """Compare at ``count`` instants; return at how many different states of knowledge."""
    rows = numbered(records(spec))
    knowledge = Knowledge(rows)
    bars = knowledge.events(rows["ts_recv"][-1].as_py())
    for at in knowledge.instants(count):
        visible = bars.filter(pc.field("known_at") <= at)
        assert first_difference(visible, knowledge.bars(at)) is None, at
    return knowledge.states


def test_bars_visible_as_of_random_instants_are_those_of_what_was_known() -> None:
    assert assert_as_of(replace(FAULTY, trades=500, minutes=4), 80) > 40


@pytest.mark.torture
@pytest.mark.timeout(3_600)
def test_bars_visible_as_of_a_thousand_instants_are_those_of_what_was_known(
    figures: dict[str, str],
) -> None:
    states = assert_as_of(replace(FAULTY, trades=6_000, minutes=20, seed=7), 1_000)
    figures["instants"] = f"seed {SEED}: 1,000 instants, {states} states, 0 differences"
