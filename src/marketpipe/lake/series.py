"""Which series a read is about: what the user named, else the priority, else an error.

A series is (source, feed) for ticks, and (source, feed, price type, rule set, session) for bars.
Rows of two series are never mixed for one symbol.
"""

# ruff: noqa: S608 - values are quoted by views.literal, all else are names of ours

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import polars as pl

from marketpipe.errors import SeriesError
from marketpipe.lake.views import BAR_SERIES, SERIES, literal, one_of

PARAMETERS: Final = {
    "source": "source",
    "feed": "feed",
    "price_type": "price",
    "rule_set": "rules",
    "session": "session",
}
"""Columns of a series and the parameters that name them."""

PLACED_BY: Final = {
    "trades": "ts_event",
    "quotes": "ts_event",
    "book": "ts_event",
    "statuses": "ts_event",
    "corrections": "ts_event",
    "vendor_bars": "ts_open",
    "bars": "ts_open",
}
"""Tables that hold series, and the instant that places a row in time."""

_OWN: Final = {"bars": (*BAR_SERIES, "timeframe"), "vendor_bars": (*SERIES, "timeframe")}
_LISTED: Final = (*SERIES, "symbol", *BAR_SERIES[2:], "timeframe")
LISTING_ORDER: Final = ('"table"', "symbol", *SERIES, *BAR_SERIES[2:], "timeframe")
"""Order of the rows of `series_listing`."""


def named_condition(named: Mapping[str, str | None]) -> str:
    """Return the condition that a row is of the series as far as the user named it."""
    parts = [f"{column} = {literal(value)}" for column, value in named.items() if value is not None]
    return " AND ".join(parts) or "true"


def chosen_condition(found: pl.DataFrame, priority: Sequence[str]) -> str:
    """Choose one series per symbol; return the condition that a row is of those.

    Parameters
    ----------
    found : distinct ``symbol`` and columns of the series that fit; of at least one symbol
    priority : ``source/feed``, the preferred first

    Raises
    ------
    SeriesError
        If more than one series of a symbol fits and the priority does not decide.
    """
    columns = [name for name in found.columns if name != "symbol"]
    symbols: dict[tuple[str, ...], list[str]] = {}
    for (symbol,), group in found.sort(found.columns).group_by(["symbol"], maintain_order=True):
        series = _choose(str(symbol), group.select(columns).rows(), columns, priority)
        symbols.setdefault(series, []).append(str(symbol))
    parts = []
    for series, of in symbols.items():
        is_series = named_condition(dict(zip(columns, series, strict=True)))
        parts.append(f"({one_of('symbol', tuple(of))} AND {is_series})")
    return "(" + " OR ".join(parts) + ")"


def refuse_unknown(named: Mapping[str, str | None], existing: pl.DataFrame) -> None:
    """Refuse a name that no series of a table has.

    Parameters
    ----------
    existing : distinct columns of the series of the whole table

    Raises
    ------
    SeriesError
        If the table has rows, and none is of a series so named.
    """
    wanted = {column: value for column, value in named.items() if value is not None}
    if not wanted or existing.is_empty():
        return
    rows = existing.sort(existing.columns).to_dicts()
    if any(all(row[column] == value for column, value in wanted.items()) for row in rows):
        return
    asked = ", ".join(f"{PARAMETERS[column]}={value!r}" for column, value in wanted.items())
    there = "; ".join(_written(tuple(row.values())) for row in rows)
    raise SeriesError(f"series: was {asked}, which does not exist; valid are {there}")


def series_listing(stored: Mapping[str, str], symbols: Collection[str]) -> str:
    """Return a SELECT of what series there are.

    Parameters
    ----------
    stored : by table of `PLACED_BY`, a SELECT of its rows
    symbols : only these; none means all
    """
    where = one_of("symbol", tuple(symbols)) if symbols else "true"
    parts = []
    for name, instant in PLACED_BY.items():
        own = ("symbol", *_OWN.get(name, SERIES))
        shown = (c if c in own else f"NULL::VARCHAR AS {c}" for c in _LISTED)
        parts.append(
            f'SELECT {literal(name)} AS "table", {", ".join(shown)}, count(*) AS "rows", '
            f"min({instant}) AS first, max({instant}) AS last "
            f"FROM ({stored[name]}) WHERE {where} GROUP BY {', '.join(own)}"
        )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)})"


def _choose(
    symbol: str, choices: list[tuple[str, ...]], columns: list[str], priority: Sequence[str]
) -> tuple[str, ...]:
    fitting = choices
    for name in priority:
        preferred = [c for c in choices if "/".join(c[:2]) == name]
        if preferred:
            fitting = preferred
            break
    if len(fitting) == 1:
        return fitting[0]
    differ = [c for i, c in enumerate(columns) if len({choice[i] for choice in fitting}) > 1]
    how = ", ".join(f"{PARAMETERS[column]}=" for column in differ)
    settle = ", or set series.priority" if differ[0] in ("source", "feed") else ""
    raise SeriesError(
        f"{symbol}: more than one series fits: {'; '.join(map(_written, fitting))}; "
        f"name one with {how}{settle}"
    )


def _written(series: tuple[str, ...]) -> str:
    return " ".join(["/".join(series[:2]), *series[2:]])
