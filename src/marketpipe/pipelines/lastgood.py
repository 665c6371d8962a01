"""Up to when all had come that a feed sent to the runs before, as their journal tells it."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CLOCK, CONTROL, DATA, HISTORY
from marketpipe.journal import Journal, JournalReader
from marketpipe.sources.tallies import Newest

NewestOf: TypeAlias = Callable[[pa.RecordBatch], Mapping[str, int | None]]
"""Returns when the newest message of each channel in a batch happened (ns since the epoch, UTC);
None: none tells."""


class _Connection(NamedTuple):
    started_ns: int
    number: int

    @classmethod
    def of(cls, records: pa.RecordBatch, row: int = 0) -> Self:
        return cls(*(int(records[name][row].as_py()) for name in ("conn_started_ns", "conn_id")))


def last_good_ns(journal: Journal, newest_of: NewestOf, delay_ns: int = 0) -> int | None:
    """Return up to when all had come, ns since the epoch, UTC; None for a new journal.

    What counts is the last connection that a tick of the clock came on: the gap before it was noted
    by then, and what came after it is of no connection, or of one before which the gap was not. If
    it was ended, its end tells; if the process was killed, what it received does, as for the gap of
    a lost connection: receipt alone says little of one that was silent, or stood still.

    Raises
    ------
    JournalError
        If the records at the journal's end cannot be read.
    """
    with closing(journal.reader()) as reader:
        tick = reader.last(CLOCK)
        if tick is None:
            return journal.last_ts_recv
        connection = _Connection.of(next(reader.read(tick, 1)))
        told_ns = _told_at_end(reader, connection, tick)
        return _received(reader, connection, newest_of, delay_ns) if told_ns is None else told_ns


def _told_at_end(reader: JournalReader, connection: _Connection, tick: int) -> int | None:
    """Return what the end of a connection tells, which comes after its last tick, if it has one."""
    for records in reader.backwards(CONTROL):
        for row in range(len(records)):
            if records["offset"][row].as_py() < tick:
                return None
            facts = json.loads(records["payload"][row].as_py())
            if facts.get("event") == "disconnected" and _Connection.of(records, row) == connection:
                good_ns = facts.get("good_until_ns")
                return None if good_ns is None else int(good_ns)
    return None


def _received(
    reader: JournalReader, connection: _Connection, newest_of: NewestOf, delay_ns: int
) -> int:
    """Return up to when all came on a connection, by what it received."""
    oldest = next(reader.read(reader.first_offset, 1))
    # Of a connection that is older than the journal's first file, that file has had nothing.
    good_ns = max(connection.started_ns, int(oldest["ts_recv"][0].as_py()))
    newest = Newest(delay_ns)
    for latest_first in reader.backwards(DATA):
        if latest_first["ts_recv"][0].as_py() <= good_ns:
            break
        records = latest_first.take(pa.array(np.arange(len(latest_first))[::-1]))
        streamed = records.filter(_is_streamed_on(connection, records))
        if happened := newest_of(streamed):
            received_ns = int(streamed["ts_recv"][-1].as_py())
            good_ns = max(good_ns, newest.hear(happened, received_ns))
    return good_ns


def _is_streamed_on(connection: _Connection, records: pa.RecordBatch) -> pa.BooleanArray:
    is_of = pc.and_(
        pc.equal(records["conn_started_ns"], connection.started_ns),
        pc.equal(records["conn_id"], connection.number),
    )
    return pc.and_not(is_of, pc.starts_with(records["stream"], HISTORY))
