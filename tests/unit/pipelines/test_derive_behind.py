"""Ticks of the clock while messages wait to be read close no bar that those still belong to."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from crashkit import Life, bars_of, run
from livekit import OPEN_NS, derivation, derive_settings, derived, encode, numbered, trade
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.rebuild import RebuildJob, plan
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.records import RecordBuilder


def at(seconds: int) -> int:
    """Return the instant so many seconds after the open, ns."""
    return OPEN_NS + seconds * NANOS


def overloaded(*, told: bool, ends: bool = True) -> pa.Table:
    """Return trades of two minutes that are all read ten minutes later, with ticks by number."""
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream="v2/sip", conn_id=1, conn_started_ns=OPEN_NS
    )
    builder.add_control({"event": "connected"}, OPEN_NS)
    for number in range(12):
        happened_ns = at(10 * number + 5)
        builder.add_frame(
            f"[{encode(trade(number, happened_ns, '10'))}]".encode(), at(600 + number)
        )
        if number in {3, 8}:
            builder.add_clock(at(600 + number), happened_ns if told else None)
    if ends:
        builder.add_clock(at(620))
    return pa.Table.from_batches([builder.take()])


def seen(rows: list[dict[str, Any]]) -> list[tuple[int, int, int, int]]:
    """Return of each bar its minute, revision, trades, and when it became known, in seconds."""
    return [
        (
            (row["ts_open"] - OPEN_NS) // (60 * NANOS),
            row["revision"],
            row["trade_count"],
            (row["known_at"] - OPEN_NS) // NANOS,
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("told", "bars"),
    [
        # The tick within the second minute closes the first, and nothing comes late.
        (True, [(0, 0, 6, 608), (1, 0, 6, 620)]),
        # If ticks did not tell, the first one would close what had not been read: all is late.
        (
            False,
            [
                *((0, revision, revision + 4, 603 + revision) for revision in range(3)),
                *((1, revision, revision + 1, 606 + revision) for revision in range(6)),
            ],
        ),
    ],
)
def test_bars_close_by_what_was_read(told: bool, bars: list[tuple[int, int, int, int]]) -> None:
    done = derived(derive_settings("1m"), numbered(overloaded(told=told)))
    assert seen(done.bars.to_pylist()) == bars


def test_rebuild_of_a_feed_that_ended_behind_makes_no_bar_that_was_not_closed(
    tmp_path: Path,
) -> None:
    life = Life(folder=str(tmp_path / "data"), feed="")
    asyncio.run(run(life, overloaded(told=True, ends=False)))
    kept = bars_of(Path(life.folder)).filter(pc.field("timeframe") == "1m")
    assert seen(kept.to_pylist()) == [(0, 0, 6, 608)]
    found = plan(
        RebuildJob(
            folder=DataFolder(Path(life.folder)),
            settings=life.settings.derive,
            make_parser=AlpacaParser,
            origin="canonical",
            symbols=None,
            days=Days(OPEN_NS // DAY_NS, OPEN_NS // DAY_NS),
        )
    )
    assert found.differences == ()
    assert not found


def test_watermark_never_falls_and_never_passes_the_tick() -> None:
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream="v2/sip", conn_id=1, conn_started_ns=OPEN_NS
    )
    found = []
    one = derivation(derive_settings("1m"))
    for offset, (seconds, told) in enumerate([(100, None), (110, 70), (120, 115), (121, 900)]):
        builder.add_clock(at(seconds), None if told is None else at(told))
        records = numbered(pa.Table.from_batches([builder.take()]))
        column = records.column_names.index("offset")
        records = records.set_column(column, records.field("offset"), pa.array([offset]))
        one.apply(records)
        found.append(((one.watermark_ns or 0) + one.settings.grace_ns - OPEN_NS) // NANOS)
    assert found == [100, 100, 115, 121]
