"""What loads made, and the same made again: of the canonical trades, or of the lines themselves."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.schemas import BARS
from marketpipe.domain.timeframe import parse_many
from marketpipe.errors import BusyError, UsageError
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeLayout, LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.fresh import FreshBars
from marketpipe.pipelines.journals import feeds
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.ledgerbars import days_read
from marketpipe.pipelines.load import LoadReport
from marketpipe.pipelines.loaded import LoadStage
from marketpipe.pipelines.loadlog import JOURNAL, Run, runs_of
from marketpipe.pipelines.ownership import Owned, by_stream, feeds_of
from marketpipe.pipelines.restate import arrow, frame
from marketpipe.store import Database

_STREAM: Final = ["source", "feed", "symbol"]


@dataclass(frozen=True, slots=True)
class LoadedBars:
    """The bars that loads with the same settings made, of streams that no feed has.

    Attributes
    ----------
    settings : what bars; ``journal_id`` is that of loads
    closed : when (ns) the last of these loads began that made bars of a session: up to then its
        bars are final
    """

    settings: DeriveSettings
    closed: Mapping[Owned, int]

    @property
    def streams(self) -> frozenset[StreamKey]:
        """Of the sessions."""
        return frozenset(session.stream for session in self.closed)

    @property
    def named(self) -> str:
        """Say which bars these are."""
        s = self.settings
        names = ",".join(str(tf) for tf in s.timeframes)
        return f"{names} of {s.calendar}, rules {s.rule_set.name}"

    def narrowed(self, symbols: Collection[str] | None, days: Days | None) -> "LoadedBars":
        """Return those of some symbols and session dates; None is all."""
        kept = {
            session: at
            for session, at in self.closed.items()
            if (symbols is None or session.stream.symbol in symbols)
            and (days is None or days.first <= session.date <= days.last)
        }
        return LoadedBars(self.settings, kept)

    def of(self, bars: pa.Table) -> pa.Table:
        """Return the bars among some that are of these sessions and settings, and are final."""
        sessions = pl.DataFrame(
            [(*session.stream, session.date, at) for session, at in self.closed.items()],
            schema=[*((name, pl.String) for name in _STREAM), ("on", pl.Int32), ("at", pl.Int64)],
            orient="row",
        )
        s = self.settings
        mine = (
            (pl.col("rule_set") == s.rule_set.name)
            & (pl.col("session") == FreshBars(s).engine("trade").session)
            & (pl.col("price_type") == "trade")
            & pl.col("timeframe").is_in([str(tf) for tf in s.timeframes])
        )
        dated = frame(bars).filter(mine).with_columns(on=pl.col("session_date").cast(pl.Int32))
        found = dated.join(sessions, on=[*_STREAM, "on"], how="inner")
        return arrow(found.filter(pl.col("ts_close") <= pl.col("at")))


def written_loads(folder: DataFolder) -> list[Run]:
    """Return the loads of a data folder that wrote something, in their order.

    Raises
    ------
    BusyError
        If the last one broke off in between.
    """
    if JOURNAL not in folder.journals():
        return []
    with closing(SqliteJournalReader(folder.journal(JOURNAL), JOURNAL)) as reader:
        runs = runs_of(reader)
    if runs and runs[-1].accepted is not None and runs[-1].over is None:
        raise BusyError(
            f"journal {JOURNAL}: the load of {runs[-1].facts['file']} broke off; give the same "
            "command once more, which finishes it, and then this again"
        )
    return [run for run in runs if run.over is not None and not run.given_up]


def loaded_bars(runs: Iterable[Run], live: Collection[StreamKey]) -> list[LoadedBars]:
    """Return what some loads made, by settings in the order of their first load.

    Parameters
    ----------
    live : streams of feeds, which are left out: their bars follow from more than loads

    Raises
    ------
    UsageError
        If a load's settings are not all known.
    """
    found: dict[str, LoadedBars] = {}
    for run in runs:
        mine = {s: run.recorded_at for s in run.sessions if s.stream not in live}
        if mine:
            key = run.facts["bars"]
            before = found[key].closed if key in found else {}
            found[key] = LoadedBars(settings_of_load(run), {**before, **mine})
    return list(found.values())


def kinds_of(folder: DataFolder) -> list[LoadedBars]:
    """Return the bars that loads of a data folder made of streams that no feed has, by kind.

    Raises
    ------
    UsageError
        If a load's settings are not all known.
    BusyError
        If a load broke off, or a feed was not derived to its end.
    """
    runs = written_loads(folder)
    return loaded_bars(runs, _live_streams(folder)) if runs else []


def settings_of_load(run: Run) -> DeriveSettings:
    """Return what bars a load made.

    Raises
    ------
    UsageError
        If its rule table is none of the program's, or it corrected the calendar by a file.
    """
    timeframes, calendar, session, digest = run.facts["bars"].split("|")
    what = f"journal {JOURNAL}: {run.facts['file']} was loaded with"
    instead = "replay the file with the same options and --confirm instead"
    if "overrides" in run.facts:
        raise UsageError(f"{what} --overrides, a file that is not kept; {instead}")
    rules = next((r for r in map(RuleSet.load, RuleSet.names()) if r.digest == digest), None)
    if rules is None:
        raise UsageError(
            f"{what} rule table {digest[:12]}, which is none of this version's; {instead}"
        )
    return DeriveSettings(
        journal_id=JOURNAL,
        timeframes=parse_many(timeframes.split(",")),
        calendar=calendar,
        session=session or None,
        rule_set=rules,
    )


def _live_streams(folder: DataFolder) -> frozenset[StreamKey]:
    """Return the streams that feeds know, or have trades of."""
    known = asyncio.run(_streams_of_feeds(folder)) if feeds(folder) else frozenset()
    files = LakeTable.open(folder.lake, "trades").files()
    if not files:
        return known
    rows = pl.scan_parquet(files, hive_partitioning=False).filter(pl.col("journal_id") != JOURNAL)
    found = rows.select(_STREAM).unique().collect().rows()
    return known | {StreamKey(*row) for row in found}


async def _streams_of_feeds(folder: DataFolder) -> frozenset[StreamKey]:
    async with await Database.open(folder.store_url) as database:
        return frozenset[StreamKey]().union(*(f.streams for f in await feeds_of(folder, database)))


def of_canonical(tables: Mapping[str, LakeTable], loaded: LoadedBars) -> pa.Table:
    """Return the bars of loads, computed of the canonical trades; schema BARS.

    A session date at a time is in memory.
    """
    by_date: dict[int, dict[Owned, int]] = {}
    for session, at in loaded.closed.items():
        by_date.setdefault(session.date, {})[session] = at
    parts = [BARS.empty_table()]
    for date in sorted(by_date):
        mine = LoadedBars(loaded.settings, by_date[date])
        wide = days_read(loaded.settings, Days(date, date))
        symbols = sorted({stream.symbol for stream in mine.streams})
        trades, corrections = (
            read_rows(tables[name], wide, symbols) for name in ("trades", "corrections")
        )
        parts.append(mine.of(FreshBars(loaded.settings).of_trades(trades, corrections)))
    return pa.concat_tables(parts)


def of_lines(folder: DataFolder, runs: Sequence[Run], at: Path) -> dict[str, LakeTable]:
    """Make some loads once more, of their lines in the journal, into an empty lake.

    Parameters
    ----------
    runs : all loads of the folder that wrote something, in their order
    at : an empty folder

    Raises
    ------
    UsageError
        If a load's settings are not all known.
    """
    layout = LakeLayout(at / "lake", folder.buckets)
    tables = {name: LakeTable.open(layout, name) for name in TABLES}
    with closing(SqliteJournalReader(folder.journal(JOURNAL), JOURNAL)) as reader:
        for run in runs:
            aside = at / str(run.first)
            aside.mkdir()
            stage, report = LoadStage(aside, settings_of_load(run), tables, run, []), LoadReport()
            stage.read(reader, report)
            for part in stage.parts():
                stage.write_ticks(part, report)
            for part in stage.changed():
                stage.write_bars(part, stage.bars(part))
    return tables


def lines_of(folder: DataFolder, runs: Iterable[Run]) -> Iterator[pa.RecordBatch]:
    """Yield the records of some loads, by offset."""
    with closing(SqliteJournalReader(folder.journal(JOURNAL), JOURNAL)) as reader:
        for run in runs:
            last = run.first if run.received is None else run.received
            for batch in reader.read(run.first):
                offsets = batch["offset"].to_numpy()
                yield batch.slice(0, int(np.searchsorted(offsets, last, side="right")))
                if offsets[-1] >= last:
                    break


def kept_by(table: LakeTable, loaded: LoadedBars) -> pa.Table:
    """Return every revision that the lake has of the bars of loads."""
    dates = [session.date for session in loaded.closed]
    if not dates:
        return BARS.empty_table()
    streams = by_stream(loaded.closed)
    symbols = sorted({stream.symbol for stream in streams})
    rules = ds.field("rule_set") == loaded.settings.rule_set.name
    return loaded.of(read_rows(table, Days(min(dates), max(dates)), symbols, rules))
