"""A mute feed is not a quiet market."""

import asyncio
from itertools import pairwise

import pytest

from marketpipe.domain.units import format_ns
from marketpipe.sources.alpaca.client import AlpacaConnector
from marketpipe.sources.connector import Gap
from marketpipe.sources.dialing import dial
from marketpipe.sources.links import LOOK_SECONDS, STOPPED, Ears, Link
from marketpipe.sources.records import RecordBuilder
from vendorkit import (
    PATIENCE,
    SECOND,
    T0,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    backing_off,
    following,
    in_loop,
    live,
    made,
    reached,
    running,
)


async def by_naps(clock: HandClock, connector: AlpacaConnector) -> None:
    """Move the clock to where the next of its sleepers wakes."""
    ends = asyncio.get_running_loop().time() + PATIENCE
    while len(clock.naps) < (2 if connector.status.state == "live" else 1):
        assert asyncio.get_running_loop().time() < ends
        await asyncio.sleep(0)
        if connector.status.state == "connecting":
            return
    clock.advance(clock.naps[0])
    await asyncio.sleep(0)


@in_loop
async def test_mute_feed_is_reconnected_and_a_quiet_one_not_for_ever() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor() as vendor:
        connector = made(vendor, taker, clock)
        await connector.subscribe(["AAPL"], ["trades"])

        async def serve() -> None:
            while True:
                await (await vendor.accepted()).let_in()

        async with running(connector):
            serving = asyncio.create_task(serve())
            while len(taker.gaps) < 4:
                await by_naps(clock, connector)
            serving.cancel()
    assert {gap.reason for gap in taker.gaps} == {"mute"}
    # Without anyone to ask, silence is waited out twice as long each time.
    ends = [row["ts_recv"] for row in taker.rows("control") if b"disconnected" in row["payload"]]
    begins = [row["ts_recv"] for row in taker.rows("control") if b"subscribed" in row["payload"]]
    lived = [(end - begin) / SECOND for begin, end in zip(begins, ends, strict=True)]
    for wanted, got in zip((30, 60, 120, 240), lived[:4], strict=True):
        assert wanted <= got < wanted + 10


@in_loop
async def test_quiet_symbol_is_no_dead_feed_where_the_vendor_can_be_asked() -> None:
    taker, clock = Taker(), HandClock()
    asked = []

    async def probe() -> dict[str, int]:
        asked.append(clock.now_ns())
        return {"trades": T0}

    async with Vendor() as vendor, following(vendor, taker, clock, probe=probe) as connector:
        await live(vendor, connector)
        while len(asked) < 3:
            await by_naps(clock, connector)
        assert connector.status.state == "live"
    assert not taker.gaps
    assert all(later - before >= 30 * SECOND for before, later in pairwise(asked))


