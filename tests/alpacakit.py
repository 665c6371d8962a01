"""A live feed of a simulated Alpaca, run to the end of its session, with faults or without."""

import asyncio
import random  # noqa: TID251
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

import marketpipe
from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.alpacafeed import alpaca_feed
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.opening import versions_of
from marketpipe.pipelines.service import Ingested, IngestionService
from marketpipe.simulator import Fault, Schedule, Simulator, Wire, serve
from marketpipe.simulator.generate import generate
from marketpipe.simulator.market import Market
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.rest import AlpacaRest
from marketpipe.sources.clocks import FollowedClock
from marketpipe.sources.connector import BaseConnector
from marketpipe.store import BarRepository, GapEntry, GapStore
from marketpipe.store.gaps import DAY

CLOSE_NS = int(datetime(2026, 1, 6, 1, tzinfo=UTC).timestamp()) * NANOS
"""20:00 in New York on Monday, 2026-01-05: the end of a day of stocks."""
MIDNIGHT_NS = CLOSE_NS - 3600 * NANOS
"""The end of a day of crypto."""
NOON_NS = CLOSE_NS - 8 * 3600 * NANOS
"""Noon in New York: hours before a day is looked over."""
DAY_AFTER_NS = 60 * NANOS
"""How long after its end a day with gaps is looked over."""
NEVER_NS = 365 * DAY_NS
"""So long after its end that it is not."""


Meanwhile = Callable[[BaseConnector, FollowedClock], Awaitable[None]]
"""Does something to a connector at some time."""


@dataclass(frozen=True)
class Ran:
    """What a session came to; ``before`` the look at its day, where that is told."""

    done: Ingested
    gaps: list[GapEntry]
    before: "Ran | None" = None


def market(
    kind: str = "stocks",
    minutes: int = 4,
    *,
    seed: int = 7,
    per_second: float = 20.0,
    amended: bool = True,
) -> Market:
    """Return the last minutes of a day; ``amended``: with late prints, cancels, corrections."""
    end_ns = CLOSE_NS if kind == "stocks" else MIDNIGHT_NS
    symbols = ("AAPL", "MSFT", "SPY") if kind == "stocks" else ("BTC/USD", "ETH/USD")
    return generate(
        symbols,
        kind="stocks" if kind == "stocks" else "crypto",
        start_ns=end_ns - minutes * 60 * NANOS,
        end_ns=end_ns,
        seed=seed,
        trades_per_second=per_second,
        quotes_per_second=per_second / 4,
        late_share=0.01 if amended else 0.0,
        cancel_share=0.005 if amended else 0.0,
        correction_share=0.005 if amended else 0.0,
        tail_ns=60 * NANOS,
    )


def noon(kind: str = "stocks", minutes: int = 4, *, per_second: float = 20.0) -> Market:
    """Return minutes around noon, in which nothing is late, cancelled or corrected.

    What is sent late of an hour ago, and is lost, only the look at the day finds.
    """
    return generate(
        ("AAPL", "MSFT", "SPY") if kind == "stocks" else ("BTC/USD", "ETH/USD"),
        kind="stocks" if kind == "stocks" else "crypto",
        start_ns=NOON_NS,
        end_ns=NOON_NS + minutes * 60 * NANOS,
        seed=7,
        trades_per_second=per_second,
        quotes_per_second=per_second / 4,
        late_share=0.0,
        cancel_share=0.0,
        correction_share=0.0,
        tail_ns=60 * NANOS,
    )


def settings(
    journal_id: str,
    rules: str = "plain",
    delay_ns: int = 0,
    prices: tuple[str, ...] = ("trade",),
) -> LiveSettings:
    """Return settings for bars of one and five minutes."""
    derive = DeriveSettings(
        journal_id=journal_id,
        timeframes=parse_many("1m,5m"),
        rule_set=RuleSet.load(rules),
        price_types=prices,
        delay_ns=delay_ns,
    )
    return LiveSettings(derive=derive, versions=versions_of(derive))


