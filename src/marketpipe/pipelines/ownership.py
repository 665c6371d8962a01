"""Who numbers the revisions of a bar: its live feed, until a load or a rebuild has changed it.

Revisions of one bar must come from one place. While a session is live, that is its feed's
pipeline; loads and rebuilds keep away from it. Once one has changed bars of a finished session, it
owns that session of that symbol: what the feed still sends for it is kept, counted as
``late_after_load``, and counts in bars at the next rebuild.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.records import CLOCK, CONTROL
from marketpipe.domain.units import format_ns
from marketpipe.errors import BusyError, StorageError, UsageError
from marketpipe.journal import SqliteJournalReader
from marketpipe.journal.lock import WriterLock, holder
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derivestate import read_state
from marketpipe.pipelines.scratch import clear_scratch
from marketpipe.store import CheckpointStore, Database

BATCH_JOURNALS = ("load", "rebuild")
OR_A_COPY: Final = ", or do this with a copy of it: see marketpipe backup and restore"
"""What one can do other than to stop a feed, to read what stands still."""

DatesOf: TypeAlias = Callable[[int], int]
Touched: TypeAlias = Sequence[tuple[str, str, str, list[int]]]
"""Sessions as JSON: ``[source, feed, symbol, [date, …]]``."""


class Owned(NamedTuple):
    """A symbol's session: stream, and session date of its bars, days since 1970-01-01."""

    stream: StreamKey
    date: int


def touched(bars: pa.Table) -> Touched:
    """Return the sessions that revisions are of."""
    days: dict[tuple[str, str, str], set[int]] = {}
    dates = bars["session_date"].cast(pa.int32()).to_pylist()
    names = zip(*(bars[n].to_pylist() for n in ("source", "feed", "symbol")), strict=True)
    for name, date in zip(names, dates, strict=True):
        days.setdefault(name, set()).add(date)
    return [(*name, sorted(found)) for name, found in sorted(days.items())]


def sessions_of(bars: pa.Table) -> list[Owned]:
    """Return the sessions that bars are of, sorted."""
    return sorted(owned(touched(bars)))


def owned(sessions: Touched) -> frozenset[Owned]:
    """Read sessions as `touched` gives them."""
    return frozenset(
        Owned(StreamKey(source, feed, symbol), date)
        for source, feed, symbol, dates in sessions
        for date in dates
    )


def owned_by_batches(
    folder: DataFolder, journals: Iterable[str] = BATCH_JOURNALS
) -> frozenset[Owned]:
    """Return the sessions that loads and rebuilds of a data folder have changed bars of."""
    found: set[Owned] = set()
    for name in journals:
        if name in folder.journals():
            found |= _of_journal(SqliteJournalReader(folder.journal(name), name))
    return frozenset(found)


def _of_journal(reader: SqliteJournalReader) -> set[Owned]:
    found: set[Owned] = set()
    with closing(reader):
        for batch in reader.backwards(CONTROL):
            for payload in batch["payload"].to_pylist():
                found |= owned(json.loads(payload).get("touched", ()))
    return found


class Feed(NamedTuple):
    """A live feed as it stopped.

    Attributes
    ----------
    streams : that it knows
    watermark_ns : up to when its bars are confirmed, ns
    long : its timeframes whose bars cover several sessions
    """

    journal_id: str
    streams: frozenset[StreamKey]
    watermark_ns: int
    long: tuple[str, ...]


@contextmanager
def batch_lock(folder: DataFolder) -> Iterator[None]:
    """Hold what loads, rebuilds, proofs, mending and backups of a folder hold, one at a time.

    What a killed one left in the folder's ``scratch`` is cleared.

    Raises
    ------
    BusyError
        If another of them is running.
    StorageError
        If the folder cannot be used.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(folder.root)
    except OSError as problem:
        raise StorageError(
            f"data-dir: '{folder.root}' cannot be used ({problem.strerror}); name a folder that "
            "can be written"
        ) from problem
    except BusyError as busy:
        raise BusyError(
            f"data-dir: a load, rebuild, verify or backup is running in '{folder.root}'; wait for "
            "its end"
        ) from busy
    with closing(lock):
        clear_scratch(folder)
        yield


@contextmanager
def stopped_feeds(folder: DataFolder, or_else: str = "") -> Iterator[None]:
    """Keep the feeds and the other batches of a data folder from running meanwhile.

    Parameters
    ----------
    or_else : what one can do other than to stop a feed, for the error

    Raises
    ------
    BusyError
        If one is running.
    """
    with batch_lock(folder), ExitStack() as locks:
        for name in folder.journals():
            if name not in BATCH_JOURNALS:
                locks.enter_context(closing(_lock_of(folder, name, or_else)))
        yield


def _lock_of(folder: DataFolder, name: str, or_else: str) -> WriterLock:
    try:
        return WriterLock(folder.journal(name))
    except BusyError as busy:
        raise BusyError(
            f"journal {name}: its feed is running, process {holder(folder.journal(name))}; stop "
            f"it first{or_else}"
        ) from busy


async def feeds_of(folder: DataFolder, database: Database) -> list[Feed]:
    """Return the feeds of a data folder by their checkpoints.

    Raises
    ------
    BusyError
        If one was not derived to its end: what it has yet to say could contradict a batch.
    """
    found = []
    for name in folder.journals():
        if name in BATCH_JOURNALS:
            continue
        with closing(SqliteJournalReader(folder.journal(name), name)) as reader:
            last = reader.last(CLOCK)
        saved = await CheckpointStore(database).load(f"live/{name}", name)
        if last is not None and (saved is None or saved.offset < last):
            raise BusyError(
                f"journal {name}: was not derived to its end; run marketpipe stream on it once "
                "more, which finishes what is there, and then this again"
            )
        if saved is None:
            continue
        _, blob = msgspec.msgpack.decode(saved.state, type=tuple[bytes, bytes])
        head = read_state(blob)[0]
        if head["watermark_ns"] is not None:
            frames = saved.versions["bars"].partition("/")[0].split(",")
            long = tuple(f for f in frames if f[-1] in "dw" and f != "1d")
            found.append(Feed(name, frozenset(head["streams"]), head["watermark_ns"], long))
    return found


def refuse_live(wanted: Iterable[Owned], feeds: Iterable[Feed], dates: DatesOf) -> None:
    """Refuse to change sessions that a live feed has not finished.

    Parameters
    ----------
    dates : gives the session date (days since 1970-01-01) that an instant (ns) is in

    Raises
    ------
    UsageError
        If there is one; the message names it.
    """
    for feed in feeds:
        running = dates(feed.watermark_ns)
        for session in wanted:
            if session.stream in feed.streams and feed.long:
                raise UsageError(
                    f"{session.stream.symbol}: journal {feed.journal_id} builds bars of several "
                    f"sessions ({', '.join(feed.long)}), which one session cannot be taken out of; "
                    "load it under another --source or --feed"
                )
            if session.stream in feed.streams and session.date >= running:
                raise UsageError(
                    f"{session.stream.symbol}: its session is still live in journal "
                    f"{feed.journal_id}, which has come to {format_ns(feed.watermark_ns)}; load or "
                    "rebuild it when the session is over, or leave the symbol out"
                )


def by_stream(sessions: Iterable[Owned]) -> dict[StreamKey, frozenset[int]]:
    """Return the session dates of each stream."""
    found: dict[StreamKey, set[int]] = {}
    for session in sessions:
        found.setdefault(session.stream, set()).add(session.date)
    return {stream: frozenset(dates) for stream, dates in found.items()}
