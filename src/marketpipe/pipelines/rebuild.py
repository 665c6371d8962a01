"""Bars rebuilt from the lake, and what they change: shown first, then written as revisions."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CLOCK
from marketpipe.domain.schemas import BARS
from marketpipe.errors import BusyError, StorageError
from marketpipe.journal import Journal, SqliteJournal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.dropped import refuse_dropped
from marketpipe.pipelines.fresh import FreshBars
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.ledgerbars import (
    REBUILT_FROM,
    Scope,
    days_read,
    kept,
    latest,
    restatement,
    within,
    without,
)
from marketpipe.pipelines.live import AtBoundary, MakeParser, nowhere
from marketpipe.pipelines.loadlog import JOURNAL as LOADS
from marketpipe.pipelines.loads import LoadedBars, kept_by, of_canonical, of_lines, written_loads
from marketpipe.pipelines.mend import mend_bars
from marketpipe.pipelines.ownership import (
    by_stream,
    feeds_of,
    owned_by_batches,
    refuse_live,
    sessions_of,
    stopped_feeds,
    touched,
)
from marketpipe.pipelines.rederive import of_raw
from marketpipe.pipelines.restate import Difference, Restatement, restate
from marketpipe.pipelines.scratch import scratch
from marketpipe.sources.records import RecordBuilder
from marketpipe.store import BarRepository

Origin: TypeAlias = Literal["raw", "canonical"]

JOURNAL: Final = "rebuild"
"""Name of the journal that says which rebuilds were written, and when."""

_OF_LINES: Final = "--start later, or rebuild --from raw, which reads the lines in the journal load"

_ALWAYS: Final = 2**62
_INSTEAD: Final = (
    "--start later, or, if of trades or corrections, rebuild --from raw, which has every message "
    "of a feed as long as no days of raw are dropped"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildJob:
    """What to rebuild.

    Attributes
    ----------
    folder : where it is kept
    settings : the bars; ``journal_id`` says of which journal (for ``raw``)
    make_parser : of that journal's source (for ``raw``)
    origin : ``raw`` (every message again) or ``canonical`` (the trades of the lake)
    symbols : only these; None for all
    days : session dates, both inclusive
    loaded : the bars of loads that are to be rebuilt, instead of a feed's
    """

    folder: DataFolder
    settings: DeriveSettings
    make_parser: MakeParser
    origin: Origin
    symbols: frozenset[str] | None
    days: Days
    loaded: LoadedBars | None = None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found.

    Attributes
    ----------
    parts : by series; bars that differ are in them
    left_out : kept bars of sessions that loads have changed, which the raw messages of a feed
        cannot give
    """

    parts: tuple[Restatement, ...]
    left_out: int = 0

    @property
    def equal(self) -> int:
        """How many bars agree."""
        return sum(part.equal for part in self.parts)

    @property
    def absent(self) -> int:
        """How many bars are not kept yet."""
        return sum(len(part.absent) for part in self.parts)

    @property
    def changed(self) -> int:
        """How many bars say something else."""
        return sum(len(part.changed) for part in self.parts)

    @property
    def gone(self) -> int:
        """How many kept bars have no trade."""
        return sum(len(part.gone) for part in self.parts)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many bars are absent, changed and gone."""
        return self.absent, self.changed, self.gone

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The first values that differ."""
        return tuple(d for part in self.parts for d in part.differences)

    @property
    def is_empty(self) -> bool:
        """Whether there was no bar, kept or computed."""
        return not (self.equal or any(self.counts) or self.left_out)

    def revisions(self, recorded_at: int) -> pa.Table:
        """Return the revisions to add, schema BARS."""
        tables = [part.revisions("rebuild", recorded_at) for part in self.parts]
        return pa.concat_tables([BARS.empty_table(), *tables])

    def __bool__(self) -> bool:
        return any(self.parts)


def symbols_of(folder: DataFolder) -> frozenset[str]:
    """Return the symbols that the lake has trades or bars of."""
    found: set[str] = set()
    for name in ("trades", "bars"):
        files = LakeTable.open(folder.lake, name).files()
        if files:
            symbols = pl.scan_parquet(files, hive_partitioning=False).select("symbol").unique()
            found.update(symbols.collect()["symbol"].to_list())
    return frozenset(found)


