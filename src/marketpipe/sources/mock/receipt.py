"""When the lines of a file were received, taken from the times that they bear."""

from typing import Final

import numpy as np

from marketpipe.domain.batches import I64
from marketpipe.domain.units import DAY_NS, NULL_I64

LOOK_AHEAD: Final = 16
"""Lines that are looked at to believe a leap."""

LEAP_NS: Final = DAY_NS
"""A line that is further ahead of the line above it leaps."""


class Receipts:
    """Times of receipt that never step back, and that one mis-stamped line cannot move far ahead.

    A line is received at its own time, or at the latest time before it if that is later or its own
    cannot be read. A line that leaps more than a day ahead is believed if at least half of the
    times within the next 16 lines are no more than a day before it; else it is received at the
    latest time before it. After the last line nothing can bear a leap out. Lines in front of the
    first that is believed are received with it, if it is among the first 17; else at 0.

    Attributes
    ----------
    latest : time of the last line, ns; None while none is known
    """

    def __init__(self) -> None:
        self.latest: int | None = None

    def of(self, own: I64, following: I64) -> I64:
        """Return when lines were received that follow those of the call before.

        Parameters
        ----------
        own : their own times, ns; `NULL_I64` where there is none; at least one
        following : own times of the lines after them: `LOOK_AHEAD`, or all to the end of the file
        """
        ahead = np.concatenate((own, following[:LOOK_AHEAD]))
        if self.latest is None:
            self.latest = _first(ahead[: LOOK_AHEAD + 1])
        received = np.maximum.accumulate(np.concatenate(([self.latest or 0], own)))
        if np.any(np.diff(received) > LEAP_NS):
            return self._of_leaping(own, ahead)
        if received[-1]:
            self.latest = int(received[-1])
        return received[1:]

    def _of_leaping(self, own: I64, ahead: I64) -> I64:
        received = np.empty_like(own)
        latest = self.latest
        for i, ts in enumerate(own.tolist()):
            if ts > (latest or 0):
                leaps = latest is None or ts - latest > LEAP_NS
                after = ahead[i + 1 : i + 1 + LOOK_AHEAD]
                if not leaps or _is_borne_out(ts, after, alone=latest is None):
                    latest = ts
            received[i] = latest or 0
        self.latest = latest
        return received


def _first(ahead: I64) -> int | None:
    """Return the first time that those after it bear out."""
    times: list[int] = ahead.tolist()
    for i, ts in enumerate(times):
        if ts != NULL_I64 and _is_borne_out(ts, ahead[i + 1 :], alone=True):
            return ts
    return None


def _is_borne_out(ts: int, after: I64, *, alone: bool) -> bool:
    """Tell whether half of the times after a line are near it; ``alone`` if there is none."""
    known = after[after != NULL_I64]
    if not len(known):
        return alone
    return 2 * int(np.count_nonzero(known >= ts - LEAP_NS)) >= len(known)
