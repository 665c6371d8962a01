"""Every reason for which a line is quarantined, and what is not a reason."""

import io

import pytest

from marketpipe.domain.batches import BadRow, TradeBatch
from marketpipe.sources.csvfile import CsvSource

HEADER = "symbol,ts_ns,price,size"


def read(body: str | bytes, header: str = HEADER) -> tuple[list[int], list[BadRow]]:
    """Return the lines of the good rows, and the bad rows."""
    raw = body.encode() if isinstance(body, str) else body
    rows: list[int] = []
    bad: list[BadRow] = []
    for batch in CsvSource(io.BytesIO(header.encode() + b"\n" + raw)).batches():
        rows += batch.row.tolist()
        bad += batch.bad
    return rows, bad


@pytest.mark.parametrize(
    ("line", "reason", "field"),
    [
        ("A,1,1", "bad_field_count", ""),
        ("A,1,1,1,1", "bad_field_count", ""),
        ("  ", "bad_field_count", ""),
        ("A,1,abc,1", "bad_number", "price"),
        ("A,1,1,NaN", "bad_number", "size"),
        ("A,1,inf,1", "bad_number", "price"),
        ("A,1,-Infinity,1", "bad_number", "price"),
        ("A,1,1_000,1", "bad_number", "price"),
        ("A,1, 1,1", "bad_number", "price"),
        ("A,1,.,1", "bad_number", "price"),
        ("A,1,-,1", "bad_number", "price"),
        ("A,1,1e,1", "bad_number", "price"),
        ("A,1,0x10,1", "bad_number", "price"),
        ("A,1,1.2.3,1", "bad_number", "price"),
        ("A,1,0.0000000001,1", "below_resolution", "price"),
        ("A,1,1,1.1234567891", "below_resolution", "size"),
        ("A,1,1e-10,1", "below_resolution", "price"),
        ("A,1,1000000000,1", "out_of_range", "price"),
        ("A,1,-1000000000,1", "out_of_range", "price"),
        ("A,1,1e300,1", "out_of_range", "price"),
        ("A,1,1,99999999999999999999999999", "out_of_range", "size"),
        ("A,-1,1,1", "out_of_range", "ts_ns"),
        ("A,9223372036854775808,1,1", "out_of_range", "ts_ns"),
        ("A,1.5,1,1", "bad_timestamp", "ts_ns"),
        ("A,2026-01-05T14:30:00Z,1,1", "bad_timestamp", "ts_ns"),
        ("../../x,1,1,1", "bad_symbol", "symbol"),
        (".hidden,1,1,1", "bad_symbol", "symbol"),
        ("A//B,1,1,1", "bad_symbol", "symbol"),
        ("A B,1,1,1", "bad_symbol", "symbol"),
        ("é,1,1,1", "bad_symbol", "symbol"),
        ("A" * 33 + ",1,1,1", "bad_symbol", "symbol"),
        ("A\0,1,1,1", "bad_symbol", "symbol"),
        (",1,1,1", "missing_value", "symbol"),
        ("A,,1,1", "missing_value", "ts_ns"),
        ("A,1,,1", "missing_value", "price"),
        ('A,1,"",1', "missing_value", "price"),
        ("A,1,1,", "missing_value", "size"),
        ('"A,1,1,1', "bad_quote", ""),
        ('A"B,1,1,1', "bad_quote", ""),
        ('"A"B,1,1,1', "bad_quote", ""),
        (HEADER, "repeated_header", ""),
    ],
)
def test_csv_bad_line_is_quarantined_with_its_reason(line: str, reason: str, field: str) -> None:
    rows, bad = read(f"A,1,1,1\n{line}\nB,1,1,1\n")
    assert rows == [2, 4]
    assert bad == [BadRow(3, reason, field, line.encode(), len(line.encode()))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-01-05T14:30:00", "naive_timestamp"),
        ("2026-01-05T14:30:00.123", "naive_timestamp"),
        ("2026-01-05", "bad_timestamp"),
        ("2016-12-31T23:59:60Z", "bad_timestamp"),
        ("2026-02-29T00:00:00Z", "bad_timestamp"),
        ("2026-01-05T24:00:00Z", "bad_timestamp"),
        ("2026-01-05T14:30:00.Z", "bad_timestamp"),
        ("2026-01-05T14:30:00.1234567890Z", "bad_timestamp"),
        ("2026-01-05T14:30:00+0000", "bad_timestamp"),
        ("2026-01-05T14:30:00+24:00", "bad_timestamp"),
        ("1969-12-31T23:59:59Z", "out_of_range"),
        ("1970-01-01T00:00:00+00:01", "out_of_range"),
        ("2262-04-11T23:47:16.854775808Z", "out_of_range"),
        ("9999-12-31T00:00:00Z", "out_of_range"),
        ("", "missing_value"),
    ],
)
def test_csv_bad_timestamp_is_quarantined_with_its_reason(text: str, reason: str) -> None:
    rows, bad = read(f"A,{text},1,1\n", "symbol,timestamp,price,size")
    assert rows == []
    assert [(row.reason, row.field) for row in bad] == [(reason, "timestamp")]


