"""Which session date a vendor's trade ids are unique within."""

import numpy as np

from marketpipe.domain.batches import I32, I64
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.sessions import ALWAYS_OPEN, NY_DAY, REGULAR, session_table
from marketpipe.normalize.identity import SessionDates, utc_dates

NEW_YORK = "XNYS"


def identity_dates(
    calendar: str, *, new_york: bool, overrides: Overrides | None = None
) -> SessionDates:
    """Return the function from instants (ns) to session dates (days since the epoch).

    New York dates for XNYS and for rule sets with New York days; UTC dates for 24/7; for other
    calendars the session that is open, or opens next.
    """
    if new_york or calendar == NEW_YORK:
        return _Table(NEW_YORK, NY_DAY, None)
    if calendar == ALWAYS_OPEN:
        return utc_dates
    return _Table(calendar, REGULAR, overrides)


class _Table:
    """Looks dates up in a session table that widens as it must."""

    def __init__(self, calendar: str, session: str, overrides: Overrides | None) -> None:
        self._args = calendar, session
        self._overrides = overrides
        self._range: tuple[int, int] | None = None

    def __call__(self, ts_ns: I64) -> I32:
        if not len(ts_ns):
            return np.zeros(0, np.int32)
        first, last = int(ts_ns.min()), int(ts_ns.max())
        if self._range is None or first < self._range[0] or last > self._range[1]:
            known = self._range or (first, last)
            self._range = min(first, known[0]), max(last, known[1])
            self._table = session_table(*self._args, *self._range, self._overrides)
        found = np.searchsorted(self._table.auction_end_ns, ts_ns, side="right")
        dates: I32 = self._table.date[np.minimum(found, len(self._table.date) - 1)]
        return dates
