"""A week of sessions: what comes for days long past, in a pipeline that has let go of them."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from crashkit import Life, bars_of, run, write_feed
from livekit import derive_settings, derived, numbered, week
from marketpipe.domain.records import CLOCK
from marketpipe.verify import first_difference
from marketpipe.verify.digest import DigestTree
from marketpipe.verify.rawmessages import bars_of_messages

TIMEFRAMES = ["1s", "1m", "5m", "1h", "1d"]


@pytest.mark.parametrize("batch", [11, 60, 10_000])
def test_week_of_messages_for_earlier_sessions_gives_the_same_bars_however_it_is_cut(
    tmp_path: Path, batch: int
) -> None:
    feed = week()
    life = Life(folder=str(tmp_path), feed=str(write_feed(tmp_path / "feed", feed)), batch=batch)
    asyncio.run(run(life, feed))
    rows = numbered(feed)
    whole = derived(derive_settings(), rows).bars
    clock = int(rows["ts_recv"][-1].as_py()) - derive_settings().grace_ns
    live = bars_of(tmp_path)
    assert first_difference(live, whole, history=True) is None
    wanted = bars_of_messages(rows, TIMEFRAMES, watermark_ns=clock)
    assert first_difference(live, wanted, clock) is None
    assert {"late", "cancel", "correction"} <= set(live["cause"].to_pylist())


def test_week_taken_up_again_twice_a_day_keeps_the_same(tmp_path: Path) -> None:
    feed = week()
    ends = (np.flatnonzero(np.asarray(pc.equal(feed["kind"], CLOCK))) + 1).tolist()
    life = Life(folder=str(tmp_path), feed="")
    for end in [*ends[::3], ends[-1]]:
        asyncio.run(run(life, feed.slice(0, end)))
    whole = derived(derive_settings(), numbered(feed)).bars
    roots = {DigestTree.build(bars, history=True).root for bars in (bars_of(tmp_path), whole)}
    assert len(roots) == 1
