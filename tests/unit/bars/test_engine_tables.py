"""Tables of someone else's program in, bars out: Polars frames, Arrow tables, record batches."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from barkit import bars, full, ns, ohlc
from marketpipe.bars import BarEngine
from marketpipe.errors import HeaderError, InputError

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
"""The opening of XNYS on a Monday."""

SECONDS = (0, 20, 59, 60)
TIMES = [OPEN + timedelta(seconds=s) for s in SECONDS]
PRICES = ["189.37", "189.5", "189.1", "190"]
SIZES = [100, 1, 9, 5]

# By hand: volume 110; (189.37 * 100 + 189.5 * 1 + 189.1 * 9) / 110 = 20828.4 / 110
FIRST_MINUTE = "189.37 189.5 189.1 189.1 110 3 189.349090909"
SECOND_MINUTE = "190 190 190 190 5 1 190"


def columns(**changed: Any) -> dict[str, Any]:
    """Return Arrow columns of four trades, some of them exchanged; None leaves one out."""
    every = {
        "symbol": ["AAPL"] * 4,
        "timestamp": pa.array(TIMES, pa.timestamp("us", "UTC")),
        "price": pa.array([Decimal(p) for p in PRICES], pa.decimal128(18, 9)),
        "size": pa.array(SIZES),
    }
    return {name: column for name, column in {**every, **changed}.items() if column is not None}


def quotes(bid: list[float | None], ask: list[float | None]) -> pa.Table:
    """Return quotes of AAA, a second apart."""
    times = [k * 1_000 for k in range(len(bid))]
    return pa.table({"symbol": ["AAA"] * len(bid), "ts_ms": times, "bid": bid, "ask": ask})


def minutes(engine: BarEngine) -> list[str]:
    """End the engine's input and return its one-minute bars."""
    engine.flush()
    return [full(bar) for bar in bars(engine.bars(), "1m")]


def test_engine_builds_the_bars_of_a_polars_frame() -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["AAPL"] * 4,
            "timestamp": pl.Series(TIMES, dtype=pl.Datetime("us", "America/New_York")),
            "price": [float(price) for price in PRICES],
            "size": SIZES,
        }
    )
    engine = BarEngine(timeframes=["1m", "1h"], calendar="XNYS", rule_set="plain")
    events = engine.apply(frame)
    assert [(e.kind, e.bar.timeframe, ohlc(e.bar)) for e in events] == [
        ("confirmed", "1m", "189.37 189.5 189.1 189.1")
    ]
    engine.flush()
    first, second = bars(engine.bars(), "1m")
    assert (first.source, first.symbol, first.ts_open) == (
        "local",
        "AAPL",
        ns("2026-01-05T14:30:00Z"),
    )
    assert [full(first), full(second)] == [FIRST_MINUTE, SECOND_MINUTE]
    (hour,) = bars(engine.bars(), "1h")
    assert ohlc(hour) == "189.37 190 189.1 190"
    assert not engine.findings


@pytest.mark.parametrize(
    "changes",
    [
        {"price": pl.Series([Decimal(price) for price in PRICES])},
        {"price": pl.Series([Decimal(price) for price in PRICES], dtype=pl.Decimal(20, 4))},
        {"size": pl.Series([float(size) for size in SIZES])},
        {"size": pl.Series(SIZES, dtype=pl.UInt8)},
        {"timestamp": pl.Series(TIMES, dtype=pl.Datetime("ns", "UTC"))},
        {"timestamp": pl.Series(TIMES, dtype=pl.Datetime("ms", "Asia/Kolkata"))},
        {"symbol": pl.Series(["AAPL"] * 4, dtype=pl.Categorical)},
        {"symbol": pl.Series(["AAPL"] * 4, dtype=pl.Enum(["MSFT", "AAPL"]))},
    ],
    ids=lambda changes: "-".join(f"{n}-{s.dtype}" for n, s in changes.items()),
)
def test_engine_polars_column_of_any_exact_type_gives_the_same_bars(
    changes: dict[str, pl.Series],
) -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["AAPL"] * 4,
            "timestamp": TIMES,
            "price": [float(price) for price in PRICES],
            "size": SIZES,
            **changes,
        }
    )
    engine = BarEngine(["1m"])
    engine.apply(frame)
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


