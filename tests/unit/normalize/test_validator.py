"""`SchemaValidator`: every row is looked at, and each broken rule names its rows."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from marketpipe.domain.schemas import BARS, CANONICAL, QUARANTINE
from marketpipe.errors import UsageError
from marketpipe.normalize import SchemaValidator, Validation

HEAD: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "AAPL", "venue": "", "session_date": 20458,
    "ts_event": 5, "ts_recv": None, "recorded_at": 6, "known_at": 6, "key_major": -1,
    "key_mid": 0, "key_minor": -7, "journal_id": "alpaca", "offset": 0, "schema_version": 1,
}  # fmt: skip
TRADE: dict[str, Any] = {
    **HEAD, "trade_id": "1", "price": Decimal("189.37"), "size": Decimal(0), "conditions": None,
    "tape": None, "side": None, "flags": 1,
}  # fmt: skip
QUOTE: dict[str, Any] = {
    **HEAD, "bid": None, "ask": Decimal("1.5"), "bid_size": None, "ask_size": Decimal(3),
}  # fmt: skip
LEVEL: dict[str, Any] = {
    **HEAD, "is_snapshot": False, "side": "bid", "level": 0, "price": Decimal(9),
    "size": Decimal(0),
}  # fmt: skip
STATUS: dict[str, Any] = {**HEAD, "kind": "luld", "limit_up": Decimal(9), "limit_down": None}
VENDOR_BAR: dict[str, Any] = {
    **HEAD, "kind": "updated", "timeframe": "1m", "ts_open": 0, "open": Decimal(5),
    "high": Decimal(4), "low": Decimal(1), "close": Decimal(3), "volume": Decimal(9),
    "trade_count": 2,
}  # fmt: skip
FIX: dict[str, Any] = {
    **HEAD, "kind": "correction", "trade_id": "1", "price": None, "new_price": Decimal(2),
    "new_size": Decimal(0), "trade_ts_event": None,
}  # fmt: skip
BAD: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "", "received_date": 20458, "ts_recv": 0,
    "journal_id": "alpaca", "offset": 0, "reason": "bad_number", "field": "", "raw": b"\xff\n",
    "raw_bytes": 2, "schema_version": 1,
}  # fmt: skip
BAR: dict[str, Any] = {
    "source": "alpaca", "feed": "sip", "symbol": "AAPL", "price_type": "trade",
    "rule_set": "plain", "session": "regular", "timeframe": "1m", "session_date": 20458,
    "ts_open": 0, "ts_close": 60, "open": Decimal(2), "high": Decimal(4), "low": Decimal(1),
    "close": Decimal(3), "volume": Decimal(9), "notional": Decimal(20), "vwap": Decimal(7),
    "trade_count": 2, "official_open": None, "official_close": None, "state": "confirmed",
    "coverage": "traded", "partial": False, "revision": 0, "cause": "first",
    "recorded_at": None, "known_at": 61,
}  # fmt: skip
GOOD = {
    "trades": TRADE, "quotes": QUOTE, "book": LEVEL, "statuses": STATUS,
    "vendor_bars": VENDOR_BAR, "corrections": FIX, "bars": BAR, "quarantine": BAD,
}  # fmt: skip
SCHEMAS = {**CANONICAL, "bars": BARS, "quarantine": QUARANTINE}


def table(kind: str, *changes: dict[str, Any]) -> pa.Table:
    schema, good = SCHEMAS[kind], GOOD[kind]
    rows = [{**good, **change} for change in changes]
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return pa.Table.from_pylist(rows, schema=nullable)


def broken(result: Validation) -> list[tuple[str, str, list[int]]]:
    return [(p.code, p.field, p.rows.tolist()) for p in result.problems]


@pytest.mark.parametrize("kind", list(SCHEMAS))
def test_validator_good_table_has_no_problem(kind: str) -> None:
    for good in (table(kind, {}, {}), table(kind, {}).to_batches()[0], table(kind)):
        result = SchemaValidator(kind).validate(good)
        assert result
        assert result.rows == good.num_rows
        assert not result.findings
        assert result.bad_rows.tolist() == []


def test_validator_looks_at_every_row_the_bad_ones_too() -> None:
    # An earlier system validated what its filter had left: 4 rows in, 2 validated, 0 errors.
    four = table("trades", {}, {"price": Decimal(-1), "symbol": ""}, {"size": Decimal(-2)}, {})
    result = SchemaValidator("trades").validate(four)
    assert result.rows == 4
    assert not result
    assert broken(result) == [
        ("bad_text", "symbol", [2]),
        ("non_positive_price", "price", [2]),
        ("negative_value", "size", [3]),
    ]
    assert result.bad_rows.tolist() == [2, 3]
    assert result.findings.counts == {
        "bad_text": 1, "negative_value": 1, "non_positive_price": 1,
    }  # fmt: skip


def test_validator_counts_all_rows_and_names_them_all() -> None:
    result = SchemaValidator("trades").validate(table("trades", *[{"price": Decimal(0)}] * 9))
    assert broken(result) == [("non_positive_price", "price", list(range(1, 10)))]
    assert result.findings.count("non_positive_price") == 9
    assert [e.row for e in result.findings.examples("non_positive_price")] == [1, 2, 3, 4, 5]


def test_validator_bar_rules_name_column_and_row() -> None:
    bars = table(
        "bars",
        {"open": Decimal(5)},
        {"close": Decimal("0.5")},
        {"low": Decimal(5)},
        {"high": None},
        {"ts_close": 0},
        {"open": None, "high": None, "low": None, "close": None, "volume": None, "vwap": None},
        {"vwap": Decimal(1000)},
        {"coverage": "maybe", "revision": -1},
        {"known_at": None, "close": Decimal(0), "low": Decimal(0)},
    )
    assert broken(SchemaValidator("bars").validate(bars)) == [
        ("non_positive_price", "low", [9]),
        ("non_positive_price", "close", [9]),
        ("unknown_value", "coverage", [8]),
        ("negative_value", "revision", [8]),
        ("null_value", "known_at", [9]),
        ("incomplete_ohlc", "open", [4]),
        ("price_outside_range", "open", [1, 3]),
        ("price_outside_range", "close", [2, 3]),
        ("price_outside_range", "low", [3]),
        ("empty_interval", "ts_close", [5]),
    ]


def test_validator_columns_absent_doubled_extra_or_of_another_type() -> None:
    good = table("trades", {})
    wrong = good.drop_columns(["venue"]).append_column("mood", pa.array(["calm"]))
    wrong = wrong.set_column(
        wrong.schema.get_field_index("price"), "price", pa.array([1.5], pa.float64())
    ).append_column("offset", pa.array([1], pa.int64()))
    result = SchemaValidator("trades").validate(wrong)
    assert [(p.code, p.field, p.detail) for p in result.problems] == [
        ("missing_column", "venue", "absent"),
        ("missing_column", "offset", "there 2 times"),
        ("wrong_type", "price", "double in place of decimal128(18, 9)"),
        ("unexpected_column", "mood", "not in the schema"),
    ]
    assert result.findings.counts == {"missing_column": 2, "unexpected_column": 1, "wrong_type": 1}


def test_validator_bars_with_columns_missing_checks_the_rest() -> None:
    part = table("bars", {"ts_close": -1}).drop_columns(["low"])
    assert broken(SchemaValidator("bars").validate(part)) == [
        ("negative_value", "ts_close", [1]),
        ("missing_column", "low", []),
        ("empty_interval", "ts_close", [1]),
    ]
    less = SchemaValidator("bars").validate(part.drop_columns(["ts_open"]))
    assert [p.code for p in less.problems] == ["missing_column", "negative_value", "missing_column"]


def test_validator_invalid_utf8_and_control_characters_are_found_by_row() -> None:
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 6, 9)))
    data = pa.py_buffer(b"AAPL\xff\xfeA\nB")
    symbols = pa.StringArray.from_buffers(3, offsets, data)
    good = table("trades", {}, {}, {})
    bad = good.set_column(good.schema.get_field_index("symbol"), "symbol", symbols)
    result = SchemaValidator("trades").validate(bad)
    assert broken(result) == [("bad_text", "symbol", [2, 3])]
    assert result.problems[0].detail == r"was b'\xff\xfe'"


def test_validator_chunked_table_numbers_rows_through() -> None:
    chunks = pa.concat_tables([table("trades", {}), table("trades", {"offset": -1, "side": "up"})])
    assert broken(SchemaValidator("trades").validate(chunks)) == [
        ("negative_value", "offset", [2]),
        ("unknown_value", "side", [2]),
    ]


@pytest.mark.parametrize(
    ("kind", "change", "code"),
    [
        ("trades", {"flags": 4}, "unknown_value"),
        ("trades", {"flags": -1}, "unknown_value"),
        ("trades", {"recorded_at": None}, "null_value"),
        ("trades", {"journal_id": ""}, "bad_text"),
        ("quotes", {"bid_size": Decimal(-1)}, "negative_value"),
        ("book", {"side": "buy"}, "unknown_value"),
        ("book", {"price": Decimal(0)}, "non_positive_price"),
        ("book", {"level": -1}, "negative_value"),
        ("statuses", {"kind": "halt"}, "unknown_value"),
        ("statuses", {"limit_down": Decimal(-1)}, "negative_value"),
        ("vendor_bars", {"kind": "trade"}, "unknown_value"),
        ("vendor_bars", {"close": Decimal(-1)}, "non_positive_price"),
        ("vendor_bars", {"timeframe": ""}, "bad_text"),
        ("corrections", {"kind": "late"}, "unknown_value"),
        ("corrections", {"trade_id": ""}, "bad_text"),
        ("corrections", {"new_price": Decimal(0)}, "non_positive_price"),
        ("corrections", {"trade_ts_event": -5}, "negative_value"),
        ("quarantine", {"reason": "bad_mood"}, "unknown_value"),
        ("quarantine", {"raw_bytes": -1}, "negative_value"),
        ("quarantine", {"ts_recv": None}, "null_value"),
        ("bars", {"price_type": "last"}, "unknown_value"),
    ],
)
def test_validator_one_bad_value_of_any_kind_is_named(
    kind: str, change: dict[str, Any], code: str
) -> None:
    (column,) = change
    assert broken(SchemaValidator(kind).validate(table(kind, {}, change))) == [(code, column, [2])]


def test_validator_unknown_kind_error_lists_kinds() -> None:
    with pytest.raises(UsageError, match="was 'ticks'; valid are trades, quotes, book, statuses"):
        SchemaValidator("ticks")
