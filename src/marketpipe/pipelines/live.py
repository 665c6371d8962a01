"""The live pipeline: a journal's records to bars in the store and rows in the lake, for good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.findings import Findings
from marketpipe.domain.records import CLOCK
from marketpipe.domain.units import NANOS
from marketpipe.errors import StorageError
from marketpipe.journal import Journal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.arrivals import intervals
from marketpipe.pipelines.derive import Derivation, DeriveSettings
from marketpipe.pipelines.derivestate import read_state
from marketpipe.pipelines.dropped import floor_of
from marketpipe.pipelines.history import TradeHistory, Wanted
from marketpipe.pipelines.lakehistory import LakeQuotes, LakeTrades
from marketpipe.pipelines.lakesink import LakeSink
from marketpipe.pipelines.memory import give_back
from marketpipe.pipelines.ownership import Owned
from marketpipe.pipelines.rawlog import raw_records, records_from
from marketpipe.pipelines.usable import refuse_without_start, why_unusable
from marketpipe.sources.parsed import MessageParser
from marketpipe.store import (
    BarRepository,
    Checkpoint,
    CheckpointStore,
    Database,
    FindingsStore,
)

MakeParser = Callable[[tuple[StreamKey, ...], bytes], MessageParser]
AtBoundary = Callable[[str], None]
"""Called with its name before and after every write; tests kill the process there."""

FLUSH_NS: Final = 60 * NANOS
FLUSH_ROWS: Final = 500_000
FLUSHES_PER_CHECKPOINT: Final = 5
FLUSHES_PER_COMPACTION: Final = 30


def nowhere(_name: str) -> None:
    """Do nothing at a boundary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """How a live pipeline writes.

    Attributes
    ----------
    derive : what it builds
    versions : of code, rules and calendar; a checkpoint of others is not used
    flush_ns : time of receipt between two flushes to the lake, ns
    flush_rows : rows waiting that make a flush due earlier
    flushes_per_checkpoint : how many flushes there are to a checkpoint
    flushes_per_compaction : how many flushes there are to a look at the number of files
    """

    derive: DeriveSettings
    versions: dict[str, str]
    flush_ns: int = FLUSH_NS
    flush_rows: int = FLUSH_ROWS
    flushes_per_checkpoint: int = FLUSHES_PER_CHECKPOINT
    flushes_per_compaction: int = FLUSHES_PER_COMPACTION


class _Made(NamedTuple):
    checkpoint: Checkpoint
    findings: Findings
    aside: frozenset[str]


class _Flushing(NamedTuple):
    """A flush under way, and the checkpoint to save once it is through."""

    task: "asyncio.Task[int]"
    checkpoint: _Made | None


