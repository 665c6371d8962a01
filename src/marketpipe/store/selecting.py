"""The statements that read series, bars and the outbox."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from marketpipe.store.keyed import number_set, text_set
from marketpipe.store.query import SERIES, BarQuery
from marketpipe.store.schema import CONTENT, bars, series

Select: TypeAlias = "sa.Select[*tuple[Any, ...]]"


def select_series(symbols: Iterable[str] | None, *, sqlite: bool) -> Select:
    """Select ``id, last_seq`` and the names of the series of some symbols; None is all."""
    columns = [series.c[name] for name in SERIES]
    statement: Select = sa.select(series.c.id, series.c.last_seq, *columns)
    if symbols is None:
        return statement
    return statement.where(series.c.symbol.in_(text_set(symbols, sqlite=sqlite)))


def select_series_by_id(ids: Iterable[int], *, sqlite: bool) -> Select:
    """Select ``id, last_seq`` and the names of series."""
    chosen = series.c.id.in_(number_set(ids, sqlite=sqlite))
    return select_series(None, sqlite=sqlite).where(chosen)


def narrowed(statement: Select, query: BarQuery) -> Select:
    """Keep the series whose parts are those asked for."""
    for name, value in query.parts.items():
        statement = statement.where(series.c[name] == value)
    return statement


def select_bars(query: BarQuery, ids: Sequence[int], *, sqlite: bool) -> Select:
    """Select `CONTENT` of the bars of some series, in the order of the query."""
    statement = _content().where(
        bars.c.series_id.in_(number_set(ids, sqlite=sqlite))
        if len(ids) != 1
        else bars.c.series_id == ids[0],
        *_conditions(query, bars),
    )
    if len(ids) != 1:
        statement = statement.join_from(bars, series, bars.c.series_id == series.c.id)
    first = bars.c.ts_open.desc() if query.newest_first else bars.c.ts_open
    names = _by_name(sqlite=sqlite) if len(ids) != 1 else []
    return statement.order_by(first, *names, bars.c.revision).limit(query.limit)


def select_newest(query: BarQuery, ids: Sequence[int], n: int, *, sqlite: bool) -> Select:
    """Select `CONTENT` of the newest ``n`` bars of each of some series, in time order."""
    wanted = series.c.id.in_(number_set(ids, sqlite=sqlite))
    inner = bars.alias("newest")
    newest = (
        sa.select(inner.c.seq)
        .where(inner.c.series_id == series.c.id, *_conditions(query, inner))
        .order_by(inner.c.ts_open.desc(), inner.c.revision.desc())
        .limit(n)
        .correlate(series)
    )
    if sqlite:
        # CROSS JOIN in SQLite fixes the order of the loops: series first, then their few rows.
        statement = _content().select_from(series).join(bars, bars.c.seq.in_(newest))
    else:
        chosen = newest.lateral("chosen")
        statement = (
            _content()
            .select_from(series)
            .join(chosen, sa.true())
            .join(bars, bars.c.seq == chosen.c.seq)
        )
    names = _by_name(sqlite=sqlite)
    return statement.where(wanted).order_by(bars.c.ts_open, *names, bars.c.revision)


def select_outbox(after_seq: int, limit: int) -> Select:
    """Select ``seq, prev_seq`` and `CONTENT` of the rows after ``after_seq``, in that order."""
    columns = [bars.c[name] for name in ("seq", "prev_seq", *CONTENT)]
    statement: Select = sa.select(*columns)
    return statement.where(bars.c.seq > after_seq).order_by(bars.c.seq).limit(limit)


def _content() -> Select:
    return sa.select(*(bars.c[name] for name in CONTENT))


def _conditions(query: BarQuery, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    found = []
    if query.start is not None:
        found.append(table.c.ts_open >= query.start)
    if query.end is not None:
        found.append(table.c.ts_open < query.end)
    found += _known(query, table)
    if query.history:
        return found
    later = bars.alias("later")
    found.append(
        ~sa.exists()
        .where(
            later.c.series_id == table.c.series_id,
            later.c.ts_open == table.c.ts_open,
            later.c.revision > table.c.revision,
            *_known(query, later),
        )
        .correlate(table)
    )
    if not query.voids:
        found.append(table.c.coverage != "void")
    return found


def _known(query: BarQuery, table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    if query.as_of is None:
        return []
    if query.knowledge == "assumed":
        return [table.c.known_at <= query.as_of]
    return [sa.func.coalesce(table.c.recorded_at, table.c.known_at) <= query.as_of]


def _by_name(*, sqlite: bool) -> list[sa.ColumnElement[str]]:
    """Order series by code points, whatever the server's language."""
    names = ("symbol", "source", "feed", "price_type", "rule_set", "session", "timeframe")
    if sqlite:
        return [series.c[name] for name in names]
    return [series.c[name].collate("C") for name in names]
