"""Parquet files of ticks: columns, bad rows, filters, damage."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import Batch, QuoteBatch, StreamKey, TradeBatch
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import CorruptError, HeaderError, InputError, MarketPipeError, UsageError
from marketpipe.sources.base import SourceCounts
from marketpipe.sources.csvfile import CsvSource
from marketpipe.sources.parquet import ParquetSource

PLAIN: dict[str, Any] = {
    "symbol": ["A", "B", "A"],
    "ts_ns": [1, 2, 3],
    "price": [1.5, 2.0, 0.25],
    "size": [1, 2, 3],
}


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "ticks.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, **options: Any) -> list[Batch]:
    return list(ParquetSource(path, **options).batches())


def test_parquet_trades_are_read_with_their_rows(tmp_path: Path) -> None:
    (batch,) = read(write(tmp_path, PLAIN), default_feed="sip")
    assert isinstance(batch, TradeBatch)
    assert batch.dictionaries.streams == (
        StreamKey("file", "sip", "A"),
        StreamKey("file", "sip", "B"),
    )
    assert batch.stream.tolist() == [0, 1, 0]
    assert batch.row.tolist() == [1, 2, 3]
    assert batch.ts_event.tolist() == [1, 2, 3]
    assert batch.price.tolist() == [1_500_000_000, 2_000_000_000, 250_000_000]
    assert batch.size.tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    assert (batch.bad, batch.id_hi, batch.venue, batch.side) == ((), None, None, None)
    assert all(column.flags.writeable for column in (batch.ts_event, batch.price, batch.size))


@pytest.mark.parametrize(
    "symbols",
    [
        pa.array(["A", "B", "A"], pa.large_string()),
        pa.array(["A", "B", "A"], pa.string_view()),
        pa.array(["A", "B", "A"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([2, 0, 2], pa.int8()), ["B", "unused", "A"]),
    ],
)
def test_parquet_symbols_of_any_text_type_are_read(tmp_path: Path, symbols: Any) -> None:
    (batch,) = read(write(tmp_path, {**PLAIN, "symbol": symbols}))
    streams = batch.dictionaries.streams
    assert [streams[code].symbol for code in batch.stream] == ["A", "B", "A"]
    assert len(streams) == 2


@pytest.mark.parametrize(
    ("name", "column", "ns"),
    [
        ("ts_us", pa.array([7, 8, 9]), 7_000),
        ("ts_ms", pa.array([7, 8, 9], pa.int32()), 7_000_000),
        ("ts_event", pa.array([7, 8, 9], pa.uint64()), 7),
        ("ts_event", pa.array([7, 8, 9], pa.timestamp("ns", "UTC")), 7),
        ("timestamp", pa.array([7, 8, 9], pa.timestamp("us", "+05:30")), 7_000),
        (
            "timestamp",
            pa.array([datetime(2026, 1, 5, 14, 30, tzinfo=UTC)] * 3, pa.timestamp("ms", "UTC")),
            1_767_623_400_000_000_000,
        ),
    ],
)
def test_parquet_time_of_any_kind_is_exact(tmp_path: Path, name: str, column: Any, ns: int) -> None:
    columns = {name: column, **{k: v for k, v in PLAIN.items() if k != "ts_ns"}}
    (batch,) = read(write(tmp_path, columns))
    assert int(batch.ts_event[0]) == ns


def test_parquet_optional_columns_are_read(tmp_path: Path) -> None:
    columns = {
        **PLAIN,
        "source": ["x", None, "x"],
        "feed": ["sip", "", "iex"],
        "venue": ["V", None, "V"],
        "conditions": ["@ I", "", "@"],
        "tape": [None, None, "A"],
        "side": ["BUY", None, "s"],
        "trade_id": ["12", "a-1", None],
        "ts_recv_ns": [9, None, 10],
    }
    (batch,) = read(write(tmp_path, columns))
    assert isinstance(batch, TradeBatch)
    names = batch.dictionaries
    assert [names.streams[code] for code in batch.stream] == [
        StreamKey("x", "sip", "A"),
        StreamKey("file", "", "B"),
        StreamKey("x", "iex", "A"),
    ]
    for codes, texts, shown in (
        (batch.venue, names.venues, ["V", "", "V"]),
        (batch.conditions, names.conditions, ["@ I", "", "@"]),
        (batch.tape, names.tapes, ["", "", "A"]),
    ):
        assert codes is not None
        assert [texts[code] for code in codes] == shown
    assert batch.side is not None
    assert batch.side.tolist() == [1, 0, 2]
    assert batch.ts_recv is not None
    assert batch.ts_recv.tolist() == [9, NULL_I64, 10]
    assert batch.id_hi is not None
    assert (batch.id_hi == 0).tolist() == [True, False, False]
    assert (batch.id_hi < 0).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "ids",
    [
        ["0", "9223372036854775807", "9223372036854775808", "007", "-7", "", None, "abc"],
        [0, 2**63 - 1, -7, None, 12],
    ],
)
def test_parquet_trade_ids_equal_those_of_a_csv(tmp_path: Path, ids: list[Any]) -> None:
    size = len(ids)
    columns = {"symbol": ["A"] * size, "ts_ns": [1] * size, "price": [1] * size, "size": [1] * size}
    (ours,) = read(write(tmp_path, {**columns, "trade_id": ids}))
    lines = "".join(f"A,1,1,1,{'' if text is None else text}\n" for text in ids)
    path = tmp_path / "ticks.csv"
    path.write_text(f"symbol,ts_ns,price,size,trade_id\n{lines}")
    (other,) = CsvSource(path).batches()
    assert isinstance(ours, TradeBatch)
    assert isinstance(other, TradeBatch)
    for mine, theirs in ((ours.id_hi, other.id_hi), (ours.id_lo, other.id_lo)):
        assert mine is not None
        assert theirs is not None
        assert mine.tolist() == theirs.tolist()


def test_parquet_bad_rows_are_quarantined_with_their_reasons(tmp_path: Path) -> None:
    cases = [
        ("A", 1, 1.0, 1, "", "", "buy", "good"),
        (None, 1, 1.0, 1, "", "", "", "missing_value symbol"),
        ("", 1, 1.0, 1, "", "", "", "missing_value symbol"),
        ("../x", 1, 1.0, 1, "", "", "", "bad_symbol symbol"),
        ("A", None, 1.0, 1, "", "", "", "missing_value ts_ns"),
        ("A", -1, 1.0, 1, "", "", "", "out_of_range ts_ns"),
        ("A", 1, None, 1, "", "", "", "missing_value price"),
        ("A", 1, float("nan"), 1, "", "", "", "bad_number price"),
        ("A", 1, float("-inf"), 1, "", "", "", "bad_number price"),
        ("A", 1, 0.1 + 0.2, 1, "", "", "", "below_resolution price"),
        ("A", 1, 1e300, 1, "", "", "", "out_of_range price"),
        ("A", 1, 1.0, None, "", "", "", "missing_value size"),
        ("A", 1, 1.0, 10**9, "", "", "", "out_of_range size"),
        ("A", 1, 1.0, 1, "a b", "", "", "bad_name source"),
        ("A", 1, 1.0, 1, "", "../x", "", "bad_name feed"),
        ("A", 1, 1.0, 1, "", "", "up", "bad_side side"),
        ("A", 1, 0.0, -1, "", "", "sell", "good"),
    ]
    names = ["symbol", "ts_ns", "price", "size", "source", "feed", "side", "outcome"]
    path = write(tmp_path, dict(zip(names, map(list, zip(*cases, strict=True)), strict=True)))
    source = ParquetSource(path)
    (batch,) = source.batches()
    outcomes = {int(row): "good" for row in batch.row}
    outcomes |= {bad.row: f"{bad.reason} {bad.field}" for bad in batch.bad}
    assert [outcomes[row] for row in range(1, len(cases) + 1)] == [case[-1] for case in cases]
    assert json.loads(batch.bad[2].raw)["symbol"] == "../x"
    assert "not read: outcome" in source.describe()
    assert source.counts() == SourceCounts(rows=2, bad=15)


def test_parquet_text_that_is_not_utf8_is_quarantined(tmp_path: Path) -> None:
    broken = pa.array([b"A", b"\xff\xfe", b"B"]).cast(pa.string(), safe=False)
    (batch,) = read(write(tmp_path, {**PLAIN, "symbol": broken}))
    assert [(bad.row, bad.reason) for bad in batch.bad] == [(2, "bad_utf8")]
    assert batch.row.tolist() == [1, 3]


def test_parquet_quotes_have_absent_sides(tmp_path: Path) -> None:
    price = pa.decimal128(18, 9)
    path = write(
        tmp_path,
        {
            "symbol": ["A"] * 3,
            "ts_ns": [1, 2, 3],
            "bid": pa.array([Decimal("1.5"), None, None], price),
            "ask": pa.array([None, Decimal(2), None], price),
            "bid_size": [7, None, None],
        },
    )
    (batch,) = read(path)
    assert isinstance(batch, QuoteBatch)
    assert batch.bid.tolist() == [1_500_000_000, NULL_I64]
    assert batch.ask.tolist() == [NULL_I64, 2_000_000_000]
    assert batch.bid_size is not None
    assert batch.bid_size.tolist() == [7 * 10**9, NULL_I64]
    assert [(bad.row, bad.reason, bad.field) for bad in batch.bad] == [(3, "missing_value", "bid")]


def test_parquet_symbol_filter_counts_the_others(tmp_path: Path) -> None:
    columns = {**PLAIN, "symbol": ["A", "B", "../x"], "price": [1.0, float("nan"), 1.0]}
    source = ParquetSource(write(tmp_path, columns), symbols=frozenset({"A"}))
    (batch,) = source.batches()
    assert batch.row.tolist() == [1]
    assert [bad.reason for bad in batch.bad] == ["bad_symbol"]
    assert source.counts() == SourceCounts(rows=1, bad=1, filtered=1)


def test_parquet_batches_keep_order_and_dictionaries_only_grow(tmp_path: Path) -> None:
    symbols = [f"S{k % 7}" for k in range(100)]
    numbers = list(range(100))
    path = write(
        tmp_path,
        {"symbol": symbols, "ts_ns": numbers, "price_nanos": numbers, "size": numbers},
        row_group_size=33,
    )
    source = ParquetSource(path, batch_rows=9)
    batches = list(source.batches())
    assert np.concatenate([batch.row for batch in batches]).tolist() == list(range(1, 101))
    assert max(map(len, batches)) == 9
    found = [batch.dictionaries.streams[code].symbol for batch in batches for code in batch.stream]
    assert found == symbols
    for batch in batches:
        known = batch.dictionaries.streams
        assert batches[-1].dictionaries.streams[: len(known)] == known
    done, total = source.progress()
    assert done == total == path.stat().st_size


def test_parquet_of_bad_rows_only_comes_in_bounded_batches(tmp_path: Path) -> None:
    size = 40_000
    columns = {"symbol": ["?"] * size, "ts_ns": [1] * size, "price": [1] * size, "size": [1] * size}
    batches = read(write(tmp_path, columns))
    assert [bad.row for batch in batches for bad in batch.bad] == list(range(1, size + 1))
    assert max(len(batch.bad) for batch in batches) == 16_384


def test_parquet_without_rows_has_no_batches(tmp_path: Path) -> None:
    table = pa.table(PLAIN).slice(0, 0)
    pq.write_table(table, tmp_path / "empty.parquet")
    source = ParquetSource(tmp_path / "empty.parquet")
    assert (list(source.batches()), source.kind) == ([], "trades")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"symbol": None}, ["missing symbol"]),
        ({"ts_ns": None}, ["missing a time column (ts_ns, ts_us, ts_ms, timestamp, ts_event)"]),
        ({"ts_ms": [1, 2, 3]}, ["more than one time column: ts_ns, ts_ms"]),
        ({"price": None, "Price": [1, 2, 3]}, ["missing price (is it 'Price'?)"]),
        ({"price_nanos": [1, 2, 3]}, ["both price and price_nanos"]),
        ({"bid": [1, 2, 3]}, ["missing ask", "columns of quotes and of trades (price, size)"]),
        ({"price": ["1", "2", "3"]}, ["column 'price' is string; valid are decimal"]),
        ({"symbol": [1, 2, 3]}, ["column 'symbol' is int64; valid are text"]),
        ({"ts_ns": [1.0, 2.0, 3.0]}, ["column 'ts_ns' is double"]),
        ({"trade_id": [1.0, 2.0, 3.0]}, ["column 'trade_id' is double"]),
        (
            {"ts_ns": None, "timestamp": pa.array([1, 2, 3], pa.timestamp("ns"))},
            ["column 'timestamp' is timestamp[ns] without a time zone", "casting to a timestamp"],
        ),
        ({"ts_ns": None, "timestamp": [1, 2, 3]}, ["column 'timestamp' is int64"]),
        ({"price": pa.array([1.0, 2.0, 3.0], pa.float16())}, ["column 'price' is halffloat"]),
        ({"price_nanos": [1.0, 2.0, 3.0], "price": None}, ["column 'price_nanos' is double"]),
    ],
)
def test_parquet_schema_fault_is_named(
    tmp_path: Path, change: dict[str, Any], parts: list[str]
) -> None:
    columns = {k: v for k, v in {**PLAIN, **change}.items() if v is not None}
    with pytest.raises(HeaderError) as caught:
        ParquetSource(write(tmp_path, columns))
    for part in parts:
        assert part in str(caught.value)


def test_parquet_cut_short_is_a_corrupt_error(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptError, match="is not a whole Parquet file"):
        ParquetSource(path)


def test_parquet_with_a_damaged_page_gives_the_batches_before_it(tmp_path: Path) -> None:
    size = 2_000
    path = write(
        tmp_path,
        {
            "symbol": ["A"] * size,
            "ts_ns": list(range(size)),
            "price": np.random.default_rng(3).random(size).round(6),
            "size": [1] * size,
        },
        row_group_size=500,
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(3).column(2)
    start = group.data_page_offset
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(bytes(data))
    rows = 0
    with pytest.raises(CorruptError, match="1,500 rows before the damage"):  # noqa: PT012  # as they come
        for batch in ParquetSource(path, batch_rows=500).batches():
            rows += len(batch)
    assert rows == 1_500


@pytest.mark.parametrize("data", [b"", b"PAR1", b"symbol,ts_ns,price,size\nA,1,1,1\n"])
def test_file_that_is_no_parquet_is_a_corrupt_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"a CSV is read with --csv"):
        ParquetSource(path)


def test_parquet_that_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        ParquetSource(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match="is a folder"):
        ParquetSource(tmp_path)
    with pytest.raises(InputError, match="write it to a file first"):
        ParquetSource("-")
    with pytest.raises(UsageError, match="symbols: was"):
        ParquetSource(write(tmp_path, PLAIN), symbols=frozenset({"a b"}))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.floats(0, 1, exclude_max=True), change=st.binary(min_size=1, max_size=6))
def test_parquet_with_changed_bytes_raises_only_errors_of_the_project(
    tmp_path: Path, at: float, change: bytes
) -> None:
    path = write(tmp_path, PLAIN)
    data = bytearray(path.read_bytes())
    place = int(at * len(data))
    data[place : place + len(change)] = change
    path.write_bytes(bytes(data))
    try:
        read(path)
    except MarketPipeError as error:
        assert "ticks.parquet" in str(error)  # noqa: PT017  # it need not raise


@pytest.mark.data
@pytest.mark.parametrize("kind", ["DECIMAL(12,4)", "DECIMAL(38,18)", "DOUBLE", "FLOAT"])
def test_parquet_of_gold_trades_equals_the_csv(
    market_data: Path, tmp_path: Path, kind: str
) -> None:
    csv = market_data / "trades_gold" / "ticks.csv.gz"
    path = tmp_path / "gold.parquet"
    duckdb.execute(
        f"COPY (SELECT symbol, ts_ms, price::{kind} AS price, size::{kind} AS size "
        f"FROM read_csv('{csv}', types={{'price': 'DECIMAL(18,9)'}})) TO '{path}' (FORMAT parquet)"
    )
    (ours,) = read(path)
    (other,) = CsvSource(csv).batches()
    assert isinstance(ours, TradeBatch)
    assert isinstance(other, TradeBatch)
    assert ours.dictionaries.streams == other.dictionaries.streams
    for name in ("stream", "ts_event", "price", "size"):
        assert np.array_equal(getattr(ours, name), getattr(other, name))