def plan(job: RebuildJob) -> Rebuilt:
    """Compute the bars again, and compare them with those that are kept; nothing is written.

    Raises
    ------
    UsageError
        If days were dropped of a table that is read or compared with.
    LakeError
        If tables cannot be read.
    """
    tables = {name: LakeTable.open(job.folder.lake, name) for name in TABLES}
    if job.loaded is not None:
        return Rebuilt((_of_loads(job, job.loaded, tables),))
    if job.origin == "raw":
        refuse_dropped(tables, ["bars"], job.days.first, "--start with a day that is kept")
        return _from_raw(job, tables)
    refuse_dropped(tables, REBUILT_FROM, days_read(job.settings, job.days).first, _INSTEAD)
    return Rebuilt(tuple(_from_canonical(job, tables)))


def _from_canonical(job: RebuildJob, tables: dict[str, LakeTable]) -> Iterator[Restatement]:
    for group, symbols in _series(job, tables["trades"]).items():
        scope = Scope(
            source=group.source,
            feed=group.feed,
            symbols=symbols,
            first_ns=0,
            last_ns=_ALWAYS,
            closed_ns=_closed_ns(tables, job, group),
        )
        yield restatement(tables, job.settings, scope, job.days)


def _of_loads(job: RebuildJob, loaded: LoadedBars, tables: dict[str, LakeTable]) -> Restatement:
    """Compare the bars of loads with their trades in the lake, or with their lines."""
    loaded = loaded.narrowed(job.symbols, job.days)
    there = kept_by(tables["bars"], loaded)
    if job.origin == "canonical":
        refuse_dropped(tables, REBUILT_FROM, days_read(job.settings, job.days).first, _OF_LINES)
        fresh = of_canonical(tables, loaded)
    else:
        refuse_dropped(tables, ["bars"], job.days.first, "--start with a day that is kept")
        with scratch(job.folder, "rebuild") as at:
            again = of_lines(job.folder, written_loads(job.folder), at)
            fresh = latest(kept_by(again["bars"], loaded))
    found = restate(latest(there), fresh)
    if len(found.gone) and job.origin == "canonical":
        raise StorageError(
            f"table trades: lacks the trades of {len(found.gone)} bars that loads made, so it was "
            "damaged, and the bars would become void; restore a backup, or load the files, in "
            "their order, into a new data folder; rebuild --from raw goes by the lines in the "
            "journal load, and still works"
        )
    newest = pc.max(there["known_at"]).as_py() if len(there) else 0
    return replace(found, newest_ns=int(newest))


def _from_raw(job: RebuildJob, tables: dict[str, LakeTable]) -> Rebuilt:
    with scratch(job.folder, "rebuild") as at:
        done = of_raw(job.settings, job.make_parser, tables["raw"], at)
    if done.watermark_ns is None:
        return Rebuilt(())
    fresh = latest(done.history).filter(pc.field("coverage") != "void")
    first, last = (pa.scalar(d, pa.int32()).cast(pa.date32()) for d in job.days)
    fresh = fresh.filter((pc.field("session_date") >= first) & (pc.field("session_date") <= last))
    if job.symbols is not None:
        fresh = fresh.filter(pc.field("symbol").isin(pa.array(sorted(job.symbols))))
    loaded = by_stream(owned_by_batches(job.folder, (LOADS,)))
    parts, left_out = [], 0
    streams = fresh.select(["source", "feed"]).group_by(["source", "feed"]).aggregate([])
    for row in sorted(streams.to_pylist(), key=str):
        mine = fresh.filter(
            (pc.field("source") == row["source"]) & (pc.field("feed") == row["feed"])
        )
        scope = Scope(
            source=row["source"],
            feed=row["feed"],
            symbols=tuple(sorted(mine["symbol"].unique().to_pylist())),
            first_ns=0,
            last_ns=_ALWAYS,
            closed_ns=done.watermark_ns,
        )
        there = within(kept(tables["bars"], job.settings, scope, job.days), scope)
        compared = without(there, loaded)
        left_out += len(there) - len(compared)
        parts.append(restate(compared, without(within(mine, scope), loaded)))
    return Rebuilt(tuple(parts), left_out)


class _Group(NamedTuple):
    """Symbols of a source and feed: those that a live feed has, or those of loads alone."""

    source: str
    feed: str
    is_live: bool


