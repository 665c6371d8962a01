"""A history of mixed work, feed runs, loads and rebuilds in turn, each step in its own process."""

import asyncio
import random  # noqa: TID251
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from crashkit import Kept, Killer, Life, kept, live_on, serve, write_feed
from livekit import (
    FAULTY,
    OPEN_NS,
    Message,
    cancel,
    correction,
    derive_settings,
    framed,
    messages,
    with_clock,
)
from loadkit import load, load_settings
from marketpipe.domain.records import CLOCK, DATA
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.loadlog import JOURNAL as LOADS
from marketpipe.pipelines.rebuild import RebuildJob, plan, write
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.store import BarQuery, BarRepository
from marketpipe.verify.digest import DigestTree

SEED = 20260107
FIRST_DAY = OPEN_NS // DAY_NS
DAYS = 4
BEFORE = -3
"""Day, counted from the feed's first, that only loads have trades of."""
TIMEFRAMES = "1s,1m,5m,1h,1d"
SPEC = replace(
    FAULTY,
    trades=600,
    minutes=3,
    opens=tuple(OPEN_NS + day * DAY_NS for day in range(DAYS)),
    bad=0.005,
)
HEAD = "symbol,ts_ns,price,size,trade_id,venue,conditions,tape\n"


@dataclass(frozen=True, kw_only=True)
class Step(Life):
    """One step of a history; a life of a feed, or a load or rebuild that may be killed too.

    Attributes
    ----------
    does : what it is; ``feed`` names the records of a feed, or the file of a load
    now_ns : when a load or rebuild begins, ns, however often it is done again
    days : session dates of a rebuild, from the feed's first, both inclusive
    """

    does: Literal["feed", "load", "rebuild"] = "feed"
    now_ns: int = 0
    days: tuple[int, int] = (0, 0)


def at(day: float) -> int:
    """Return an instant in days since the first open, ns."""
    return OPEN_NS + round(day * DAY_NS)


def steps(folder: Path) -> list[Step]:
    """Write the files of a history, and return its steps; their data folder is not set."""
    events = feed()
    trades = [message for _, message in events if message["T"] == "t" and message["p"] > 0]
    rows = framed(with_clock(events), SPEC.per_frame)
    ends = [day_end(rows, day) for day in range(DAYS)]
    runs = [str(write_feed(folder / f"{end}.arrow", rows.slice(0, end))) for end in ends]
    first = str(history(folder / "first.csv", trades, 0))
    second = str(history(folder / "second.csv", trades, 1))

    def step(does: Literal["feed", "load", "rebuild"], path: str = "", day: float = 0) -> Step:
        return Step(folder="", does=does, feed=path, now_ns=at(day), batch=120, compacts=True)

    return [
        step("feed", runs[1]),
        step("load", first, 1.5),
        replace(step("rebuild", day=1.6), days=(BEFORE, 0)),
        step("feed", runs[2]),
        step("load", second, 2.5),
        replace(step("rebuild", day=2.6), days=(0, 1)),
        step("feed", runs[3]),
        step("load", first, 3.5),
        replace(step("rebuild", day=3.6), days=(BEFORE, 2)),
    ]


def feed() -> list[tuple[int, Message]]:
    """Return (ts_recv, message); each day has late trades, cancels and corrections of others."""
    rng = random.Random(SEED)
    sent = messages(SPEC)
    trades = [message for _, message in sent if message["T"] == "t" and message["p"] > 0]
    more: list[tuple[int, Message]] = []
    for day in range(1, DAYS):
        past = [trade for trade in trades if day_of(trade) < day]
        for n, old in enumerate(rng.sample(past, 20)):
            when = at(day) + (20 + 5 * n) * NANOS
            number = 10**14 + day * 1_000 + n
            late = {**old, "i": number, "p": old["p"] + 3}
            again = correction(old, when, new_id=number, price=old["p"] + 1)
            more.append((when, (late, old, cancel(old, when), again)[n % 4]))
    return sorted([*sent, *more], key=lambda event: event[0])


def ns_of(trade: Message) -> int:
    """Return when a trade happened, ns."""
    whole, _, fraction = str(trade["t"]).removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * NANOS + int(fraction.ljust(9, "0"))


def day_of(trade: Message) -> int:
    """Return the day of a trade, counted from the feed's first."""
    return ns_of(trade) // DAY_NS - FIRST_DAY


