"""The journal's record: one message of a feed as it was received, with where and when.

A frame (what one read of a socket, one page of a vendor's history, or one line of a file gave)
is split into messages without re-encoding. The bytes between the messages of a frame ride on
its first record (`split` in the sources), so every frame can be put together again, byte for
byte.
"""

from typing import Final, Literal, TypeAlias

import pyarrow as pa

Kind: TypeAlias = Literal["data", "control", "clock"]

DATA: Final = "data"
"""A message of a feed."""
CONTROL: Final = "control"
"""A connect, disconnect, subscription or change of configuration: a JSON object."""
CLOCK: Final = "clock"
"""A tick of the clock, which moves the watermark to its ``ts_recv``, or if its payload is not empty
to an earlier time that is there in decimal digits (ns): what came after it may wait to be read."""

HISTORY: Final = "rest/"
"""How the ``stream`` of a message begins that a vendor's history gave: it fills a gap."""

NOT_SPLIT: Final = -1
"""``msg_index`` of a frame that could not be split: the record is the whole frame."""

FORMAT_VERSION: Final = 1

RECORDS: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("feed", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("conn_id", pa.int64(), nullable=False),
        pa.field("conn_started_ns", pa.int64(), nullable=False),
        pa.field("frame_seq", pa.int64(), nullable=False),
        pa.field("msg_index", pa.int32(), nullable=False),
        pa.field("frame_len", pa.int32(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("envelope", pa.binary()),
    ],
    metadata={"marketpipe.schema": "records", "marketpipe.version": str(FORMAT_VERSION)},
)
"""What a source hands to a journal.

``source`` names the vendor (it chooses the parser), ``feed`` its feed, ``stream`` the channel or
the file; ``symbol`` is empty where a message has none or more than one. ``conn_id`` numbers
connections, ``frame_seq`` the frames of one from 0, ``msg_index`` the messages of a frame from 0
(`NOT_SPLIT`: the whole frame); ``frame_len`` is the frame's length in bytes; ``envelope`` is null
but on a frame's first record. Times are ns since the epoch, UTC.
"""

STORED: Final = pa.schema(
    [
        pa.field("journal_id", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        *RECORDS,
    ],
    metadata=RECORDS.metadata,
)
"""A record as the journal stores it: ``offset`` counts the records of a journal from 0, without
holes; ``ts_recv`` never steps back."""
