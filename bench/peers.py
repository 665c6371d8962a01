"""DuckDB and Polars: each in several formulations, on both cores, on data already in memory.

All get the same freedoms as ours: they may roll up finer bars into coarser ones, and may pack
symbol and second into one integer, which both group faster than two columns. Loading the data
and turning the result into NumPy columns are not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import polars as pl

from bench.bars import TIMEFRAMES, Answer, Bars
from bench.data import SECOND, Trades

_PACK: Final = 512
"""More than there are symbols: key = second * _PACK + symbol."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A contender with the data loaded.

    ``reset`` comes before every run and is not timed; ``run`` is; ``answer`` reads what it left.
    """

    run: Callable[[], object]
    answer: Callable[[], Answer]
    reset: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Formulation:
    """One way in which one peer computes the bars; ``family`` is the peer."""

    family: str
    name: str
    load: Callable[[Trades], Ready]


_READ: Final = "k, o, h, l, c, v, n"


def _unpacked(columns: dict[str, "np.ndarray[tuple[int], np.dtype[np.int64]]"]) -> Bars:
    key = columns["k"].astype(np.int64)
    return Bars(
        (key % _PACK).astype(np.int16),
        key // _PACK * SECOND,
        *(columns[name].astype(np.int64) for name in "ohlcvn"),
    )


# DuckDB. Results are tables in its own memory, the cheapest place for it to put them.

_BY_TIME: Final = (
    "arg_min(price, ts) o, max(price) h, min(price) l, arg_max(price, ts) c, "
    "sum(size) v, count(*) n"
)
_BY_POSITION: Final = (
    "first(price) o, max(price) h, min(price) l, last(price) c, sum(size) v, count(*) n"
)
_COARSER: Final = "arg_min(o, k) o, max(h) h, min(l) l, arg_max(c, k) c, sum(v) v, sum(n) n"
_NOTIONAL: Final = ", sum(price::HUGEINT * size) x"
EXACT: Final = "roll-up, with the exact notional"
"""The name of formulations that compute all that ours does: 128-bit sums of price times size."""


def _duckdb(statements: list[str]) -> Callable[[Trades], Ready]:
    def load(trades: Trades) -> Ready:
        connection = duckdb.connect()
        columns = {
            "symbol": trades.symbol,
            "ts": trades.ts,
            "price": trades.price,
            "size": trades.size,
        }
        connection.register("given", pl.DataFrame(columns).to_arrow())
        connection.execute("CREATE TABLE trades AS FROM given")

        def run() -> None:
            for statement in statements:
                connection.execute(statement)

        def answer() -> Answer:
            return {
                name: _unpacked(connection.execute(f"SELECT {_READ} FROM bars_{name}").fetchnumpy())
                for name in TIMEFRAMES
            }

        return Ready(run, answer)

    return load


def _duckdb_direct(reduce: str) -> list[str]:
    return [
        f"CREATE OR REPLACE TABLE bars_{name} AS SELECT "
        f"(ts // {seconds * SECOND}) * {seconds * _PACK} + symbol AS k, {reduce} "
        "FROM trades GROUP BY ALL"
        for name, seconds in TIMEFRAMES.items()
    ]


def _duckdb_roll_up(*, exact: bool = False) -> list[str]:
    finest, *coarser = TIMEFRAMES
    statements = _duckdb_direct(_BY_TIME + (_NOTIONAL if exact else ""))[:1]
    combine = _COARSER + (", sum(x) x" if exact else "")
    for finer, name in zip([finest, *coarser], coarser, strict=False):
        seconds = TIMEFRAMES[name]
        statements.append(
            f"CREATE OR REPLACE TABLE bars_{name} AS SELECT "
            f"k // {seconds * _PACK} * {seconds * _PACK} + k % {_PACK} AS k, {combine} "
            f"FROM bars_{finer} GROUP BY ALL"
        )
    return statements


# Polars.


def _ends(order: str | None, first: str, last: str) -> list[pl.Expr]:
    """Open and close: by the least and greatest ``order``, or by position where it is None."""
    if order is None:
        return [pl.col(first).first().alias("o"), pl.col(last).last().alias("c")]
    return [pl.col(first).min_by(order).alias("o"), pl.col(last).max_by(order).alias("c")]


def _polars_direct(frame: pl.LazyFrame, *, by_time: bool) -> list[pl.DataFrame]:
    return pl.collect_all(
        [_polars_bars(frame, seconds, by_time=by_time) for seconds in TIMEFRAMES.values()]
    )


def _polars_bars(
    frame: pl.LazyFrame, seconds: int, *, by_time: bool, exact: bool = False
) -> pl.LazyFrame:
    notional = [(pl.col("price").cast(pl.Int128) * pl.col("size")).sum().alias("x")]
    key = pl.col("ts") // (seconds * SECOND) * (seconds * _PACK) + pl.col("symbol")
    return (
        frame.select("ts", "price", "size", k=key)
        .group_by("k", maintain_order=not by_time)
        .agg(
            *_ends("ts" if by_time else None, "price", "price"),
            *(notional if exact else ()),
            h=pl.col("price").max(),
            l=pl.col("price").min(),
            v=pl.col("size").sum(),
            n=pl.len().cast(pl.Int64),
        )
    )


def _polars_exact(frame: pl.LazyFrame, *, by_time: bool) -> list[pl.DataFrame]:
    return _polars_roll_up(frame, by_time=by_time, exact=True)


def _polars_roll_up(
    frame: pl.LazyFrame, *, by_time: bool, exact: bool = False
) -> list[pl.DataFrame]:
    finest, *coarser = TIMEFRAMES.values()
    bars = [_polars_bars(frame, finest, by_time=by_time, exact=exact).collect()]
    notional = [pl.col("x").sum()] if exact else []
    for seconds in coarser:
        key = pl.col("k") // (seconds * _PACK) * (seconds * _PACK) + pl.col("k") % _PACK
        finer = bars[-1].lazy().with_columns(k=key, was=pl.col("k"))
        rolled = finer.group_by("k", maintain_order=not by_time).agg(
            *_ends("was" if by_time else None, "o", "c"),
            *notional,
            h=pl.col("h").max(),
            l=pl.col("l").min(),
            v=pl.col("v").sum(),
            n=pl.col("n").sum(),
        )
        bars.append(rolled.collect())
    return bars


def _polars(
    compute: Callable[..., list[pl.DataFrame]], *, by_time: bool
) -> Callable[[Trades], Ready]:
    def load(trades: Trades) -> Ready:
        columns = {
            "symbol": trades.symbol,
            "ts": trades.ts,
            "price": trades.price,
            "size": trades.size,
        }
        frame = pl.DataFrame(columns).lazy()
        left: list[pl.DataFrame] = []

        def run() -> None:
            left[:] = compute(frame, by_time=by_time)

        def answer() -> Answer:
            return {
                name: _unpacked({column: bars[column].to_numpy() for column in _READ.split(", ")})
                for name, bars in zip(TIMEFRAMES, left, strict=True)
            }

        return Ready(run, answer)

    return load


FORMULATIONS: Final = (
    Formulation("DuckDB", "direct, first/last", _duckdb(_duckdb_direct(_BY_POSITION))),
    Formulation("DuckDB", "direct, arg_min/arg_max", _duckdb(_duckdb_direct(_BY_TIME))),
    Formulation("DuckDB", "roll-up, arg_min/arg_max", _duckdb(_duckdb_roll_up())),
    Formulation("DuckDB", EXACT, _duckdb(_duckdb_roll_up(exact=True))),
    Formulation("Polars", "direct, first/last", _polars(_polars_direct, by_time=False)),
    Formulation("Polars", "direct, min_by/max_by", _polars(_polars_direct, by_time=True)),
    Formulation("Polars", "roll-up, first/last", _polars(_polars_roll_up, by_time=False)),
    Formulation("Polars", "roll-up, min_by/max_by", _polars(_polars_roll_up, by_time=True)),
    Formulation("Polars", EXACT, _polars(_polars_exact, by_time=True)),
)