def day_end(rows: pa.Table, day: int) -> int:
    """Return how many records there are up to the clock after a day's last message."""
    end = int(pc.sum(pc.less(rows["ts_recv"], at(day + 0.5))).as_py())
    assert rows["kind"][end - 1].as_py() == CLOCK
    return end


def history(path: Path, trades: Sequence[Message], day: int) -> Path:
    """Write a vendor's history of a day, with what the feed never had, and of a day before it.

    Of the trades that the feed had, each seventh says something else here.
    """
    lines = []
    for n, trade in enumerate(trade for trade in trades if day_of(trade) == day):
        price = trade["p"] + 1 if n % 7 == 3 else trade["p"]
        lines.append((trade["S"], ns_of(trade), price, trade["s"], trade["i"], trade["x"]))
    for n in range(120):
        for symbol, other in (("AAPL", day), ("TSLA", day), ("TSLA", 0), ("MSFT", BEFORE)):
            second = at(other) + n * NANOS + day
            price = f"{100 + n * 7 % 23}.{n % 100:02d}"
            lines.append((symbol, second, price, 1 + n % 5, 10**15 + n, "V"))
    lines.append(("AAPL", at(day), "none", 1, 1, "V"))
    rows = sorted(lines, key=lambda line: (line[1], line[0], line[4]))
    text = "".join(f"{','.join(map(str, line))},@,A\n" for line in rows)
    path.write_text(HEAD + text)
    return path


# -- doing ---------------------------------------------------------------------------------------


def rebuild_job(step: Step) -> RebuildJob:
    """Return a rebuild, also of a timeframe that neither feed nor loads build."""
    first, last = step.days
    return RebuildJob(
        folder=DataFolder(Path(step.folder)),
        settings=derive_settings(f"{TIMEFRAMES},15m"),
        make_parser=AlpacaParser,
        origin="canonical",
        symbols=None,
        days=Days(FIRST_DAY + first, FIRST_DAY + last),
    )


def do(step: Step, killer: Killer) -> None:
    """Do a step."""
    match step.does:
        case "feed":
            live_on(step, killer)
        case "load":
            load(
                Path(step.folder),
                Path(step.feed),
                now_ns=step.now_ns,
                settings=load_settings(TIMEFRAMES),
                source="alpaca",
                feed="sip",
                at_boundary=killer,
            )
        case "rebuild":
            job = rebuild_job(step)
            asyncio.run(write(job, plan(job), step.now_ns, killer))


def left_to_rebuild(step: Step) -> bool:
    """Tell whether a rebuild would change anything."""
    return bool(plan(rebuild_job(step)))


# -- comparing -----------------------------------------------------------------------------------


def ended(folder: Path) -> Kept:
    """Read what a history left; rows of loads are by the line that they are of.

    Where a line is in the journal of loads depends on how often loads before it were done: each
    time notes there what it is about to change.
    """
    found = kept(folder)
    is_load = pl.col("journal_id") == LOADS
    raw = found.tables["raw"].filter(~is_load | (pl.col("kind") == DATA))
    lines = raw.filter(is_load).sort("offset").select("offset").with_row_index("line")
    # the connection of a line is the offset at which its load begins
    raw = raw.with_columns(conn_id=pl.when(is_load).then(0).otherwise("conn_id"))
    tables = {
        name: _by_line(rows, lines) if "offset" in rows.columns else rows
        for name, rows in (found.tables | {"raw": raw}).items()
    }
    return replace(found, tables=tables)


def _by_line(rows: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    is_load = pl.col("journal_id") == LOADS
    line = pl.when(is_load).then("line").otherwise("offset").alias("offset")
    placed = rows.join(lines, on="offset", how="left").with_columns(line)
    assert not placed["offset"].has_nulls(), "a row of a load has no line in the raw table"
    return placed.select(rows.columns).sort(rows.columns)


def in_store(folder: Path) -> tuple[str, str, int]:
    """Return root, history root and number of the revisions in the store."""

    async def asked() -> pa.Table:
        async with await BarRepository.open(DataFolder(folder).store_url) as store:
            return await store.bars(BarQuery(history=True))

    bars = asyncio.run(asked())
    return (
        DigestTree.build(bars).root,
        DigestTree.build(bars, history=True).root,
        len(bars),
    )


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout, Step, do)
