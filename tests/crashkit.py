"""Processes that run the live pipeline on a feed, are killed where or when they are told, restart.

`Forge` starts a server that imports everything once and forks a process for each life of a
pipeline, since a start-up costs seconds.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import polars as pl
import pyarrow as pa

from livekit import FAULTY, derive_settings, derived, framed, numbered, records, trade
from marketpipe.domain.records import RECORDS
from marketpipe.domain.units import NANOS
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.housekeeping import FILES_PER_PARTITION
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.live import AtBoundary, LivePipeline, LiveSettings, nowhere
from marketpipe.pipelines.opening import live_pipeline, versions_of
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.verify.digest import DigestTree

BOUNDARIES = (
    *(
        f"{name}:{when}"
        for name in (
            *("journal", "store", "raw", "trades", "corrections", "quarantine", "bars"),
            "checkpoint",
        )
        for when in ("before", "after")
    ),
    "retain:after",
)
"""The write boundaries that a feed of trades and corrections passes."""

COMPACTION = ("compaction:before", "compaction:file", "compaction:after", "vacuum:after")
"""Those of a pipeline that keeps the lake's files few."""

SMALL = replace(FAULTY, trades=700, minutes=4, bad=0.005)
"""The feed of the slice that always runs: some 1,000 records, four flushes, two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One life of a process that runs the pipeline.

    Attributes
    ----------
    batch : records appended at a time
    kill_at : boundary at which it kills itself, and at which passing of it; None for none
    kill_after : seconds after which its parent kills it; None for never
    segment_bytes : of the journal
    code : version of the code that it claims to be
    compacts : whether it flushes every ten seconds, and compacts and vacuums at every third flush
    """

    folder: str
    feed: str
    batch: int = 150
    kill_at: tuple[str, int] | None = None
    kill_after: float | None = None
    segment_bytes: int = 256 << 20
    code: str = ""
    compacts: bool = False

    @property
    def settings(self) -> LiveSettings:
        """What its pipeline builds, and how it writes."""
        plain = settings(self.code)
        if not self.compacts:
            return plain
        return replace(plain, flush_ns=10 * NANOS, flushes_per_compaction=3)


@dataclass(frozen=True)
class End:
    """How a life ended: an exit status, -9 for killed; boundaries passed; words of an error."""

    status: int
    passed: tuple[str, ...] = ()
    error: str = ""


def settings(code: str = "", **changes: Any) -> LiveSettings:
    """Return settings that flush and checkpoint often."""
    derive = derive_settings(**changes)
    versions = versions_of(derive)
    return LiveSettings(
        derive=derive,
        versions=versions | {"code": versions["code"] + code},
        flush_ns=60 * NANOS,
        flushes_per_checkpoint=2,
    )


@dataclass
class Killer:
    """Notes boundaries, and kills the process at one of them."""

    kill_at: tuple[str, int] | None = None
    passed: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if self.kill_at == (name, self.passed.count(name)):
            os.kill(os.getpid(), signal.SIGKILL)


_Life = TypeVar("_Life", bound=Life)


async def feed_in(pipeline: LivePipeline, feed: pa.Table, batch: int) -> None:
    """Append and derive what is left of a feed."""
    await pipeline.catch_up()
    while (at := pipeline.journal.next_offset) < len(feed):
        await pipeline.append(feed.slice(at, batch).combine_chunks().to_batches()[0])
        await pipeline.catch_up()


async def run(life: Life, feed: pa.Table, at_boundary: AtBoundary = nowhere) -> None:
    """Live a life: append and derive what is left of a feed, then stop cleanly."""
    async with live_pipeline(
        DataFolder(Path(life.folder)),
        life.settings,
        AlpacaParser,
        files_per_partition=2 if life.compacts else FILES_PER_PARTITION,
        segment_bytes=life.segment_bytes,
        at_boundary=at_boundary,
    ) as pipeline:
        await feed_in(pipeline, feed, life.batch)
        await pipeline.stop()


def live_on(life: Life, killer: Killer) -> None:
    """Live a life that takes its feed in."""
    asyncio.run(run(life, read_feed(life.feed), killer))


def write_feed(path: Path, feed: pa.Table) -> Path:
    """Write records to a file for other processes."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, RECORDS) as writer:
        writer.write_table(feed)
    return path


def read_feed(path: str) -> pa.Table:
    """Read what `write_feed` wrote."""
    with pa.OSFile(path, "rb") as source:
        return pa.ipc.open_file(source).read_all()


class Forge:
    """Forks lives from a process that has everything imported.

    Parameters
    ----------
    kit : the program that serves them
    """

    def __init__(self, kit: str = __file__) -> None:
        self._kit = kit

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, self._kit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server.stdin is not None:
            self._server.stdin.close()
        self._server.wait(60)
        if self._server.stdout is not None:
            self._server.stdout.close()

    def live(self, life: Life) -> End:
        """Run one life to its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(asdict(life)), file=self._server.stdin, flush=True)
        status, passed, error = json.loads(self._server.stdout.readline())
        return End(status, tuple(passed), error)

    def finish(self, life: Life) -> End:
        """Run a life that must come to its end."""
        end = self.live(replace(life, kill_at=None, kill_after=None))
        assert end.status == 0, end.error
        return end


