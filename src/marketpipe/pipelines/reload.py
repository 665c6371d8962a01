"""Which rows of a loaded file are new, which known, and which say something else than before."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from marketpipe.domain.schemas import CORRECTIONS, schema_version

_STREAM: Final = ["source", "feed", "symbol"]
_ID: Final = [*_STREAM, "venue", "tape", "session_date", "trade_id"]
_CONTENT: Final = ["ts_event", "price", "size"]
_SAID: Final = ["price", "size", "conditions"]
_LIKE: Final = [*_STREAM, "venue", "tape", "side", "conditions", "session_date", *_CONTENT]


@dataclass(frozen=True, slots=True)
class Reload:
    """What a load adds to what is there.

    Attributes
    ----------
    new : canonical trades that were not there
    restated : canonical trades whose id was there with another price, size or conditions; a trade
        keeps the time at which it happened
    known : how many were there already
    """

    new: pa.Table
    restated: pa.Table
    known: int


def beside(loaded: pa.Table, there: pa.Table) -> Reload:
    """Compare loaded trades with those that are there, after their corrections.

    A trade with an id is known by it. One without is known by all that it says, and by how many
    there are that say the same: two equal prints of a file are two, and loading the file twice
    makes no third.

    Parameters
    ----------
    loaded, there : canonical trades; ``loaded`` in order of offset
    """
    rows = _frame(loaded).with_row_index("row")
    old = _frame(there)
    with_id, without = rows.filter(_has_id()), rows.filter(~_has_id())
    first = old.filter(_has_id()).unique(_ID, keep="first").select(*_ID, *_kept(_SAID))
    matched = with_id.join(first, on=_ID, how="left", nulls_equal=True)
    is_there = pl.col("kept_price").is_not_null()
    other = pl.any_horizontal([pl.col(c).ne_missing(pl.col(f"kept_{c}")) for c in _SAID])
    counted = _numbered(without).join(
        _numbered(old.filter(~_has_id())).select(*_LIKE, "nth", pl.lit(True).alias("there")),
        on=[*_LIKE, "nth"],
        how="left",
        nulls_equal=True,
    )
    new = [matched.filter(~is_there)["row"], counted.filter(pl.col("there").is_null())["row"]]
    restated = matched.filter(is_there & other)["row"]
    fresh = np.sort(np.concatenate([part.to_numpy() for part in new])).astype(np.int64)
    again = np.sort(restated.to_numpy()).astype(np.int64)
    return Reload(
        loaded.take(pa.array(fresh)),
        loaded.take(pa.array(again)),
        len(loaded) - len(fresh) - len(again),
    )


def restatements(trades: pa.Table, recorded_at: int) -> pa.Table:
    """Return canonical corrections that say what restated trades say.

    Parameters
    ----------
    trades : canonical trades whose ids are there with other content
    recorded_at : ns, when they were loaded; nobody knew of them before
    """
    n = len(trades)
    stamps = pa.array(np.full(n, recorded_at, np.int64))
    made = {
        "kind": pa.repeat("correction", n),
        "action": pa.repeat("restated", n),
        "recorded_at": stamps,
        "known_at": stamps,
        "new_trade_id": trades["trade_id"],
        "new_price": trades["price"],
        "new_size": trades["size"],
        "new_conditions": trades["conditions"],
        "trade_ts_event": trades["ts_event"],
        # the message is as new as the load: it outranks every earlier correction
        "ts_event": stamps,
        "price": pa.nulls(n, CORRECTIONS.field("price").type),
        "size": pa.nulls(n, CORRECTIONS.field("size").type),
        "conditions": pa.nulls(n, pa.string()),
        "schema_version": pa.array([schema_version(CORRECTIONS)] * n, pa.int16()),
    }
    columns = [made[name] if name in made else trades[name] for name in CORRECTIONS.names]
    return pa.table(columns, schema=CORRECTIONS)


def _frame(table: pa.Table) -> pl.DataFrame:
    names = [*_ID, *_CONTENT, "side", "conditions", "offset"]
    frame = pl.from_arrow(table.select(names))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"trades were a {type(frame).__name__}, expected a table")
    return frame


def _has_id() -> pl.Expr:
    return pl.col("trade_id").is_not_null()


def _kept(names: list[str]) -> list[pl.Expr]:
    return [pl.col(name).alias(f"kept_{name}") for name in names]


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Give equal rows a number, from 0, in order."""
    return rows.with_columns(pl.int_range(pl.len()).over(_LIKE).alias("nth"))
