"""The proof: roots of the bars that live kept, of a replay, and of an independent batch."""

import asyncio
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
from marketpipe.pipelines.dropped import floor_of
from marketpipe.pipelines.journals import Recorded, recorded
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.ledgerbars import latest, without
from marketpipe.pipelines.ownership import by_stream, owned_by_batches
from marketpipe.pipelines.rawlog import records_from
from marketpipe.pipelines.rederive import of_journal
from marketpipe.store import BarQuery, BarRepository
from marketpipe.verify.digest import BarDifference, DigestTree, first_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way to the same bars.

    Attributes
    ----------
    name : ``live`` (what the lake has), ``store`` (what the database has), ``replay`` (the journal
        derived again) or ``batch`` (SQL over the raw messages)
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
    reader = SqliteJournalReader(folder.journal(journal_id), journal_id)
    try:
        again = of_journal(made.settings, made.make_parser, reader, raw)
        if again.watermark_ns is None or again.watermark_ns <= 0:  # of a clock of no known time
            return Proof(journal_id, None, (), again.symbols)
        batch = batch_of(made, again, records_from(0, reader, raw))
    finally:
        reader.close()
    streams = again.history.select(["source", "feed"]).group_by(["source", "feed"]).aggregate([])
    changed = by_stream(owned_by_batches(folder))

    floor = floor_of(LakeTable.open(folder.lake, "bars"))
    wanted = _chosen(again.history, symbols, day, again.watermark_ns)

    def chosen(bars: pa.Table) -> pa.Table:
        return _since_day(_chosen(bars, symbols, day, again.watermark_ns or 0), floor)

    in_lake, in_store = _kept(folder, made, streams), asyncio.run(_stored(folder, made, streams))
    every, stored = chosen(in_lake), chosen(in_store)
    kept, replay = without(every, changed), without(_since_day(wanted, floor), changed)
    sides = [
        _side("live", kept, kept, history=True),
        # of the store also what loads and rebuilds made: it must have what the lake has
        replace(
            _side("store", without(stored, changed), kept, history=True),
            difference=first_difference(_since(every, stored), stored, history=True),
        ),
        _side("replay", replay, kept, history=True),
    ]
    if batch.bars is not None:
        worked_out = without(chosen(batch.bars), changed)
        sides.append(_side("batch", worked_out, kept, history=False))
    return Proof(
        journal_id,
        again.watermark_ns,
        tuple(sides),
        again.symbols.union(
            *(table["symbol"].unique().to_pylist() for table in (in_lake, in_store))
        ),
        left_out=len(latest(every)) - len(latest(kept)),
        sessions_left_out=_sessions(every) - _sessions(kept),
        dates=_dates(in_lake),
        no_batch=batch.why_not,
        floor=floor,
        dropped=_count(wanted) - _count(_since_day(wanted, floor)),
    )


def _side(name: str, bars: pa.Table, kept: pa.Table, *, history: bool) -> Side:
    return Side(
        name=name,
        bars=_count(bars),
        root=DigestTree.build(bars).root,
        history_root=DigestTree.build(bars, history=True).root if history else None,
        difference=first_difference(kept, bars, history=history),
    )


async def _stored(folder: DataFolder, made: Recorded, streams: pa.Table) -> pa.Table:
    """Return every revision that the database has of the feed's series."""
    settings = made.settings
    tables = [BARS.empty_table()]
    async with await BarRepository.open(folder.store_url) as store:
        for row in streams.to_pylist():
            query = BarQuery(
                source=row["source"],
                feed=row["feed"],
                rule_set=settings.rule_set.name,
                history=True,
            )
            tables.append(await store.bars(query))
    wanted = pa.array([str(tf) for tf in settings.timeframes])
    prices = pa.array(list(settings.price_types))
    return pa.concat_tables(tables).filter(
        pc.field("timeframe").isin(wanted) & pc.field("price_type").isin(prices)
    )


def _since(every: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the bars of sessions that the database has; its retention took those before."""
    if not len(stored):
        return every
    return every.filter(pc.field("session_date") >= pc.min(stored["session_date"]))


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


def _since_day(bars: pa.Table, floor: int | None) -> pa.Table:
    if floor is None:
        return bars
    return bars.filter(pc.field("session_date") >= pa.scalar(floor, pa.int32()).cast(pa.date32()))


def _count(bars: pa.Table) -> int:
    return int(pc.sum(pc.not_equal(latest(bars)["coverage"], "void")).as_py() or 0)


def _sessions(bars: pa.Table) -> int:
    names = ["source", "feed", "symbol", "session_date"]
    return len(bars.group_by(names).aggregate([]))


def _dates(bars: pa.Table) -> tuple[date, date] | None:
    if not len(bars):
        return None
    ends = pc.min_max(bars["session_date"]).as_py()
    return ends["min"], ends["max"]
