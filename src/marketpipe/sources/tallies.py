"""What a batch of records holds, counted, and how new it is."""

from collections.abc import Callable, Iterable, Mapping
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
    """

    frames: int
    messages: int
    first_ns: int
    last_ns: int
    good_ns: int | None
    bad_ns: int | None


def tallied(batch: pa.RecordBatch, is_message: Callable[[bytes], bool]) -> Tally:
    """Count a batch of RECORDS of one connection, in order, that is not empty.

    ``is_message`` tells whether a frame that is no array of messages is one all the same.
    """
    times = int64s(batch, "ts_recv")
    is_data = pc.equal(batch.column("kind"), DATA).to_numpy(zero_copy_only=False)
    is_whole = is_data & (batch.column("msg_index").to_numpy() == NOT_SPLIT)
    good = np.flatnonzero(is_data & ~is_whole)
    bad = np.flatnonzero(is_whole)
    if len(bad):
        # An empty array holds no message: nothing can be missing.
        sizes = pc.binary_length(batch.column("payload")).to_numpy()
        bad = bad[sizes[bad] > _EMPTY_BYTES]
        alone = batch.column("payload").take(pa.array(bad)).to_pylist()
        is_good = np.fromiter(map(is_message, alone), np.bool_, len(alone))
        good, bad = np.union1d(good, bad[is_good]), bad[~is_good]
    starts = len(batch) - batch.column("envelope").null_count
    return Tally(
        frames=starts - int(len(batch) - is_data.sum()),
        messages=int(is_data.sum()),
        first_ns=int(times[0]),
        last_ns=int(times[-1]),
        good_ns=int(times[good[-1]]) if len(good) else None,
        bad_ns=int(times[bad[0]]) if len(bad) else None,
    )


class Newest:
    """When the newest messages of each channel happened, by the vendor's own time (ns, UTC)."""

    def __init__(self, delay_ns: int = 0) -> None:
        self._happened_ns: dict[str, int] = {}
        self._good_ns: dict[str, int] = {}
        self._delay_ns = delay_ns

    def clear(self) -> None:
        """Begin anew, on another connection."""
        self._happened_ns.clear()
        self._good_ns.clear()

    def happened_ns(self, channel: str) -> int:
        """Return when the newest message of a channel happened; 0 if none came."""
        return self._happened_ns.get(channel, 0)

    def good_ns(self, channels: Iterable[str], since_ns: int) -> int:
        """Return up to when all has come of each of some channels, which began at ``since_ns``."""
        return min((self._good_ns.get(channel, since_ns) for channel in channels), default=since_ns)

    def told_ns(self, least_ns: int) -> int:
        """Return when a feed would tell what has happened last, ``least_ns`` at least."""
        return max([least_ns, *(ts_ns + self._delay_ns for ts_ns in self._happened_ns.values())])

    def hear(self, newest: Mapping[str, int | None], received_ns: int) -> int:
        """Take note of messages; return up to when all that a feed sent has come with them.

        Receipt alone says little: after a stall, what is minutes old is received now.
        """
        times = {channel: ts_ns for channel, ts_ns in newest.items() if ts_ns is not None}
        for channel, ts_ns in times.items():
            self._happened_ns[channel] = max(ts_ns, self._happened_ns.get(channel, ts_ns))
        for channel, told_ns in newest.items():
            good_ns = received_ns if told_ns is None else min(received_ns, told_ns + self._delay_ns)
            self._good_ns[channel] = max(good_ns, self._good_ns.get(channel, good_ns))
        return min(received_ns, max(times.values()) + self._delay_ns) if times else received_ns
