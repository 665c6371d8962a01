"""From which day on something is kept: as the user says, or as the settings do."""

from datetime import date

from marketpipe.cli.clock import now_ns
from marketpipe.errors import UsageError
from marketpipe.lake import first_day_kept


def first_kept(before: str | None, days: int | None, setting: str) -> date:
    """Return the first day to keep.

    Parameters
    ----------
    before : what ``--before`` said
    days : what the setting says: whole UTC days to keep, besides today
    setting : its name, for the error

    Raises
    ------
    UsageError
        If neither says a day.
    """
    if before is not None:
        try:
            return date.fromisoformat(before)
        except ValueError:
            raise UsageError(f"before: was '{before}'; expected a date as 2026-01-05") from None
    if days is None:
        raise UsageError(f"before: was none; say --before DATE, or set {setting}")
    return first_day_kept(days, now_ns())
