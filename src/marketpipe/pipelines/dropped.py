"""What `marketpipe lake drop` took: nobody may take it for what never was."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from marketpipe.errors import UsageError
from marketpipe.lake import LakeTable

_EPOCH = date(1970, 1, 1)


def floor_of(table: LakeTable) -> int | None:
    """Return a table's floor, days since 1970-01-01; None if nothing was dropped of it."""
    floor = table.floor
    return None if floor is None else (floor - _EPOCH).days


def refuse_dropped(
    tables: Mapping[str, LakeTable], names: Iterable[str], first: int, remedy: str
) -> None:
    """Refuse to compute bars of days of which rows were dropped.

    Parameters
    ----------
    names : of the tables that are read
    first : first session date that is read, days since 1970-01-01
    remedy : what can be done instead

    Raises
    ------
    UsageError
        Naming the table, and the first day that it has whole.
    """
    for name in names:
        floor = floor_of(tables[name])
        if floor is not None and first < floor:
            raise UsageError(
                f"table {name}: days before {_EPOCH + timedelta(days=floor)} were dropped of it, "
                f"and {_EPOCH + timedelta(days=first)} would be read: bars would lose what was "
                f"dropped; {remedy}"
            )