def test_csv_bad_utf8_is_quarantined_with_its_bytes() -> None:
    rows, bad = read(b"A,1,1,1\n\xff\xfe,1,1,1\n\xc0\xaf,1,1,1\nB,1,1,1\n")
    assert rows == [2, 5]
    assert [(row.row, row.reason, row.raw) for row in bad] == [
        (3, "bad_utf8", b"\xff\xfe,1,1,1"),
        (4, "bad_utf8", b"\xc0\xaf,1,1,1"),
    ]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("side", "up", "bad_side"),
        ("source", "../x", "bad_name"),
        ("feed", "a b", "bad_name"),
        ("ts_recv_ns", "soon", "bad_timestamp"),
    ],
)
def test_csv_bad_optional_column_is_quarantined(column: str, value: str, reason: str) -> None:
    rows, bad = read(f"A,1,1,1,{value}\n", f"{HEADER},{column}")
    assert rows == []
    assert [(row.reason, row.field) for row in bad] == [(reason, column)]


def test_csv_quote_without_either_side_is_missing_value() -> None:
    rows, bad = read("A,1,,2\nA,1,1,\nA,1,,\n", "symbol,ts_ns,bid,ask")
    assert rows == [2, 3]
    assert [(row.row, row.reason, row.field) for row in bad] == [(4, "missing_value", "bid")]


def test_csv_quoted_line_break_never_swallows_the_next_row() -> None:
    rows, bad = read('A,1,1,1\n"A\n",1,1,1\nB,1,1,1\n')
    assert rows == [2, 5]
    assert [(row.row, row.reason) for row in bad] == [(3, "bad_quote"), (4, "bad_quote")]


@pytest.mark.parametrize("block", [1 << 10, 1 << 20, 1 << 24])
@pytest.mark.parametrize("end", [b"\nB,1,1,1\n", b"\r\nB,1,1,1", b""])
def test_csv_line_of_ten_million_bytes_is_quarantined_in_bounded_memory(
    block: int, end: bytes
) -> None:
    data = HEADER.encode() + b"\nA,1,1,1\n" + b"x" * 10**7 + end
    source = CsvSource(io.BytesIO(data), block_bytes=block)
    (batch,) = source.batches()
    assert batch.row.tolist() == ([2, 4] if end else [2])
    assert batch.bad == (BadRow(3, "line_too_long", "", b"x" * 4096, 10**7),)


@pytest.mark.parametrize(("size", "good"), [(1 << 16, True), ((1 << 16) + 1, False)])
@pytest.mark.parametrize("block", [1 << 12, (1 << 16) + 1, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_csv_line_at_the_limit_is_judged_alike_for_any_block(
    size: int, good: bool, block: int, end: str
) -> None:
    line = "A,1,1," + "1".rjust(size - 6, "0")
    data = f"{HEADER}\n{line}{end}".encode()
    (batch,) = CsvSource(io.BytesIO(data), block_bytes=block).batches()
    assert len(batch) == good
    assert [bad.raw_bytes for bad in batch.bad] == ([] if good else [size])


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("-0.0", 0),
        ("-37.63", -37_630_000_000),
        ("+5", 5_000_000_000),
        (".5", 500_000_000),
        ("5.", 5_000_000_000),
        ("000000000000000001", 1_000_000_000),
        ("0.12345678900000", 123_456_789),
        ("999999999.999999999", 10**18 - 1),
        ("1e-05", 10_000),
        ("1.5E+3", 1_500_000_000_000),
        ("1000000000e-9", 1_000_000_000),
        ("0e999999999999", 0),
        ('"1.25"', 1_250_000_000),
    ],
)
def test_csv_decimal_is_exact(text: str, nanos: int) -> None:
    (batch,) = CsvSource(io.BytesIO(f"{HEADER}\nA,1,{text},{text}\n".encode())).batches()
    assert isinstance(batch, TradeBatch)
    assert (batch.price.tolist(), batch.size.tolist(), batch.bad) == ([nanos], [nanos], ())


@pytest.mark.parametrize(
    ("column", "text", "ns"),
    [
        ("ts_ns", "9223372036854775807", 2**63 - 1),
        ("ts_us", "1767623400123456", 1_767_623_400_123_456_000),
        ("ts_us", "9223372036854775", 9_223_372_036_854_775_000),
        ("ts_ms", "1381104000276", 1_381_104_000_276_000_000),
        ("ts_ms", "0", 0),
        ("timestamp", "2026-01-05T14:30:00Z", 1_767_623_400_000_000_000),
        ("timestamp", "2026-01-05 14:30:00.000000001z", 1_767_623_400_000_000_001),
        ("timestamp", "2026-01-05t09:30:00.5-05:00", 1_767_623_400_500_000_000),
        ("timestamp", "2026-01-05T20:00:00+05:30", 1_767_623_400_000_000_000),
        ("timestamp", "1970-01-01T00:00:00Z", 0),
        ("timestamp", "2000-02-29T00:00:00Z", 951_782_400_000_000_000),
        ("timestamp", "2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    ],
)
def test_csv_time_is_exact(column: str, text: str, ns: int) -> None:
    data = f"symbol,{column},price,size\nA,{text},1,1\n".encode()
    (batch,) = CsvSource(io.BytesIO(data)).batches()
    assert (batch.ts_event.tolist(), batch.bad) == ([ns], ())
