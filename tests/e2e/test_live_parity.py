"""One feed, five ways to its bars, one root: live, journal, raw lake, fresh engine, SQL."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from crashkit import feed_in, read, settings
from livekit import FAULTY, FeedSpec, derivation, derive_settings, records
from marketpipe.bars import BarEngine
from marketpipe.domain.records import CLOCK, STORED
from marketpipe.domain.units import NANOS
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable
from marketpipe.normalize import CorrectionBook
from marketpipe.normalize.restored import stored_ticks
from marketpipe.pipelines.arrivals import correction_messages
from marketpipe.pipelines.confirm import segments_of
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import Derivation
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.pipelines.rawlog import raw_records
from marketpipe.pipelines.repairs import corrected, identities
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.verify import first_difference
from marketpipe.verify.digest import DigestTree
from marketpipe.verify.rawmessages import bars_of_messages

TIMEFRAMES = ["1s", "1m", "5m", "1h", "1d"]
DST_OPENS = tuple(
    at * NANOS
    for at in (
        1_772_807_400,  # Friday 2026-03-06 14:30 UTC, the open in New York (EST)
        1_773_063_000,  # Monday 2026-03-09 13:30 UTC (EDT since Sunday)
        1_793_367_000,  # Friday 2026-10-30 13:30 UTC (EDT)
        1_793_629_800,  # Monday 2026-11-02 14:30 UTC (EST since Sunday)
    )
)
CLEAN = FeedSpec(trades=2_400, minutes=4, opens=DST_OPENS, per_frame=7)
DIRTY = replace(FAULTY, trades=2_400, minutes=4, opens=DST_OPENS, per_frame=7, bad=0.002)
CALENDARS: dict[str, dict[str, Any]] = {
    "24/7": {},
    "XNYS": {"calendar": "XNYS", "session": "regular"},
}


async def _live(folder: DataFolder, feed: pa.Table, calendar: dict[str, Any]) -> int:
    async with live_pipeline(folder, settings(**calendar), AlpacaParser) as pipeline:
        await feed_in(pipeline, feed, 700)
        await pipeline.stop()
        assert pipeline.derivation.watermark_ns is not None
        return pipeline.derivation.watermark_ns


def _replayed(rows: pa.Table, calendar: dict[str, Any]) -> tuple[Derivation, pa.Table]:
    """Derive records up to the last clock record, a third of them at a time."""
    made = derivation(derive_settings(**calendar))
    clocks = np.flatnonzero(np.asarray(pc.equal(rows["kind"], CLOCK))) + 1
    ends = [0, int(clocks[len(clocks) // 3]), int(clocks[len(clocks) // 3 * 2]), int(clocks[-1])]
    parts = [made.apply(rows.slice(a, b - a)).bars for a, b in pairwise(ends)]
    return made, pa.concat_tables(parts)


def _of_engine(folder: DataFolder, calendar: dict[str, Any]) -> pa.Table:
    """Build bars of the lake's canonical trades, as they are after all of its corrections."""
    trades, corrections = (
        read(LakeTable.open(folder.lake, name, create=False)).sort_by("offset")
        for name in ("trades", "corrections")
    )
    book = CorrectionBook()
    for message in correction_messages(corrections):
        book.add(message)
    about = [
        (row, found)
        for row, found in enumerate(identities(trades))
        if found[2] in book.concerns(found[0], found[1])
    ]
    times = trades["ts_event"].to_pylist()
    for row, found in about:
        book.admit(*found, times[row])
    rules = derive_settings().rule_set
    ticks = stored_ticks(corrected(trades, about, book) if about else trades, rules)
    engine = BarEngine(TIMEFRAMES, rule_set=rules, watermark="event", **calendar)
    engine.apply(ticks)
    engine.flush()
    return engine.bars()


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("spec", [CLEAN, DIRTY], ids=["clean", "dirty"])
def test_live_journal_raw_engine_and_sql_agree_on_one_root(
    tmp_path: Path, spec: FeedSpec, calendar: str
) -> None:
    folder, how = DataFolder(tmp_path), CALENDARS[calendar]
    watermark = asyncio.run(_live(folder, records(spec), how))
    live = read(LakeTable.open(folder.lake, "bars", create=False))
    reader = SqliteJournalReader(folder.journal("alpaca"))
    journal = pa.Table.from_batches(list(reader.read(0)), STORED)
    reader.close()
    raw = LakeTable.open(folder.lake, "raw", create=False)
    made, from_journal = _replayed(journal, how)
    _, from_raw = _replayed(pa.Table.from_batches(raw_records(raw, "alpaca", 0), STORED), how)
    sql = bars_of_messages(
        journal,
        TIMEFRAMES,
        watermark_ns=watermark,
        session=how.get("session", "continuous"),
        segments=None
        if made.engines["trade"].grid.table is None
        else segments_of(made.engines["trade"].grid.table),
        id_dates="new_york" if calendar == "XNYS" else "utc",
    )
    others = {
        "journal": from_journal,
        "raw": from_raw,
        "engine": _of_engine(folder, how),
        "sql": sql,
    }
    assert len(sql) > 500
    assert {name: first_difference(live, bars, watermark) for name, bars in others.items()} == (
        dict.fromkeys(others)
    )
    roots = {DigestTree.build(bars, watermark).root for bars in (live, *others.values())}
    assert len(roots) == 1
    histories = {
        DigestTree.build(bars, history=True).root for bars in (live, from_journal, from_raw)
    }
    assert len(histories) == 1
