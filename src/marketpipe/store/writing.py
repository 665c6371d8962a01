"""Writing bars: insert if absent, compare if present, number what is new."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from marketpipe.domain.units import format_ns
from marketpipe.errors import NondeterminismError
from marketpipe.store.digests import content_digest
from marketpipe.store.keyed import bar_keys
from marketpipe.store.query import Series
from marketpipe.store.rows import Row, prepare
from marketpipe.store.schema import CONTENT, bars, head, pruned, series
from marketpipe.store.selecting import select_series

Key: TypeAlias = tuple[int, int, int]

CHUNK_ROWS: Final = 5_000
"""Rows prepared, compared and inserted at a time; all chunks of an add are one transaction."""

_AT: Final = tuple(CONTENT.index(name) for name in ("series_id", "ts_open", "revision"))
_SESSION_DATE: Final = CONTENT.index("session_date")
_COLUMNS: Final = ("seq", "prev_seq", *CONTENT)

_ARRAYS: Final = {
    "volume": "text",
    "notional": "text",
    "state": "text",
    "coverage": "text",
    "cause": "text",
    "partial": "boolean",
}
"""Types of the arrays that go to PostgreSQL, where they are not bigint."""

_REMEDY: Final = (
    "nothing was written. The same revision must always say the same: look for another "
    "configuration, rule table or code version, or add a further revision"
)


class _Known(NamedTuple):
    """The id of a series, and the ``seq`` of its newest bar (0: none)."""

    id: int
    last_seq: int


class BarWriter:
    """Adds bars within one write transaction."""

    def __init__(self, connection: AsyncConnection, *, sqlite: bool) -> None:
        self._connection = connection
        self._sqlite = sqlite

    async def add(self, table: pa.Table) -> int:
        """Insert the bars that are not there yet, in the order of the table; return how many.

        Raises
        ------
        NondeterminismError
            If a revision is there with other content; the caller's transaction must not commit.
        """
        last_seq, floor = (await self._execute(sa.select(head.c.last_seq, head.c.floor))).one()
        before = last_seq
        for start in range(0, len(table), CHUNK_ROWS):
            last_seq = await self._add_chunk(table.slice(start, CHUNK_ROWS), last_seq, floor)
        if last_seq != before:
            await self._execute(sa.update(head).values(last_seq=last_seq))
        return int(last_seq - before)

    async def _add_chunk(self, table: pa.Table, last_seq: int, floor: int | None) -> int:
        prepared = await asyncio.to_thread(prepare, table)
        known = await self._series(prepared.series)
        names = {each.id: name for each, name in zip(known, prepared.series, strict=True)}
        rows = prepared.rows([each.id for each in known])
        fresh = await self._absent(rows, floor, names)
        if fresh:
            numbered = _numbered(fresh, last_seq, {each.id: each.last_seq for each in known})
            await self._insert(numbered)
            await self._remember(numbered)
        return last_seq + len(fresh)

    async def _series(self, wanted: Sequence[Series]) -> list[_Known]:
        """Return the ids of series in the order asked for, making those that are new."""
        symbols = {each.symbol for each in wanted}
        found = await self._known_series(symbols)
        missing = [each for each in wanted if each not in found]
        if missing:
            largest = await self._execute(sa.select(sa.func.max(series.c.id)))
            start = (largest.scalar() or 0) + 1
            made = {each: _Known(start + at, 0) for at, each in enumerate(missing)}
            rows = [
                {"id": known.id, "last_seq": 0, **each._asdict()} for each, known in made.items()
            ]
            await self._connection.execute(sa.insert(series), rows)
            found |= made
        return [found[each] for each in wanted]

    async def _known_series(self, symbols: Iterable[str]) -> dict[Series, _Known]:
        rows = await self._execute(select_series(symbols, sqlite=self._sqlite))
        return {Series(*row[2:]): _Known(row[0], row[1]) for row in rows.all()}

    async def _absent(
        self, rows: list[Row], floor: int | None, names: dict[int, Series]
    ) -> list[Row]:
        """Return the rows that are not there; compare those that are, and repeats among them."""
        keys: list[Key] = [(row[_AT[0]], row[_AT[1]], row[_AT[2]]) for row in rows]
        there = await self._stored(keys)
        gone: dict[Key, int] = {}
        if floor is not None and any(row[_SESSION_DATE] < floor for row in rows):
            gone = await self._pruned(keys)
        if not there and not gone and len(set(keys)) == len(keys):
            return rows
        fresh = []
        for key, row in zip(keys, rows, strict=True):
            if key in gone:
                if gone[key] != content_digest(row):
                    raise _pruned_differs(names[key[0]], row)
            elif key not in there:
                there[key] = row
                fresh.append(row)
            elif there[key] != row:
                raise _differs(names[key[0]], there[key], row)
        return fresh

    async def _stored(self, keys: list[Key]) -> dict[Key, Row]:
        wanted = bar_keys(keys, sqlite=self._sqlite)
        statement = sa.select(*(bars.c[name] for name in CONTENT)).join_from(
            wanted, bars, _same_key(wanted, bars)
        )
        rows = (await self._execute(statement)).all()
        return {(row[_AT[0]], row[_AT[1]], row[_AT[2]]): tuple(row) for row in rows}

    async def _pruned(self, keys: list[Key]) -> dict[Key, int]:
        wanted = bar_keys(keys, sqlite=self._sqlite)
        statement = sa.select(pruned).join_from(wanted, pruned, _same_key(wanted, pruned))
        rows = (await self._execute(statement)).all()
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def _insert(self, rows: list[Row]) -> None:
        names = ", ".join(f'"{name}"' for name in _COLUMNS)
        if self._sqlite:
            marks = ", ".join("?" * len(_COLUMNS))
            await self._connection.exec_driver_sql(
                f"INSERT INTO bars ({names}) VALUES ({marks})",  # noqa: S608 - our own names
                rows,
            )
            return
        arrays = ", ".join(
            f"CAST(${at} AS {_ARRAYS.get(name, 'bigint')}[])"
            for at, name in enumerate(_COLUMNS, start=1)
        )
        values = ", ".join(
            f"CAST({name} AS numeric)" if name in ("volume", "notional") else f'"{name}"'
            for name in _COLUMNS
        )
        await self._connection.exec_driver_sql(
            f"INSERT INTO bars ({names}) "  # noqa: S608 - our own names
            f"SELECT {values} FROM unnest({arrays}) AS given ({names})",
            tuple(list(column) for column in zip(*rows, strict=True)),
        )

    async def _remember(self, rows: list[Row]) -> None:
        newest = {row[2]: row[0] for row in rows}
        statement = (
            sa.update(series)
            .where(series.c.id == sa.bindparam("series_id"))
            .values(last_seq=sa.bindparam("newest"))
        )
        given = [{"series_id": number, "newest": seq} for number, seq in newest.items()]
        await self._connection.execute(statement, given)

    async def _execute(self, statement: sa.Executable) -> sa.Result[*tuple[Any, ...]]:
        return await self._connection.execute(statement)


def _same_key(wanted: sa.FromClause, table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.series_id == wanted.c.series_id,
        table.c.ts_open == wanted.c.ts_open,
        table.c.revision == wanted.c.revision,
    )


def _numbered(rows: list[Row], last_seq: int, newest: dict[int, int]) -> list[Row]:
    """Put ``seq`` and ``prev_seq`` in front of each row."""
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    seq = np.arange(last_seq + 1, last_seq + 1 + len(rows), dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    prev = np.empty(len(rows), dtype=np.int64)
    prev[order[1:]] = seq[order[:-1]]
    starts = order[np.flatnonzero(np.diff(ids[order], prepend=-1))]
    prev[starts] = [newest[number] for number in ids[starts].tolist()]
    heads = zip(seq.tolist(), prev.tolist(), strict=True)
    return [(*numbers, *row) for numbers, row in zip(heads, rows, strict=True)]


def _differs(name: Series, stored: Row, given: Row) -> NondeterminismError:
    column = next(
        (column, old, new)
        for column, old, new in zip(CONTENT, stored, given, strict=True)
        if old != new
    )
    return NondeterminismError(
        f"store: {_bar(name, given)}: column '{column[0]}' was '{column[2]}', and "
        f"'{column[1]}' is stored; {_REMEDY}"
    )


def _pruned_differs(name: Series, given: Row) -> NondeterminismError:
    return NondeterminismError(
        f"store: {_bar(name, given)}: its content was other than that of the revision that "
        f"retention took; {_REMEDY}"
    )


def _bar(name: Series, row: Row) -> str:
    series_name = "/".join((name.source, name.feed, name.price_type, name.rule_set, name.session))
    ts_open, revision = row[_AT[1]], row[_AT[2]]
    return (
        f"{name.symbol}@{name.timeframe} of {series_name}, ts_open {format_ns(ts_open)}, "
        f"revision {revision}"
    )
