"""Which rows of a loaded file are new, which known, and which say something else than before."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from marketpipe.domain.schemas import CORRECTIONS, schema_version
from marketpipe.pipelines.fresh import effective, once

RESTATED: Final = "restated"
"""``action`` of a correction that a load made of a trade that came again with other content."""

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


def beside(loaded: pa.Table, there: pa.Table, corrections: pa.Table) -> Reload:
    """Compare loaded trades with those that are there.

    A trade with an id is known by it. It says something else if its content is neither what is
    there after all corrections nor, unless an earlier load restated it, what first came: a file
    made before a vendor's correction or cancel does not undo it. One without an id is known by
    all that it says, and by how many there are that say the same: two equal prints of a file are
    two, and loading the file twice makes no third.

    Parameters
    ----------
    loaded, there : canonical trades; ``loaded`` in order of offset
    corrections : canonical ones that are there
    """
    rows = _frame(loaded).with_row_index("row")
    old, now = _frame(once(there)), _frame(effective(there, corrections))
    with_id, without = rows.filter(_has_id()), rows.filter(~_has_id())
    matched = with_id.lazy()
    for side, frame in (("old", old), ("now", now)):
        said = frame.filter(_has_id()).unique(_ID, keep="first", maintain_order=True)
        beside_it = said.select(*_ID, *(pl.col(c).alias(f"{side}_{c}") for c in _SAID))
        matched = matched.join(beside_it.lazy(), on=_ID, how="left", nulls_equal=True)
    redone = _frame_of(corrections, [*_ID, "action"]).filter(pl.col("action") == RESTATED)
    redone = redone.select(*_ID, pl.lit(True).alias("redone")).unique(_ID)
    found = matched.join(redone.lazy(), on=_ID, how="left", nulls_equal=True).collect()
    is_there = pl.col("old_price").is_not_null()
    is_gone = pl.col("now_price").is_null()
    as_first = ~_differs("old") & pl.col("redone").is_null()
    counted = _numbered(without).join(
        _numbered(old.filter(~_has_id())).select(*_LIKE, "nth", pl.lit(True).alias("there")),
        on=[*_LIKE, "nth"],
        how="left",
        nulls_equal=True,
    )
    new = [found.filter(~is_there)["row"], counted.filter(pl.col("there").is_null())["row"]]
    restated = found.filter(is_there & ~is_gone & ~as_first & _differs("now"))["row"]
    fresh = np.sort(np.concatenate([part.to_numpy() for part in new])).astype(np.int64)
    again = np.sort(restated.to_numpy()).astype(np.int64)
    return Reload(
        loaded.take(pa.array(fresh)),
        loaded.take(pa.array(again)),
        len(loaded) - len(fresh) - len(again),
    )


def _differs(side: str) -> pl.Expr:
    return pl.any_horizontal([pl.col(c).ne_missing(pl.col(f"{side}_{c}")) for c in _SAID])


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
        "action": pa.repeat(RESTATED, n),
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
    return _frame_of(table, [*_ID, *_CONTENT, "side", "conditions"])


def _frame_of(table: pa.Table, names: list[str]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(names))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"trades were a {type(frame).__name__}, expected a table")
    return frame


def _has_id() -> pl.Expr:
    return pl.col("trade_id").is_not_null()


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Give equal rows a number, from 0, in order."""
    return rows.with_columns(pl.int_range(pl.len()).over(_LIKE).alias("nth"))
