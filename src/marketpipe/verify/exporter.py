"""The canonical export: bars as files whose bytes depend on nothing but the bars."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO, Final, Literal, TypeAlias
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marketpipe.errors import SeriesError
from marketpipe.verify.csvtext import csv_chunks
from marketpipe.verify.rows import ranks, select

Format: TypeAlias = Literal["csv", "parquet", "arrow"]

SERIES: Final = ("source", "feed", "price_type", "rule_set")
"""The columns that ``all_series`` puts in front."""

COLUMNS: Final = (
    *("symbol", "timeframe", "ts_open", "ts_close", "open", "high", "low", "close"),
    *("volume", "notional", "trade_count"),
)
HISTORY: Final = ("revision", "status", "cause", "known_at")
_QUOTED: Final = ("bid", "ask", "mid")


class CanonicalExporter:
    """Write bars as CSV, Parquet or Arrow, in one order, exactly.

    Rows stand in the order source, feed, price_type, rule_set, symbol (each by code point),
    timeframe by its duration, ts_open, revision. Without ``history`` there is one row per bar,
    its latest revision; bars whose latest revision is void or has no prices are left out.
    Forming bars always are.

    Parameters
    ----------
    bars : table of the bars schema, any row order
    all_series : put source, feed, price_type, rule_set in front, and allow more than one series
    history : add revision, status (``void`` or the state), cause, known_at, and every revision

    Raises
    ------
    SeriesError
        If the bars are of more than one series and ``all_series`` is false, or if one series
        has bars of more than one session, which no column could tell apart.
    InputError
        If the table does not fit the bars schema or holds one revision twice.
    """

    def __init__(self, bars: pa.Table, *, all_series: bool = False, history: bool = False) -> None:
        self._bars = select(bars, history=history).take()
        self._all_series = all_series
        self._history = history
        _check_series(self._bars, all_series=all_series)

    def __len__(self) -> int:
        return len(self._bars)

    def write(self, target: str | os.PathLike[str] | BinaryIO) -> str:
        """Write the CSV to a path or an open binary file; return its ``sha256:…`` digest.

        A file at the path appears whole or not at all.
        """
        if isinstance(target, (str, os.PathLike)):
            with _replacing(Path(target)) as file:
                return self._write_csv(self._bars, file)
        return self._write_csv(self._bars, target)

    def compute_hash(self) -> str:
        """Return the digest that `write` would return, without writing."""
        return self._write_csv(self._bars, None)

    def to_parquet(self, target: str | os.PathLike[str]) -> None:
        """Write the rows with all columns of the bars schema as Parquet (zstd)."""
        with _replacing(Path(target)) as file:
            _write_parquet(self._bars, file)

    def to_arrow(self, target: str | os.PathLike[str]) -> None:
        """Write the rows with all columns of the bars schema as an Arrow IPC file."""
        with _replacing(Path(target)) as file:
            _write_arrow(self._bars, file)

    def to_hive(self, root: str | os.PathLike[str], file_format: Format = "parquet") -> list[Path]:
        """Write one file per symbol and session date below ``root``; return their paths.

        The layout is ``symbol=AAPL/year=2025/month=06/day=04.parquet``; symbols are
        percent-encoded (``BTC%2FUSD``). Each file holds every timeframe of its day.
        """
        if file_format not in ("csv", "parquet", "arrow"):
            raise SeriesError(f"format was {file_format!r}; valid are csv, parquet, arrow")
        paths = []
        for symbol, part in _by_symbol_and_date(self._bars):
            day = part["session_date"][0].as_py()
            folder = f"symbol={quote(symbol, safe='')}/year={day:%Y}/month={day:%m}"
            path = Path(root) / folder / f"day={day:%d}.{file_format}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(path) as file:
                if file_format == "csv":
                    self._write_csv(part, file)
                elif file_format == "parquet":
                    _write_parquet(part, file)
                else:
                    _write_arrow(part, file)
            paths.append(path)
        return paths

    def _write_csv(self, bars: pa.Table, file: IO[bytes] | None) -> str:
        digest = hashlib.sha256()
        names = (
            *(SERIES if self._all_series else ()),
            *COLUMNS,
            *(HISTORY if self._history else ()),
        )
        for chunk in csv_chunks(_csv_table(bars), tuple((name, name) for name in names)):
            digest.update(chunk)
            if file is not None:
                file.write(chunk)
        return f"sha256:{digest.hexdigest()}"


def _csv_table(bars: pa.Table) -> pa.Table:
    """Add ``status``, and empty the sums of quote bars, which have none."""
    void = pc.equal(bars["coverage"], "void")
    status = pc.if_else(void, "void", bars["state"])
    quoted = pc.is_in(bars["price_type"], value_set=pa.array(_QUOTED))
    for name in ("volume", "notional"):
        column = pc.if_else(quoted, pa.scalar(None, bars.schema.field(name).type), bars[name])
        bars = bars.set_column(bars.schema.get_field_index(name), name, column)
    return bars.append_column("status", status)


def _check_series(bars: pa.Table, *, all_series: bool) -> None:
    found = bars.group_by([*SERIES, "session"]).aggregate([]).to_pylist()
    choices = sorted(tuple(row[name] for name in (*SERIES, "session")) for row in found)
    series = {choice[:-1] for choice in choices}
    if len(series) > 1 and not all_series:
        remedy = "name one of them, or ask for all series"
    elif len(choices) > len(series):
        remedy = "name one session: a file has no column for it"
    else:
        return
    listed = "; ".join(
        f"source={c[0]} feed={c[1]} price={c[2]} rules={c[3]} session={c[4]}" for c in choices
    )
    raise SeriesError(f"bars are of {len(choices)} series; {remedy}: {listed}")


def _by_symbol_and_date(bars: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    symbol = ranks(bars["symbol"], str)
    date = bars["session_date"].combine_chunks().cast(pa.int32()).to_numpy(zero_copy_only=False)
    order = np.lexsort((np.arange(len(bars)), date, symbol))
    symbol, date = symbol[order], date[order]
    ordered = bars.take(order)
    edge = np.flatnonzero((symbol[1:] != symbol[:-1]) | (date[1:] != date[:-1])) + 1
    bounds = [0, *edge.tolist(), len(bars)] if len(bars) else []
    for start, stop in pairwise(bounds):
        part = ordered.slice(start, stop - start)
        yield part["symbol"][0].as_py(), part


def _write_parquet(bars: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(bars, file, compression="zstd", row_group_size=65_536)


def _write_arrow(bars: pa.Table, file: IO[bytes]) -> None:
    with pa.ipc.new_file(file, bars.schema) as writer:
        writer.write_table(bars, max_chunksize=65_536)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the path's place when complete; a pipe or device is used as is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
