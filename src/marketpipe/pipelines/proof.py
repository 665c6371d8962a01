"""The proof: roots of the bars that live kept, of a replay, and of an independent batch."""

import asyncio
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from marketpipe.domain.schemas import BARS
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.batchside import batch_of
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.dropped import floor_of
from marketpipe.pipelines.journals import Recorded, recorded
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.ledgerbars import latest, without
from marketpipe.pipelines.ownership import by_stream, owned_by_batches
from marketpipe.pipelines.rawlog import records_from
from marketpipe.pipelines.rederive import of_journal
from marketpipe.pipelines.scratch import scratch
from marketpipe.store import BarQuery, BarRepository
from marketpipe.verify.digest import BarDifference, DigestTree, first_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to the same bars.

    Attributes
    ----------
    name : ``live`` (what the lake has of a feed) or ``lake`` (of loads), ``store`` (what the
        database has), ``trades`` (the canonical ones of loads, computed anew), ``replay`` (the
        journal derived again) or ``batch`` (SQL over the raw messages)
    bars : how many
    root, history_root : None where that side has none
    difference : the first bar that differs from the live side; None if there is none
    """

    name: str
    bars: int
    root: str
    history_root: str | None
    difference: BarDifference | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What `prove` found of one journal.

    Attributes
    ----------
    journal_id : which
    watermark_ns : up to when bars are compared, ns; None where no time is known
    sides : live first
    symbols : that the journal has ticks of, or that bars of its series are kept of
    left_out : bars, void ones too, of sessions that a load or rebuild has changed, which the
        journal cannot give; no side has them
    sessions_left_out : how many sessions that is, of one symbol each
    dates : session dates of the first and the last bar that is kept; None where none is
    no_batch : why there is no batch side; empty where there is one
    floor : first session date (days since 1970-01-01) of which bars were not dropped from the
        lake; None if none ever were. No side has bars of those before.
    dropped : how many bars of those the journal gives
    store_floor : the same of the database, which answers for later sessions alone; None if nothing
        was ever pruned of it
    what : which bars, where a journal has several kinds
    notes : why there are not more sides
    """

    journal_id: str
    watermark_ns: int | None
    sides: tuple[Side, ...]
    symbols: frozenset[str]
    left_out: int = 0
    sessions_left_out: int = 0
    dates: tuple[date, date] | None = None
    no_batch: str = ""
    floor: int | None = None
    dropped: int = 0
    store_floor: int | None = None
    what: str = ""
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether all sides say the same."""
        return all(side.difference is None for side in self.sides)

    @property
    def is_empty(self) -> bool:
        """Whether there was no bar to compare, nor one to leave out."""
        apart = self.left_out or self.dropped
        return self.agrees and not apart and not any(side.bars for side in self.sides)


def prove(
    folder: DataFolder,
    journal_id: str,
    *,
    symbols: frozenset[str] | None = None,
    day: int | None = None,
) -> Proof:
    """Compare the bars of a journal's feed that are kept with two other ways to them.

    Parameters
    ----------
    symbols : only these; None for all
    day : only bars of this session date, days since 1970-01-01

    Raises
    ------
    UsageError
        If the journal does not say how it was made.
    StorageError
        If the journal or the lake cannot be read.
    """
    made = recorded(folder, journal_id)
    raw = LakeTable.open(folder.lake, "raw")
    with (
        scratch(folder, "verify") as at,
        closing(SqliteJournalReader(folder.journal(journal_id), journal_id)) as reader,
    ):
        again = of_journal(made.settings, made.make_parser, reader, raw, at)
        if again.watermark_ns is None or again.watermark_ns <= 0:  # of a clock of no known time
            return Proof(journal_id, None, (), again.symbols)
        batch = batch_of(made, again, records_from(0, reader, raw), at)
    streams = again.history.select(["source", "feed"]).group_by(["source", "feed"]).aggregate([])
    changed = by_stream(owned_by_batches(folder))

    floor = floor_of(LakeTable.open(folder.lake, "bars"))
    wanted = _chosen(again.history, symbols, day, again.watermark_ns)

    def chosen(bars: pa.Table) -> pa.Table:
        return since_day(_chosen(bars, symbols, day, again.watermark_ns or 0), floor)

    in_lake = _kept(folder, made, streams)
    in_store, store_floor = asyncio.run(
        bars_in_store(
            folder, made.settings, [(s["source"], s["feed"]) for s in streams.to_pylist()]
        )
    )
    every, stored = chosen(in_lake), since_day(chosen(in_store), store_floor)
    kept, replay = without(every, changed), without(since_day(wanted, floor), changed)
    sides = [
        side_of("live", kept, kept, history=True),
        # of the store also what loads and rebuilds made: it must have what the lake has
        replace(
            side_of("store", without(stored, changed), kept, history=True),
            difference=first_difference(since_day(every, store_floor), stored, history=True),
        ),
        side_of("replay", replay, kept, history=True),
    ]
    if batch.bars is not None:
        worked_out = without(chosen(batch.bars), changed)
        sides.append(side_of("batch", worked_out, kept, history=False))
    return Proof(
        journal_id,
        again.watermark_ns,
        tuple(sides),
        again.symbols.union(
            *(table["symbol"].unique().to_pylist() for table in (in_lake, in_store))
        ),
        left_out=len(latest(every)) - len(latest(kept)),
        sessions_left_out=_sessions(every) - _sessions(kept),
        dates=dates_of(in_lake),
        no_batch=batch.why_not,
        floor=floor,
        dropped=count_of(wanted) - count_of(since_day(wanted, floor)),
        store_floor=store_floor,
    )


def side_of(name: str, bars: pa.Table, kept: pa.Table, *, history: bool) -> Side:
    """Return a side beside what is kept.

    Parameters
    ----------
    history : whether it has revisions, to be compared too
    """
    return Side(
        name=name,
        bars=count_of(bars),
        root=DigestTree.build(bars).root,
        history_root=DigestTree.build(bars, history=True).root if history else None,
        difference=first_difference(kept, bars, history=history),
    )


async def bars_in_store(
    folder: DataFolder, settings: DeriveSettings, feeds: Iterable[tuple[str, str]]
) -> tuple[pa.Table, int | None]:
    """Return every revision that the database has of some feeds' series, and its floor.

    Parameters
    ----------
    feeds : source and feed


    The floor is the first session date that its retention left whole, days since 1970-01-01; None
    if it took none.
    """
    tables = [BARS.empty_table()]
    async with await BarRepository.open(folder.store_url) as store:
        for source, feed in feeds:
            query = BarQuery(
                source=source,
                feed=feed,
                rule_set=settings.rule_set.name,
                history=True,
            )
            tables.append(await store.bars(query))
        floor = await store.floor()
    wanted = pa.array([str(tf) for tf in settings.timeframes])
    prices = pa.array(list(settings.price_types))
    bars = pa.concat_tables(tables).filter(
        pc.field("timeframe").isin(wanted) & pc.field("price_type").isin(prices)
    )
    return bars, None if floor is None else (floor - date(1970, 1, 1)).days


def _kept(folder: DataFolder, made: Recorded, streams: pa.Table) -> pa.Table:
    """Return every revision that the lake has of the feed's series."""
    settings = made.settings
    condition = (ds.field("rule_set") == settings.rule_set.name) & ds.field("timeframe").isin(
        [str(tf) for tf in settings.timeframes]
    )
    condition &= ds.field("price_type").isin(list(settings.price_types))
    mine = None
    for row in streams.to_pylist():
        one = (ds.field("source") == row["source"]) & (ds.field("feed") == row["feed"])
        mine = one if mine is None else mine | one
    if mine is None:
        return BARS.empty_table()
    return read_rows(LakeTable.open(folder.lake, "bars"), None, None, condition & mine)


