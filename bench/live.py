"""The live path in one process: from frames to everything committed, and back from raw."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import pyarrow as pa

from bench import feed
from marketpipe.domain.timeframe import parse_many
from marketpipe.journal import SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.arrivals import intervals
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import Derivation, DeriveSettings
from marketpipe.pipelines.history import TradeHistory, no_lake
from marketpipe.pipelines.lakesink import TABLES, LakeSink
from marketpipe.pipelines.live import LivePipeline, LiveSettings
from marketpipe.pipelines.opening import live_pipeline, versions_of
from marketpipe.pipelines.rederive import of_raw
from marketpipe.sources.alpaca import AlpacaParser, symbol_reader
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import RecordBuilder
from marketpipe.store import BarRepository

AIM: Final = 150_000
REBUILD_AIM: Final = 1_000_000
TIMEFRAMES: Final = "1m,5m,15m,1h,1d"
MESSAGES: Final = 3_000_000
PER_SECOND: Final = 40_000
"""Messages in a second of the feed's time: a tick of the clock follows each."""
RUNS: Final = 3
_APPENDED_AT_ONCE: Final = 1_000
"""Frames whose records are one append to the journal."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """The best run: rates in messages a second, and the feed's mean message in bytes."""

    messages: int
    message_bytes: float
    seconds: float
    rebuild_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second from frame to commit."""
        return self.messages / self.seconds

    @property
    def rebuild_rate(self) -> float:
        """Trades a second from the raw lake to bars."""
        return self.messages / self.rebuild_seconds


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage takes when it runs alone: CPU of all its threads, and time."""

    name: str
    cpu_seconds: float
    seconds: float


def live_settings(**changes: int) -> LiveSettings:
    """Return the settings of all runs."""
    derive = DeriveSettings(
        journal_id="alpaca",
        timeframes=tuple(parse_many(TIMEFRAMES)),
        rule_set=RuleSet.load("alpaca-v1"),
    )
    return LiveSettings(derive=derive, versions=versions_of(derive), **changes)


def builder() -> RecordBuilder:
    """Return what collects the frames of the feed's one connection."""
    made = RecordBuilder(
        source="alpaca",
        feed="sip",
        stream="trades",
        conn_id=1,
        conn_started_ns=feed.OPEN_NS,
        symbol_of=symbol_reader("json"),
    )
    made.add_control({"event": "connected"}, feed.OPEN_NS)
    return made


def records(seconds: list[feed.Second]) -> Iterator[pa.RecordBatch]:
    """Give the feed as records, in batches as they are appended."""
    made = builder()
    for second in seconds:
        for start in range(0, len(second.frames), _APPENDED_AT_ONCE):
            if start:
                yield made.take()
            for at, frame in second.frames[start : start + _APPENDED_AT_ONCE]:
                made.add_frame(frame, at)
        made.add_clock(second.ends_ns)
        yield made.take()


async def _follow(pipeline: LivePipeline, appended: asyncio.Event, done: asyncio.Event) -> None:
    while not done.is_set():
        await appended.wait()
        appended.clear()
        await pipeline.catch_up()


async def run(folder: Path, seconds: list[feed.Second]) -> float:
    """Take a feed in as fast as it goes; return the seconds until all of it is committed."""
    appended, done = asyncio.Event(), asyncio.Event()
    async with live_pipeline(DataFolder(folder), live_settings(), AlpacaParser) as pipeline:
        start = perf_counter()
        following = asyncio.create_task(_follow(pipeline, appended, done))
        for batch in records(seconds):
            await pipeline.append(batch)
            appended.set()
        done.set()
        await following
        await pipeline.catch_up()
        await pipeline.stop()
        return perf_counter() - start


def rebuild(folder: Path) -> float:
    """Derive everything again from the raw table; return the seconds."""
    start = perf_counter()
    raw = LakeTable.open(DataFolder(folder).lake, "raw", create=False)
    of_raw(live_settings().derive, AlpacaParser, raw)
    return perf_counter() - start


