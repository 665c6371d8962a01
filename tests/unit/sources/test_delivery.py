"""Handing out: what a builder gave up is taken, whoever is cancelled meanwhile."""

import asyncio
import gc

import pyarrow as pa
import pytest

from marketpipe.sources.delivery import Delivery
from marketpipe.sources.links import Link
from marketpipe.sources.owntasks import OwnTasks
from marketpipe.sources.records import RecordBuilder
from vendorkit import HandClock, Taker, Vendor, backing_off, following, in_loop, in_state, live


@in_loop
async def test_flush_that_is_cancelled_ends_once_its_batch_is_taken() -> None:
    begun, may_end, taken = asyncio.Event(), asyncio.Event(), list[int]()

    async def take(batch: pa.RecordBatch) -> None:
        begun.set()
        await may_end.wait()
        taken.append(len(batch))

    builder = RecordBuilder(
        source="alpaca", feed="iex", stream="v2/iex", conn_id=0, conn_started_ns=0
    )
    delivery = Delivery(builder, take)
    builder.add_clock(1)
    flushing = asyncio.create_task(delivery.flush())
    await begun.wait()
    builder.add_clock(2)
    waiting = asyncio.create_task(delivery.flush())
    await asyncio.sleep(0)
    for _ in range(3):
        flushing.cancel()
        waiting.cancel()
        await asyncio.sleep(0)
    assert not flushing.done()
    may_end.set()
    for task in (flushing, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert taken == [1, 1]


@in_loop
async def test_standing_still_is_told_each_time_that_it_has_doubled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter(range(0, 40_000_000_000, 500_000_000))
    monkeypatch.setattr("marketpipe.sources.delivery.time.monotonic_ns", lambda: next(times))

    async def take(_batch: pa.RecordBatch) -> None:
        pass

    builder = RecordBuilder(
        source="alpaca", feed="iex", stream="v2/iex", conn_id=0, conn_started_ns=0
    )
    delivery = Delivery(builder, take)
    for _ in range(9):
        builder.add_clock(1)
        await delivery.relieve()
    assert delivery.blocked_ns == 4_500_000_000
    told = [record.getMessage() for record in caplog.records]
    assert [text.split("stood still for ")[1].split(" on")[0] for text in told] == [
        "1 s",
        "2 s",
        "4 s",
    ]


@in_loop
async def test_task_is_the_feeds_own_while_it_runs_or_calls_back() -> None:
    own = OwnTasks()
    seen = []
    with own.entered():
        with own.entered():
            seen.append(own.has_current)
        seen.append(own.has_current)
    assert [*seen, own.has_current] == [True, True, False]


@in_loop
async def test_connections_that_have_ended_are_not_kept() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        for _ in range(5):
            peer = await live(vendor, connector)
            peer.cut()
            await backing_off(connector, clock)
            clock.advance(60)
        await live(vendor, connector)
        await in_state(connector, "live")
        gc.collect()
        assert sum(isinstance(found, Link) for found in gc.get_objects()) == 1
