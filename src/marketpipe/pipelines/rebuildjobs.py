"""What there is to rebuild in a data folder: the bars of its feeds, and those of loads alone."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from marketpipe.errors import BusyError, UsageError
from marketpipe.lake import LakeTable
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.fresh import FreshBars
from marketpipe.pipelines.journals import feeds, recorded
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.loadlog import JOURNAL as LOADS
from marketpipe.pipelines.loads import LoadedBars, kinds_of
from marketpipe.pipelines.rebuild import Origin, RebuildJob
from marketpipe.sources.csvfile import CsvParser

_log = logging.getLogger("marketpipe.rebuild")


def jobs_of(
    folder: DataFolder,
    journal: str | None,
    origin: Origin,
    symbols: frozenset[str] | None,
    days: Days,
) -> list[RebuildJob]:
    """Return the rebuilds of a data folder, no bar in two of them.

    Parameters
    ----------
    journal : of this feed alone, or of ``load``; None for all

    Raises
    ------
    UsageError
        If there is nothing that bars could be rebuilt of, or rules or calendar of a load are not
        known. Where there are feeds the log says this of loads instead.
    BusyError
        If a load broke off; likewise.
    """
    loads = [LOADS] if LOADS in folder.journals() else []
    names = [*feeds(folder), *loads] if journal is None else [journal]
    if not names:
        raise UsageError(
            f"data-dir: '{folder.root}' holds no feed and no loaded file to rebuild from; see "
            "marketpipe stream, and marketpipe replay --store"
        )
    jobs = []
    for name in names:
        if name != LOADS:
            made = recorded(folder, name)
            jobs.append(RebuildJob(
                folder=folder, settings=made.settings, make_parser=made.make_parser,
                origin=origin, symbols=symbols, days=days,
            ))  # fmt: skip
    of_feeds = tuple(jobs) if origin == "canonical" else ()
    for loaded in _loaded(folder, jobs) if LOADS in names else ():
        jobs += [
            RebuildJob(
                folder=folder, settings=kind.settings, make_parser=CsvParser,
                origin=origin, symbols=symbols, days=days, loaded=kind,
            )
            for kind in _apart(loaded, of_feeds)
        ]  # fmt: skip
    if not jobs:
        raise UsageError(
            "journal load: has no bars of its own to rebuild: nothing was written, or its streams "
            "are those of feeds; name a feed's journal"
        )
    return jobs


def _loaded(folder: DataFolder, jobs: list[RebuildJob]) -> list[LoadedBars]:
    """Return what loads made; where that is not known, feeds are rebuilt all the same."""
    try:
        return kinds_of(folder)
    except (BusyError, UsageError) as why:
        if not jobs:
            raise
        _log.warning("bars of loads are left out: %s", why)
        return []


def _apart(loaded: LoadedBars, jobs: tuple[RebuildJob, ...]) -> Iterator[LoadedBars]:
    """Yield what the rebuilds of feeds do not do: they take loads of their series along."""
    left = loaded
    for job in jobs:
        if _kind(job) != (loaded.settings.rule_set.name, _session(loaded)):
            continue
        mine = _feeds_of(job)
        theirs = {s: at for s, at in left.closed.items() if (s.stream[0], s.stream[1]) in mine}
        others = tuple(t for t in left.settings.timeframes if t not in job.settings.timeframes)
        if theirs and others:
            yield LoadedBars(replace(left.settings, timeframes=others), theirs)
        rest = {s: at for s, at in left.closed.items() if s not in theirs}
        left = LoadedBars(left.settings, rest)
    if left.closed:
        yield left


def _kind(job: RebuildJob) -> tuple[str, str]:
    return job.settings.rule_set.name, FreshBars(job.settings).engine("trade").session


def _session(loaded: LoadedBars) -> str:
    return FreshBars(loaded.settings).engine("trade").session


def _feeds_of(job: RebuildJob) -> set[tuple[str, str]]:
    """Return the sources and feeds that a journal has trades of."""
    files = LakeTable.open(job.folder.lake, "trades").files()
    if not files:
        return set()
    rows = pl.scan_parquet(files).filter(pl.col("journal_id") == job.settings.journal_id)
    return {(row[0], row[1]) for row in rows.select("source", "feed").unique().collect().rows()}