def _series(job: RebuildJob, trades: LakeTable) -> dict[_Group, tuple[str, ...]]:
    """Return the symbols of each group that has trades in the range, of the journal's feeds."""
    files = trades.files(
        [("session_date", ">=", day(job.days.first)), ("session_date", "<=", day(job.days.last))]
    )
    if not files:
        return {}
    of_journal = pl.col("journal_id") == job.settings.journal_id
    every = pl.scan_parquet(trades.files()).filter(of_journal)
    feeds = set(every.select("source", "feed").unique().collect().rows())
    is_live = (pl.col("journal_id") != LOADS).any().alias("is_live")
    found = pl.scan_parquet(files).group_by("source", "feed", "symbol").agg(is_live).collect()
    series: dict[_Group, list[str]] = {}
    for source, feed, symbol, live in sorted(found.rows()):
        if (source, feed) in feeds and (job.symbols is None or symbol in job.symbols):
            series.setdefault(_Group(source, feed, live), []).append(symbol)
    return {key: tuple(symbols) for key, symbols in series.items()}


def _closed_ns(tables: dict[str, LakeTable], job: RebuildJob, group: _Group) -> int:
    """Return up to when bars are final: the last clock of the feed, or when a file was loaded."""
    if group.is_live:
        clocks = (pl.col("kind") == CLOCK) & (pl.col("journal_id") == job.settings.journal_id)
        told = pl.col("payload").cast(pl.String).cast(pl.Int64, strict=False)
        # Of a tick that tells nothing there is its own time alone.
        clock = _largest(tables["raw"], pl.min_horizontal(told, "ts_recv"), clocks)
        return clock - job.settings.delay_ns - job.settings.grace_ns
    mine = (pl.col("source") == group.source) & (pl.col("feed") == group.feed)
    mine &= pl.col("journal_id") == LOADS
    return _largest(tables["trades"], pl.col("recorded_at"), mine)


def _largest(table: LakeTable, value: pl.Expr, condition: pl.Expr) -> int:
    files = table.files()
    if not files:
        return 0
    rows = pl.scan_parquet(files, hive_partitioning=True)
    return int(rows.filter(condition).select(value.max()).collect().item() or 0)


async def write(
    job: RebuildJob, rebuilt: Rebuilt, now_ns: int, at_boundary: AtBoundary = nowhere
) -> int:
    """Write what a rebuild found as revisions; return how many. The same again writes nothing.

    Parameters
    ----------
    now_ns : when the revisions become known, ns
    at_boundary : called with its name after every write

    Raises
    ------
    UsageError
        If a feed has not finished a session that would change, or days were dropped.
    StorageError
        If something cannot be written, or a feed is running; planning and writing again goes on
        from there.
    """
    bars = LakeTable.open(job.folder.lake, "bars")
    with (
        stopped_feeds(job.folder),
        SqliteJournal(job.folder.journal(JOURNAL), JOURNAL) as journal,
    ):
        # the journal's times never step back, whatever the clock does
        now_ns = max(now_ns, journal.last_ts_recv or 0)
        async with await BarRepository.open(job.folder.store_url) as store:
            feeds = await feeds_of(job.folder, store.database)
            mended = await mend_bars(store, bars, job.days, job.symbols)
            now = await asyncio.to_thread(plan, job)
            if now.counts != rebuilt.counts and not any(mended):
                raise BusyError(
                    "rebuild: the bars changed since they were compared; run it again to see what "
                    "differs now"
                )
            rows = now.revisions(now_ns)
            if not len(rows):
                return 0
            refuse_live(sessions_of(rows), feeds, FreshBars(job.settings).date_of)
            _begin(journal, job, rows, now_ns)
            at_boundary("journal:after")
            await store.add(rows)
            at_boundary("store:after")
            await mend_bars(store, bars, job.days, job.symbols)
        at_boundary("bars:after")
        _note(journal, now_ns, {"event": "rebuilt"})
        return len(rows)


def _begin(journal: Journal, job: RebuildJob, bars: pa.Table, now_ns: int) -> None:
    """Note what is to be written; a feed that starts after a crash must know whose it is."""
    said = described(job)
    facts = {"event": "rebuild", "job": said, "rows": len(bars), "touched": touched(bars)}
    _note(journal, now_ns, facts)


def described(job: RebuildJob) -> str:
    """Say in one line what is rebuilt."""
    of_kind = "" if job.loaded is None else f", {job.loaded.named}"
    symbols = "all symbols" if job.symbols is None else ",".join(sorted(job.symbols))
    return f"{job.origin}, {symbols}, {day(job.days.first)} to {day(job.days.last)}{of_kind}"


def _note(journal: Journal, now_ns: int, facts: dict[str, object]) -> int:
    builder = RecordBuilder(
        source=JOURNAL, feed="", stream=JOURNAL, conn_id=0, conn_started_ns=now_ns
    )
    builder.add_control(facts, now_ns)
    return journal.append(builder.take())


def day(number: int) -> date:
    """Return the date of a number of days since 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=number)
