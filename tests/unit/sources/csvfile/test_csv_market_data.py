"""Real tick files: counts and sums as DuckDB finds them."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from marketpipe.domain.batches import QuoteBatch, TradeBatch
from marketpipe.errors import HeaderError
from marketpipe.sources.csvfile import CsvSource


def by_duckdb(path: Path, first: str, second: str) -> tuple[object, ...]:
    (row,) = duckdb.execute(
        f"SELECT count(*), count(DISTINCT symbol), sum(ts_ms)::HUGEINT * 1000000, "
        f"(sum({first}::DECIMAL(18,9)) * 1000000000)::HUGEINT, "
        f"(sum({second}::DECIMAL(18,9)) * 1000000000)::HUGEINT "
        f"FROM read_csv('{path}', types={{'{first}': 'VARCHAR', '{second}': 'VARCHAR'}})"
    ).fetchall()
    return tuple(int(value) for value in row)


def total(values: list[np.ndarray]) -> int:
    return sum(int(value) for column in values for value in column.tolist())


@pytest.mark.data
def test_csv_gold_trades_equal_duckdb(market_data: Path) -> None:
    path = market_data / "trades_gold" / "ticks.csv.gz"
    batches = [b for b in CsvSource(path, batch_rows=30_000).batches() if isinstance(b, TradeBatch)]
    assert (
        sum(len(batch) for batch in batches),
        len(batches[-1].dictionaries.streams),
        total([batch.ts_event for batch in batches]),
        total([batch.price for batch in batches]),
        total([batch.size for batch in batches]),
    ) == by_duckdb(path, "price", "size")
    assert sum(len(batch) for batch in batches) == 92_496
    assert not any(batch.bad for batch in batches)


@pytest.mark.data
def test_csv_eurusd_quotes_equal_duckdb(market_data: Path) -> None:
    path = market_data / "quotes_eurusd" / "quotes.csv.gz"
    batches = [b for b in CsvSource(path).batches() if isinstance(b, QuoteBatch)]
    assert (
        sum(len(batch) for batch in batches),
        len(batches[-1].dictionaries.streams),
        total([batch.ts_event for batch in batches]),
        total([batch.bid for batch in batches]),
        total([batch.ask for batch in batches]),
    ) == by_duckdb(path, "bid", "ask")
    assert sum(len(batch) for batch in batches) == 273_925
    assert not any(batch.bad for batch in batches)


@pytest.mark.data
def test_csv_of_daily_bars_is_a_header_error(market_data: Path) -> None:
    with pytest.raises(HeaderError, match=r"'date' .did you mean 'timestamp'.*'volume' .did you"):
        CsvSource(market_data / "indicators" / "bad.csv")
