"""The gap ledger: when a feed may have missed messages, and what became of it."""

import json
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from marketpipe.domain.cancelling import finished
from marketpipe.store.database import Database
from marketpipe.store.schema import gaps

GapState: TypeAlias = Literal["open", "repaired", "refused"]
DAY: Final = "day"
"""Reason of the entry under which a day with gaps is looked over once it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapEntry:
    """A time in which a feed may have missed messages.

    Attributes
    ----------
    journal_id, number : identity; a journal's gaps are counted from 1
    source, feed : of the feed
    start_ns, end_ns : of receipt, ns since the epoch, UTC; end exclusive
    reason : why messages may be missing, such as ``disconnected`` or ``mute``
    symbols : of which messages may be missing
    state : ``open`` (not repaired yet), ``repaired``, or ``refused`` (the vendor does not give it)
    trades : trades that the vendor's history has for it
    bars_compared, bars_exact : the vendor's minute bars over it that were compared with those
        built of these trades, and how many of them are the same
    detail : what else there is to say, in words
    """

    journal_id: str
    number: int
    source: str
    feed: str
    start_ns: int
    end_ns: int
    reason: str
    symbols: tuple[str, ...]
    state: GapState = "open"
    trades: int = 0
    bars_compared: int = 0
    bars_exact: int = 0
    detail: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether it is repaired and its bars are the vendor's, or its day is not over yet."""
        if self.state == "open":
            return self.reason == DAY
        return self.state == "repaired" and self.bars_exact == self.bars_compared


class GapStore:
    """Gaps of every feed; an entry is replaced as what is known of it grows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @finished
    async def save(self, entry: GapEntry) -> None:
        """Insert an entry, or replace the one of this journal and number.

        Raises
        ------
        StoreError, BusyError, FullError
            If the database fails; what was stored stays.
        """
        mine = sa.and_(gaps.c.journal_id == entry.journal_id, gaps.c.number == entry.number)
        row = {name: getattr(entry, name) for name in entry.__slots__}
        row["symbols"] = json.dumps(list(entry.symbols))
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(gaps).where(mine))
            await connection.execute(sa.insert(gaps).values(row))

    @finished
    async def every(self, journal_id: str | None = None) -> list[GapEntry]:
        """Return the entries of a journal, or of all, in order of journal and number."""
        async with self._database.reading() as connection:
            return list(await read_gaps(connection, journal_id))


async def read_gaps(
    connection: AsyncConnection, journal_id: str | None = None
) -> tuple[GapEntry, ...]:
    """Read entries as `GapStore.every`, by a connection that is open."""
    statement = sa.select(gaps).order_by(gaps.c.journal_id, gaps.c.number)
    if journal_id is not None:
        statement = statement.where(gaps.c.journal_id == journal_id)
    rows = (await connection.execute(statement)).mappings().all()
    return tuple(GapEntry(**{**row, "symbols": tuple(json.loads(row["symbols"]))}) for row in rows)
