"""The session table of an engine, widened as instants come into view."""

from dataclasses import dataclass, field

import numpy as np

from marketpipe.bars.output import Records
from marketpipe.bars.plan import Plan
from marketpipe.bars.shard import SEGMENT, SESSION
from marketpipe.domain.batches import I64
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.sessions import (
    ALWAYS_OPEN,
    CONTINUOUS,
    NY_DAY,
    SessionTable,
    session_table,
)


def uses_table(calendar: str, session: str) -> bool:
    """Say whether sessions come from a table; else days are those of UTC."""
    return session == NY_DAY or (session != CONTINUOUS and calendar != ALWAYS_OPEN)


@dataclass(slots=True)
class SessionGrid:
    """Where sessions lie, for the kernel: nothing on the grid of UTC, else a table."""

    calendar: str
    session: str
    plan: Plan
    overrides: Overrides | None = None
    table: SessionTable | None = None
    _bounds: tuple[int, int] | None = field(default=None)

    @property
    def version(self) -> str:
        """What the edges follow from."""
        return self.table.version if self.table else "utc"

    def widen(self, first_ns: int, last_ns: int) -> bool:
        """Cover [first_ns, last_ns]; say whether the table changed."""
        if not uses_table(self.calendar, self.session):
            return False
        if self.table and self.table.start_ns <= first_ns and last_ns < self.table.end_ns:
            return False
        if self._bounds:
            first_ns, last_ns = min(first_ns, self._bounds[0]), max(last_ns, self._bounds[1])
        self._bounds = first_ns, last_ns
        self.table = session_table(self.calendar, self.session, first_ns, last_ns, self.overrides)
        return True

    def records(self) -> tuple[Records, Records, I64]:
        """Return segments, sessions and day groups as the kernel takes them."""
        table = self.table
        if table is None:
            return np.zeros(0, SEGMENT), np.zeros(0, SESSION), np.zeros((1, 1, 4), np.int64)
        seg = np.zeros(len(table.seg_open), SEGMENT)
        seg["open"], seg["close"] = table.seg_open, table.seg_close
        seg["session"] = table.seg_session
        ses = np.zeros(len(table.date), SESSION)
        ses["date"], ses["close"] = table.date, table.close_ns
        ses["auction_end"] = table.auction_end_ns
        days = [tf for tf in self.plan.timeframes if not tf.is_intraday]
        grp = np.zeros((max(len(days), 1), len(ses), 4), np.int64)
        for g, tf in enumerate(days):
            opens, closes = table.day_groups(tf)
            # the last session of a group is the one that closes when the group does
            final = np.searchsorted(table.close_ns, closes)
            grp[g, :, 0], grp[g, :, 1] = opens, closes
            grp[g, :, 2] = table.auction_end_ns[final]
            grp[g, :, 3] = table.group_dates(tf)
        return seg, ses, grp
