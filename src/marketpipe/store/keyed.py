"""Sets of keys as tables inside a statement: one parameter, whatever their number.

SQLite unpacks them from JSON, PostgreSQL from arrays.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.type_api import TypeEngine


def number_set(numbers: Iterable[int], *, sqlite: bool) -> sa.Select[Any]:
    """Return a selection of numbers, for ``IN``."""
    return _set(list(numbers), sa.BigInteger, sqlite=sqlite)


def text_set(texts: Iterable[str], *, sqlite: bool) -> sa.Select[Any]:
    """Return a selection of texts, for ``IN``."""
    return _set(list(texts), sa.Text, sqlite=sqlite)


def _set(values: list[Any], kind: type[TypeEngine[Any]], *, sqlite: bool) -> sa.Select[Any]:
    if sqlite:
        return sa.select(sa.func.json_each(json.dumps(values)).table_valued("value").c.value)
    return sa.select(sa.func.unnest(sa.cast(values, ARRAY(kind))).column_valued("value"))


def bar_keys(keys: Sequence[tuple[int, int, int]], *, sqlite: bool) -> sa.FromClause:
    """Return (series_id, ts_open, revision) triples as a table to join with."""
    if sqlite:
        each = sa.func.json_each(json.dumps(keys)).table_valued("value")
        parts: list[sa.ColumnElement[int]] = [
            sa.func.json_extract(each.c.value, f"$[{at}]") for at in range(3)
        ]
    else:
        columns = [
            sa.cast(list(column), ARRAY(kind))
            for column, kind in zip(
                zip(*keys, strict=True), (sa.Integer, sa.BigInteger, sa.Integer), strict=True
            )
        ]
        each = sa.func.unnest(*columns).table_valued("a", "b", "c").render_derived()
        parts = [each.c.a, each.c.b, each.c.c]
    names = ("series_id", "ts_open", "revision")
    labelled = [part.label(name) for part, name in zip(parts, names, strict=True)]
    return sa.select(*labelled).select_from(each).cte("keys")
