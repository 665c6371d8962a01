"""The connector against a real server that speaks the vendor's protocol."""

import asyncio

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import SecretStr

from marketpipe.sources.alpaca.client import AlpacaConnector
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.delivery import MOST_RECORDS
from marketpipe.sources.links import MOST_BETWEEN_TICKS
from marketpipe.sources.records import frames_of
from restkit import FakeAlpaca, serving
from vendorkit import (
    KEY,
    SECOND,
    SECRET,
    T0,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    backing_off,
    following,
    in_loop,
    in_state,
    live,
    made,
    reached,
    running,
)


@in_loop
async def test_welcome_is_not_taken_for_authenticated() -> None:
    async with Vendor() as vendor, following(vendor, Taker()) as connector:
        peer = await vendor.accepted()
        await peer.welcome()
        assert (await peer.heard())["action"] == "auth"
        await peer.welcome()
        await peer.welcome()
        assert connector.status.state == "connecting"
        await peer.send({"T": "success", "msg": "authenticated"})
        assert await peer.heard() == {"action": "subscribe", "trades": ["AAPL"]}
        assert connector.status.state == "connecting"
        await peer.echo(trades=["AAPL"])
        await in_state(connector, "live")
    await in_state(connector, "stopped")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@in_loop
async def test_frames_are_recorded_byte_for_byte_in_order(encoding: str) -> None:
    taker, clock = Taker(), HandClock()
    async with (
        Vendor(encoding) as vendor,
        following(vendor, taker, clock=clock, first_conn_id=7) as connector,
    ):
        peer = await vendor.accepted()
        await peer.let_in()
        await in_state(connector, "live")
        many = await peer.send(*({**TRADE, "i": i} for i in range(10)))
        single = await peer.send(TRADE)
        odd = b'[ {"T":"t" , "S":"AAPL"} ,\n{"T":"t","S":"B"}]' if encoding == "json" else many
        await peer.send_raw(odd)
        await taker.until(lambda t: len(t.rows("data")) >= 3 + 10 + 1 + 2)
    frames = [frame for batch in taker.batches for frame in frames_of(batch)]
    assert frames[3:] == [many, single, odd]
    first = taker.batches[0].to_pylist()[0]
    assert (first["source"], first["feed"], first["stream"]) == ("alpaca", "iex", "v2/iex")
    assert {row["conn_id"] for row in taker.rows("data")} == {7}
    assert {row["conn_started_ns"] for row in taker.rows("data")} == {T0}
    assert {row["symbol"] for row in taker.rows("data")[3:14]} == {"AAPL"}
    assert vendor.requests[0].headers["Content-Type"] == f"application/{encoding}"
    assert vendor.requests[0].path == "/v2/iex"
    assert connector.status.frames == 6
    assert connector.status.messages == len(taker.rows("data"))
    assert connector.status.last_message_ns == T0


@in_loop
async def test_records_begin_and_end_with_control_records() -> None:
    taker = Taker()
    async with Vendor() as vendor, following(vendor, taker) as connector:
        await (await vendor.accepted()).let_in()
        await in_state(connector, "live")
    assert taker.controls == [
        {"event": "connected", "url": f"{vendor.url}/v2/iex", "encoding": "msgpack"},
        {"event": "subscribed", "channels": {"trades": ["AAPL"]}},
        {
            "event": "disconnected",
            "reason": "stopped",
            "code": None,
            "good_until_ns": T0,
        },
    ]
    # The server's words are data, the keys that we sent are not.
    assert taker.order == ["connected", "data", "data", "data", "subscribed", "disconnected"]
    assert not taker.gaps


@in_loop
async def test_unknown_kinds_and_keys_are_kept_and_never_fatal() -> None:
    taker = Taker()
    async with Vendor() as vendor, following(vendor, taker) as connector:
        peer = await vendor.accepted()
        await peer.let_in()
        new = {"T": "zz", "S": "AAPL", "error": {"success": [1]}}
        more = {**TRADE, "new": "subscription"}
        await peer.send({"T": "success", "msg": "renamed", "more": 1}, new, more)
        await peer.send({"T": "error", "msg": "no number"}, {"no": "kind"})
        await peer.error(499, "never heard of")
        await peer.send(TRADE)
        await taker.until(lambda t: len(t.payloads) == 10)
        assert connector.status.state == "live"
    assert msgspec.msgpack.decode(taker.payloads[4]) == new
    assert {"event": "error", "code": 499, "msg": "never heard of"} in taker.controls
    assert not taker.gaps


