"""Laws of the verification layer: exact text, order, hashes, division, number reading."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.schemas import BARS
from marketpipe.verify import CanonicalExporter, DigestTree, first_difference
from marketpipe.verify.rollup import half_even
from marketpipe.verify.sqltext import MACROS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def scaled(limit: int, digits: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-limit, limit).map(lambda n: Decimal(f"{n}E-{digits}"))


PRICES = scaled(10**18 - 1, 9)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["AAPL", "BTC/USD", "B", "Ä"]),
            "timeframe": st.sampled_from(["1s", "90s", "2m", "1m", "1h", "1d", "1w"]),
            "ts_open": st.integers(0, 2**63 - 1),
            "open": PRICES,
            "high": PRICES,
            "low": PRICES,
            "close": PRICES,
            "volume": st.none() | scaled(10**38 - 1, 9),
            "notional": st.none() | scaled(10**38 - 1, 18),
            "vwap": st.none() | PRICES,
            "trade_count": st.integers(0, 2**63 - 1),
        }
    ),
    max_size=12,
    unique_by=lambda row: (row["symbol"], row["timeframe"], row["ts_open"]),
)
CONSTANT: dict[str, Any] = {
    "source": "s",
    "feed": "f",
    "price_type": "trade",
    "rule_set": "plain",
    "session": "continuous",
    "state": "confirmed",
    "coverage": "traded",
    "partial": False,
    "official_open": None,
    "official_close": None,
    "recorded_at": None,
    "revision": 0,
    "cause": "first",
    "known_at": 0,
}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                **CONSTANT,
                **row,
                "ts_close": row["ts_open"],
                "session_date": (EPOCH + timedelta(seconds=row["ts_open"] // 10**9)).date(),
            }
            for row in rows
        ],
        schema=BARS,
    )


def naive_decimal(value: Decimal | None) -> str:
    if value is None:
        return ""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def naive_instant(ns: int) -> str:
    text = (EPOCH + timedelta(seconds=ns // 10**9)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{ns % 10**9:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def naive_csv(rows: list[dict[str, Any]]) -> str:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

    def key(row: dict[str, Any]) -> tuple[str, int, int]:
        timeframe = row["timeframe"]
        return row["symbol"], int(timeframe[:-1]) * units[timeframe[-1]], row["ts_open"]

    lines = ["symbol,timeframe,ts_open,ts_close,open,high,low,close,volume,notional,trade_count"]
    for row in sorted(rows, key=key):
        instant = naive_instant(row["ts_open"])
        cells = [row["symbol"], row["timeframe"], instant, instant]
        cells += [
            naive_decimal(row[name])
            for name in ("open", "high", "low", "close", "volume", "notional")
        ]
        lines.append(",".join([*cells, str(row["trade_count"])]))
    return "\n".join(lines) + "\n"


@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_export_any_bars_equal_a_naive_decimal_writer(rows: list[dict[str, Any]]) -> None:
    file = io.BytesIO()
    CanonicalExporter(table(rows)).write(file)
    assert file.getvalue().decode() == naive_csv(rows)


@given(rows=ROWS, data=st.data(), cut=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_root_any_order_and_chunking_is_the_same(
    rows: list[dict[str, Any]], data: st.DataObject, cut: int
) -> None:
    shuffled = data.draw(st.permutations(rows))
    pieces = [piece for piece in (shuffled[:cut], shuffled[cut:]) if piece]
    other = pa.concat_tables([table(piece) for piece in pieces]) if pieces else table([])
    for history in (False, True):
        first = DigestTree.build(table(rows), history=history)
        assert first == DigestTree.build(other, history=history)
        assert first.root == DigestTree.build(other, history=history).root
    assert first_difference(table(rows), other) is None


@given(rows=ROWS.filter(bool), data=st.data())
@settings(max_examples=60, deadline=None)
def test_first_difference_of_one_changed_value_names_it(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(["open", "high", "low", "close", "vwap", "trade_count"]))
    old = rows[at][field]
    new = 1 if old != 1 else 2
    changed = [*rows[:at], {**rows[at], field: new}, *rows[at + 1 :]]
    found = first_difference(table(rows), table(changed))
    assert found is not None
    where = (found.path.symbol, found.path.timeframe, found.ts_open)
    assert where == tuple(rows[at][name] for name in ("symbol", "timeframe", "ts_open"))
    assert (found.field, found.first, found.second) == (field, old, new)


@given(numerator=st.integers(0, 10**60), denominator=st.integers(1, 10**40))
def test_half_even_division_equals_that_of_fractions(numerator: int, denominator: int) -> None:
    assert half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.fixture(scope="module")
def sql() -> Callable[[str, str], Any]:
    connection = duckdb.connect()
    connection.execute(MACROS)

    def evaluate(macro: str, text: str) -> Any:
        return connection.execute(f"SELECT {macro}(?)", [text]).fetchall()[0][0]

    return evaluate


@given(
    whole=st.text("0123456789", max_size=12),
    fraction=st.text("0123456789", max_size=12),
    exponent=st.none() | st.integers(-20, 12),
    sign=st.sampled_from(["", "+", "-"]),
)
@settings(max_examples=300, deadline=None)
def test_sql_decimal_any_spelling_is_read_exactly_or_not_at_all(
    sql: Callable[[str, str], Any], whole: str, fraction: str, exponent: int | None, sign: str
) -> None:
    if not whole + fraction:
        whole = "0"
    text = f"{sign}{whole}{'.' if fraction else ''}{fraction}"
    text += "" if exponent is None else f"e{exponent}"
    value = Fraction(text)
    needed = next(n for n in range(40) if (value * 10**n).denominator == 1)
    assert sql("is_number", text)
    assert (sql("decimal_places", text) > 9) == (needed > 9)
    read = sql("exact_decimal", text)
    assert read is None if needed > 18 or abs(value) >= 10**18 else Fraction(read) == value


@given(
    ns=st.integers(0, 2**63 - 1),
    digits=st.integers(0, 9),
    minutes=st.integers(-23 * 60, 23 * 60),
    separator=st.sampled_from("Tt "),
)
@settings(max_examples=200, deadline=None)
def test_sql_instant_any_spelling_is_read_to_the_nanosecond(
    sql: Callable[[str, str], Any], ns: int, digits: int, minutes: int, separator: str
) -> None:
    ns -= ns % 10 ** (9 - digits)
    local = EPOCH + timedelta(seconds=ns // 10**9, minutes=minutes)
    fraction = f".{ns % 10**9:09d}"[: digits + 1] if digits else ""
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    text = local.strftime(f"%Y-%m-%d{separator}%H:%M:%S") + fraction + zone
    assert sql("instant_ns", text) == ns
    if not minutes:
        assert sql("instant_ns", text[:-6] + "Z") == ns