def serve(
    commands: IO[str], answers: IO[str], kind: type[_Life], live: Callable[[_Life, Killer], None]
) -> None:
    """Fork a process for each command, and say how it ended.

    Parameters
    ----------
    kind : of lives
    live : lives one
    """
    warm_up()
    for line in commands:
        words = json.loads(line)
        place = words["kill_at"]
        life = kind(**words | {"kill_at": None if place is None else (place[0], place[1])})
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(read_end)
            _live_and_exit(life, live, write_end)
        os.close(write_end)
        if life.kill_after is not None:
            _kill_later(child, life.kill_after)
        with os.fdopen(read_end) as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        passed, error = json.loads(told) if told else ((), "")
        print(json.dumps([os.waitstatus_to_exitcode(status), passed, error]), file=answers)
        answers.flush()


def _kill_later(child: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # waitid leaves the process to be waited for, so that its number is not used again
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, child, options) is not None:
            return
        time.sleep(min(left, 0.01))
    os.kill(child, signal.SIGKILL)


def _live_and_exit(life: _Life, live: Callable[[_Life, Killer], None], write_end: int) -> None:
    killer, error = Killer(life.kill_at), ""
    try:
        live(life, killer)
    except BaseException:
        error = traceback.format_exc()
    os.write(write_end, json.dumps([killer.passed, error]).encode())
    os._exit(1 if error else 0)


def warm_up() -> None:
    """Load the compiled kernels: derive a trade."""
    tiny = numbered(framed([(NANOS, trade(1, 1, "1")), (3 * NANOS, None)]))
    derived(derive_settings(), tiny)


@dataclass(frozen=True)
class Kept:
    """Everything that a data folder holds, in a form in which two of them can be compared."""

    journal: pa.Table
    tables: dict[str, pl.DataFrame]
    store: list[tuple[Any, ...]]
    findings: list[tuple[Any, ...]]
    root: str
    history_root: str


def kept(folder: Path) -> Kept:
    """Read everything back."""
    data = DataFolder(folder)
    reader = SqliteJournalReader(data.journal("alpaca"), "alpaca")
    journal = pa.Table.from_batches(list(reader.read(reader.first_offset)))
    reader.close()
    with sqlite3.connect(folder / "marketpipe.db") as database:
        store = database.execute("SELECT * FROM bars ORDER BY seq").fetchall()
        findings = database.execute(
            "SELECT * FROM findings WHERE pipeline LIKE 'live/%' ORDER BY 1, 2"
        ).fetchall()
    database.close()
    bars = bars_of(folder)
    return Kept(
        journal,
        {name: rows_of(folder, name) for name in TABLES},
        store,
        findings,
        DigestTree.build(bars).root,
        DigestTree.build(bars, history=True).root,
    )


def differences(found: Kept, wanted: Kept) -> list[str]:
    """Name what differs between two data folders; nothing if they hold the same.

    Of the journal, retention may have taken more on one side: what both have must be the same.
    """
    parts = [f"table {n}" for n, t in found.tables.items() if not t.equals(wanted.tables[n])]
    others = ("store", "findings", "root", "history_root")
    parts += [name for name in others if getattr(found, name) != getattr(wanted, name)]
    first = max(side.journal["offset"][0].as_py() for side in (found, wanted))
    tails = [side.journal.filter(pa.compute.field("offset") >= first) for side in (found, wanted)]
    return parts if tails[0].equals(tails[1]) else [*parts, "journal"]


def read(table: LakeTable) -> pa.Table:
    """Return all rows of a table of the lake."""
    files = table.files()
    if not files:
        return table.spec.rows.empty_table()
    found = pl.scan_parquet(files, hive_partitioning=True).select(table.spec.rows.names)
    return found.collect().to_arrow().cast(table.spec.rows)


def bars_of(folder: Path) -> pa.Table:
    """Return the bars of a data folder's lake, all revisions."""
    return read(LakeTable.open(DataFolder(folder).lake, "bars", create=False))


def rows_of(folder: Path, name: str) -> pl.DataFrame:
    """Return all rows of a table, sorted by all columns."""
    found = pl.from_arrow(read(LakeTable.open(DataFolder(folder).lake, name, create=False)))
    assert isinstance(found, pl.DataFrame)
    return found.sort(found.columns)


def occurrences(passed: Sequence[str]) -> dict[str, int]:
    """Count how often each boundary was passed."""
    return dict(Counter(passed))


def reference(
    forge: Forge, folder: Path, feed: pa.Table | None = None, **changes: Any
) -> tuple[Life, Kept, End]:
    """Run a feed (`SMALL`) without a fault; return the life, what it kept, and how it went."""
    folder.mkdir()
    path = write_feed(folder / "feed.arrow", records(SMALL) if feed is None else feed)
    life = Life(folder=str(folder / "reference"), feed=str(path), **changes)
    end = forge.finish(life)
    return life, kept(Path(life.folder)), end


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout, Life, live_on)