@dataclass(slots=True)
class LivePipeline:
    """Derives one journal into the store and the lake, with an exactly-once effect.

    Make it with `LivePipeline.open`. It follows the journal, whoever writes it; a message is
    durable there before anything derived from it can be seen.

    Attributes
    ----------
    went_on : whether it always started from a checkpoint
    findings : what was noticed, from the beginning of the journal
    confirmed : bar events handed to the store since it was opened
    through : offset of the last record that was derived, -1 for none
    """

    settings: LiveSettings
    journal: Journal
    _repository: BarRepository
    _tables: dict[str, LakeTable]
    _make_parser: MakeParser
    _aside: Path
    closed: frozenset[Owned]
    _keep_files_few: Callable[[], object]
    _at_boundary: AtBoundary = nowhere
    findings: Findings = field(default_factory=Findings)
    confirmed: int = 0
    _derivation: Derivation = field(init=False)
    _sink: LakeSink = field(init=False)
    _flushed_ns: int | None = None
    _flushes: int = 0
    _writes: int = 0
    _behind: bool = False
    went_on: bool = True
    _flushing: _Flushing | None = None

    @property
    def name(self) -> str:
        """Name of the pipeline in checkpoints, findings and the lake's commits."""
        return f"live/{self.settings.derive.journal_id}"

    @property
    def through(self) -> int:
        """Offset of the last record that was derived, -1 for none."""
        return self._derivation.through

    @property
    def database(self) -> Database:
        """The store that bars go to."""
        return self._repository.database

    @property
    def derivation(self) -> Derivation:
        """What turns records into bars."""
        return self._derivation

    async def start(self) -> None:
        """Go on from the last checkpoint, or from the first record.

        Again after a failure it lets go of all that it holds, as another process would that opens
        the pipeline anew; the journal may be appended to meanwhile.

        Raises
        ------
        StorageError
            If the journal lacks records that were derived already and the lake lacks them too; or
            if the checkpoint cannot be used, and records from the first on are in neither: then
            the checkpoint stays.
        """
        await self.let_go()
        self._behind = True
        self.findings, self._flushed_ns, self._flushes = Findings(), None, 0
        checkpoints = CheckpointStore(self._repository.database)
        journal_id = self.settings.derive.journal_id
        saved = await checkpoints.load(self.name, journal_id)
        self._sink = LakeSink(self._tables, self.name, self._at_boundary)
        if saved is not None and not await asyncio.to_thread(self._is_usable, saved):
            await checkpoints.discard(self.name, journal_id)
            saved = None
        await asyncio.to_thread(self._mend_journal, saved)
        await asyncio.to_thread(self._resume, saved)
        self.went_on &= saved is not None
        self._behind = False

    def _is_usable(self, saved: Checkpoint) -> bool:
        """Tell whether all that a checkpoint builds on is there, and was made as it would be now.

        If not, everything is derived again from the first record: what the tables and the store
        have is left as it is, and a table that was lost fills up.
        """
        why = why_unusable(saved, self._sink.versions(), self.settings.versions, self._aside)
        if why:
            refuse_without_start(saved, why, self.journal, self._tables["raw"])
        return not why

    def _resume(self, saved: Checkpoint | None) -> None:
        s = self.settings.derive
        base = 0 if saved is None else saved.offset + 1
        quotes = LakeQuotes(self._sink, s.journal_id)
        history = TradeHistory(self._stored_trades, base, self._dropped_before, quotes)
        if saved is None:
            parser = self._make_parser((), b"")
            self._derivation = Derivation(s, parser, history, self._aside, self.closed)
            return
        found, blob = msgspec.msgpack.decode(saved.state, type=tuple[bytes, bytes])
        self.findings = Findings.from_json(found)
        head, parser_state, _ = read_state(blob)
        parser = self._make_parser(head["streams"], parser_state)
        self._derivation = Derivation(s, parser, history, self._aside, self.closed)
        self._derivation.load(blob)

    def _stored_trades(self, wanted: Wanted) -> pa.Table:
        with self._sink.locks["trades"]:
            return LakeTrades(self._tables["trades"], self.settings.derive.journal_id)(wanted)

    def _dropped_before(self) -> int | None:
        with self._sink.locks["trades"]:
            return floor_of(self._tables["trades"])

    def _mend_journal(self, saved: Checkpoint | None) -> None:
        """Give back to a journal that lost its end what the raw lake has of it."""
        reached = self._sink.versions()
        known = [-1 if version is None else version for version in reached.values()]
        beyond = max(-1 if saved is None else saved.offset, *known)
        missing_from = self.journal.next_offset
        if beyond < missing_from:
            return
        raw = self._tables["raw"]
        if reached["raw"] is None or reached["raw"] < beyond:
            raise StorageError(
                f"journal {self.journal.journal_id}: ends before offset {missing_from}, but "
                f"records up to {beyond} were derived and the raw lake ends at {reached['raw']}; "
                "restore the data folder from a backup, or move it away and begin anew"
            )
        for batch in raw_records(raw, self.journal.journal_id, missing_from):
            self.journal.append(batch.select(batch.schema.names[2:]))

    # -- records -----------------------------------------------------------------------------------

    async def append(self, records: pa.RecordBatch) -> None:
        """Append records to the journal; they are durable on return."""
        self._at_boundary("journal:before")
        await asyncio.to_thread(self.journal.append, records)
        self._at_boundary("journal:after")

    async def catch_up(self) -> None:
        """Derive what the journal has, up to its last clock record.

        Raises
        ------
        StorageError
            If the store or the lake cannot be written, or could not before: then open anew.
        """
        self._refuse_behind()
        reader = self.journal.reader()
        try:
            last = await asyncio.to_thread(reader.last, CLOCK)
            if last is None or last <= self.through:
                return
            if reader.first_offset > self.through + 1:
                # The raw table is read below, and serves one thread at a time.
                await self._land()
            async for records in _threaded(
                intervals(records_from(self.through + 1, reader, self._tables["raw"]))
            ):
                await self._take(records)
            await self._land_if_through()
        finally:
            reader.close()

    async def _take(self, records: pa.Table) -> None:
        await self._land_if_through()
        derived = await asyncio.to_thread(self._derivation.apply, records)
        # What was derived must be kept before anything that follows on it: if that fails, this
        # object is behind itself, and only one that starts from the checkpoint goes on.
        self._behind = True
        self._at_boundary("store:before")
        await self._repository.add(derived.bars)
        self._at_boundary("store:after")
        self.confirmed += len(derived.bars)
        self.findings += derived.findings
        self._sink.add(records, derived)
        self._behind = False
        await self._flush_if_due(records)

    async def _flush_if_due(self, records: pa.Table) -> None:
        now = int(records["ts_recv"][-1].as_py())
        if self._flushed_ns is None:
            self._flushed_ns = int(records["ts_recv"][0].as_py())
        due = now - self._flushed_ns >= self.settings.flush_ns
        if due or self._sink.waiting >= self.settings.flush_rows:
            self._flushed_ns = now
            self._flushes += 1
            await self._begin_flush(
                with_checkpoint=self._flushes % self.settings.flushes_per_checkpoint == 0
            )

    async def flush(self) -> None:
        """Append what waits to the lake, and wait until it is there."""
        await self._begin_flush(with_checkpoint=False)
        await self._land()

    def _refuse_behind(self) -> None:
        if self._behind:
            raise StorageError(
                f"pipeline {self.name}: the store failed it before; mend that, and open it anew: "
                "it goes on from its checkpoint"
            )

    async def checkpoint(self) -> None:
        """Save a checkpoint, and let the journal delete what nothing needs any more."""
        self._refuse_behind()
        await self._begin_flush(with_checkpoint=True)
        await self._land()

    async def _begin_flush(self, *, with_checkpoint: bool) -> None:
        """Begin to append what is in line; deriving may go on meanwhile.

        Never two at once: what waits stays bounded when the lake is the slowest.
        """
        await self._land()
        marked = self.through if with_checkpoint and self.through >= 0 else None
        self._sink.close_line(marked)
        # The state as it is now belongs to the last row in line, so it is taken at once.
        checkpoint = await asyncio.to_thread(self._made) if with_checkpoint else None
        task = asyncio.create_task(asyncio.to_thread(self._write_lake))
        self._flushing = _Flushing(task, checkpoint)

    def _write_lake(self) -> int:
        through = self._sink.flush()
        if self._writes % self.settings.flushes_per_compaction == 0:
            # After the first flush too: runs that all end early leave files as well.
            self._keep_files_few()
        self._writes += 1
        give_back()
        return through

    async def _land_if_through(self) -> None:
        if self._flushing is not None and self._flushing.task.done():
            await self._land()

    async def _land(self) -> None:
        """Wait for the flush under way, if there is one; only then anything may rely on it."""
        flushing, self._flushing = self._flushing, None
        if flushing is None:
            return
        through = await flushing.task
        if through >= 0:
            self._derivation.history.flushed(through)
        if flushing.checkpoint is not None:
            await self._keep(flushing.checkpoint)

    def _made(self) -> _Made | None:
        if self.through < 0:
            return None
        self._derivation.put_aside()
        blob = msgspec.msgpack.encode((self.findings.to_json(), self._derivation.save()))
        checkpoint = Checkpoint(
            pipeline=self.name,
            journal_id=self.settings.derive.journal_id,
            offset=self.through,
            versions=self.settings.versions,
            state=blob,
            saved_at_ns=self._flushed_ns or 0,
        )
        return _Made(checkpoint, self.findings, self._derivation.aside_files)

    async def _keep(self, made: _Made) -> None:
        database = self._repository.database
        self._at_boundary("checkpoint:before")
        await CheckpointStore(database).save(made.checkpoint)
        self._at_boundary("checkpoint:after")
        await FindingsStore(database).save(self.name, made.findings)
        await asyncio.to_thread(self._derivation.tidy, made.aside)
        await asyncio.to_thread(self.journal.retain, made.checkpoint.offset + 1)
        self._at_boundary("retain:after")

    async def stop(self) -> None:
        """Flush, save a checkpoint, and let go of nothing: the caller closes what it opened."""
        await self.checkpoint()

    async def let_go(self) -> None:
        """Wait until no thread writes to the lake any more, however the flush under way ends."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            await asyncio.wait([flushing.task])


async def _threaded(tables: Iterator[pa.Table]) -> AsyncIterator[pa.Table]:
    """Read the next table in a thread while the one before it is worked on."""

    def step() -> pa.Table | None:
        return next(tables, None)

    upcoming = asyncio.create_task(asyncio.to_thread(step))
    try:
        while (table := await upcoming) is not None:
            upcoming = asyncio.create_task(asyncio.to_thread(step))
            yield table
    finally:
        await asyncio.wait([upcoming])
