"""Generated ticks as files: their bytes, their columns, and the same numbers in both formats."""

import csv
import gzip
import hashlib
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource
from marketpipe.sources.synthetic.write import write_csv, write_parquet

SECOND = 1_000_000_000
OPEN_NS = 1_767_623_400 * SECOND
CONFIG = SyntheticConfig(
    symbols=("AAPL", "BTC/USD"),
    sessions=((OPEN_NS, OPEN_NS + 600 * SECOND),),
    trades=2_000,
    seed=42,
    tick_nanos=(10**7, 5 * 10**6),
    late_share=0.05,
    duplicate_share=0.01,
    venues=("V", "Q"),
    with_conditions=True,
    with_tape=True,
    with_ts_recv=True,
)
# Pins the generator: a change here changes every generated file, so it must be meant.
GOLDEN = "e432309faab4530eb5c49476d83a3ba4cbe4d73cdb0126d6996ebb6bebf15161"
FULL_HEADER = "symbol,ts_ns,price,size,venue,trade_id,conditions,tape,ts_recv_ns"


def test_csv_of_a_recipe_has_the_pinned_bytes(tmp_path: Path) -> None:
    rows = write_csv(SyntheticSource(CONFIG), tmp_path / "ticks.csv")
    data = (tmp_path / "ticks.csv").read_bytes()
    assert rows == 2_020
    assert data.count(b"\n") == 2_021
    assert data.splitlines()[0].decode() == FULL_HEADER
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_csv_written_in_small_batches_has_the_same_bytes(tmp_path: Path) -> None:
    write_csv(SyntheticSource(CONFIG, batch_rows=77), tmp_path / "ticks.csv")
    data = (tmp_path / "ticks.csv").read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_csv_packed_holds_the_same_bytes_and_packs_the_same_way_twice(tmp_path: Path) -> None:
    for name in ("ticks.csv", "ticks.csv.gz", "ticks.csv.zst", "again.csv.gz"):
        write_csv(SyntheticSource(CONFIG), tmp_path / name)
    plain = (tmp_path / "ticks.csv").read_bytes()
    packed = (tmp_path / "ticks.csv.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert packed == (tmp_path / "again.csv.gz").read_bytes()
    unpacked = zstandard.ZstdDecompressor().decompressobj()
    assert unpacked.decompress((tmp_path / "ticks.csv.zst").read_bytes()) == plain


def test_csv_and_parquet_hold_the_same_trades(tmp_path: Path) -> None:
    write_csv(SyntheticSource(CONFIG), tmp_path / "ticks.csv")
    rows = write_parquet(SyntheticSource(CONFIG, batch_rows=300), tmp_path / "ticks.parquet")
    table = pq.read_table(tmp_path / "ticks.parquet")
    assert rows == table.num_rows == 2_020
    assert table.schema.field("price").type == pa.decimal128(18, 9)
    assert table.schema.field("size").type == pa.decimal128(18, 9)
    with (tmp_path / "ticks.csv").open() as file:
        text = list(csv.DictReader(file))
    for line, row in zip(text, table.to_pylist(), strict=True):
        assert line.keys() == row.keys()
        assert (Decimal(line["price"]), Decimal(line["size"])) == (row["price"], row["size"])
        for name in row.keys() - {"price", "size"}:
            assert line[name] == str(row[name])


@pytest.mark.parametrize(
    ("tick_nanos", "start_nanos", "decimals"),
    [(2 * SECOND, 100 * SECOND, 0), (10**7, 100 * SECOND, 2), (1, 100, 9)],
)
def test_csv_prices_have_the_decimals_of_the_price_step(
    tmp_path: Path, tick_nanos: int, start_nanos: int, decimals: int
) -> None:
    config = SyntheticConfig(
        symbols=("X",),
        sessions=((0, SECOND),),
        trades=50,
        tick_nanos=tick_nanos,
        start_nanos=start_nanos,
        with_ids=False,
    )
    write_csv(SyntheticSource(config), tmp_path / "x.csv")
    prices = [line.split(",")[2] for line in (tmp_path / "x.csv").read_text().splitlines()[1:]]
    given = [int(price) for batch in SyntheticSource(config).batches() for price in batch.price]
    assert {len(price.partition(".")[2]) for price in prices} == {decimals}
    assert [int(Decimal(price).scaleb(9)) for price in prices] == given
