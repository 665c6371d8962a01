"""The journal of loaded files: every line as it is, which loads there were, how far each came."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CLOCK, CONTROL, RECORDS
from marketpipe.journal import Journal, JournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.live import AtBoundary
from marketpipe.pipelines.ownership import Owned, Touched, owned
from marketpipe.pipelines.rawlog import raw_records
from marketpipe.sources.records import RecordBuilder

JOURNAL: Final = "load"
"""Name of the journal of loaded files."""

_RAW: Final = "load/raw"


class Run(NamedTuple):
    """One load in the journal.

    Attributes
    ----------
    first : offset of its first record
    recorded_at : when it began, ns
    facts : what was to be loaded, and how
    received : offset of the record that says that every line is there; None until then
    accepted : offset of the record that says that it may be written; None until then
    over : offset of the record that says that nothing is left to do; None until then
    given_up : whether nothing of it was written
    sessions : that it made bars of
    """

    first: int
    recorded_at: int
    facts: Mapping[str, str]
    received: int | None = None
    accepted: int | None = None
    over: int | None = None
    given_up: bool = False
    sessions: frozenset[Owned] = frozenset()

    def after(self, event: str, offset: int, touched: Touched = ()) -> "Run":
        """Return the load after a control record."""
        match event:
            case "received":
                return self._replace(received=offset)
            case "accepted":
                return self._replace(accepted=offset)
            case "loaded" | "given_up":
                return self._replace(over=offset, given_up=event == "given_up")
            case "changes":
                return self._replace(sessions=self.sessions | owned(touched))
        return self

    def is_of(self, facts: Mapping[str, str]) -> bool:
        """Tell whether it is of the same content, read the same way, whatever the file's name."""
        ours, theirs = (
            {name: value for name, value in side.items() if name != "file"}
            for side in (self.facts, facts)
        )
        return ours == theirs


def runs_of(reader: JournalReader) -> list[Run]:
    """Return the loads that a journal has, in their order.

    The lines between are not read, however many loads there were.
    """
    found: list[Run] = []
    rows = [row for batch in reader.backwards(CONTROL) for row in batch.to_pylist()]
    for row in reversed(rows):
        facts: dict[str, Any] = json.loads(row["payload"])
        event = str(facts.get("event"))
        if event == "load":
            found.append(Run(row["offset"], row["ts_recv"], facts["facts"]))
        elif found:
            found[-1] = found[-1].after(event, row["offset"], facts.get("touched", ()))
    return found


class LoadLog:
    """Writes and reads the journal of loads, and keeps the raw lake up to date with it.

    Parameters
    ----------
    journal : ``load``
    raw : table ``raw`` of the lake
    """

    def __init__(self, journal: Journal, raw: LakeTable) -> None:
        self.journal, self._raw = journal, raw

    def mend(self) -> None:
        """Give back to a journal that was lost what the raw lake has of it."""
        reached = self._raw.version_of(_RAW)
        if reached is None or reached < self.journal.next_offset:
            return
        for batch in raw_records(self._raw, JOURNAL, self.journal.next_offset):
            self.journal.append(batch.select(RECORDS.names))

    def runs(self) -> list[Run]:
        """Return the loads in their order; of all but the last nothing is left to do."""
        with closing(self.journal.reader()) as reader:
            return runs_of(reader)

    def begin(self, facts: Mapping[str, str], now_ns: int) -> Run:
        """Note that a load begins."""
        # the journal's times never step back, whatever the clock does
        stamp = max(now_ns, self.journal.last_ts_recv or 0)
        first = self._append(facts, stamp, {"event": "load", "facts": dict(facts)})
        return Run(first, stamp, facts)

    def note(self, run: Run, event: str, **more: Touched) -> Run:
        """Note what became of a load."""
        offset = self._append(
            run.facts, run.recorded_at, {"event": event, "first": run.first, **more}
        )
        return run.after(event, offset, more.get("touched", ()))

    def _append(self, facts: Mapping[str, str], now_ns: int, payload: dict[str, object]) -> int:
        builder = RecordBuilder(
            source=facts["source"],
            feed=facts["feed"],
            stream=facts["file"],
            conn_id=self.journal.next_offset,
            conn_started_ns=now_ns,
        )
        builder.add_control(payload, now_ns)
        return self.journal.append(builder.take())

    def take_in(self, run: Run, records: Iterator[pa.RecordBatch], at_boundary: AtBoundary) -> Run:
        """Append a load's messages, those that are not there yet, and note that they all are."""
        skip = self.journal.next_offset - run.first - 1
        for batch in records:
            mine = received(batch, run.recorded_at)
            if skip < len(mine):
                self.journal.append(mine.slice(skip))
            skip = max(0, skip - len(mine))
            at_boundary("lines:after")
        return self.note(run, "received")

    def keep_raw(self) -> None:
        """Append to the raw lake what it does not have of the journal."""
        reached = self._raw.version_of(_RAW)
        reader = self.journal.reader()
        try:
            for batch in reader.read(0 if reached is None else reached + 1):
                through = int(batch["offset"][-1].as_py())
                self._raw.append(pa.Table.from_batches([batch]), app_id=_RAW, through=through)
        finally:
            reader.close()


def received(batch: pa.RecordBatch, now_ns: int) -> pa.RecordBatch:
    """Return messages as received now, without the ticks of a clock that is not ours."""
    kept = batch.filter(pc.not_equal(batch["kind"], CLOCK))
    at = RECORDS.names.index("ts_recv")
    stamps = pa.array(np.full(len(kept), now_ns, np.int64))
    return kept.set_column(at, RECORDS.field(at), stamps)