def stream(simulator: Simulator, path: str = "v2/iex", *, key: str = "KEY") -> AlpacaStream:
    """Return how to get at a simulator's stream."""
    return AlpacaStream(
        path=path,
        key=SecretStr(key),
        secret=SecretStr("SECRET"),
        url=simulator.ws_url,
        rest_url=simulator.url,
    )


async def run_session(
    folder: Path,
    of: Market,
    faults: Sequence[Fault] = (),
    *,
    speed: float = 120.0,
    rules: str = "plain",
    prices: tuple[str, ...] = ("trade",),
    from_ns: int | None = None,
    until_ns: int | None = None,
    path: str = "",
    silence_seconds: float = 60.0,
    meanwhile: Meanwhile | None = None,
    look_apart: bool = False,
) -> Ran:
    """Take a simulated session in, to its end, that of all repairs, and of its day if that ends.

    With ``until_ns`` it is stopped then; with ``from_ns`` its first client comes then; while it
    runs ``meanwhile`` is done. With ``look_apart`` one run of the feed ends before it looks at its
    day, and another does.
    """
    path = path or ("v2/iex" if of.kind == "stocks" else "v1beta3/crypto/us")
    async with (
        serve(of, speed=speed, faults=Schedule(faults), wire=Wire(waits=not from_ns)) as simulator,
        await FollowedClock.follow(simulator.clock_url) as clock,
    ):
        wanted = stream(simulator, path)
        spread = random.Random(1)
        async with AlpacaRest(
            wanted.key, wanted.secret, url=simulator.url, clock=clock, random=spread
        ) as rest:
            over_ns = of.end_ns + wanted.delay_ns + 10 * NANOS

            def end() -> Coroutine[Any, Any, None]:
                if until_ns is not None:
                    return until(clock, until_ns)
                return until_repaired(folder, clock, over_ns + DAY_AFTER_NS)

            async def life(ending: Coroutine[Any, Any, None], day_after_ns: int) -> Ran:
                feed = alpaca_feed(
                    wanted, rest, of.symbols, clock, spread, silence_seconds=silence_seconds
                )
                feed.day_after_ns = day_after_ns
                made = settings(feed.journal_id, rules, feed.delay_ns, prices)
                service = IngestionService(DataFolder(folder), made, feed)
                running = asyncio.create_task(service.run())
                ended = asyncio.create_task(ending)
                if meanwhile is not None:
                    await meanwhile(feed.connector, clock)
                await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
                service.stop()
                ended.cancel()
                done = await running
                return Ran(done, await ledger(folder))

            await clock.sleep(max(0, (from_ns or 0) - clock.now_ns()) / NANOS)
            if not look_apart:
                return await life(end(), DAY_AFTER_NS)
            before = await life(until_repaired(folder, clock, over_ns, but_day=True), NEVER_NS)
            after = await life(until_repaired(folder, clock, over_ns), DAY_AFTER_NS)
            return replace(after, before=before)


async def until(clock: FollowedClock, end_ns: int) -> None:
    """Wait until a time has come."""
    while clock.now_ns() < end_ns:
        await clock.sleep(1)


async def until_repaired(
    folder: Path, clock: FollowedClock, end_ns: int, *, but_day: bool = False
) -> None:
    """Wait until a time has come, and no gap is open any more but that of a day that goes on.

    With ``but_day`` no day is waited for.
    """
    while clock.now_ns() < end_ns or any(
        gap.state == "open" and gap.end_ns <= end_ns and not (but_day and gap.reason == DAY)
        for gap in await ledger(folder)
    ):
        await clock.sleep(5)


async def ledger(folder: Path) -> list[GapEntry]:
    """Return the gap ledger of a data folder."""
    async with await BarRepository.open(DataFolder(folder).store_url) as store:
        return await GapStore(store.database).every()


def are_partial(folder: Path) -> list[bool]:
    """Tell of the minute bars of AAPL, in order, whether messages were missing as each was made."""
    bars = marketpipe.open(folder).bars("AAPL", "1m").sort("ts_open")
    return bars["partial"].to_list()
