"""Where ticks of the clock go among messages whose times of receipt are known beforehand."""

import numpy as np

from marketpipe.domain.batches import I64
from marketpipe.domain.units import NANOS


class Seconds:
    """Whole seconds that pass between messages.

    A message received in a later second than the one before has a tick of the clock in front of
    it, stamped with the last whole second at or before its time of receipt. A pause of many
    seconds gives one tick, at its end: the seconds between have nothing to close that the last
    one does not close. Before the first message there is none.
    """

    def __init__(self) -> None:
        self._latest: int | None = None

    def ticks(self, ts_recv: I64) -> tuple[I64, I64]:
        """Return the places of messages that have a tick in front of them, and its stamps.

        ``ts_recv`` (ns, not stepping back) continues that of the call before.
        """
        seconds = ts_recv // NANOS
        if not len(seconds):
            return seconds, seconds
        before = np.empty_like(seconds)
        before[0] = seconds[0] if self._latest is None else self._latest
        before[1:] = seconds[:-1]
        self._latest = int(seconds[-1])
        places = np.flatnonzero(seconds > before)
        return places, seconds[places] * NANOS

    def due(self, ts_recv_ns: int) -> int | None:
        """Return the stamp of the tick in front of a message, or None if there is none."""
        second = ts_recv_ns // NANOS
        before, self._latest = self._latest, max(second, self._latest or second)
        return second * NANOS if before is not None and second > before else None
