"""Small tick files for the tests of `marketpipe stream` and of what reads its lake."""

import asyncio
import json
from pathlib import Path

from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.live import AtBoundary, LiveSettings, nowhere
from marketpipe.pipelines.mockfeed import MockFeed
from marketpipe.pipelines.opening import versions_of
from marketpipe.pipelines.service import Ingested, IngestionService

HEAD = "symbol,ts_ns,price,size,trade_id\n"
OPEN = 1_767_623_400_000_000_000
"""2026-01-05T14:30:00Z."""


def ticks(path: Path, seconds: int = 600, *, start_ns: int = OPEN, per_second: int = 1) -> Path:
    """Write trades of AAPL and BTC/USD, ``per_second`` of each a second."""
    step = NANOS // per_second
    rows = [
        f"{symbol},{start_ns + k * step},{100 + (k * 7) % 23}.{k % 100:02d},{k % 5 + 1},"
        f"{start_ns // NANOS}{k:07d}\n"
        for k in range(seconds * per_second)
        for symbol in ("AAPL", "BTC/USD")
    ]
    path.write_text(HEAD + "".join(rows))
    return path


def three_days(folder: Path) -> list[Path]:
    """Write two minutes of trades of each of three days, a file each."""
    days = enumerate(("a.csv", "b.csv", "c.csv"))
    return [ticks(folder / name, 120, start_ns=OPEN + day * DAY_NS) for day, name in days]


def recording(path: Path) -> Path:
    """Write a recording of Alpaca frames: three trades, a correction, a bad price, a control."""

    def trade(number: int, second: int, price: object) -> dict[str, object]:
        stamp = f"2026-01-05T14:30:{second:02d}Z"
        common = {"T": "t", "S": "AAPL", "i": number, "x": "V", "p": price, "s": 10, "c": ["@"]}
        return {**common, "z": "C", "t": stamp}

    correction = {
        "T": "c",
        "S": "AAPL",
        "x": "V",
        "oi": 1,
        "op": 190.0,
        "os": 10,
        "oc": ["@"],
        "ci": 9,
        "cp": 191.5,
        "cs": 10,
        "cc": ["@"],
        "z": "C",
        "t": "2026-01-05T14:31:10Z",
    }
    frames = [
        (0, [{"T": "success", "msg": "authenticated"}]),
        (5, [trade(1, 5, 190.0), trade(2, 5, 190.25)]),
        (20, [trade(3, 20, "none")]),
        (60, [trade(4, 59, 190.5)]),
        (75, [{"T": "success", "msg": "still here"}]),
        (80, [correction]),
        (90, [{"T": "success", "msg": "and still"}]),
    ]
    lines = (f"{OPEN + second * NANOS} {json.dumps(frame)}\n" for second, frame in frames)
    path.write_text("".join(lines))
    return path


def mock_feed(feed: Path) -> MockFeed:
    """Return a tick CSV as a feed."""
    return MockFeed(path=feed, form="csv", source="file")


def live_settings(timeframes: str = "1m,5m") -> LiveSettings:
    """Return settings that flush and save checkpoints often."""
    derive = DeriveSettings(
        journal_id="mock-file",
        timeframes=parse_many(timeframes),
        rule_set=RuleSet.load("plain"),
    )
    return LiveSettings(
        derive=derive, versions=versions_of(derive), flush_ns=60 * NANOS, flushes_per_checkpoint=2
    )


def service(folder: Path, feed: Path, at_boundary: AtBoundary = nowhere) -> IngestionService:
    """Return a service that takes a tick CSV in."""
    return IngestionService(
        DataFolder(folder), live_settings(), mock_feed(feed), at_boundary=at_boundary
    )


def part_of(folder: Path, feed: Path) -> Ingested:
    """Run a service until it has appended one more batch."""
    running = service(folder, feed, at_boundary=lambda _: running.stop())
    return asyncio.run(running.run())


def whole_of(folder: Path, feed: Path) -> Ingested:
    """Run a service to the end of its file."""
    return asyncio.run(service(folder, feed).run())
