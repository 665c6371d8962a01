"""When all came that a feed sent: what tells a whole bar from a partial one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64

_OPEN_END = 2**63 - 1
_KEPT = 10_000


class Connectivity:
    """The intervals [up, down) in which all came on at least one connection of a feed."""

    def __init__(self) -> None:
        self._up: dict[tuple[int, int], int] = {}
        self._spans: list[tuple[int, int]] = []

    def hear(self, facts: Mapping[str, Any], connection: tuple[int, int], at_ns: int) -> None:
        """Take note of a control record of a connection, received at ``at_ns``.

        Its ``good_until_ns``, if it has one, tells up to when all had come before.
        """
        good_until = facts.get("good_until_ns")
        since_ns = at_ns if good_until is None else int(good_until)
        event = facts.get("event")
        if event == "connected":
            self.connected(connection, at_ns)
        elif event == "disconnected":
            self.disconnected(connection, since_ns)
        elif event == "stalled":
            self.stalled(connection, since_ns, at_ns)
        elif event == "started":
            self.lost(since_ns)

    def connected(self, connection: tuple[int, int], at_ns: int) -> None:
        """Note that a connection (conn_started_ns, conn_id) came up."""
        self._up.setdefault(connection, at_ns)

    def disconnected(self, connection: tuple[int, int], at_ns: int) -> None:
        """Note that all came on a connection up to then, and no more is known to have come."""
        since = self._up.pop(connection, None)
        if since is not None and since < at_ns:
            self._spans = merged([*self._spans, (since, at_ns)])[-_KEPT:]

    def stalled(self, connection: tuple[int, int], since_ns: int, at_ns: int) -> None:
        """Note that a connection that is up may have lost what was sent between two times."""
        if connection in self._up:
            self.disconnected(connection, since_ns)
            self.connected(connection, at_ns)

    def lost(self, at_ns: int) -> None:
        """Note that every connection that was up is gone: the process that held it died."""
        for connection in sorted(self._up):
            self.disconnected(connection, at_ns)

    def partial(self, ts_open: I64, ts_close: I64) -> npt.NDArray[np.bool_]:
        """Say of intervals [ts_open, ts_close) which were not covered whole."""
        spans = merged([*self._spans, *((since, _OPEN_END) for since in self._up.values())])
        if not spans:
            return np.ones(len(ts_open), np.bool_)
        ups, downs = (np.array(column, np.int64) for column in zip(*spans, strict=True))
        at = np.searchsorted(ups, ts_open, side="right") - 1
        covered: npt.NDArray[np.bool_] = (at >= 0) & (ts_close <= downs[np.maximum(at, 0)])
        return ~covered

    def save(self) -> dict[str, Any]:
        """Return the state as a value that JSON can hold."""
        return {"up": sorted([*c, since] for c, since in self._up.items()), "spans": self._spans}

    @classmethod
    def load(cls, state: dict[str, Any]) -> "Connectivity":
        """Make one of what `save` returned."""
        self = cls()
        self._up = {(started, number): since for started, number, since in state["up"]}
        self._spans = [(up, down) for up, down in state["spans"]]
        return self


def merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join intervals that touch or overlap; ascending.

    >>> merged([(5, 9), (1, 3), (3, 4)])
    [(1, 4), (5, 9)]
    """
    out: list[tuple[int, int]] = []
    for up, down in sorted(spans):
        if out and up <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], down)
        else:
            out.append((up, down))
    return out
