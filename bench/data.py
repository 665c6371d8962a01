"""The data of the benchmarks: generated once into ``.bench/``, then read from there.

Every set is generated ticks (`marketpipe.sources.synthetic`), 500 symbols, the most active of
which has about a seventh of all trades, in sessions of 14:30 to 21:00
UTC (09:30 to 16:00 New York).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource
from marketpipe.sources.synthetic.write import write_csv, write_parquet

I64: TypeAlias = npt.NDArray[np.int64]

FOLDER: Final = Path(".bench")
SYMBOLS: Final = tuple(f"S{k:03d}" for k in range(500))
# With this seed no two trades of a symbol in ten million share an instant, so that there is one
# right answer for contenders who order by time alone.
SEED: Final = 1
SECOND: Final = 1_000_000_000
_FIRST_OPEN_NS: Final = 1_767_623_400 * SECOND  # 2026-01-05T14:30:00Z, a Monday
_SESSION_NS: Final = 23_400 * SECOND
_DAY_NS: Final = 86_400 * SECOND
_LATE_MAX_NS: Final = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in memory, in the order of the file.

    ``symbol`` is a code into `SYMBOLS`, ``ts`` ns since the epoch, ``price`` and ``size``
    nanos.
    """

    symbol: npt.NDArray[np.int16]
    ts: I64
    price: I64
    size: I64

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, rows: I64 | slice) -> "Trades":
        """Return these rows, in this order."""
        return Trades(self.symbol[rows], self.ts[rows], self.price[rows], self.size[rows])


def config(trades: int, sessions: int = 1, late_share: float = 0.0) -> SyntheticConfig:
    """Return the recipe of a set; weekends are skipped."""
    opens = [_FIRST_OPEN_NS + (k + 2 * (k // 5)) * _DAY_NS for k in range(sessions)]
    return SyntheticConfig(
        symbols=SYMBOLS,
        sessions=tuple((o, o + _SESSION_NS) for o in opens),
        trades=trades,
        seed=SEED,
        late_share=late_share,
        late_max_ns=_LATE_MAX_NS,
        with_ids=False,
    )


def parquet(trades: int, sessions: int = 1, late_share: float = 0.0) -> Path:
    """Return the Parquet file of a set, written first where it is missing."""
    return _built(config(trades, sessions, late_share), "parquet")


def csv(trades: int, sessions: int = 1) -> Path:
    """Return the tick CSV of a set, written first where it is missing."""
    return _built(config(trades, sessions), "csv")


def load(path: Path) -> Trades:
    """Read a Parquet file of `parquet` into memory."""
    table = pq.read_table(path, read_dictionary=["symbol"]).unify_dictionaries().combine_chunks()
    symbols = table["symbol"].chunk(0)
    code_of = {name: code for code, name in enumerate(SYMBOLS)}
    codes = np.array([code_of[name] for name in symbols.dictionary.to_pylist()], np.int16)
    return Trades(
        codes[symbols.indices.to_numpy()],
        np.ascontiguousarray(table["ts_ns"].to_numpy()),
        _nanos(table["price"]),
        _nanos(table["size"]),
    )


def shuffled(trades: Trades) -> Trades:
    """Return the same trades in a fixed order that has nothing to do with time."""
    # Fixed seed: the order repeats, and nothing but this benchmark depends on it.
    return trades.take(np.random.default_rng(SEED).permutation(len(trades)))


def _built(recipe: SyntheticConfig, kind: str) -> Path:
    late = f"-late{recipe.late_share:g}" if recipe.late_share else ""
    name = f"{recipe.total_trades // 1000}k-{len(recipe.sessions)}d{late}-v1.{kind}"
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{kind}-partial")
        (write_csv if kind == "csv" else write_parquet)(SyntheticSource(recipe), partial)
        partial.rename(path)
    return path


def _nanos(column: pa.ChunkedArray) -> I64:
    """Low words of DECIMAL(18,9), which are its value in nanos."""
    chunk = column.chunk(0)
    words = np.frombuffer(chunk.buffers()[1], np.int64)
    return np.ascontiguousarray(words[2 * chunk.offset : 2 * (chunk.offset + len(chunk)) : 2])
