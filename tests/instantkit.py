"""Random instants over a run, and what a fresh computation makes of what was known at each."""

import random  # noqa: TID251

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from livekit import derive_settings, derived
from marketpipe.domain.columns import i64_of
from marketpipe.domain.records import CLOCK
from marketpipe.verify.rawmessages import bars_of_messages

SEED = 20260105
TIMEFRAMES = ("1s", "1m", "5m")


class Knowledge:
    """The records of a run, and what they came to by any instant.

    Parameters
    ----------
    rows : stored records, as a journal gives them
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._settings = derive_settings(",".join(TIMEFRAMES))
        self._received = i64_of(rows["ts_recv"])
        self._at_clock = np.flatnonzero(np.asarray(pc.equal(rows["kind"], CLOCK)))
        self._clocks = self._received[self._at_clock]
        self._states: dict[int, pa.Table] = {}

    @property
    def states(self) -> int:
        """At how many different states of knowledge bars were asked for."""
        return len(self._states)

    def instants(self, count: int) -> list[int]:
        """Draw instants, half of them within a nanosecond of the time a bar became known."""
        rng = random.Random(SEED)
        known = sorted(set(self.events(self._received[-1])["known_at"].to_pylist()))
        near = [rng.choice(known) + rng.choice((-1, 0, 1)) for _ in range(count // 2)]
        span = int(self._received[0]), int(self._received[-1]) + 10**9
        return sorted([*near, *(rng.randrange(*span) for _ in range(count - count // 2))])

    def bars(self, at: int) -> pa.Table:
        """Work out in SQL, from the messages received by an instant, the bars confirmed by it."""
        end = self._end(at)
        if end not in self._states:
            passed = int(np.searchsorted(self._clocks, at, side="right"))
            watermark = int(self._clocks[passed - 1]) - self._settings.grace_ns if passed else 0
            self._states[end] = bars_of_messages(
                self._rows.slice(0, end), TIMEFRAMES, watermark_ns=watermark
            )
        return self._states[end]

    def events(self, at: int) -> pa.Table:
        """Derive afresh, from the messages received by an instant, every revision known by it."""
        end = self._end(at)
        # Records are derived up to a clock record; the next one confirms nothing before itself.
        closing = self._at_clock[np.searchsorted(self._at_clock, end - 1)]
        fed = self._rows.take(pa.array(np.union1d(np.arange(end), closing)))
        return derived(self._settings, fed).bars.filter(pc.field("known_at") <= at)

    def _end(self, at: int) -> int:
        return int(np.searchsorted(self._received, at, side="right"))
