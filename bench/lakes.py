"""One symbol-day out of millions of trades: the lake, ArcticDB (LMDB), and plain Parquet files.

All three hold the same trades of the same sessions, appended session by session, and then one
trade of the last session is corrected. As-of reads ask for that session as it was known before
the correction, and after.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from bench import data
from bench.ours import ticks
from marketpipe.bars import BarEngine
from marketpipe.domain.batches import Dictionaries, StreamKey, TradeBatch
from marketpipe.domain.columns import decimals, i64_of
from marketpipe.domain.schemas import CANONICAL, schema_version
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.lake import TABLES, Lake, LakeLayout, LakeTable
from marketpipe.normalize.canonical import Knowledge, canonical_ticks
from marketpipe.normalize.identity import utc_dates
from marketpipe.pipelines.lakeorder import lake_order

AIM_MS: Final = 100.0
TRADES: Final = 20_000_000
SESSIONS: Final = 10
READS: Final = 15
_LAG_NS: Final = 50_000_000
_JOURNAL: Final = "bench"
_PRICE_STEP: Final = 10**9


class Asked(NamedTuple):
    """The session that is read, of one symbol, and two instants: without and with a correction."""

    symbol: str
    day: str
    start: int
    end: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Lakes:
    """What one store took: seconds to append the last session, median milliseconds of reads.

    ``rows`` is how many trades the session has that is read.

    ``as_of_ms`` is None where the store cannot answer; ``kept`` says whether the answer from before
    the correction was still there after it.
    """

    name: str
    rows: int
    append_seconds: float
    range_ms: float
    as_of_ms: float | None
    bars_ms: float | None
    kept: bool
    note: str


class _Day(NamedTuple):
    trades: data.Trades
    first: int


def _days(trades: data.Trades) -> list[_Day]:
    cuts = np.flatnonzero(np.diff(trades.ts // DAY_NS)) + 1
    edges = [0, *cuts.tolist(), len(trades)]
    return [_Day(trades.take(slice(a, b)), a) for a, b in pairwise(edges)]


def _asked(days: list[_Day]) -> Asked:
    last = days[-1].trades
    start = int(last.ts[0]) // DAY_NS * DAY_NS
    code = int(np.argsort(np.bincount(last.symbol, minlength=500))[250])
    corrected = start + DAY_NS - NANOS
    return Asked(
        data.SYMBOLS[code],
        str(np.datetime64(start, "ns").astype("datetime64[D]")),
        start,
        start + DAY_NS,
        corrected - 1,
        corrected,
    )


def measure(trades: int = TRADES) -> list[Lakes]:
    """Measure all three, each in a folder of its own."""
    days = _days(data.load(data.parquet(trades, SESSIONS)))
    asked = _asked(days)
    found = []
    for contender in (_ours, _arctic, _parquet):
        with tempfile.TemporaryDirectory(prefix="marketpipe-bench-") as name:
            found.append(contender(Path(name), days, asked))
    if len({each.rows for each in found}) > 1:
        raise RuntimeError(f"the stores gave {[each.rows for each in found]} rows for one session")
    return found


def _timed(read: Callable[[], Any]) -> float:
    """Return the median milliseconds of a read, after a first one that warms the cache."""
    read()
    times = []
    for _ in range(READS):
        start = perf_counter()
        read()
        times.append(perf_counter() - start)
    return median(times) * 1e3


# -- ours ------------------------------------------------------------------------------------------


def canonical(day: _Day) -> pa.Table:
    """Return a session as canonical trades with ids."""
    n = len(day.trades)
    numbers = np.arange(day.first, day.first + n)
    known = day.trades.ts + _LAG_NS
    batch = TradeBatch(
        dictionaries=Dictionaries(
            streams=tuple(StreamKey("bench", "sip", symbol) for symbol in data.SYMBOLS)
        ),
        stream=day.trades.symbol.astype(np.int32),
        row=numbers,
        ts_event=day.trades.ts,
        price=day.trades.price,
        size=day.trades.size,
        id_hi=np.zeros(n, np.int64),
        id_lo=numbers,
        ts_recv=known,
    )
    knowledge = Knowledge(recorded_at=known, known_at=known, backfilled=np.zeros(n, np.bool_))
    return canonical_ticks(batch, None, journal_id=_JOURNAL, dates=utc_dates, knowledge=knowledge)


def correction(trade: dict[str, Any], at: int, offset: int) -> pa.Table:
    """Return a correction of one canonical trade to a price one higher, known at an instant."""
    schema = CANONICAL["corrections"]
    same = (
        *("source", "feed", "symbol", "venue", "session_date", "tape", "price", "size"),
        *("conditions", "trade_id"),
    )
    row = {
        **{name: trade[name] for name in same},
        **dict.fromkeys(("ts_event", "ts_recv", "recorded_at", "known_at"), at),
        **dict.fromkeys(("key_major", "key_mid"), 0),
        **dict.fromkeys(("key_minor", "offset"), offset),
        "kind": "correction",
        "journal_id": _JOURNAL,
        "schema_version": schema_version(schema),
        "new_trade_id": str(offset),
        "new_price": trade["price"] + 1,
        "new_size": trade["size"],
        "new_conditions": trade["conditions"],
        "trade_ts_event": trade["ts_event"],
    }
    return pa.Table.from_pylist([row], schema=schema)


def _append(table: LakeTable, rows: pa.Table, through: int) -> None:
    order = lake_order(rows, table.spec, table.buckets)
    rows = rows if order is None else rows.combine_chunks().take(pa.array(order))
    offsets = None if "offset" in rows.column_names else np.full(len(rows), through)
    table.append(rows, app_id="bench", through=through, offsets=offsets)


def _ours(root: Path, days: list[_Day], asked: Asked) -> Lakes:
    layout = LakeLayout(root)
    tables = {name: LakeTable.open(layout, name) for name in TABLES}
    engine = BarEngine(["1m"], events=False, workers=2)
    times = []
    for day in days:
        rows = canonical(day)
        start = perf_counter()
        _append(tables["trades"], rows, day.first + len(rows) - 1)
        times.append(perf_counter() - start)
        engine.apply(ticks(day.trades))
    engine.flush()
    _append(tables["bars"], _known(engine.bars()), 0)
    lake = Lake(root)
    whole = (asked.symbol, asked.start, asked.end)
    was = lake.trades(*whole, as_of=asked.before)
    offset = days[-1].first + len(days[-1].trades)
    _append(tables["corrections"], correction(was.row(7, named=True), asked.after, offset), offset)
    kept = lake.trades(*whole, as_of=asked.before).equals(was)
    kept &= not lake.trades(*whole, as_of=asked.after).equals(was)
    return Lakes(
        "MarketPipe lake",
        len(was),
        times[-1],
        _timed(lambda: lake.trades(*whole, raw=True)),
        max(
            _timed(lambda: lake.trades(*whole, as_of=asked.before)),
            _timed(lambda: lake.trades(*whole, as_of=asked.after)),
        ),
        _timed(lambda: lake.bars(asked.symbol, "1m", *whole[1:], as_of=asked.after)),
        kept,
        "any instant, by when the market or when we could know; each row once, corrections applied",
    )


def _known(bars: pa.Table) -> pa.Table:
    """Return bars as if each had been known when it closed."""
    at = bars.column_names.index("known_at")
    return bars.set_column(at, bars.field(at), pa.array(i64_of(bars["ts_close"])))


# -- ArcticDB --------------------------------------------------------------------------------------


def _arctic(root: Path, days: list[_Day], asked: Asked) -> Lakes:
    arcticdb, pd = import_module("arcticdb"), import_module("pandas")

    library = arcticdb.Arctic(f"lmdb://{root}?map_size=20GB").create_library("trades")

    def frames(day: _Day) -> dict[str, Any]:
        order = np.lexsort((day.trades.ts, day.trades.symbol))
        trades = day.trades.take(order)
        edges = np.searchsorted(trades.symbol, np.arange(501))
        columns = {"price": trades.price, "size": trades.size, "row": order + day.first}
        return {
            data.SYMBOLS[code]: pd.DataFrame(
                {name: column[a:b] for name, column in columns.items()},
                index=pd.DatetimeIndex(trades.ts[a:b]),
            )
            for code, (a, b) in enumerate(pairwise(edges))
            if b > a
        }

    times = []
    for day in days:
        start = perf_counter()
        payloads = [arcticdb.WritePayload(name, frame) for name, frame in frames(day).items()]
        library.append_batch(payloads)
        times.append(perf_counter() - start)
    within = (pd.Timestamp(asked.start), pd.Timestamp(asked.end - 1))
    versions = library.list_versions(asked.symbol)
    before = max(key.version for key in versions)
    was = library.read(asked.symbol, date_range=within).data
    fixed = was.iloc[7:8].copy()
    fixed["price"] += _PRICE_STEP
    library.update(asked.symbol, fixed)

    def as_of() -> Any:
        return library.read(asked.symbol, as_of=before, date_range=within).data

    return Lakes(
        "ArcticDB, LMDB",
        len(was),
        times[-1],
        _timed(lambda: library.read(asked.symbol, date_range=within).data),
        _timed(as_of),
        None,
        bool(as_of().equals(was)),
        "versions and snapshots, by when they were written here: what was known at other instants "
        "cannot be asked; a correction writes a version",
    )


# -- plain Parquet ---------------------------------------------------------------------------------


def _parquet(root: Path, days: list[_Day], asked: Asked) -> Lakes:
    connection = duckdb.connect()
    times = []
    for day in days:
        rows = _plain(day)
        start = perf_counter()
        connection.register("day", rows)
        connection.execute(
            f"COPY (SELECT * FROM day ORDER BY symbol, ts) TO '{root}' "
            "(FORMAT parquet, COMPRESSION zstd, PARTITION_BY (date, symbol), APPEND)"
        )
        times.append(perf_counter() - start)
    files = f"{root}/date={asked.day}/symbol={asked.symbol}/*.parquet"

    def read() -> Any:
        return connection.sql(
            f"SELECT * FROM read_parquet('{files}') WHERE ts >= {asked.start} "
            f"AND ts < {asked.end} ORDER BY ts"
        ).to_arrow_table()

    elapsed, rows_read = _timed(read), len(read())
    connection.close()
    return Lakes(
        "Parquet by date and symbol, DuckDB",
        rows_read,
        times[-1],
        elapsed,
        None,
        None,
        kept=False,
        note="none: a correction overwrites; nothing tells a half-written append from a whole one",
    )


def _plain(day: _Day) -> pa.Table:
    trades = day.trades
    symbols = pa.DictionaryArray.from_arrays(
        pa.array(trades.symbol.astype(np.int32)), pa.array(data.SYMBOLS)
    ).cast(pa.string())
    date = str(np.datetime64(int(trades.ts[0]), "ns").astype("datetime64[D]"))
    return pa.table(
        {
            "date": pa.repeat(date, len(trades)),
            "symbol": symbols,
            "ts": trades.ts,
            "price": decimals(trades.price),
            "size": decimals(trades.size),
            "row": np.arange(day.first, day.first + len(trades)),
        }
    )
