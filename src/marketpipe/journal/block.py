"""Records of one append as one value: checked, stamped, cut into blocks, packed."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import CLOCK, CONTROL, DATA, RECORDS, STORED, Kind
from marketpipe.errors import JournalError, UsageError
from marketpipe.journal.base import MAX_RECORDS

MAX_BLOCK_BYTES: Final = 4 << 20
"""Where a large append is cut, in bytes before compression; a larger record is its own block."""

KINDS: Final = (DATA, CONTROL, CLOCK)

_LEVEL: Final = 1
"""Level 3 packs JSON no smaller and takes 1.7 times as long."""

_HEAD: Final = struct.Struct("<qqqqqqq")
_SCHEMAS: Final = {1: RECORDS}
"""Schema of the packed records, by format version; old ones stay."""

_TS_RECV: Final = RECORDS.get_field_index("ts_recv")


class Tail(NamedTuple):
    """Where a journal ends.

    Attributes
    ----------
    next_offset : one past the last record
    last_ts_recv : ns since the epoch; None where there never was a record
    last_data, last_control, last_clock : offset of the last record of each kind, kept or not
    """

    next_offset: int = 0
    last_ts_recv: int | None = None
    last_data: int | None = None
    last_control: int | None = None
    last_clock: int | None = None

    def last(self, kind: Kind) -> int | None:
        """Return the offset of the last record of a kind."""
        if kind not in KINDS:
            raise UsageError(f"kind: was '{kind}'; valid are {', '.join(KINDS)}")
        return (self.last_data, self.last_control, self.last_clock)[KINDS.index(kind)]


class Block(NamedTuple):
    """Consecutive records, packed; ``last_…`` hold for the journal up to the block's end.

    Attributes
    ----------
    first_offset : offset of the first record
    records : how many there are, at least 1
    last_ts_recv, last_data, last_control, last_clock : as in `Tail`; the first is never None
    crc : CRC-32 of all other fields
    raw_bytes : size of ``data`` unpacked
    data : zstd of an Arrow IPC record batch message, without its schema
    """

    first_offset: int
    records: int
    last_ts_recv: int | None
    last_data: int | None
    last_control: int | None
    last_clock: int | None
    crc: int
    raw_bytes: int
    data: bytes

    @property
    def tail(self) -> Tail:
        """Where the journal ends if this is its last block."""
        return Tail(self.first_offset + self.records, *self[2:6])

    @property
    def intact(self) -> bool:
        """Whether the fields are those that were written."""
        try:
            return self.records > 0 and self.crc == _crc(self[:6], self.raw_bytes, self.data)
        except (TypeError, struct.error):  # damaged columns can hold any type
            return False


def checked(records: pa.RecordBatch | pa.Table) -> list[pa.RecordBatch]:
    """Return the record batches of an append, none of them empty.

    Raises
    ------
    JournalError
        If the schema is not `RECORDS`, a value is null or no text, or a kind is unknown.
    """
    if not records.schema.equals(RECORDS):
        raise JournalError(f"append: {_difference(records.schema)}; build records by RECORDS")
    whole = isinstance(records, pa.RecordBatch)
    parts = [records] if whole else records.combine_chunks().to_batches()
    batches = [batch for batch in parts if batch.num_rows]
    for batch in batches:
        _check_values(batch)
    return batches


def _difference(schema: pa.Schema) -> str:
    for field in RECORDS:
        index = schema.get_field_index(field.name)
        if index < 0:
            return f"column '{field.name}' is missing"
        if not schema.field(index).equals(field):
            found = schema.field(index)
            return f"column '{field.name}' was '{found}', must be '{field}'"
    return f"columns were {schema.names}, must be {RECORDS.names} in this order"


def _check_values(batch: pa.RecordBatch) -> None:
    for field, column in zip(RECORDS, batch.columns, strict=True):
        if column.null_count and not field.nullable:
            raise JournalError(f"append: column '{field.name}' holds a null, which it may not")
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise JournalError(f"append: the records are malformed: {error}") from error
    for kind in batch.column("kind").unique().to_pylist():
        if kind not in KINDS:
            raise JournalError(f"append: kind was '{kind}'; valid are {', '.join(KINDS)}")


def stamped(batch: pa.RecordBatch, last_ts_recv: int | None) -> pa.RecordBatch:
    """Return the batch with a ``ts_recv`` that never steps back."""
    given = batch.column(_TS_RECV).to_numpy()
    stamps = np.maximum.accumulate(given)
    if last_ts_recv is not None:
        stamps = np.maximum(stamps, last_ts_recv)
    if np.array_equal(stamps, given):
        return batch
    return batch.set_column(_TS_RECV, RECORDS.field(_TS_RECV), pa.array(stamps))


def advanced(tail: Tail, batch: pa.RecordBatch) -> Tail:
    """Return the tail after a stamped batch."""
    kinds = batch.column("kind").dictionary_encode()
    codes = kinds.indices.to_numpy()
    last = [tail.last(kind) for kind in KINDS]
    for code, kind in enumerate(kinds.dictionary.to_pylist()):
        last[KINDS.index(kind)] = tail.next_offset + int(np.flatnonzero(codes == code)[-1])
    count = batch.num_rows
    return Tail(tail.next_offset + count, batch.column(_TS_RECV)[count - 1].as_py(), *last)


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into those of blocks: `MAX_RECORDS` and about `MAX_BLOCK_BYTES` at most."""
    if batch.num_rows <= MAX_RECORDS and batch.nbytes <= MAX_BLOCK_BYTES:
        yield batch
        return
    payload, envelope = batch.column("payload"), batch.column("envelope")
    fixed = (batch.nbytes - payload.nbytes - envelope.nbytes) // batch.num_rows + 1
    sizes = _lengths(payload) + _lengths(envelope) + fixed
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + MAX_BLOCK_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + MAX_RECORDS)
        yield batch.slice(start, stop - start)
        start = stop


def _lengths(column: pa.Array) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return np.diff(offsets[column.offset : column.offset + len(column) + 1]).astype(np.int64)


def pack(batch: pa.RecordBatch, tail: Tail) -> Block:
    """Pack a stamped batch that follows ``tail``."""
    after = advanced(tail, batch)
    raw = batch.serialize()
    data = pa.Codec("zstd", _LEVEL).compress(raw, asbytes=True)
    bare = Block(tail.next_offset, batch.num_rows, *after[1:], 0, len(raw), data)
    return bare._replace(crc=_crc(bare[:6], len(raw), data))


def unpack(block: Block, version: int) -> pa.RecordBatch:
    """Return the records of an intact block, of the schema of that format version."""
    raw = pa.Codec("zstd").decompress(block.data, block.raw_bytes)
    return pa.ipc.read_record_batch(raw, _SCHEMAS[version])


def of_kind_reversed(records: pa.RecordBatch, kind: Kind) -> pa.RecordBatch:
    """Return the records of a kind, the last one first."""
    found = pc.indices_nonzero(pc.equal(records["kind"], kind))
    return records.take(found[::-1])


def _crc(head: tuple[int | None, ...], raw_bytes: int, data: bytes) -> int:
    numbers = (-1 if value is None else value for value in head)
    return zlib.crc32(data, zlib.crc32(_HEAD.pack(*numbers, raw_bytes)))


def stored(batch: pa.RecordBatch, journal_id: str, first_offset: int) -> pa.RecordBatch:
    """Return records with their journal and offsets, as of the schema `STORED`."""
    count = batch.num_rows
    offsets = np.arange(first_offset, first_offset + count)
    columns = [pa.repeat(journal_id, count), pa.array(offsets), *batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=STORED)
