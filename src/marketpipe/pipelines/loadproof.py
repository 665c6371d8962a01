"""The proof of loads: roots of the bars that are kept, of trades, of lines, and of SQL."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.findings import Findings
from marketpipe.domain.schemas import BARS
from marketpipe.errors import UsageError
from marketpipe.lake import LakeTable
from marketpipe.pipelines.batchside import Batch, batch_of
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.dropped import floor_of, refuse_dropped
from marketpipe.pipelines.journals import Recorded
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.lakesink import TABLES
from marketpipe.pipelines.ledgerbars import days_read
from marketpipe.pipelines.loadlog import JOURNAL, Run
from marketpipe.pipelines.loads import (
    LoadedBars,
    kept_by,
    kinds_of,
    lines_of,
    of_canonical,
    of_lines,
    written_loads,
)
from marketpipe.pipelines.ownership import owned_by_batches
from marketpipe.pipelines.proof import (
    Proof,
    bars_in_store,
    count_of,
    dates_of,
    side_of,
    since_day,
)
from marketpipe.pipelines.rederive import Rederived
from marketpipe.pipelines.reload import RESTATED
from marketpipe.pipelines.restate import IDENTITY, frame
from marketpipe.pipelines.scratch import scratch
from marketpipe.sources.csvfile import CsvParser

_LATER = 2**62


class _Again(NamedTuple):
    """Loads made again: a folder of their own, their lake, what is in the way of a batch in SQL."""

    at: Path

    tables: dict[str, LakeTable]
    no_batch: str


def prove_loads(
    folder: DataFolder, *, symbols: Collection[str] | None = None, day: int | None = None
) -> list[Proof]:
    """Compare the bars that loads made with three other ways to them.

    Only streams that no feed has are compared: what loads changed of a feed's bars follows from
    the feed's messages too.

    Parameters
    ----------
    symbols : only these; None for all
    day : only bars of this session date, days since 1970-01-01

    Returns
    -------
    One proof for each kind of bars that files were loaded for; none where there is no such load.
    Its sides are ``lake``, ``store``, ``trades``, ``replay`` and ``batch``.

    Raises
    ------
    UsageError
        If a load cannot be made again, for its rules or calendar are not known.
    BusyError
        If a load broke off.
    StorageError
        If the journal or the lake cannot be read.
    """
    kinds = kinds_of(folder)
    if not kinds:
        return []
    tables = {name: LakeTable.open(folder.lake, name) for name in TABLES}
    with scratch(folder, "verify") as at:
        runs = written_loads(folder)
        lake = of_lines(folder, runs, at)
        again = _Again(at, lake, _no_batch(lake, runs))
        return [_proof(folder, tables, runs, kind, again, symbols, day) for kind in kinds]


def _proof(
    folder: DataFolder,
    tables: dict[str, LakeTable],
    runs: Sequence[Run],
    kind: LoadedBars,
    again: _Again,
    symbols: Collection[str] | None,
    day: int | None,
) -> Proof:
    every = frozenset(stream.symbol for stream in kind.streams)
    dates = dates_of(kept_by(tables["bars"], kind))
    kind = kind.narrowed(symbols, None if day is None else Days(day, day))
    floor = floor_of(tables["bars"])
    feeds = sorted({(stream.source, stream.feed) for stream in kind.streams})
    in_store, store_floor = asyncio.run(bars_in_store(folder, kind.settings, feeds))
    kept = since_day(kept_by(tables["bars"], kind), floor)
    made = kept_by(again.tables["bars"], kind)
    # a rebuild adds revisions that no line gives, but the same last ones
    whole = not any(session in kind.closed for session in owned_by_batches(folder, ("rebuild",)))
    stored = since_day(since_day(kind.of(in_store), floor), store_floor)
    sides = [
        side_of("lake", kept, kept, history=True),
        side_of("store", stored, since_day(kept, store_floor), history=True),
    ]
    notes = []
    try:
        _refuse_lacking(tables, kind)
        fresh = since_day(of_canonical(tables, kind), floor)
        sides.append(side_of("trades", fresh, kept, history=False))
    except UsageError as why:
        notes.append(f"trades     none: {why}")
    replay = since_day(made, floor)
    sides.append(side_of("replay", replay, kept, history=whole))
    batch = _batch(folder, runs, kind, again)
    if batch.bars is not None:
        sides.append(side_of("batch", since_day(kind.of(batch.bars), floor), kept, history=False))
    return Proof(
        JOURNAL,
        max(run.recorded_at for run in runs),
        tuple(sides),
        every,
        dates=dates,
        no_batch=batch.why_not,
        floor=floor,
        dropped=count_of(made) - count_of(replay),
        store_floor=store_floor,
        what=kind.named,
        notes=tuple(notes),
    )


def _refuse_lacking(tables: dict[str, LakeTable], kind: LoadedBars) -> None:
    """Refuse to compute bars of days of which trades were dropped."""
    if kind.closed:
        first = min(session.date for session in kind.closed)
        first = days_read(kind.settings, Days(first, first)).first
        names = ("trades", "corrections")
        refuse_dropped(tables, names, first, "the lines in the journal still give them")


# -- SQL -------------------------------------------------------------------------------------------


def _no_batch(lake: dict[str, LakeTable], runs: Sequence[Run]) -> str:
    """Say why SQL over the lines of all files cannot give the bars; "" where it can."""
    if len(runs) < 2:
        return ""
    if pc.any(pc.equal(read_rows(lake["corrections"])["action"], RESTATED)).as_py():
        return "a later file restated a trade, which SQL over the lines does not know"
    if read_rows(lake["trades"])["trade_id"].null_count:
        return "several files hold trades without ids, whose repeats SQL cannot tell"
    return ""


def _batch(folder: DataFolder, runs: Sequence[Run], kind: LoadedBars, again: _Again) -> Batch:
    """Work out the bars in SQL: of each source and feed that lines without one were loaded as."""
    if again.no_batch:
        return Batch(None, again.no_batch)
    times = read_rows(again.tables["trades"])["ts_event"]
    span = pa.table({"ts_open": times})  # of this the session table is made, and nothing else
    found = [BARS.empty_table()]
    for source, feed in sorted({(r.facts["source"], r.facts["feed"]) for r in runs}):
        mine = [r for r in runs if (r.facts["source"], r.facts["feed"]) == (source, feed)]
        through = mine[-1].received or mine[-1].first
        recorded = Recorded("csv", source, feed, kind.settings, CsvParser)
        grid = Rederived(span, _LATER, through, Findings(), frozenset())
        batch = batch_of(recorded, grid, lines_of(folder, mine), again.at)
        if batch.bars is None:
            return batch
        found.append(batch.bars)
    bars = pa.concat_tables(found)
    if frame(bars).select(IDENTITY).is_duplicated().any():
        return Batch(None, "files of several --source or --feed name the same one in their rows")
    return Batch(bars)
