"""The order found by integers is the lake's own, for every table and any rows."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.buckets import bucket_of
from marketpipe.lake import TABLES
from marketpipe.pipelines.lakeorder import lake_order

DAY_NS = 86_400_000_000_000
BUCKETS = 4
SYMBOLS = ("AAPL", "BTC/USD", "MSFT", "Z")

ROWS = st.lists(
    st.tuples(
        st.sampled_from(SYMBOLS),
        st.sampled_from(["alpaca", "file"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(-1, 2),
    ),
    max_size=25,
)
Row = tuple[str, str, int, int, int]


def table(name: str, rows: list[Row]) -> pa.Table:
    """Lay rows out in a table's columns; what plays no part in the order says where a row was."""
    spec = TABLES[name]
    days = [20_000 + day for _, _, day, _, _ in rows]
    numbers = {
        "ts_event": 3, "ts_recv": 2, "key_major": 3, "key_mid": 4, "key_minor": 2, "offset": 4,
        "ts_open": 3, "revision": 4, "level": 3,
    }  # fmt: skip
    columns = {}
    for field in spec.rows:
        if field.name == "symbol":
            column = pa.array([row[0] for row in rows], field.type)
        elif field.name in ("source", "journal_id", "timeframe"):
            column = pa.array([row[1] for row in rows], field.type)
        elif field.name in ("session_date", "received_date"):
            column = pa.array(days, pa.int32()).cast(pa.date32())
        elif field.name in numbers:
            values = [int(row[numbers[field.name]]) for row in rows]
            if field.name == "ts_recv":
                values = [day * DAY_NS + value for day, value in zip(days, values, strict=True)]
            column = pa.array(values, field.type)
        else:
            column = pa.nulls(len(rows), field.type)
        columns[field.name] = column
    return pa.table(columns)


@pytest.mark.parametrize("name", list(TABLES))
@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_lake_order_any_rows_is_that_of_a_stable_sort_by_all_columns(
    name: str, rows: list[Row]
) -> None:
    spec = TABLES[name]
    given = table(name, rows)
    frame = pl.from_arrow(given)
    assert isinstance(frame, pl.DataFrame)
    if "bucket" in spec.partition_by:
        frame = frame.with_columns(bucket=pl.Series([bucket_of(r[0], BUCKETS) for r in rows]))
    if "received_date" in set(spec.partition_by) - set(frame.columns):
        frame = frame.with_columns(received_date=pl.col("ts_recv") // DAY_NS)
    wanted = frame.with_row_index("place").sort([*spec.partition_by, *spec.sort_by, "place"])
    order = lake_order(given, spec, BUCKETS)
    found = np.arange(len(rows)) if order is None else order
    assert found.tolist() == wanted["place"].to_list()


def test_lake_order_rows_in_order_need_no_other() -> None:
    rows: list[Row] = [("AAPL", "alpaca", 0, 0, k) for k in range(5)]
    assert lake_order(table("raw", rows), TABLES["raw"], BUCKETS) is None
