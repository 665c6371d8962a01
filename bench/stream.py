"""`marketpipe stream` in a process of its own: ``python -m bench.stream``.

Service, feed and connector are made as the command makes them, and do all their work: journal,
tables of the lake, bars, store. What is measured is seen from outside: by the hooks that the
service has for its progress and its tests, by a second connection to the database, and in what is
in the data folder afterwards.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import SecretStr

from bench.clients import Task
from bench.data import I64
from bench.processes import answer
from bench.sender import KEY, SECRET, SYMBOLS
from bench.soak import resident_bytes
from marketpipe.access import folder_of
from marketpipe.cli.live import feeds_of
from marketpipe.cli.wiring import live_settings
from marketpipe.domain.records import DATA
from marketpipe.lake import LakeTable
from marketpipe.pipelines.livefeed import LiveFeed
from marketpipe.pipelines.service import IngestionService
from marketpipe.settings import AlpacaSettings, Settings, StreamSettings
from marketpipe.sources.clocks import SystemClock

USUAL: Final = StreamSettings(symbols=SYMBOLS, rules="alpaca-v1")
"""The timeframes that `stream` has by default, by Alpaca's rules."""
EACH_SECOND: Final = StreamSettings(symbols=SYMBOLS, timeframes=("1s", *USUAL.timeframes))
"""Bars of seconds too, which Alpaca's rules do not know."""
PERCENTILES: Final = (50.0, 99.0, 99.9)

