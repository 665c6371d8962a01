"""What a header must be, and what the error says when it is not."""

import io

import pytest

from marketpipe.errors import HeaderError, InputError, UsageError
from marketpipe.sources.csvfile import CsvSource


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("symbol,price,size", ["missing a time column (ts_ns, ts_us, ts_ms, timestamp)"]),
        ("ts_ns,price,size", ["missing symbol"]),
        ("symbol,ts_ns,price", ["missing size"]),
        ("symbol,ts_ns,bid", ["missing ask"]),
        ("symbol,ts_ns", ["missing price and size, or bid and ask"]),
        ("symbol,ts_ns,Price,size", ["unknown column 'Price' (did you mean 'price'?)"]),
        ("ticker,ts_ns,price,qty", ["'ticker' (did you mean 'symbol'?)", "'qty' (did you mean"]),
        ("symbol,time,price,size", ["'time' (did you mean 'timestamp'?)"]),
        ("symbol,ts_ns,price,size,colour", ["unknown column 'colour'"]),
        ("symbol,ts_ns,price, size", ["unknown column ' size' (did you mean 'size'?)"]),
        ("symbol,ts_ns,price,size,price", ["column 'price' appears more than once"]),
        ("symbol,ts_ns,ts_ms,price,size", ["more than one time column: ts_ns, ts_ms"]),
        ("symbol,ts_ns,price,size,bid,ask", ["columns of trades (price, size) and of quotes"]),
        ("symbol,ts_ns,bid,ask,side", ["columns of trades (side) and of quotes (bid, ask)"]),
        ('symbol,ts_ns,"price,size', ["cannot be split"]),
        ("A,1,2.5,3", ["Required: symbol, one of ts_ns, ts_us, ts_ms, timestamp"]),
    ],
)
def test_header_fault_is_named_with_what_is_valid(header: str, parts: list[str]) -> None:
    with pytest.raises(HeaderError) as caught:
        CsvSource(io.BytesIO(f"{header}\nA,1,1,1\n".encode()))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_header_of_an_empty_file_is_an_error(data: bytes) -> None:
    with pytest.raises(HeaderError, match=r"empty|missing symbol"):
        CsvSource(io.BytesIO(data))


def test_header_in_utf16_is_an_error_with_a_remedy() -> None:
    with pytest.raises(HeaderError, match=r"not UTF-8.*convert the file"):
        CsvSource(io.BytesIO("symbol,ts_ns,price,size\n".encode("utf-16")))


def test_header_that_never_ends_is_an_error_in_bounded_memory() -> None:
    with pytest.raises(HeaderError, match="longer than 65,536 bytes"):
        CsvSource(io.BytesIO(b"x" * 10**7))


def test_header_of_thousands_of_columns_gives_a_short_message() -> None:
    with pytest.raises(HeaderError) as caught:
        CsvSource(io.BytesIO(b"," * 60_000 + b"\n"))
    assert len(str(caught.value)) < 4_000


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\r\n"])
def test_header_alone_is_a_file_of_no_rows(end: str) -> None:
    source = CsvSource(io.BytesIO(f"symbol,ts_ns,price,size{end}".encode()))
    assert list(source.batches()) == []
    assert source.kind == "trades"
    assert source.counts().blank == max(end.count("\n") - 1, 0)


@pytest.mark.parametrize("header", ["bid,ts_ms,symbol,ask", '"bid","ts_ms","symbol","ask"'])
def test_header_order_is_free_and_quotes_are_quotes(header: str) -> None:
    source = CsvSource(io.BytesIO(f"{header}\n1.5,2,A,2.5\n".encode()))
    (batch,) = source.batches()
    assert source.kind == "quotes"
    assert batch.ts_event.tolist() == [2_000_000]
    assert "quotes from <stream> (plain CSV: bid, ts_ms, symbol, ask)" in source.describe()


@pytest.mark.parametrize("symbols", [frozenset({"../x"}), frozenset({"A", ""})])
def test_source_with_a_malformed_symbol_filter_is_a_usage_error(symbols: frozenset[str]) -> None:
    with pytest.raises(UsageError, match="symbols: was"):
        CsvSource(io.BytesIO(b"symbol,ts_ns,price,size\n"), symbols=symbols)


def test_source_with_a_malformed_default_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="default_source: was ''"):
        CsvSource(io.BytesIO(b"symbol,ts_ns,price,size\n"), default_source="")
    with pytest.raises(UsageError, match=r"default_feed: was '\.\./x'"):
        CsvSource(io.BytesIO(b"symbol,ts_ns,price,size\n"), default_feed="../x")


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_source_that_cannot_be_opened_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be (opened|read): "):
        CsvSource(name)
