"""Columns of a batch: dictionaries, ids, sides, defaults, filters."""

import io
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest

from marketpipe.domain.batches import QuoteBatch, StreamKey, TradeBatch
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import InputError
from marketpipe.sources.base import SourceCounts
from marketpipe.sources.csvfile import CsvSource


def trades(text: str, **options: object) -> list[TradeBatch]:
    source = CsvSource(io.BytesIO(text.encode()), **options)  # type: ignore[arg-type]
    return [batch for batch in source.batches() if isinstance(batch, TradeBatch)]


def test_csv_without_optional_columns_has_none_of_them() -> None:
    (batch,) = trades("symbol,ts_ns,price,size\nA,1,2,3\n")
    assert batch.dictionaries.streams == (StreamKey("file", "", "A"),)
    optional = (batch.id_hi, batch.id_lo, batch.venue, batch.conditions, batch.tape)
    assert [*optional, batch.side, batch.ts_recv] == [None] * 7


def test_csv_optional_columns_are_dictionary_coded() -> None:
    (batch,) = trades(
        "tape,symbol,ts_ns,price,size,venue,conditions,side,ts_recv_ns,source,feed\n"
        "A,X,1,2,3,Q,@ T I,buy,9,alpaca,sip\n"
        ",X,1,2,3,,,,,,\n"
        "A,X,1,2,3,Q,@ T I,S,10,alpaca,iex\n"
    )
    names = batch.dictionaries
    assert names.streams == (
        StreamKey("alpaca", "sip", "X"),
        StreamKey("file", "", "X"),
        StreamKey("alpaca", "iex", "X"),
    )
    assert (names.venues, names.conditions, names.tapes) == (("", "Q"), ("", "@ T I"), ("", "A"))
    assert batch.stream.tolist() == [0, 1, 2]
    for codes in (batch.venue, batch.conditions, batch.tape):
        assert codes is not None
        assert codes.dtype == np.int32
        assert codes.tolist() == [1, 0, 1]
    assert batch.side is not None
    assert batch.side.tolist() == [1, 0, 2]
    assert batch.ts_recv is not None
    assert batch.ts_recv.tolist() == [9, NULL_I64, 10]


def test_csv_trade_ids_are_numbers_texts_or_absent() -> None:
    texts = ["0", "7", "007", "9223372036854775807", "9223372036854775808", "-7", "abc", ""]
    lines = "".join(f"A,1,1,1,{text}\n" for text in texts)
    (batch,) = trades(f"symbol,ts_ns,price,size,trade_id\n{lines}")
    assert batch.id_hi is not None
    assert batch.id_lo is not None
    got = list(zip(texts, batch.id_hi.tolist(), batch.id_lo.tolist(), strict=True))
    assert got[:2] == [("0", 0, 0), ("7", 0, 7)]
    assert got[3] == ("9223372036854775807", 0, 2**63 - 1)
    assert got[7] == ("", -1, 0)
    for text, high, low in (got[2], got[4], got[5], got[6]):
        digest = blake2b(text.encode(), digest_size=16).digest()
        assert low == int.from_bytes(digest[8:], "big") % 2**63
        assert high == int.from_bytes(digest[:8], "big") % 2**62 + 2**62


def test_csv_quoted_ids_with_quotes_inside_are_read_unquoted() -> None:
    (batch,) = trades('symbol,ts_ns,price,size,trade_id\n"A",1,1,1,"a""b,c"\n')
    digest = blake2b(b'a"b,c', digest_size=16).digest()
    assert batch.id_lo is not None
    assert batch.id_lo.tolist() == [int.from_bytes(digest[8:], "big") % 2**63]


def test_csv_quotes_have_absent_sides_and_sizes() -> None:
    data = b"symbol,ts_ns,bid,ask,bid_size,ask_size\nA,1,1,,5,\nA,2,1,2,,7\n"
    (batch,) = CsvSource(io.BytesIO(data)).batches()
    assert isinstance(batch, QuoteBatch)
    assert batch.bid.tolist() == [10**9, 10**9]
    assert batch.ask.tolist() == [NULL_I64, 2 * 10**9]
    assert batch.bid_size is not None
    assert batch.bid_size.tolist() == [5 * 10**9, NULL_I64]
    assert batch.ask_size is not None
    assert batch.ask_size.tolist() == [NULL_I64, 7 * 10**9]


def test_csv_dictionaries_only_grow_and_batches_keep_file_order() -> None:
    lines = "".join(f"S{k % 7},{k},1,1,V{k % 3}\n" for k in range(100))
    batches = trades(f"symbol,ts_ns,price,size,venue\n{lines}", batch_rows=9, block_bytes=40)
    assert [len(batch) for batch in batches] == [9] * 11 + [1]
    assert np.concatenate([batch.ts_event for batch in batches]).tolist() == list(range(100))
    for earlier, later in pairwise(batches):
        known = earlier.dictionaries.streams
        assert later.dictionaries.streams[: len(known)] == known
    symbols = [
        batch.dictionaries.streams[code].symbol for batch in batches for code in batch.stream
    ]
    assert symbols == [f"S{k % 7}" for k in range(100)]
    assert all(batch.price.flags.c_contiguous for batch in batches)


def test_csv_earlier_batch_is_not_changed_by_a_later_one() -> None:
    source = CsvSource(
        io.BytesIO(b"symbol,ts_ns,price,size\nA,1,1,1\nA,2,2,2\nA,3,3,3\n"), batch_rows=1
    )
    first, *_ = source.batches()
    assert first.ts_event.tolist() == [1]


def test_csv_symbol_filter_counts_others_and_keeps_bad_rows_of_wanted_ones() -> None:
    source = CsvSource(
        io.BytesIO(
            b"symbol,ts_ns,price,size\nA,1,1,1\nB,x,x,x\n../x,1,1,1\nA,1,x,1\n\nB,1\n"
            b"symbol,ts_ns,price,size\n"
        ),
        symbols=frozenset({"A", "Z"}),
    )
    (batch,) = source.batches()
    assert batch.dictionaries.streams == (StreamKey("file", "", "A"),)
    assert [(bad.row, bad.reason) for bad in batch.bad] == [
        (4, "bad_symbol"),
        (5, "bad_number"),
        (7, "bad_field_count"),
        (8, "repeated_header"),
    ]
    assert source.counts() == SourceCounts(rows=1, bad=4, filtered=1, blank=1)


def test_csv_of_thousands_of_symbols_keeps_every_code() -> None:
    names = [f"SYMBOL-{k:05d}" for k in range(20_000)]
    lines = "".join(f"{name},{k},1,1\n" for k, name in enumerate(names * 2))
    (batch,) = trades(f"symbol,ts_ns,price,size\n{lines}")
    streams = batch.dictionaries.streams
    assert [streams[code].symbol for code in batch.stream] == names * 2
    assert len(streams) == 20_000


def test_csv_of_too_many_distinct_texts_is_an_input_error() -> None:
    body = "".join(f"A,1,1,1,{k}\n" for k in range((1 << 20) + 1))
    with pytest.raises(InputError, match="more than 1,048,576 distinct"):
        trades(f"symbol,ts_ns,price,size,venue\n{body}")


def test_csv_of_bad_rows_only_comes_in_bounded_batches() -> None:
    lines = "x\n" * 50_000
    batches = trades(f"symbol,ts_ns,price,size\n{lines}")
    assert [bad.row for batch in batches for bad in batch.bad] == list(range(2, 50_002))
    assert max(len(batch.bad) for batch in batches) <= 20_480