_SAID: Final = 3
"""Messages before the first trade: welcome, authenticated, subscribed."""
_SAMPLE_SECONDS: Final = 0.2
_READ_ONLY: Final = "file:{}?mode=ro"


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to; times are ns since the epoch, UTC.

    Attributes
    ----------
    first_ns, ended_ns : receipt of the first message; when everything was committed
    seconds, cpu_seconds : time between, and CPU of all threads in it
    messages, trades : rows of the lake, without what was said before the first trade
    bars, revisions : events in the store; those of them that changed a bar that was confirmed
    resident : bytes in memory, every fifth of a second while messages came and after
    waiting : the most records that were received and not handed out
    blocked_s : how long receiving stood still because too many waited
    slow_clients : how often the sender hung up because too little was taken
    sent_ms : from the sender's stamp of a trade until it is durable, `PERCENTILES`
    received_ms : from its receipt until it is durable
    bar_ms : from the tick of the clock that closes a bar until a reader of the store sees it
    """

    first_ns: int
    ended_ns: int
    seconds: float
    cpu_seconds: float
    messages: int
    trades: int
    bars: int
    revisions: int
    resident: list[int]
    waiting: int
    blocked_s: float
    slow_clients: int
    sent_ms: list[float]
    received_ms: list[float]
    bar_ms: list[float]


class _Watch:
    """Notes when what was durable and visible.

    Parameters
    ----------
    messages : with so many the feed is stopped
    database : path of the store
    feed : whose counters are looked at
    """

    def __init__(self, messages: int, database: str, feed: LiveFeed) -> None:
        self.stop: Callable[[], None]
        self.durable: list[tuple[int, int]] = [(0, 0)]
        """How many messages were durable, and when."""
        self.visible: list[tuple[int, int]] = []
        """Up to which event bars were visible, and when."""
        self.ended_ns = self.waiting = 0
        self.resident: list[int] = []
        self._messages, self._database, self._feed = messages, database, feed
        self._clock = SystemClock()
        self._reader: sqlite3.Connection | None = None

    def progress(self, _done: int, _total: int | None, messages: int) -> None:
        """Note what has just become durable; stop at the tick of the clock after the last."""
        if messages == self._messages == self.durable[-1][0]:
            self.stop()
        self.durable.append((messages, self._clock.now_ns()))

    def boundary(self, name: str) -> None:
        """Note what has just been committed."""
        if name == "store:after":
            self.visible.append((self._newest(), self._clock.now_ns()))
        elif name == "retain:after":
            self.ended_ns = self._clock.now_ns()

    def _newest(self) -> int:
        if self._reader is None:
            self._reader = sqlite3.connect(_READ_ONLY.format(self._database), uri=True)
        return int(self._reader.execute("SELECT last_seq FROM head").fetchone()[0])

    async def sample(self) -> None:
        """Look at memory and at what waits, now and then."""
        while True:
            self.resident.append(resident_bytes())
            self.waiting = max(self.waiting, self._feed.connector.status.waiting)
            await asyncio.sleep(_SAMPLE_SECONDS)


def settings(folder: Path, task: Task, bars: StreamSettings) -> Settings:
    """Return what `stream` would read."""
    return Settings(
        data_dir=folder,
        stream=bars,
        alpaca=AlpacaSettings(
            key=SecretStr(KEY),
            secret=SecretStr(SECRET),
            feed="sip",
            channels=("trades",),
            stream_url=f"ws://127.0.0.1:{task.port}",
            rest_url=f"http://127.0.0.1:{task.port}",
        ),
    )


async def run(folder: Path, task: Task) -> Streamed:
    """Take in what the sender sends, until all of it is committed."""
    read = settings(folder, task, EACH_SECOND if task.each_second else USUAL)
    async with feeds_of(read) as (feed,):
        database = folder_of(read).store_url.removeprefix("sqlite:///")
        watch = _Watch(task.messages + 1 + _SAID, database, feed)
        service = IngestionService(
            folder_of(read),
            live_settings(read, feed.journal_id, "trade"),
            feed,
            durability=read.journal.durability,
            compression=read.lake.compression,
            progress=watch.progress,
            at_boundary=watch.boundary,
        )
        watch.stop = service.stop
        sampling = asyncio.create_task(watch.sample())
        begun = time.process_time()
        await service.run()
        cpu_seconds = time.process_time() - begun
        sampling.cancel()
    return _result(read, watch, feed, cpu_seconds)


def _result(read: Settings, watch: _Watch, feed: LiveFeed, cpu_seconds: float) -> Streamed:
    lake = folder_of(read).lake
    raw = pq.read_table(
        LakeTable.open(lake, "raw", create=False).files(), columns=["offset", "kind", "ts_recv"]
    )
    raw = raw.filter(pc.equal(raw["kind"], DATA)).sort_by("offset")
    trades = pq.read_table(
        LakeTable.open(lake, "trades", create=False).files(), columns=["offset", "ts_event"]
    ).sort_by("offset")
    received = raw["ts_recv"].to_numpy()
    of_trades = np.searchsorted(raw["offset"].to_numpy(), trades["offset"].to_numpy())
    durable = _when(watch.durable, np.arange(1, len(raw) + 1))[of_trades]
    bars, changes = _bars(watch)
    return Streamed(
        first_ns=int(received[of_trades[0]]),
        ended_ns=watch.ended_ns,
        seconds=(watch.ended_ns - int(received[of_trades[0]])) / 1e9,
        cpu_seconds=cpu_seconds,
        messages=len(raw) - _SAID,
        trades=len(trades),
        bars=len(bars) + changes,
        revisions=changes,
        resident=watch.resident,
        waiting=watch.waiting,
        blocked_s=feed.connector.status.blocked_ns / 1e9,
        slow_clients=feed.connector.status.slow_clients,
        sent_ms=_percentiles(durable - trades["ts_event"].to_numpy()),
        received_ms=_percentiles(durable - received[of_trades]),
        bar_ms=_percentiles(bars),
    )


def _bars(watch: _Watch) -> tuple[I64, int]:
    """Return how long each confirmed bar took to be visible, and how many changes there were."""
    with closing(sqlite3.connect(_READ_ONLY.format(watch._database), uri=True)) as store:
        rows = np.array(
            store.execute("SELECT seq, known_at, revision FROM bars ORDER BY seq").fetchall(),
            np.int64,
        ).reshape(-1, 3)
    confirmed = rows[rows[:, 2] == 0]
    return _when(watch.visible, confirmed[:, 0]) - confirmed[:, 1], len(rows) - len(confirmed)


def _when(noted: list[tuple[int, int]], wanted: I64) -> I64:
    """Return when counts were reached."""
    counts, times = np.array(noted, np.int64).reshape(-1, 2).T
    return times[np.searchsorted(counts, wanted)]


def _percentiles(lengths: I64) -> list[float]:
    if not len(lengths):
        return []
    return [float(value) / 1e6 for value in np.percentile(lengths, PERCENTILES)]


def streamed(task: Task) -> Streamed:
    """Do a task in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
        return asyncio.run(run(Path(name), task))


if __name__ == "__main__":
    answer(Task, streamed)
