"""What a batch of records holds, counted."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.records import DATA, NOT_SPLIT
from marketpipe.sources.records import int64s

_EMPTY_BYTES = 2


class Tally(NamedTuple):
    """Counts and times (ns, UTC) of a batch of records.

    Attributes
    ----------
    frames, messages : of the feed
    first_ns, last_ns : receipt of the first and the last record
    good_ns : receipt of the last message that could be read; None if there was none
    bad_ns : receipt of the first frame that could not be split into messages; None if all could
    good_before_bad_ns : receipt of the last message before that frame; None if there was none
    """

    frames: int
    messages: int
    first_ns: int
    last_ns: int
    good_ns: int | None
    bad_ns: int | None
    good_before_bad_ns: int | None


def tallied(batch: pa.RecordBatch) -> Tally:
    """Count a batch of RECORDS of one connection, in order, that is not empty."""
    times = int64s(batch, "ts_recv")
    is_data = pc.equal(batch.column("kind"), DATA).to_numpy(zero_copy_only=False)
    is_whole = is_data & (batch.column("msg_index").to_numpy() == NOT_SPLIT)
    good = np.flatnonzero(is_data & ~is_whole)
    bad = np.flatnonzero(is_whole)
    if len(bad):
        # An empty array holds no message: nothing can be missing.
        sizes = pc.binary_length(batch.column("payload")).to_numpy()
        bad = bad[sizes[bad] > _EMPTY_BYTES]
    before = good[good < bad[0]] if len(bad) else good[:0]
    starts = len(batch) - batch.column("envelope").null_count
    return Tally(
        frames=starts - int(len(batch) - is_data.sum()),
        messages=int(is_data.sum()),
        first_ns=int(times[0]),
        last_ns=int(times[-1]),
        good_ns=int(times[good[-1]]) if len(good) else None,
        bad_ns=int(times[bad[0]]) if len(bad) else None,
        good_before_bad_ns=int(times[before[-1]]) if len(before) else None,
    )