def _chosen(
    bars: pa.Table, symbols: frozenset[str] | None, day: int | None, watermark_ns: int
) -> pa.Table:
    condition = pc.field("ts_close") <= watermark_ns
    if symbols is not None:
        condition &= pc.field("symbol").isin(pa.array(sorted(symbols), pa.string()))
    if day is not None:
        condition &= pc.field("session_date") == pa.scalar(day, pa.int32()).cast(pa.date32())
    return bars.filter(condition)


def since_day(bars: pa.Table, floor: int | None) -> pa.Table:
    """Return the bars of sessions that are not before a day, if there is one."""
    if floor is None:
        return bars
    return bars.filter(pc.field("session_date") >= pa.scalar(floor, pa.int32()).cast(pa.date32()))


def count_of(bars: pa.Table) -> int:
    """Return how many bars there are, void ones aside."""
    return int(pc.sum(pc.not_equal(latest(bars)["coverage"], "void")).as_py() or 0)


def _sessions(bars: pa.Table) -> int:
    names = ["source", "feed", "symbol", "session_date"]
    return len(bars.group_by(names).aggregate([]))


def dates_of(bars: pa.Table) -> tuple[date, date] | None:
    """Return the first and the last session date of bars; None of none."""
    if not len(bars):
        return None
    ends = pc.min_max(bars["session_date"]).as_py()
    return ends["min"], ends["max"]