@in_loop
async def test_malformed_frame_is_kept_raw_and_told_as_a_gap() -> None:
    taker, clock = Taker(), HandClock()
    async with Vendor("json") as vendor, following(vendor, taker, clock=clock):
        peer = await vendor.accepted()
        await peer.let_in()
        await peer.send(TRADE)
        await taker.until(lambda t: len(t.payloads) == 4)
        clock.advance(5)
        await peer.send_raw(b'[{"T":"t","S":"AAPL"')
        await taker.until(lambda t: bool(t.gaps))
        await peer.send_raw(b"[]")
        clock.advance(1)
        await peer.send(TRADE)
        await taker.until(lambda t: len(t.payloads) == 7)
    assert taker.payloads[4] == b'[{"T":"t","S":"AAPL"'
    assert taker.rows("data")[4]["msg_index"] == -1
    assert taker.gaps == [(T0, T0 + 5 * SECOND, "unreadable_frame")]


@in_loop
async def test_context_manager_connects_and_hands_out_the_last_frames() -> None:
    taker = Taker()
    async with Vendor() as vendor:
        connector = made(vendor, taker)
        await connector.subscribe(["AAPL"], ["trades"])

        async def speak() -> None:
            peer = await vendor.accepted()
            await peer.let_in()
            for number in range(500):
                await peer.send({**TRADE, "i": number})

        speaking = asyncio.create_task(speak())
        async with connector:
            running_ = asyncio.create_task(connector.run())
            await speaking
            await taker.until(lambda t: bool(t.payloads))
        assert running_.done()
        await running_
        await connector.disconnect()
    # What had been sent before we hung up is there, in order, with the end behind it.
    ids = [msgspec.msgpack.decode(p).get("i") for p in taker.payloads[3:]]
    assert ids == list(range(500))
    assert taker.controls[-1] == {
        "event": "disconnected",
        "reason": "stopped",
        "code": None,
        "good_until_ns": T0,
    }
    assert taker.order[-1] == "disconnected"


@in_loop
async def test_callback_may_stop_its_own_feed() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker())

        async def stop(batch: object) -> None:
            await connector.disconnect()

        connector.register_callback(stop)
        await connector.subscribe(["AAPL"], ["trades"])
        run = asyncio.create_task(connector.run())
        await (await vendor.accepted()).let_in()
        async with asyncio.timeout(20):
            await run
        assert connector.status.state == "stopped"


@in_loop
async def test_callback_that_fails_ends_the_run_and_is_raised() -> None:
    async with Vendor() as vendor:
        connector = made(vendor, Taker())

        async def fail(batch: object) -> None:
            raise ValueError("the disk is full")

        connector.register_callback(fail)
        await connector.subscribe(["AAPL"], ["trades"])
        run = asyncio.create_task(connector.run())
        await (await vendor.accepted()).let_in()
        with pytest.raises(ValueError, match="disk is full"):
            await run
        assert (connector.status.state, connector.status.last_error) == (
            "failed",
            "the disk is full",
        )


