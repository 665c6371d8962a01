"""CsvMessages and CsvParser: a tick CSV through a journal says what the file says."""

import gzip
import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.batches import StreamKey
from marketpipe.errors import CorruptError, HeaderError, UsageError
from marketpipe.sources.csvfile import CsvParser, CsvSource
from marketpipe.sources.mock.messages import CsvMessages
from recordkit import data_records, stored

SECOND = 1_000_000_000
HEADER = b"symbol,ts_ns,price,size,trade_id"
TRADES = b"""symbol,ts_ns,price,size,trade_id
AAPL,1200000000,100.03,3,7
MSFT,1000000000,400.01,1,a-1
AAPL,oops,100.01,2,8
AAPL,2000000000,100.01,2,9

AAPL,9500000000,"100.06",0.5,10
"""


def messages(data: bytes, **options: object) -> pa.RecordBatch:
    source = CsvMessages(io.BytesIO(data), **options)  # type: ignore[arg-type]
    return pa.Table.from_batches(source.records()).combine_chunks().to_batches()[0]


def test_messages_are_the_lines_with_the_clock_between_them() -> None:
    rows = messages(TRADES, final_clock=True).to_pylist()
    assert [(r["kind"], r["ts_recv"], r["symbol"], r["payload"]) for r in rows[1:]] == [
        ("data", 1_200_000_000, "AAPL", b"AAPL,1200000000,100.03,3,7"),
        ("data", 1_200_000_000, "MSFT", b"MSFT,1000000000,400.01,1,a-1"),
        ("data", 1_200_000_000, "", b"AAPL,oops,100.01,2,8"),
        ("clock", 2 * SECOND, "", b""),
        ("data", 2 * SECOND, "AAPL", b"AAPL,2000000000,100.01,2,9"),
        ("data", 2 * SECOND, "", b""),
        ("clock", 9 * SECOND, "", b""),
        ("data", 9_500_000_000, "AAPL", b'AAPL,9500000000,"100.06",0.5,10'),
        ("control", 9_500_000_000, "", b'{"event":"disconnected"}'),
        ("clock", 10_500_000_000, "", b""),
    ]
    assert (rows[0]["kind"], rows[0]["ts_recv"]) == ("control", 1_200_000_000)
    assert [r["frame_seq"] for r in rows if r["kind"] == "data"] == [0, 1, 2, 3, 4, 5]
    assert all(r["frame_len"] == len(r["payload"]) for r in rows)


def test_messages_take_their_own_receipt_times_where_they_have_them() -> None:
    data = b"symbol,ts_ns,price,size,ts_recv_ns\nA,1,1,1,500\nA,900,1,1,\nA,2,1,1,700\n"
    rows = messages(data).to_pylist()
    assert [r["ts_recv"] for r in rows if r["kind"] == "data"] == [500, 900, 900]


def test_messages_of_asked_symbols_are_theirs_and_the_unreadable() -> None:
    rows = messages(TRADES, symbols=frozenset({"MSFT"})).to_pylist()
    assert [r["symbol"] for r in rows if r["kind"] == "data"] == ["MSFT"]
    bad = TRADES + b"MSFT,1,x,1,1\n"
    rows = messages(bad, symbols=frozenset({"MSFT"})).to_pylist()
    assert [r["payload"] for r in rows if r["kind"] == "data"][1:] == [b"MSFT,1,x,1,1"]


def test_messages_of_a_header_alone_connect_and_disconnect() -> None:
    assert messages(HEADER + b"\n").column("kind").to_pylist() == ["control", "control"]


@pytest.mark.parametrize("batch_lines", [1, 2, 3])
def test_messages_in_other_batches_are_the_same(batch_lines: int) -> None:
    assert messages(TRADES, batch_lines=batch_lines) == messages(TRADES)


def test_messages_of_a_bad_file_or_name_are_refused() -> None:
    with pytest.raises(HeaderError):
        CsvMessages(io.BytesIO(b"a,b\n"))
    with pytest.raises(UsageError):
        CsvMessages(io.BytesIO(TRADES), source="")


