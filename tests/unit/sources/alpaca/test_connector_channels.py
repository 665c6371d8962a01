"""One channel of a feed that is dead is found while the others go on; a slow one is not dead."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import pytest

from marketpipe.domain.units import format_ns
from marketpipe.sources.alpaca.client import AlpacaConnector
from vendorkit import (
    SECOND,
    T0,
    TRADE,
    HandClock,
    Peer,
    Taker,
    Vendor,
    backing_off,
    live,
    made,
    reached,
    running,
)

KINDS = {"trades": "t", "quotes": "q", "bars": "b", "statuses": "s", "lulds": "l"}
STEP = 5
"""Seconds that pass at once."""
Script: TypeAlias = list[tuple[int, tuple[str, ...], tuple[str, ...]]]
"""For so many seconds channels have news, and some of them are not sent."""
SAY_EVERY = {"trades": 5, "quotes": 5, "bars": 60, "statuses": 300, "lulds": 300}
"""Seconds from one message of a channel to the next."""


class Market:
    """What a vendor sends on a connection, and what it says that it has, step by step."""

    def __init__(self, peer: Peer, clock: HandClock, taker: Taker) -> None:
        self.peer, self.clock, self.taker = peer, clock, taker
        self.newest: dict[str, int] = {}
        self.sent = 0

    async def step(self, channels: tuple[str, ...], silent: tuple[str, ...]) -> None:
        """Let time pass: what is due of channels happens, and is sent unless it is silent."""
        self.clock.advance(STEP)
        now_ns = self.clock.now_ns()
        due = [name for name in channels if (now_ns - T0) // SECOND % SAY_EVERY[name] == 0]
        self.newest |= dict.fromkeys(due, now_ns)
        said = [{**TRADE, "T": KINDS[name], "t": format_ns(now_ns)} for name in due]
        said = [one for one, name in zip(said, due, strict=True) if name not in silent]
        if said and self.peer.socket.state.name == "OPEN":
            await self.peer.send(*said)
            self.sent += len(said)
            await reached(self.has_come)
        for _ in range(5):
            await asyncio.sleep(0)

    def has_come(self) -> bool:
        is_up = self.peer.socket.state.name == "OPEN"
        return not is_up or len(self.taker.payloads) >= 3 + self.sent


def as_it_is(_: int, newest: dict[str, int]) -> dict[str, int]:
    return newest


async def watched(
    script: Script,
    *,
    hidden: tuple[str, ...] = (),
    told: Callable[[int, dict[str, int]], dict[str, int]] = as_it_is,
    hang_up: bool = False,
) -> tuple[Taker, AlpacaConnector]:
    """Run a feed by a script.

    Of ``hidden`` channels the vendor says nothing when it is asked; ``told`` makes its answer of
    the seconds since the beginning and of what it has. With ``hang_up`` the connection is lost
    after the last.
    """
    taker, clock = Taker(), HandClock()
    markets: list[Market] = []

    async def probe() -> dict[str, int]:
        newest = dict.fromkeys(("trades", "quotes", "bars"), T0)
        for market in markets:
            newest |= market.newest
        names = [name for name in ("trades", "quotes", "bars") if name not in hidden]
        return told((clock.now_ns() - T0) // SECOND, {name: newest[name] for name in names})

    async with Vendor("json") as vendor:
        connector = made(vendor, taker, clock, probe=probe)
        await connector.subscribe(["AAPL"], tuple(KINDS))
        async with running(connector):
            markets.append(Market(await live(vendor, connector), clock, taker))
            for seconds, channels, silent in script:
                for _ in range(seconds // STEP):
                    if connector.status.state != "live":
                        break
                    await markets[-1].step(channels, silent)
                    await settled(connector, clock)
            if hang_up:
                markets[-1].peer.socket.transport.abort()
            if hang_up or connector.status.state != "live":
                await backing_off(connector, clock)
                clock.advance(60)
                await live(vendor, connector)
                await taker.until(lambda t: bool(t.gaps))
    return taker, connector


async def settled(connector: AlpacaConnector, clock: HandClock) -> None:
    """Let whoever looks for silence come to an end with it."""

    def is_settled() -> bool:
        return connector.status.state != "live" or len(clock.naps) == 2

    await reached(is_settled)


ALL = tuple(KINDS)


@pytest.mark.parametrize(
    ("dead", "busy", "then", "since"),
    [("trades", 70, 60, 70), ("quotes", 70, 60, 70), ("quotes", 0, 60, 0), ("bars", 130, 520, 120)],
)
def test_channel_that_falls_silent_alone_is_a_gap_from_its_own_last_message(
    dead: str, busy: int, then: int, since: int
) -> None:
    taker, connector = asyncio.run(watched([(busy, ALL, ()), (then, ALL, (dead,))]))
    [gap] = taker.gaps
    assert (gap.reason, (gap.start_ns - T0) // SECOND) == ("mute", since)
    ended = next(said for said in taker.controls if said["event"] == "disconnected")
    assert (ended["reason"], ended["good_until_ns"]) == ("mute", gap.start_ns)
    assert connector.status.last_error == (
        f"connected, but nothing comes of {dead}, and the vendor has more"
    )


@pytest.mark.parametrize(
    ("script", "hidden"),
    [
        # The market is quiet, as at night, and busy again.
        ([(70, ALL, ()), (120, (), ()), (40, ALL, ())], ()),
        # One channel has no news.
        ([(70, ALL, ()), (120, ("trades",), ()), (10, ALL, ())], ()),
        ([(70, ALL, ()), (120, ("quotes", "bars"), ()), (10, ALL, ())], ()),
        # One channel is silent that the vendor cannot be asked about.
        ([(310, ALL, ()), (310, ALL, ("statuses", "lulds"))], ()),
        ([(70, ALL, ()), (120, ALL, ("quotes",))], ("quotes",)),
    ],
)
def test_channel_that_is_slow_or_has_no_news_is_not_dead(
    script: Script, hidden: tuple[str, ...]
) -> None:
    taker, connector = asyncio.run(watched(script, hidden=hidden))
    assert taker.gaps == []
    assert (connector.status.reconnects, connector.status.last_error) == (0, "")


@pytest.mark.parametrize(
    "told",
    [
        # Of bars the vendor's answer is not sure at first, then the last bar of the day before.
        lambda at, newest: newest | {"bars": 0 if at < 50 else min(newest["bars"], T0 - 1)},
        # As before, and there was no answer when the connection began.
        lambda at, newest: newest | {"bars": 0 if at < 50 else T0 - 1} if at > 9 else {},
        # The last bar was sent just before the connection began, and the vendor has it later.
        lambda at, newest: newest | {"bars": T0 - (60 if at > 9 else 120) * SECOND},
    ],
)
def test_bar_of_the_time_before_the_connection_is_no_news(
    told: Callable[[int, dict[str, int]], dict[str, int]],
) -> None:
    script: Script = [(75, (), ()), (50, ("trades", "quotes"), ())]
    taker, connector = asyncio.run(watched(script, told=told))
    assert (taker.gaps, connector.status.last_error) == ([], "")


def test_connection_of_which_nobody_tells_is_dead_if_its_channels_fall_silent_one_by_one() -> None:
    script = [(70, ALL, ()), (15, ALL, ("quotes",)), (60, ALL, ALL)]
    taker, connector = asyncio.run(watched(script, hidden=("trades", "quotes", "bars")))
    [gap] = taker.gaps
    assert (gap.reason, (gap.start_ns - T0) // SECOND) == ("mute", 85)
    assert connector.status.last_error == "connected, but silent for too long"


def test_quiet_hour_is_asked_about_twice_a_minute_though_channels_fell_silent_apart() -> None:
    asked: list[int] = []

    def told(at: int, newest: dict[str, int]) -> dict[str, int]:
        asked.append(at)
        return newest

    script: Script = [(70, ALL, ()), (15, ("quotes",), ()), (600, (), ())]
    taker, _ = asyncio.run(watched(script, told=told))
    assert taker.gaps == []
    # Each at its own time would be twice as many.
    assert 15 <= len(asked) <= 21


@pytest.mark.parametrize(
    ("channel", "seconds", "since"),
    # Three times what the channel is used to, five seconds, is silence; less is none.
    [("quotes", 20, 70), ("trades", 20, 70), ("quotes", 10, 80), ("statuses", 20, 90)],
)
def test_lost_connection_is_a_gap_from_the_last_message_of_a_channel_that_was_silent_before(
    channel: str, seconds: int, since: int
) -> None:
    script = [(70, ALL, ()), (seconds, ALL, (channel,))]
    taker, _ = asyncio.run(watched(script, hang_up=True))
    [gap] = taker.gaps
    assert (gap.reason, (gap.start_ns - T0) // SECOND) == ("disconnected", since)
    ended = next(said for said in taker.controls if said["event"] == "disconnected")
    assert ended["good_until_ns"] == gap.start_ns


def test_lost_connection_is_no_gap_of_the_time_that_the_vendor_has_told_of() -> None:
    # No trades for six minutes, which was asked about last at 435.
    script: Script = [(70, ALL, ()), (360, ("quotes", "bars"), ()), (30, ("quotes",), ())]
    taker, _ = asyncio.run(watched(script, hang_up=True))
    [gap] = taker.gaps
    assert (gap.start_ns - T0) // SECOND == 435 - 120