@in_loop
async def test_clock_ticks_by_count_too_where_more_comes_than_is_taken() -> None:
    batches: list[pa.RecordBatch] = []
    done = asyncio.Event()
    frames, per_frame = 150, 1000

    async def keep(batch: pa.RecordBatch) -> None:
        batches.append(batch)
        if (
            sum(pc.sum(pc.equal(b["kind"], "data")).as_py() for b in batches)
            == frames * per_frame + 3
        ):
            done.set()

    async with Vendor() as vendor:
        connector = made(vendor, Taker(), HandClock())
        connector.register_callback(keep)
        await connector.subscribe(["AAPL"], ["trades"])
        async with running(connector):
            peer = await live(vendor, connector)
            for _ in range(frames):
                await peer.send(*[TRADE] * per_frame)
            await done.wait()
    kinds = np.concatenate([np.asarray(batch["kind"]) for batch in batches])
    ticks = np.flatnonzero(kinds == "clock")
    apart = np.diff([0, *ticks.tolist(), len(kinds)])
    # What is handed out at once may come on top: so many records as may wait, and a frame.
    assert len(ticks) == 2
    assert apart.max() <= MOST_BETWEEN_TICKS + 2 * (MOST_RECORDS + per_frame)
    assert apart[:-1].min() >= MOST_BETWEEN_TICKS


@in_loop
async def test_clock_ticks_once_a_second_while_subscribed_and_never_else() -> None:
    taker, clock = Taker(), HandClock(T0 + 300_000_000)
    async with Vendor() as vendor:
        connector = made(vendor, taker, clock=clock)
        async with running(connector):
            peer = await vendor.accepted()
            await peer.admit()
            await in_state(connector, "live")
            await reached(lambda: 0.7 in clock.naps)
            clock.advance(0.7)
            await reached(lambda: 1.0 in clock.naps)
            assert not taker.rows("clock"), "nothing is subscribed"
            adding = asyncio.create_task(connector.subscribe(["AAPL"], ["trades"]))
            await peer.heard()
            await peer.echo(trades=["AAPL"])
            await adding
            for seconds in (1.0, 0.25, 0.75, 3.0):
                before = len(taker.rows("clock"))
                clock.advance(seconds)
                if seconds != 0.25:
                    await taker.until(lambda t, n=before: len(t.rows("clock")) > n)  # type: ignore[misc]
                    await reached(lambda: 1.0 in clock.naps)
            peer.cut()
            await backing_off(connector, clock)
            ticks = len(taker.rows("clock"))
            clock.advance(30)
            await (await vendor.accepted()).let_in()
            await in_state(connector, "live")
            assert len(taker.rows("clock")) == ticks
    # A pause of three seconds gives one tick: the last of them closes what the others would.
    assert [row["ts_recv"] - T0 for row in taker.rows("clock")] == [
        2 * SECOND, 3 * SECOND, 6 * SECOND,
    ]  # fmt: skip
    times = [row["ts_recv"] for b in taker.batches for row in b.to_pylist()]
    assert times == sorted(times)


class EarlyClock(HandClock):
    """Wakes whoever sleeps long a millisecond too early."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds - 0.001 if seconds > 0.5 else seconds)


@in_loop
async def test_clock_that_wakes_early_gives_no_tick_more() -> None:
    taker, clock = Taker(), EarlyClock()
    async with Vendor() as vendor, following(vendor, taker, clock) as connector:
        await live(vendor, connector)
        for _ in range(2):
            await reached(lambda: 0.999 in clock.naps)
            clock.advance(0.999)
            await reached(lambda: 0.001 in clock.naps)
            clock.advance(0.001)
        await taker.until(lambda t: len(t.rows("clock")) >= 2)
    assert [row["ts_recv"] - T0 for row in taker.rows("clock")] == [SECOND, 2 * SECOND]


@in_loop
async def test_history_comes_through_the_rest_api_of_the_same_feed() -> None:
    trade = {"x": "D", "p": 126.55, "s": 1, "i": 7, "z": "C", "t": "2026-01-05T14:30:00Z"}
    later = {**trade, "i": 8, "t": "2026-01-05T14:30:01Z"}
    vendor = FakeAlpaca({"AAPL": [trade, later]})
    async with serving(vendor):
        connector = AlpacaConnector(
            AlpacaStream(
                path="v2/iex", key=SecretStr(KEY), secret=SecretStr(SECRET), rest_url=vendor.url
            )
        )
        batches = [b async for b in connector.get_historical_ticks("AAPL", T0, T0 + SECOND)]
    assert [batch.ts_event.tolist() for batch in batches] == [[T0]]
    assert vendor.asked[0].params["feed"] == "iex"
