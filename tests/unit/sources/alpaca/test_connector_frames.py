"""Frames that are no arrays: messages all the same, or damage."""

from datetime import UTC, datetime
from random import Random  # noqa: TID251  # the source of jitter that a connector is given
from typing import Any

import pytest

from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.dialing import MAX_FRAME_BYTES
from marketpipe.sources.records import as_stored
from vendorkit import TRADE, HandClock, Taker, Vendor, backing_off, following, in_loop, live

HEARTBEAT = {"T": "heartbeat"}


class Latest(Random):
    """Draws the longest pauses."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@in_loop
async def test_frame_that_is_one_message_is_no_gap(encoding: str) -> None:
    taker = Taker()
    async with Vendor(encoding) as vendor, following(vendor, taker) as connector:
        peer = await live(vendor, connector)
        at = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
        alone: list[Any] = [
            HEARTBEAT,
            {**TRADE, "t": at if encoding == "msgpack" else "2026-01-05T14:30:00Z"},
        ]
        for message in alone:
            await peer.send_raw(peer.encoded(message))
        await taker.until(lambda t: len(t.payloads) == 5)
        assert not taker.gaps
        assert connector.status.messages == 5
        assert taker.payloads[3:] == [peer.encoded(message) for message in alone]
    parser = AlpacaParser()
    parsed = [parser.parse(as_stored(batch, "j", 0)) for batch in taker.batches]
    assert sum(one.unparsed.get("heartbeat", 0) for one in parsed) == 1
    assert sum(len(one.trades) for one in parsed if one.trades is not None) == 1


@pytest.mark.parametrize(
    "frame",
    [b'{"T":"t","S":"AAPL"', b'{"S":"AAPL"}', b'{"T":1}', b'"T"', b"<html>", b"\x00\xff\xff"],
)
@in_loop
async def test_frame_that_is_no_message_is_a_gap(frame: bytes) -> None:
    taker = Taker()
    async with Vendor("json") as vendor, following(vendor, taker) as connector:
        peer = await live(vendor, connector)
        await peer.send(TRADE)
        await peer.socket.send(frame)
        await taker.until(lambda t: bool(t.gaps))
        assert taker.payloads[-1] == frame
    assert [gap.reason for gap in taker.gaps] == ["unreadable_frame"]


@in_loop
async def test_frame_that_is_too_long_is_named_counted_and_tried_again_more_slowly() -> None:
    taker, clock = Taker(), HandClock()
    async with (
        Vendor("json") as vendor,
        following(vendor, taker, clock, random=Latest()) as connector,
    ):
        for attempt in range(3):
            peer = await live(vendor, connector)
            clock.advance(1)
            await peer.socket.send(b"[" + b" " * MAX_FRAME_BYTES + b"]")
            status = await backing_off(connector, clock)
            assert clock.naps == [2**attempt]
            clock.advance(2**attempt)
        await live(vendor, connector)
        await taker.until(lambda t: len(t.gaps) == 3)
    assert status.oversized == 3
    assert status.last_error.startswith("a frame of more than 16,777,216 bytes came")
    assert {gap.reason for gap in taker.gaps} == {"oversized_frame"}
    ends = [control for control in taker.controls if control["event"] == "disconnected"]
    assert [(end["reason"], end["code"]) for end in ends[:3]] == [("error", 1009)] * 3