def test_messages_of_a_damaged_file_come_before_the_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    rng = np.random.default_rng(1)
    lines = [b"A,%d,%d,1,%d" % (k, k + 1, k) for k in rng.integers(1, 10**8, 50_000).tolist()]
    packed = gzip.compress(HEADER + b"\n" + b"\n".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    batches: list[pa.RecordBatch] = []
    with pytest.raises(CorruptError, match="ends early"):
        batches.extend(CsvMessages(path).records())
    data = [row["payload"] for b in batches for row in b.to_pylist() if row["kind"] == "data"]
    assert 1_000 < len(data) < 50_000
    assert data == lines[: len(data)]


def test_parser_gives_the_rows_of_the_file_at_their_offsets() -> None:
    records = stored(messages(TRADES))
    parsed = CsvParser().parse(records)
    (expected,) = CsvSource(io.BytesIO(TRADES)).batches()
    batch = parsed.trades
    assert batch is not None
    for name in ("stream", "ts_event", "price", "size", "id_hi", "id_lo"):
        assert getattr(batch, name).tolist() == getattr(expected, name).tolist()
    assert batch.dictionaries == expected.dictionaries
    assert batch.row.tolist() == [1, 2, 5, 8]
    assert [(row.row, row.reason, row.field) for row in parsed.bad] == [
        (3, "bad_timestamp", "ts_ns")
    ]
    assert parsed.unparsed == {"blank": 1}
    assert batch.arrival is not None
    assert batch.arrival.seq.tolist() == [k << 20 for k in (0, 1, 3, 5)]
    assert batch.arrival.conn_started.tolist() == [1_200_000_000] * 4


@given(st.integers(1, 12), st.booleans())
def test_parser_in_any_cut_and_restarted_gives_the_same_rows(size: int, restart: bool) -> None:
    records = stored(messages(TRADES))
    whole = CsvParser().parse(records).trades
    assert whole is not None
    parser = CsvParser()
    found: list[tuple[int, int, int]] = []
    for k in range(0, len(records), size):
        batch = parser.parse(records.slice(k, size)).trades
        if batch is not None:
            columns = (batch.row, batch.stream, batch.price)
            found += zip(*(column.tolist() for column in columns), strict=True)
        if restart:
            parser = CsvParser(parser.streams, parser.state())
    expected = zip(whole.row.tolist(), whole.stream.tolist(), whole.price.tolist(), strict=True)
    assert found == list(expected)
    assert parser.streams == whole.dictionaries.streams
    assert parser.state() == b"{}"


def test_parser_reads_interleaved_connections_of_other_columns() -> None:
    first = messages(TRADES, source="one", conn_id=1)
    second = messages(
        b"price,symbol,size,timestamp,venue\n5,A,1,2026-01-05T00:00:00Z,X\n", conn_id=2
    )
    quotes = messages(b"symbol,ts_ns,bid,ask\nA,5,1,2\n", conn_id=3)
    order = [first.slice(0, 3), second.slice(0, 1), quotes, second.slice(1), first.slice(3)]
    records = pa.Table.from_batches(order).combine_chunks().to_batches()[0]
    parsed = CsvParser().parse(stored(records))
    assert parsed.trades is not None
    assert parsed.quotes is not None
    names = parsed.trades.dictionaries
    keys = [names.streams[code] for code in parsed.trades.stream.tolist()]
    assert keys[:3] == [
        StreamKey("one", "", "AAPL"), StreamKey("one", "", "MSFT"), StreamKey("file", "", "A")
    ]  # fmt: skip
    assert parsed.trades.price.tolist()[2] == 5 * SECOND
    assert parsed.trades.id_hi is not None
    assert parsed.trades.id_hi.tolist()[2] == -1
    assert parsed.trades.venue is not None
    assert [names.venues[code] for code in parsed.trades.venue.tolist()][1:3] == ["", "X"]
    lengths = {
        len(getattr(parsed.trades, f.name)) for f in fields(parsed.trades)
        if isinstance(getattr(parsed.trades, f.name), np.ndarray)
    }  # fmt: skip
    assert lengths == {5}
    assert parsed.quotes.bid.tolist() == [SECOND]


def test_parser_quarantines_a_line_too_long_by_its_place() -> None:
    data = TRADES + b"AAPL,1,1,1,@" + b"x" * 3_000_000 + b"\r\nAAPL,2000000000,1,2,3\n"
    records = stored(messages(data))
    parsed = CsvParser().parse(records)
    assert [(row.reason, row.raw[:12]) for row in parsed.bad][1:] == [
        ("line_too_long", b"AAPL,1,1,1,@")
    ]
    assert parsed.trades is not None
    assert len(parsed.trades) == 5
    lengths = records.column("frame_len").to_pylist()
    assert 12 + 3_000_000 in lengths


@given(st.lists(st.binary(max_size=30) | st.just(b"AAPL,1,2,3,4"), max_size=10), st.booleans())
def test_parser_of_any_bytes_accounts_for_every_line(payloads: list[bytes], known: bool) -> None:
    parser = CsvParser(state=b'{"7":["%s","file",""]}' % HEADER if known else b"")
    parsed = parser.parse(data_records(payloads))
    rows = parsed.trades.row.tolist() if parsed.trades is not None else []
    bad = [row.row for row in parsed.bad]
    blank = [k for k, line in enumerate(payloads) if line in (b"", b"\r")]
    if known:
        assert sorted(rows + bad + blank) == list(range(len(payloads)))
        assert rows[: payloads.count(b"AAPL,1,2,3,4")] == [
            k for k, line in enumerate(payloads) if line == b"AAPL,1,2,3,4"
        ]
    else:
        assert bad == list(range(len(payloads)))


def test_parser_with_a_foreign_state_is_refused() -> None:
    with pytest.raises(ValueError, match="state was"):
        CsvParser(state=b"?")


@pytest.mark.data
def test_parser_of_real_trades_gives_what_the_file_gives(market_data: Path) -> None:
    path = market_data / "trades_gold" / "ticks.csv.gz"
    expected = list(CsvSource(path).batches())
    parser = CsvParser()
    batches = [parser.parse(stored(b)).trades for b in CsvMessages(path).records()]
    for name in ("ts_event", "price", "size"):
        found = np.concatenate([getattr(b, name) for b in batches if b is not None])
        assert np.array_equal(found, np.concatenate([getattr(b, name) for b in expected]))
