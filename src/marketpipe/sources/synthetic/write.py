"""Generated ticks as files: tick CSV and Parquet, as users would bring them."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import zstandard

from marketpipe.domain.batches import I32, I64, TradeBatch
from marketpipe.domain.schemas import PRICE
from marketpipe.domain.units import NANOS
from marketpipe.sources.synthetic.client import SyntheticSource

_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6
_ROW_GROUP_ROWS = 1 << 20


def write_csv(source: SyntheticSource, path: str | PathLike[str]) -> int:
    """Write tick CSV; ``.gz`` and ``.zst`` names are packed; the bytes depend on the recipe alone.

    Columns are ``symbol,ts_ns,price,size`` and, where the recipe has them, ``venue, trade_id,
    conditions, tape, ts_recv_ns``. Prices have as many decimals as the finest price step.

    Returns
    -------
    int
        Rows written.
    """
    digits = _digits(source.config.ticks())
    rows = 0
    with _packed(Path(path)) as target:
        header = True
        for batch in source.batches():
            price, size = _written(batch.price, digits), pa.array(batch.size // NANOS)
            options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
            table = _table(batch, price, size)
            if header:
                target.write((",".join(table.column_names) + "\n").encode())
                header = False
            pa_csv.write_csv(table, target, options)
            rows += len(batch)
    return rows


def write_parquet(source: SyntheticSource, path: str | PathLike[str]) -> int:
    """Write Parquet (zstd) with the columns of `write_csv`; price and size are DECIMAL(18,9).

    Returns
    -------
    int
        Rows written.
    """
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in source.batches():
            table = _table(batch, _decimal(batch.price, PRICE), _decimal(batch.size, PRICE))
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
            rows += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _table(batch: TradeBatch, price: pa.Array, size: pa.Array) -> pa.Table:
    names = batch.dictionaries
    columns = {
        "symbol": _text(batch.stream, tuple(key.symbol for key in names.streams)),
        "ts_ns": pa.array(batch.ts_event),
        "price": price,
        "size": size,
    }
    if batch.venue is not None:
        columns["venue"] = _text(batch.venue, names.venues)
    if batch.id_lo is not None:
        columns["trade_id"] = pa.array(batch.id_lo)
    if batch.conditions is not None:
        columns["conditions"] = _text(batch.conditions, names.conditions)
    if batch.tape is not None:
        columns["tape"] = _text(batch.tape, names.tapes)
    if batch.ts_recv is not None:
        columns["ts_recv_ns"] = pa.array(batch.ts_recv)
    return pa.table(columns)


def _text(codes: I32, names: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string())).cast(
        pa.string()
    )


def _written(nanos: I64, digits: int) -> pa.Array:
    """Write nanos with fixed decimals; Arrow's decimals turn to exponents below 1e-6."""
    units, rest = np.divmod(nanos, NANOS)
    if not digits:
        return pa.array(units)
    fraction = pa.array(rest // 10 ** (9 - digits)).cast(pa.string())
    return pc.binary_join_element_wise(
        pa.array(units).cast(pa.string()), pc.utf8_lpad(fraction, digits, "0"), "."
    )


def _decimal(values: I64, kind: pa.DataType) -> pa.Array:
    """Reinterpret integers as decimals: the low word, and its sign as the high word."""
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = values
    np.right_shift(values, 63, out=words[:, 1])
    return pa.Decimal128Array.from_buffers(kind, len(values), [None, pa.py_buffer(words)])


def _digits(ticks: tuple[int, ...]) -> int:
    """Decimals that the finest price step needs, 0 to 9."""
    return next(d for d in range(10) if all(tick % 10 ** (9 - d) == 0 for tick in ticks))


@contextmanager
def _packed(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(
                filename="", fileobj=raw, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0
            ) as packed:
                yield cast(BinaryIO, packed)
        elif path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(raw) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw
