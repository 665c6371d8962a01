"""Bars computed anew beside the bars that are kept: what differs, and the revisions it makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import polars as pl
import pyarrow as pa

from marketpipe.domain.bars import Cause
from marketpipe.domain.schemas import BARS

IDENTITY: Final = (
    "source", "feed", "symbol", "price_type", "rule_set", "session", "timeframe", "ts_open",
)  # fmt: skip
CONTENT: Final = (
    "session_date", "ts_close", "open", "high", "low", "close", "volume", "notional", "vwap",
    "trade_count", "official_open", "official_close",
)  # fmt: skip
"""What a bar says; the other columns say what became of it."""


class Difference(NamedTuple):
    """One value of one bar that differs."""

    symbol: str
    timeframe: str
    ts_open: int
    field: str
    kept: str
    fresh: str


@dataclass(frozen=True, slots=True)
class Restatement:
    """What a fresh computation says of bars that are kept.

    Attributes
    ----------
    absent : fresh bars that are not kept, or whose last revision is void
    changed : fresh bars that say something else than what is kept
    gone : kept bars that the fresh computation does not have
    equal : how many agree
    newest_ns : when the last of what was compared became known, ns; no change is known before

    All have the columns of BARS; ``revision`` is the one that they are to get, ``known_at`` the
    fresh one's, and ``partial`` that of the bar that is kept.
    """

    absent: pa.Table
    changed: pa.Table
    gone: pa.Table
    equal: int
    differences: tuple[Difference, ...]
    newest_ns: int = 0

    def __bool__(self) -> bool:
        return bool(len(self.absent) + len(self.changed) + len(self.gone))

    def revisions(self, cause: Cause, recorded_at: int) -> pa.Table:
        """Return the revisions to add, schema BARS, sorted by when their bars end.

        Parameters
        ----------
        cause : of those that are not a bar's first
        recorded_at : ns; changes of bars that are kept became known then, and not before; what is
            newer makes it later: a load that broke off may be finished after a feed went on
        """
        recorded_at = max(recorded_at, self.newest_ns)
        first = pl.col("revision") == 0
        stamped = [
            pl.lit("confirmed").alias("state"),
            pl.lit(recorded_at).alias("recorded_at"),
            pl.when(first).then(pl.lit("first")).otherwise(pl.lit(cause)).alias("cause"),
            pl.when(first)
            .then(pl.col("known_at"))
            .otherwise(pl.max_horizontal("known_at", pl.lit(recorded_at)))
            .alias("known_at"),
        ]
        parts = [frame(t) for t in (self.absent, self.changed, self.gone)]
        rows = pl.concat(parts).with_columns(stamped)
        return arrow(rows.sort("ts_close", "symbol", "timeframe", "ts_open", maintain_order=True))


def restate(kept: pa.Table, fresh: pa.Table) -> Restatement:
    """Compare bars computed anew with those that are kept.

    Parameters
    ----------
    kept : schema BARS, the latest revision of each bar, void ones included
    fresh : schema BARS, one row a bar
    """
    old, new = frame(kept), frame(fresh)
    beside = new.join(
        old.select(*IDENTITY, *(pl.col(c).alias(f"kept_{c}") for c in (*CONTENT, *_FATE))),
        on=list(IDENTITY),
        how="left",
        nulls_equal=True,
    )
    known = pl.col("kept_revision").is_not_null()
    void = pl.col("kept_coverage") == "void"
    differs = pl.any_horizontal([pl.col(c).ne_missing(pl.col(f"kept_{c}")) for c in CONTENT])
    absent = beside.filter(~known | void)
    changed = beside.filter(known & ~void & differs)
    gone = (
        old.filter(pl.col("coverage") != "void")
        .join(new.select(IDENTITY), on=list(IDENTITY), how="anti")
        .with_columns(
            *(pl.lit(None).cast(old.schema[c]).alias(c) for c in _VOIDED),
            pl.lit(0, pl.Int64).alias("trade_count"),
            pl.lit("void").alias("coverage"),
            pl.col("revision") + 1,
        )
    )
    return Restatement(
        arrow(_numbered(absent)),
        arrow(_numbered(changed)),
        arrow(gone),
        len(new) - len(absent) - len(changed),
        tuple(_differences(changed)),
    )


_FATE: Final = ("revision", "coverage", "partial")
_VOIDED: Final = (
    "open", "high", "low", "close", "volume", "notional", "vwap", "official_open",
    "official_close",
)  # fmt: skip
_SHOWN = 20


def _numbered(beside: pl.DataFrame) -> pl.DataFrame:
    return beside.with_columns(
        (pl.col("kept_revision").fill_null(-1) + 1).cast(pl.Int32).alias("revision"),
        pl.col("kept_partial").fill_null(pl.col("partial")).alias("partial"),
    ).select(BARS.names)


def _differences(changed: pl.DataFrame) -> Iterator[Difference]:
    for row in changed.sort("ts_open", "symbol", "timeframe").head(_SHOWN).iter_rows(named=True):
        for name in CONTENT:
            if row[name] != row[f"kept_{name}"]:
                yield Difference(
                    row["symbol"],
                    row["timeframe"],
                    row["ts_open"],
                    name,
                    str(row[f"kept_{name}"]),
                    str(row[name]),
                )


def frame(table: pa.Table) -> pl.DataFrame:
    """Return bars of the schema BARS as a frame."""
    found = pl.from_arrow(table.select(BARS.names))
    if not isinstance(found, pl.DataFrame):
        raise TypeError(f"bars were a {type(found).__name__}, expected a table")
    return found


def arrow(bars: pl.DataFrame) -> pa.Table:
    """Return a frame of bars in the schema BARS."""
    return bars.select(BARS.names).to_arrow().cast(BARS)