def measure(messages: int = MESSAGES) -> LiveRun:
    """Return the best of some runs, each in a folder of its own."""
    _warm_up()
    seconds = list(feed.seconds(messages, PER_SECOND))
    size = sum(len(frame) for second in seconds for _, frame in second.frames)
    times, again = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
            times.append(asyncio.run(run(Path(name), seconds)))
            again.append(rebuild(Path(name)))
    count = len(seconds) * PER_SECOND
    return LiveRun(count, size / count, min(times), min(again))


def _warm_up() -> None:
    """Compile the kernels, or read them from where they were kept."""
    with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
        asyncio.run(run(Path(name), list(feed.seconds(PER_SECOND, PER_SECOND))))


class _Clock:
    """Adds up what stages take."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self._since: dict[str, tuple[float, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        self.begin(name)
        yield
        self.end(name)

    def begin(self, name: str) -> None:
        self._since[name] = process_time(), perf_counter()

    def end(self, name: str) -> None:
        cpu, wall = self._since.pop(name)
        self.cpu[name] += process_time() - cpu
        self.wall[name] += perf_counter() - wall

    def boundary(self, name: str) -> None:
        """Time a table of the lake between its boundaries."""
        table, _, when = name.partition(":")
        (self.begin if when == "before" else self.end)(f"lake: {table}")


class _TimedParser:
    """A parser that says what it takes."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._parser = AlpacaParser()
        self.streams = self._parser.streams

    def state(self) -> bytes:
        return self._parser.state()

    def parse(self, batch: pa.RecordBatch) -> Parsed:
        with self._clock.stage("parse"):
            parsed = self._parser.parse(batch)
        self.streams = self._parser.streams
        return parsed


def profile(messages: int = MESSAGES // 3) -> list[Stage]:
    """Run the stages one after the other, so that each one's CPU is its own."""
    _warm_up()
    with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
        clock = asyncio.run(_profile(Path(name), list(feed.seconds(messages, PER_SECOND))))
    clock.cpu["normalize, canonical, engine"] = clock.cpu.pop("derive") - clock.cpu["parse"]
    clock.wall["normalize, canonical, engine"] = clock.wall.pop("derive") - clock.wall["parse"]
    return [Stage(stage, clock.cpu[stage], clock.wall[stage]) for stage in clock.cpu]


async def _profile(root: Path, seconds: list[feed.Second]) -> _Clock:
    clock, folder = _Clock(), DataFolder(root)
    with clock.stage("framing"):
        batches = list(records(seconds))
    with SqliteJournal(folder.journal("alpaca"), "alpaca") as journal:
        with clock.stage("journal: append"):
            for batch in batches:
                journal.append(batch)
        del batches
        reader = journal.reader()
        with clock.stage("journal: read"):
            tables = list(intervals(reader.read(0)))
        reader.close()
    derivation = Derivation(live_settings().derive, _TimedParser(clock), TradeHistory(no_lake, 0))
    lake = {name: LakeTable.open(folder.lake, name) for name in TABLES}
    sink = LakeSink(lake, "live/alpaca", clock.boundary)
    async with await BarRepository.open(folder.store_url) as repository:
        for table in tables:
            with clock.stage("derive"):
                derived = derivation.apply(table)
            with clock.stage("store"):
                await repository.add(derived.bars)
            sink.add(table, derived)
            if sink.waiting >= live_settings().flush_rows:
                _flush(clock, sink)
    _flush(clock, sink)
    return clock


def _flush(clock: _Clock, sink: LakeSink) -> None:
    sink.close_line()
    tables = [dict(clock.cpu), dict(clock.wall)]
    cpu, wall = process_time(), perf_counter()
    sink.flush()
    # What is not between the boundaries is finding the order of the rows.
    taken = (process_time() - cpu, perf_counter() - wall)
    for counter, before, total in zip((clock.cpu, clock.wall), tables, taken, strict=True):
        counter["lake: order"] += total - (sum(counter.values()) - sum(before.values()))
