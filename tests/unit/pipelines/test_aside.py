"""Bars of finished sessions leave memory, and no result shows it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from livekit import OPEN_NS, derive_settings, framed, numbered, trade, with_clock
from livekit import cancel as cancel_of
from marketpipe.domain.records import CLOCK
from marketpipe.domain.units import NANOS
from marketpipe.errors import StorageError
from marketpipe.pipelines.derive import Derivation
from marketpipe.pipelines.history import TradeHistory, no_lake
from marketpipe.sources.alpaca import AlpacaParser

DAY = 86_400 * NANOS
SETTINGS = derive_settings("1m,1h,1d,1w")


def session(day: int) -> list[tuple[int, dict[str, object]]]:
    """Ten minutes of trades on a day, and with each a late one of three days before."""
    feed = []
    for i in range(40):
        at = OPEN_NS + day * DAY + i * 15 * NANOS
        feed.append((at, trade(i + 1000 * day, at, f"{100 + i % 7}")))
        if day >= 3 and i % 10 == 5:
            late = at - 3 * DAY + 1
            feed.append((at + 2, trade(i + 1000 * day + 500, late, "150")))
    return feed


@pytest.fixture(scope="module")
def feed() -> pa.Table:
    found = [message for day in range(8) for message in session(day)]
    gone = next(m for _, m in found if m["i"] == 1007)
    found.append((OPEN_NS + 6 * DAY + 700 * NANOS, cancel_of(gone, OPEN_NS + DAY + 999 * NANOS)))
    found.sort(key=lambda pair: pair[0])
    return numbered(framed(with_clock(found)))


def run(feed: pa.Table, aside: Path | None) -> tuple[pa.Table, list[int]]:
    """Derive a feed a few intervals at a time; return its bars and how many stayed in memory."""
    derivation = Derivation(SETTINGS, AlpacaParser(), TradeHistory(no_lake, 0), aside)
    clocks = np.flatnonzero(np.asarray(pc.equal(feed["kind"], CLOCK)))
    bars, held, start = [], [], 0
    for stop in [*clocks[20::20].tolist(), int(clocks[-1])]:
        bars.append(derivation.apply(feed.slice(start, stop + 1 - start)).bars)
        derivation.put_aside()
        held.append(derivation.engines["trade"].counts["bars"])
        start = stop + 1
    return pa.concat_tables(bars), held


def test_put_aside_changes_no_bar_and_bounds_memory(feed: pa.Table, tmp_path: Path) -> None:
    whole, in_memory = run(feed, None)
    thrifty, kept = run(feed, tmp_path)
    assert thrifty.equals(whole)
    assert set(whole["cause"].unique().to_pylist()) == {"first", "late", "cancel"}
    # eight days of eleven bars and a week; of them two days, and what came back, stay
    assert max(in_memory) > 80
    assert max(kept) < 60


def test_put_aside_file_that_is_damaged_ends_in_a_clear_error(
    feed: pa.Table, tmp_path: Path
) -> None:
    derivation = Derivation(SETTINGS, AlpacaParser(), TradeHistory(no_lake, 0), tmp_path)
    clocks = np.flatnonzero(np.asarray(pc.equal(feed["kind"], CLOCK)))
    stop = int(clocks[len(clocks) // 2])
    derivation.apply(feed.slice(0, stop + 1))
    derivation.put_aside()
    files = sorted((tmp_path / "trade").iterdir())
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StorageError, match=r"put aside.*cannot be read.*delete"):
        derivation.apply(feed.slice(stop + 1))


def test_put_aside_state_goes_on_where_it_was_saved(feed: pa.Table, tmp_path: Path) -> None:
    whole, _ = run(feed, None)
    clocks = np.flatnonzero(np.asarray(pc.equal(feed["kind"], CLOCK)))
    stop = int(clocks[len(clocks) // 2])
    first = Derivation(SETTINGS, AlpacaParser(), TradeHistory(no_lake, 0), tmp_path)
    head = first.apply(feed.slice(0, stop + 1))
    admitted = TradeHistory(no_lake, 0)
    admitted.extend(head.tables["trades"])
    first.put_aside()
    state, files = first.save(), first.aside_files
    # what another life puts aside afterwards does not disturb the one that starts from the state
    first.apply(feed.slice(stop + 1))
    first.put_aside()
    first.tidy(files)
    again = Derivation(SETTINGS, AlpacaParser(first.engines["trade"].streams), admitted, tmp_path)
    again.load(state)
    tail = again.apply(feed.slice(stop + 1)).bars
    assert pa.concat_tables([head.bars, tail]).equals(whole)
