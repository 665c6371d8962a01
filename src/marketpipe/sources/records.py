"""Frames, controls and the clock as columns of `marketpipe.domain.records.RECORDS`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64, Arrival
from marketpipe.domain.records import CLOCK, CONTROL, DATA, NOT_SPLIT, RECORDS, STORED
from marketpipe.sources.framing import WHOLE, Encoding, Split, join, split

_KINDS: Final = (DATA, CONTROL, CLOCK)


class RecordBuilder:
    """Collects what one connection of a feed receives, until `take` makes a batch of it.

    Frames are numbered in the order in which they are added. Nothing is re-encoded.

    Parameters
    ----------
    source, feed, stream : as in `marketpipe.domain.records.RECORDS`
    conn_id, conn_started_ns : number of the connection, and when it was made (ns, UTC)
    symbol_of : names the symbol of one message (bytes-like), "" where it has none; without it
        no message has one
    next_frame : number of the next frame

    Attributes
    ----------
    waiting_bytes : length of the frames, and of all else, that was added since the last `take`
    """

    def __init__(
        self,
        *,
        source: str,
        feed: str,
        stream: str,
        conn_id: int,
        conn_started_ns: int,
        symbol_of: Callable[[Any], str] | None = None,
        next_frame: int = 0,
    ) -> None:
        self.stream = stream
        self._names = {"source": source, "feed": feed, "stream": stream}
        self._conn = {"conn_id": conn_id, "conn_started_ns": conn_started_ns}
        self._symbol_of = symbol_of
        self._frame_seq = next_frame
        self._clear()

    def _clear(self) -> None:
        self._payloads: list[bytes | msgspec.Raw] = []
        self._symbols: list[str] = []
        # One entry for a frame, a control or a tick of the clock.
        self._kinds: list[int] = []
        self._counts: list[int] = []
        self._seqs: list[int] = []
        self._lengths: list[int] = []
        self.waiting_bytes = 0
        self._times: list[int] = []
        self._envelopes: list[bytes] = []

    def __len__(self) -> int:
        return len(self._payloads)

    def add_frame(self, frame: bytes, ts_recv_ns: int, encoding: Encoding = "json") -> int:
        """Add the messages of a frame; return how many records that made."""
        payloads, envelope = split(frame, encoding)
        if self._symbol_of is not None:
            self._symbols += map(self._symbol_of, payloads)
        else:
            self._symbols += [""] * len(payloads)
        self._add(0, payloads, envelope, len(frame), ts_recv_ns)
        self._frame_seq += 1
        return len(payloads)

    def add_split(self, frame: Split, symbols: list[str], length: int, ts_recv_ns: int) -> int:
        """Add a frame of ``length`` bytes that is split already, and the symbol of each message."""
        self._symbols += symbols
        self._add(0, frame.payloads, frame.envelope, length, ts_recv_ns)
        self._frame_seq += 1
        return len(frame.payloads)

    def add_control(self, facts: Mapping[str, Any], ts_recv_ns: int) -> None:
        """Add a control record: ``facts`` as a JSON object, its keys in the order given."""
        self._add_single(1, msgspec.json.encode(facts), ts_recv_ns)

    def add_clock(self, ts_recv_ns: int, through_ns: int | None = None) -> None:
        """Add a tick of the clock; ``through_ns``: up to when all is recorded, if not up to now."""
        self._add_single(2, b"" if through_ns is None else b"%d" % through_ns, ts_recv_ns)

    def _add_single(self, kind: int, payload: bytes, ts_recv_ns: int) -> None:
        # Not a frame, and so without a number of its own: frame_seq is that of the next frame.
        self._symbols.append("")
        self._add(kind, [payload], WHOLE, len(payload), ts_recv_ns)

    def _add(
        self,
        kind: int,
        payloads: "list[bytes | msgspec.Raw]",
        envelope: bytes,
        length: int,
        ts_recv_ns: int,
    ) -> None:
        self._payloads += payloads
        self._kinds.append(kind)
        self._counts.append(len(payloads))
        self._seqs.append(self._frame_seq)
        self._lengths.append(length)
        self.waiting_bytes += length
        self._times.append(ts_recv_ns)
        self._envelopes.append(envelope)

    def take(self) -> pa.RecordBatch:
        """Return what was collected, in order, and begin anew."""
        count = len(self)
        counts = np.array(self._counts, np.int64)
        begins = np.cumsum(counts) - counts
        index = np.arange(count) - np.repeat(begins, counts)
        whole = np.array([envelope == WHOLE for envelope in self._envelopes], np.bool_)
        index[begins[whole]] = NOT_SPLIT
        first = np.full(count, -1, np.int64)
        first[begins] = np.arange(len(begins))
        envelopes = pa.array(self._envelopes, pa.binary())
        batch = records_batch(
            count,
            {
                **self._names,
                **self._conn,
                "kind": pa.array(_KINDS).take(
                    pa.array(np.repeat(np.array(self._kinds, np.int8), counts))
                ),
                "symbol": pa.array(self._symbols, pa.string()),
                "frame_seq": np.repeat(np.array(self._seqs, np.int64), counts),
                "msg_index": index.astype(np.int32),
                "frame_len": np.repeat(np.array(self._lengths, np.int32), counts),
                "ts_recv": np.repeat(np.array(self._times, np.int64), counts),
                "payload": _binary(self._payloads),
                "envelope": envelopes.take(pa.array(first, mask=first < 0)),
            },
        )
        self._clear()
        return batch


def records_batch(count: int, columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Make a batch of RECORDS of columns (Arrow or NumPy), or single values for all rows."""
    arrays = []
    for field in RECORDS:
        column = columns[field.name]
        if isinstance(column, (str, int, bytes)):
            column = pa.repeat(pa.scalar(column, field.type), count)
        arrays.append(column if isinstance(column, pa.Array) else pa.array(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=RECORDS)


def as_stored(records: pa.RecordBatch, journal_id: str, first: int) -> pa.RecordBatch:
    """Give RECORDS offsets from ``first`` on, as the journal of that name would."""
    offsets = pa.array(np.arange(first, first + len(records)))
    names = pa.repeat(journal_id, len(records))
    return pa.RecordBatch.from_arrays([names, offsets, *records.columns], schema=STORED)


def frames_of(records: pa.RecordBatch | pa.Table) -> Iterator[bytes]:
    """Rebuild the frames behind data records, byte for byte, in order.

    ``records`` are rows of RECORDS or STORED in the order of the journal; other kinds than data
    are passed over. The first and the last frame must be complete.

    Raises
    ------
    ValueError
        If a frame's first record is missing.
    """
    data = records.filter(pc.equal(records.column("kind"), DATA))
    payloads: list[bytes | msgspec.Raw] = []
    envelope = b""
    pairs = zip(
        data.column("payload").to_pylist(), data.column("envelope").to_pylist(), strict=True
    )
    for payload, starts in pairs:
        if starts is not None:
            if payloads:
                yield join(payloads, envelope)
            payloads, envelope = [], starts
        elif not payloads:
            raise ValueError("the first record of a frame is missing: its envelope is null")
        payloads.append(payload)
    if payloads:
        yield join(payloads, envelope)


def arrival_of(records: pa.RecordBatch) -> Arrival:
    """Place of each record in its feed; a frame that is not split has index 0."""
    started, conn, seq, index = (
        int64s(records, name) for name in ("conn_started_ns", "conn_id", "frame_seq", "msg_index")
    )
    return Arrival(started, conn, seq << 20 | np.maximum(index, 0))


def int64s(records: pa.RecordBatch, name: str) -> I64:
    """Return a column of integers as int64."""
    column: I64 = records.column(name).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(column, np.int64)


def _binary(payloads: "list[bytes | msgspec.Raw]") -> pa.Array:
    # Through buffers: Arrow does not take msgspec's raw messages one by one.
    ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    offsets = np.zeros(len(payloads) + 1, np.int32)
    offsets[1:] = ends
    return pa.BinaryArray.from_buffers(
        pa.binary(),
        len(payloads),
        [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(payloads))],
    )