def batch_of(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.to_batches()
    return batch


def in_two_chunks(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(1)])


class Carrier:
    """Some other program's frame."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def to_arrow(self) -> pa.Table:
        """Return the table."""
        return self._table


@pytest.mark.parametrize("form", [pa.table, batch_of, in_two_chunks, Carrier, pl.from_arrow])
def test_engine_takes_tables_in_every_form(form: Callable[[pa.Table], Any]) -> None:
    engine = BarEngine(["1m"])
    engine.apply(form(pa.table(columns())))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


TEXTS = pa.array(["AAPL"] * 4)


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS.cast(pa.large_string()),
        TEXTS.cast(pa.string_view()),
        TEXTS.dictionary_encode(),
        pa.DictionaryArray.from_arrays(
            pa.array([1] * 4, pa.uint32()), pa.array(["unused", "AAPL"], pa.string_view())
        ),
    ],
    ids=lambda texts: str(texts.type),
)
def test_engine_text_columns_of_any_arrow_type_are_read(texts: Any) -> None:
    engine = BarEngine(["1m"])
    every = columns(symbol=texts, trade_id=texts, venue=texts, price=[189.37, 189.5, 189.1, 0.0])
    engine.apply(pa.table(every))
    # The first names the others' identity too, and the last, refused, is shown as a finding.
    assert minutes(engine) == ["189.37 189.37 189.37 189.37 100 1 189.37"]
    assert engine.findings.counts == {"conflicting_duplicate": 2, "non_positive_price": 1}


def test_engine_bad_row_of_text_views_is_shown() -> None:
    views = pa.array(["AAPL", "A B", "AAPL", None], pa.string_view())
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns(symbol=views)))
    (example,) = engine.findings.examples("bad_symbol")
    assert (example.row, example.field) == (2, "symbol")
    assert '"symbol": "A B"' in example.detail
    assert engine.findings.count("missing_value") == 1


def test_engine_slice_of_a_table_is_read_where_it_starts() -> None:
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns()).slice(3))
    assert minutes(engine) == [SECOND_MINUTE]


def test_engine_times_without_a_zone_are_an_error_with_the_remedy() -> None:
    naive = pl.DataFrame(
        {
            "symbol": ["AAPL"],
            "timestamp": [datetime(2026, 1, 5, 14, 30)],  # noqa: DTZ001  # the point of it
            "price": [1.0],
            "size": [1],
        }
    )
    with pytest.raises(HeaderError) as caught:
        BarEngine(["1m"]).apply(naive)
    message = str(caught.value)
    assert message.startswith("ticks: ")
    assert "column 'timestamp' is timestamp[us] without a time zone" in message
    assert "dt.replace_time_zone('UTC')" in message


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"price": None}, "missing price"),
        ({"size": None, "Size": SIZES}, r"missing size \(is it 'Size'\?\)"),
        ({"symbol": None}, "missing symbol"),
        ({"timestamp": None}, "missing a time column"),
        ({"price": PRICES}, "column 'price' is string; valid are decimal, integer, float"),
    ],
)
def test_engine_table_without_a_column_is_an_error_that_names_it(
    changed: dict[str, Any], part: str
) -> None:
    with pytest.raises(HeaderError, match=f"^ticks: .*{part}"):
        BarEngine(["1m"]).apply(pa.table(columns(**changed)))


@pytest.mark.parametrize(
    ("price", "code"),
    [
        (1.0000000001, "below_resolution"),
        (float("nan"), "bad_number"),
        (float("inf"), "bad_number"),
        (1e9, "out_of_range"),
        (None, "missing_value"),
        (0.0, "non_positive_price"),
        (-1.0, "non_positive_price"),
    ],
)
def test_engine_unusable_price_is_a_finding_and_no_part_of_a_bar(
    price: float | None, code: str
) -> None:
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns(price=[189.37, price, 189.1, 190.0])))
    # (189.37 * 100 + 189.1 * 9) / 109 = 20638.9 / 109
    assert minutes(engine)[0] == "189.37 189.37 189.1 189.1 109 2 189.347706422"
    assert engine.findings.counts == {code: 1}
    assert engine.findings.examples(code)[0].row == 2


def test_engine_trade_ids_are_known_across_tables() -> None:
    engine = BarEngine(["1m"])
    ids = pa.array([1, 2, 3, 4])
    engine.apply(pa.table(columns(trade_id=ids)))
    engine.apply(pl.from_arrow(pa.table(columns(trade_id=ids)).slice(1, 2)))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]
    assert engine.findings.counts == {"duplicate": 2}
    assert [example.row for example in engine.findings.examples("duplicate")] == [5, 6]


def test_engine_rows_without_ids_are_ordered_across_tables() -> None:
    engine = BarEngine(["1m"])
    for price in (3, 1, 2):
        engine.apply(pa.table({"symbol": ["AAA"], "ts_ns": [7], "price": [price], "size": [1]}))
    assert minutes(engine) == ["3 3 1 2 3 3 2"]


@pytest.mark.parametrize(
    ("price_type", "bar"), [("bid", "10 10 9 9 - 2 -"), ("mid", "10.5 10.5 10.5 10.5 - 1 -")]
)
def test_engine_quotes_give_bars_of_the_price_asked_for(price_type: str, bar: str) -> None:
    engine = BarEngine(["1m"], price_type=price_type)
    engine.apply(quotes([10.0, 9.0, None], [11.0, None, 12.0]))
    assert minutes(engine) == [bar]
    assert engine.findings.counts == {"one_sided_quote": 1 if price_type == "bid" else 2}


@pytest.mark.parametrize("price_type", ["trade", "mid"])
def test_engine_table_of_the_other_kind_is_refused_and_the_engine_goes_on(price_type: str) -> None:
    trades, sides = pa.table(columns()), quotes([10.0], [11.0])
    right, wrong = (trades, sides) if price_type == "trade" else (sides, trades)
    engine = BarEngine(["1m"], price_type=price_type)
    with pytest.raises(InputError, match=f"price_type was '{price_type}'"):
        engine.apply(wrong)
    engine.apply(right)
    assert len(minutes(engine)) == (2 if price_type == "trade" else 1)


def test_engine_columns_that_are_no_part_of_a_tick_are_not_read() -> None:
    engine = BarEngine(["1m"])
    more = columns(note=[None] * 4, lists=[[1], [2], [3], [4]])
    engine.apply(pa.table(more))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


def test_engine_empty_table_changes_nothing() -> None:
    engine = BarEngine(["1m"])
    empty = pa.table(columns()).slice(0, 0)
    assert len(engine.apply(empty)) == 0
    assert len(engine.apply(empty.schema.empty_table())) == 0
    assert len(engine.apply(pl.from_arrow(empty))) == 0
    engine.apply(pa.table(columns()))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


def test_engine_table_with_other_columns_is_an_error_with_both_lists() -> None:
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns()))
    with pytest.raises(InputError) as caught:
        engine.apply(pa.table(columns(venue=["V"] * 4)))
    assert "were symbol, timestamp, price, size, venue;" in str(caught.value)
    assert "before, they were symbol, timestamp, price, size." in str(caught.value)
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


def test_engine_next_table_may_have_other_types_and_another_order() -> None:
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns()).slice(0, 2))
    other = columns(price=[float(price) for price in PRICES], symbol=TEXTS.dictionary_encode())
    engine.apply(pa.table(dict(reversed(other.items()))).slice(2))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]
    with pytest.raises(HeaderError, match="column 'size' is string"):
        engine.apply(pa.table(columns(size=["1"] * 4)))


def test_engine_source_named_like_the_default_is_the_same_stream() -> None:
    engine = BarEngine(["1m"])
    engine.apply(pa.table(columns(source=["local", None, "", "local"])))
    assert minutes(engine) == [FIRST_MINUTE, SECOND_MINUTE]


def test_engine_damaged_table_is_an_input_error() -> None:
    damaged = pa.DictionaryArray.from_arrays(pa.array([0, 9, 0, 0]), ["AAPL"], safe=False)
    with pytest.raises(InputError, match="ticks: the table is damaged"):
        BarEngine(["1m"]).apply(pa.table(columns(symbol=damaged)))


@pytest.mark.parametrize("wrong", [[1, 2], {"symbol": ["A"]}, "ticks.csv", None])
def test_engine_what_is_no_table_is_an_input_error(wrong: Any) -> None:
    with pytest.raises(InputError, match="expected an Arrow table or record batch, a Polars"):
        BarEngine(["1m"]).apply(wrong)
