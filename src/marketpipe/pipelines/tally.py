"""What a data folder's lake holds, counted: rows of each kind, bars by timeframe, the root."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from marketpipe.domain.schemas import CANONICAL
from marketpipe.domain.timeframe import Timeframe
from marketpipe.lake import LakeTable
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.verify.digest import DigestTree, LeafPath
from marketpipe.verify.rows import select

_DATE = re.compile(r"session_date=(\d{4}-\d\d-\d\d)")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of the lake.

    Attributes
    ----------
    rows : by canonical kind, those that occur
    quarantined : rows that were refused
    bars : final bars by timeframe, the shortest first
    revisions : of all bars
    root : of the final bars
    """

    rows: dict[str, int] = field(default_factory=dict)
    quarantined: int
    bars: dict[str, int] = field(default_factory=dict)
    revisions: int
    root: str


def tally(tables: Mapping[str, LakeTable]) -> Tally:
    """Count what the tables of a lake hold; bars are read one session date after the other."""
    counts = {kind: tables[kind].count() for kind in CANONICAL}
    leaves: dict[LeafPath, str] = {}
    bars: dict[str, int] = {}
    revisions = 0
    for day in _dates(tables["bars"]):
        rows = read_rows(tables["bars"], Days(day, day))
        revisions += len(rows)
        leaves.update(DigestTree.build(rows).leaves)
        final = select(rows, history=False).take()
        for entry in final["timeframe"].value_counts():
            name = entry["values"].as_py()
            bars[name] = bars.get(name, 0) + entry["counts"].as_py()
    return Tally(
        rows={kind: count for kind, count in counts.items() if count},
        quarantined=tables["quarantine"].count(),
        bars={name: bars[name] for name in sorted(bars, key=Timeframe.parse)},
        revisions=revisions,
        root=DigestTree(leaves).root,
    )


def _dates(table: LakeTable) -> list[int]:
    """Return the session dates of a table, days since the epoch, ascending."""
    found = {match[1] for path in table.files() if (match := _DATE.search(path))}
    return sorted((date.fromisoformat(day) - _EPOCH).days for day in found)
