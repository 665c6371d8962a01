"""Which values of a column the files of a table span, as its log knows them."""

from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from marketpipe.lake.faults import told_as_ours
from marketpipe.lake.table import LakeTable


class Span(NamedTuple):
    """A file, absolute, and the least and greatest value of a column in it; None: not noted."""

    path: str
    least: int | None
    greatest: int | None


def spans(table: LakeTable, column: str, **where: str) -> list[Span]:
    """Return the live files of a table with their range of a column of whole numbers, unordered.

    Parameters
    ----------
    where : values of other columns; files that cannot hold them are left out

    Raises
    ------
    LakeError
        If the table's log cannot be read.
    """
    with told_as_ours(f"listing the files of table {table.spec.name} at {table.path}"):
        adds = DeltaTable(table.path).get_add_actions(flatten=True)
    return [
        Span(
            str(table.path / unquote(add["path"])),
            add.get(f"min.{column}"),
            add.get(f"max.{column}"),
        )
        for add in pa.table(adds).to_pylist()
        if all(_may_hold(add, name, value) for name, value in where.items())
    ]


def _may_hold(add: dict[str, Any], column: str, value: str) -> bool:
    least, greatest = add.get(f"min.{column}"), add.get(f"max.{column}")
    return least is None or greatest is None or least <= value <= greatest
