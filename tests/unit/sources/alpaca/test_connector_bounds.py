"""What waits between the socket and its taker is bounded, and nothing of it is lost."""

import asyncio

import msgspec
import pytest
from websockets.frames import Frame, Opcode

from marketpipe.domain.units import format_ns
from marketpipe.sources.bounded import QUEUED_BYTES, BoundedQueue
from marketpipe.sources.delivery import MOST_BYTES, MOST_RECORDS
from vendorkit import (
    SECOND,
    T0,
    TRADE,
    HandClock,
    Taker,
    Vendor,
    following,
    in_loop,
    live,
    reached,
)

READ_BYTES = 1 << 18
"""What one read of a socket may hold."""


@pytest.mark.parametrize(
    ("frame_bytes", "frames"),
    # Few messages in long frames, and so many short ones that their number counts first.
    [(1 << 20, 120), (1 << 22, 40), (2_000, 9_000)],
)
def test_what_waits_is_bounded_in_bytes_and_nothing_is_lost(frame_bytes: int, frames: int) -> None:
    async def work() -> None:
        gate = asyncio.Event()

        async def wait(_: object) -> None:
            await gate.wait()

        taker = Taker(wait)
        note = "x" * frame_bytes
        async with Vendor() as vendor, following(vendor, taker) as connector:
            peer = await live(vendor, connector)

            async def flood() -> None:
                for number in range(frames):
                    await peer.send({**TRADE, "i": number, "n": note})

            flooding = asyncio.create_task(flood())
            await reached(lambda: peer.socket.transport.get_write_buffer_size() > 0)
            link = connector._link
            assert link is not None
            await reached(
                lambda: link.delivery.is_blocked and not link.socket.transport.is_reading()
            )
            queue, builder = link.socket.queue, link.builder
            assert builder.waiting_bytes < MOST_BYTES + 2 * frame_bytes
            assert queue.waiting_bytes < QUEUED_BYTES + 2 * frame_bytes + READ_BYTES
            by_number = MOST_RECORDS <= len(builder) < MOST_RECORDS + 10
            assert by_number == (frame_bytes == 2_000)
            assert connector.status.waiting_bytes == queue.waiting_bytes + builder.waiting_bytes
            assert connector.status.waiting_bytes >= min(frames * frame_bytes // 4, 1 << 21)
            gate.set()
            await flooding
            await taker.until(lambda _: connector.status.messages == frames + 3)
            assert connector.status.waiting_bytes == 0
            assert connector.status.blocked_ns > 0
        ids = [msgspec.msgpack.decode(payload).get("i") for payload in taker.payloads[3:]]
        assert ids == list(range(frames))

    asyncio.run(work())


@in_loop
async def test_message_in_fragments_of_which_the_first_is_taken_is_read_to_its_end() -> None:
    is_reading = [True]
    queue = BoundedQueue(
        1024, 256, pause=lambda: is_reading.append(False), resume=lambda: is_reading.append(True)
    )
    long = QUEUED_BYTES // 3
    for _ in range(3):
        queue.put(Frame(Opcode.TEXT, bytes(long)))
    queue.put(Frame(Opcode.TEXT, bytes(long), fin=False))
    assert is_reading == [True, False]
    for _ in range(3):
        assert len(await queue.get(False)) == long
    taking = asyncio.create_task(queue.get(False))
    await reached(lambda: len(is_reading) == 3)
    assert is_reading == [True, False, True]
    queue.put(Frame(Opcode.CONT, b"x"))
    assert len(await taking) == long + 1
    assert queue.waiting_bytes == 0


@in_loop
async def test_tick_by_count_tells_how_far_was_read_and_not_what_waits() -> None:
    taker, clock = Taker(), HandClock()
    frames, per_frame = 150, 1000
    async with Vendor("json") as vendor, following(vendor, taker, clock) as connector:
        peer = await live(vendor, connector)
        await reached(lambda: 1.0 in clock.naps)
        clock.advance(20)
        await taker.until(lambda t: "clock" in t.order)
        for number in range(frames):
            happened = format_ns(T0 + number * SECOND // 10)
            await peer.send(*[{**TRADE, "t": happened}] * per_frame)
        await reached(lambda: connector.status.messages == frames * per_frame + 3)
    rows = [row for batch in taker.batches for row in batch.to_pylist() if row["kind"] != "control"]
    ticks = [place for place, row in enumerate(rows) if row["kind"] == "clock"][1:]
    assert len(ticks) == 2
    for place in ticks:
        through = int(rows[place]["payload"]) - T0
        assert rows[place]["ts_recv"] == T0 + 20 * SECOND
        last, following_ = (rows[place + step]["payload"] for step in (-1, 1))
        assert format_ns(T0 + through).encode() in last
        # What comes after it is of the same second or later ones: none of them is late.
        assert msgspec.json.decode(following_)["t"] >= format_ns(T0 + through)