def test_silence_that_cannot_be_asked_about_says_why(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()

    async def probe() -> dict[str, int]:
        raise TimeoutError

    async def ask() -> None:
        async with Vendor() as vendor, following(vendor, Taker(), clock, probe=probe) as connector:
            await live(vendor, connector)
            while not caplog.messages:
                await by_naps(clock, connector)

    with caplog.at_level("INFO", "marketpipe.feed.alpaca.iex"):
        asyncio.run(ask())
    assert caplog.messages[0] == "a silence could not be asked about: TimeoutError"


VENDOR_NS = 1_700_000_000 * SECOND
"""When the vendor's trades happened, by its own time."""
AHEAD = 15 * 60
"""Seconds: so far is our clock ahead, or the feed behind."""


@pytest.mark.parametrize(
    ("ahead", "sent", "told", "is_mute"),
    [
        (AHEAD, [0], [0, 0, 0, 0], False),
        (-20, [15], [0, 15, 15], False),
        (AHEAD, [0], [0, 0, 1], True),
        (-20, [15], [0, 16], True),
        # Nothing comes at all, and the vendor goes on.
        (AHEAD, [], [0, 7], True),
        # What it had as the connection began is no news, and a late print of long ago no measure.
        (-20, [-40], [0, 0, 0], False),
        (-20, [-40], [0, 3], True),
        # It could not be asked as the connection began.
        (0, [], [None, 5, 5], False),
        (0, [], [None, 5, 6], True),
    ],
)
def test_silence_is_judged_by_the_times_of_the_vendor(
    ahead: int, sent: list[int], told: list[int | None], is_mute: bool
) -> None:
    asyncio.run(judge(VENDOR_NS + ahead * SECOND, sent, list(told), is_mute))


async def judge(now_ns: int, sent: list[int], told: list[int | None], is_mute: bool) -> None:
    """Send trades, let a feed be silent while the vendor tells its newest, and see what it does."""
    taker, clock = Taker(), HandClock(now_ns)

    async def probe() -> dict[str, int]:
        seconds = told.pop(0) if told else None
        return {} if seconds is None else {"trades": VENDOR_NS + seconds * SECOND}

    async with Vendor("json") as vendor, following(vendor, taker, clock, probe=probe) as connector:
        peer = await live(vendor, connector)
        for seconds in sent:
            await peer.send({**TRADE, "t": format_ns(VENDOR_NS + seconds * SECOND)})
        await taker.until(lambda t: len(t.payloads) == 3 + len(sent))
        while told:
            await by_naps(clock, connector)
        if is_mute:
            await taker.until(lambda t: t.controls[-1].get("reason") == "mute")
        else:
            await reached(lambda: len(clock.naps) == 2)
            assert connector.status.state == "live"
            assert "disconnected" not in taker.order


async def standing(connector: AlpacaConnector, clock: HandClock, seconds: float) -> None:
    """Stand still for so long: the socket is not read, and the clock runs on."""
    transport = connector._link.socket.transport  # type: ignore[union-attr]
    transport.pause_reading()
    clock.advance(seconds)


@in_loop
async def test_gap_begins_with_what_the_last_message_is_about_not_with_its_reading() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor("json") as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        await standing(connector, clock, 300)
        for second in (1, 3, 2):
            await peer.send({**TRADE, "t": format_ns(T0 + second * SECOND)})
        await peer.error(407, "slow client")
        peer.cut()
        connector._link.socket.transport.resume_reading()  # type: ignore[union-attr]
        await backing_off(connector, clock)
        clock.advance(60)
        await live(vendor, connector)
        await taker.until(lambda t: bool(t.gaps))
    assert taker.gaps == [Gap(T0 + 3 * SECOND, T0 + 360 * SECOND, "slow_client")]
    ends = [said for said in taker.controls if said["event"] == "disconnected"]
    assert ends[0]["good_until_ns"] == T0 + 3 * SECOND


@in_loop
async def test_clock_ticks_behind_what_had_come_before() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor("json") as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        await reached(lambda: 1.0 in clock.naps)
        for _ in range(40):
            await peer.send(TRADE)
        await standing(connector, clock, 1)
        # It is time for a tick, and it would be first if it did not wait for what was sent.
        for _ in range(10):
            await asyncio.sleep(LOOK_SECONDS)
        assert "clock" not in taker.order
        connector._link.socket.transport.resume_reading()  # type: ignore[union-attr]
        await taker.until(lambda t: "clock" in t.order)
        assert len(taker.payloads) == 43
        assert taker.order[-1] == "clock"


@in_loop
async def test_leap_of_time_is_told_once_all_is_read_unless_messages_are_of_that_time() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor("json") as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        link = connector._link
        assert link is not None
        clock.advance(600)
        await peer.send({**TRADE, "t": format_ns(T0 + 595 * SECOND)})
        await taker.until(lambda t: len(t.payloads) == 4)
        await connector._stood(link, T0 + 600 * SECOND)
        assert not taker.gaps
        clock.advance(600)
        await connector._stood(link, T0 + 1200 * SECOND)
        await link.delivery.flush()
    lost = Gap(T0 + 595 * SECOND, T0 + 1200 * SECOND, "stalled")
    assert taker.gaps == [lost]
    assert {"event": "stalled", "good_until_ns": lost.start_ns} in taker.controls


@in_loop
async def test_tick_that_is_late_by_two_clocks_is_a_leap_of_time() -> None:
    clock, real, leaps = HandClock(), HandClock(), []

    async def nothing(*_: object) -> None: ...

    async def stood(_: Link, now_ns: int) -> None:
        leaps.append(now_ns)

    def is_control(_: bytes) -> bool:
        return False

    async with Vendor() as vendor:
        socket = await dial(f"{vendor.url}/v2/iex", {}, agent="test", compress=False)
        await vendor.accepted()
        builder = RecordBuilder(
            source="alpaca", feed="iex", stream="v2/iex", conn_id=0, conn_started_ns=T0
        )
        ears = Ears(
            is_control=is_control,
            clean=bytes,
            hear=nothing,
            take=nothing,
            stood=stood,
            ended=lambda _: None,
        )
        link = Link(socket, builder, "msgpack", clock=clock, ears=ears, real=real)
        link.since_ns = T0
        link.start()
        ticking = asyncio.create_task(link.tick())
        for seconds, real_seconds in ((1, 1), (600, 1), (600, 9), (600, 10)):
            await reached(lambda: bool(clock.naps))
            real.advance(real_seconds)
            clock.advance(seconds)
            await reached(lambda: not clock.naps)
        await reached(lambda: bool(clock.naps))
        ticking.cancel()
        await link.finish(STOPPED)
    assert leaps == [T0 + 1801 * SECOND]
