"""Elements of pages through the parser: as if streamed, except what `u` takes back."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.units import format_ns
from marketpipe.normalize import utc_dates
from marketpipe.normalize.canonical import Knowledge, canonical_ticks
from marketpipe.sources.alpaca import AlpacaParser, symbol_reader
from marketpipe.sources.alpaca.pages import add_page, stream_of
from marketpipe.sources.alpaca.wire import instant, number
from marketpipe.sources.framing import Encoding
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import RecordBuilder, as_stored

Elements = dict[str, list[dict[str, Any]]]

TRADE = {
    "t": "2022-10-21T20:19:03.752176Z", "x": "D", "p": 129.88, "s": 5, "c": [" ", "T", "I"],
    "i": 71697353758036, "z": "A",
}  # fmt: skip
# 2022-10-21 is day 19,286 since the epoch; 20:19:03 is second 73,143 of it.
TRADE_NS = (19_286 * 86_400 + 73_143) * 1_000_000_000 + 752_176_000


def paged(
    *bodies: bytes, kind: Any = "trades", feed: str = "sip", first: int = 0
) -> pa.RecordBatch:
    builder = RecordBuilder(
        source="alpaca", feed=feed, stream=stream_of(kind), conn_id=9, conn_started_ns=77
    )
    for body in bodies:
        add_page(builder, body, 5_000)
    return as_stored(builder.take(), "alpaca", first)


def streamed(frames: Iterable[bytes], encoding: Encoding, feed: str, first: int) -> pa.RecordBatch:
    builder = RecordBuilder(
        source="alpaca", feed=feed, stream=f"v2/{feed}", conn_id=1, conn_started_ns=1,
        symbol_of=symbol_reader(encoding),
    )  # fmt: skip
    for frame in frames:
        builder.add_frame(frame, 1_000, encoding)
    return as_stored(builder.take(), "alpaca", first)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def page_of(elements: Elements, kind: str = "trades") -> bytes:
    return compact({kind: elements, "next_page_token": None})


def frames_of(elements: Elements, encoding: Encoding) -> list[bytes]:
    messages = [{"T": "t", "S": symbol, **e} for symbol, es in elements.items() for e in es]
    if encoding == "json":
        return [compact([message]) for message in messages]
    return [msgspec.msgpack.encode([packed(message)]) for message in messages]


def packed(message: dict[str, Any]) -> dict[str, Any]:
    nanos = {key: round(Decimal(str(message[key])) * 10**9) for key in ("p", "s")}
    ts = np.datetime64(message["t"].removesuffix("Z"), "ns").astype(int)
    return {
        **message,
        **{key: number(value, "msgpack") for key, value in nanos.items()},
        "t": instant(int(ts), "msgpack"),
    }


def canonical(parsed: Parsed) -> list[dict[str, Any]]:
    batch = parsed.trades
    if batch is None:
        return []
    known = np.zeros(len(batch), np.int64)
    table = canonical_ticks(
        batch,
        None,
        journal_id="alpaca",
        dates=utc_dates,
        knowledge=Knowledge(
            recorded_at=known, known_at=known, backfilled=np.zeros(len(batch), np.bool_)
        ),
    )
    rows: list[dict[str, Any]] = table.drop_columns(["offset", "ts_recv"]).to_pylist()
    return rows


def rows(parsed: Parsed, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parsed.tables[kind].to_pylist()
    return found


def faults(parsed: Parsed) -> list[tuple[int, str, str]]:
    return [(row.row, row.reason, row.field) for row in parsed.bad]


def test_trade_of_a_page_reads_every_field() -> None:
    [row] = canonical(AlpacaParser().parse(paged(page_of({"A": [TRADE]}))))
    expected = {
        "source": "alpaca", "feed": "sip", "symbol": "A", "venue": "D", "ts_event": TRADE_NS,
        "trade_id": "71697353758036", "price": Decimal("129.88"), "size": Decimal(5),
        "conditions": "T I", "tape": "A", "side": "",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


IDS = st.integers(0, 2**63 - 1)
PRICES = st.integers(1, 10**9).map(lambda n: n / 10**4)
TIMES = st.integers(1_600_000_000_000_000_000, 1_700_000_000_000_000_000).map(format_ns)
STOCK = st.fixed_dictionaries(
    {
        "t": TIMES, "x": st.sampled_from("DVQ"), "p": PRICES, "s": st.integers(0, 10**6),
        "c": st.lists(st.sampled_from(["@", " ", "I", "T", "F"]), max_size=4), "i": IDS,
        "z": st.sampled_from("ABC"),
    }
)  # fmt: skip
CRYPTO = st.fixed_dictionaries(
    {"t": TIMES, "p": PRICES, "s": PRICES, "i": IDS, "tks": st.sampled_from(["B", "S", "-"])}
)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@given(
    st.one_of(
        st.dictionaries(st.sampled_from(["A", "BRK.B"]), st.lists(STOCK, max_size=4)),
        st.dictionaries(st.sampled_from(["BTC/USD", "DOGE/USD"]), st.lists(CRYPTO, max_size=4)),
    )
)
def test_same_trades_streamed_and_by_page_give_the_same_rows(
    encoding: Encoding, elements: Elements
) -> None:
    by_page = AlpacaParser().parse(paged(page_of(elements)))
    by_stream = AlpacaParser().parse(streamed(frames_of(elements, encoding), encoding, "sip", 0))
    assert canonical(by_page) == canonical(by_stream)
    assert len(canonical(by_page)) == sum(map(len, elements.values()))
    assert not by_page.bad


@pytest.mark.parametrize("word", ["canceled", "incorrect"])
def test_trade_taken_back_is_no_trade_but_its_cancel(word: str) -> None:
    fine = {**TRADE, "i": 2}
    parsed = AlpacaParser().parse(paged(page_of({"A": [{**TRADE, "u": word}, fine]})))
    assert [row["trade_id"] for row in canonical(parsed)] == ["2"]
    [row] = rows(parsed, "corrections")
    expected = {
        "kind": "cancel", "symbol": "A", "venue": "D", "tape": "A", "ts_event": TRADE_NS,
        "trade_id": "71697353758036", "action": word, "price": Decimal("129.88"), "offset": 0,
        "size": Decimal(5), "new_trade_id": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert not parsed.bad


@pytest.mark.parametrize("word", ["corrected", "", None])
def test_trade_that_corrects_another_is_a_trade(word: str | None) -> None:
    parsed = AlpacaParser().parse(paged(page_of({"A": [{**TRADE, "u": word}]})))
    assert canonical(parsed) == canonical(AlpacaParser().parse(paged(page_of({"A": [TRADE]}))))
    assert "corrections" not in parsed.tables


def test_elements_that_cannot_be_read_are_quarantined_with_their_reason() -> None:
    nameless = {key: value for key, value in TRADE.items() if key != "i"}
    body = page_of(
        {
            "A": [{**TRADE, "u": "moved"}, {**nameless, "u": "canceled"}, {**TRADE, "p": "x"}],
            "../A": [TRADE],
            "B": [{"p": 1, "s": 1}, 7, {"i": []}],  # type: ignore[list-item]
        }
    )
    parsed = AlpacaParser().parse(paged(body, b'{"oops":1}'))
    assert faults(parsed) == [
        (0, "unknown_value", "u"),
        (1, "missing_value", "i"),
        (2, "bad_number", "p"),
        (3, "bad_symbol", "S"),
        (4, "missing_value", "t"),
        (5, "bad_record", ""),
        (6, "bad_record", ""),
        (7, "bad_record", ""),
    ]
    assert parsed.trades is None
    assert json.loads(parsed.bad[0].raw) == {**TRADE, "u": "moved"}


def test_empty_pages_and_pages_of_other_things_are_counted() -> None:
    empty = paged(b'{"trades":{},"next_page_token":null}')
    other = paged(page_of({"A": [TRADE]}, "auctions"), kind="auctions", first=1)
    parsed = AlpacaParser().parse(pa.concat_batches([empty, other]))
    assert parsed.unparsed == {"page": 1, "rest/auctions": 1}
    assert not parsed.bad


def test_bars_of_pages_are_the_vendors_minute_bars() -> None:
    bar = {"t": "2022-10-21T20:19:00Z", "o": 1.5, "h": 2, "l": 1, "c": 1.25, "v": 10, "n": 3}
    records = paged(page_of({"A": [{**bar, "vw": 1.379041755}]}, "bars"), kind="bars")
    [row] = rows(AlpacaParser().parse(records), "vendor_bars")
    assert (row["kind"], row["timeframe"], row["symbol"]) == ("bar", "1m", "A")
    assert row["ts_open"] == TRADE_NS - 3_752_176_000
    assert (row["open"], row["close"]) == (Decimal("1.5"), Decimal("1.25"))
    assert (row["vwap"], row["volume"], row["trade_count"]) == (Decimal("1.379041755"), 10, 3)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("679.6324449731", "679.632444973"),
        ("679.6324449735", "679.632444974"),
        ("0.0000000005", "0"),
        ("12345678901234567890123456789.0000000015", "12345678901234567890123456789.000000002"),
    ],
)
def test_vwap_of_ten_decimals_is_rounded_half_to_even(written: str, read: str) -> None:
    body = f'{{"bars":{{"BTC/USD":[{{"t":"2022-10-21T20:19:00Z","v":1,"vw":{written}}}]}}}}'
    [row] = rows(AlpacaParser().parse(paged(body.encode(), kind="bars")), "vendor_bars")
    assert row["vwap"] == Decimal(read)


def test_vwap_that_rounding_makes_too_long_is_out_of_range() -> None:
    body = '{"bars":{"A":[{"t":"2022-10-21T20:19:00Z","vw":' + "9" * 29 + ".9999999999}]}}"
    parsed = AlpacaParser().parse(paged(body.encode(), kind="bars"))
    assert faults(parsed) == [(0, "out_of_range", "vw")]


def test_quotes_of_pages_read_both_sides_and_their_details() -> None:
    quote = {
        "t": TRADE["t"], "ax": "N", "ap": 1.5, "as": 2, "bx": "H", "bp": 1.25, "bs": 1, "c": ["R"],
        "z": "A",
    }  # fmt: skip
    parsed = AlpacaParser().parse(paged(page_of({"IBM": [quote]}, "quotes"), kind="quotes"))
    batch = parsed.quotes
    assert batch is not None
    assert batch.bid_size is not None
    assert (batch.ts_event[0], batch.bid[0], batch.ask[0]) == (
        TRADE_NS,
        1_250_000_000,
        1_500_000_000,
    )
    assert batch.bid_size[0] == 1_000_000_000
    assert parsed.quote_details is not None
    assert parsed.quote_details.to_pylist() == [
        {"bid_venue": "H", "ask_venue": "N", "conditions": "R", "tape": "A"}
    ]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("page_first", [True, False])
def test_streams_and_pages_may_lie_in_one_batch_and_be_cut_anywhere(
    encoding: Encoding, page_first: bool
) -> None:
    elements = {"B": [TRADE], "A": [TRADE, {**TRADE, "i": "text"}, {**TRADE, "u": "canceled"}]}
    live: Elements = {"C": [TRADE], "A": [{**TRADE, "i": 5}, {**TRADE, "s": 0.5}]}
    page = paged(page_of(elements), first=0 if page_first else 3)
    frames = streamed(frames_of(live, encoding), encoding, "sip", 4 if page_first else 0)
    both = pa.concat_batches([page, frames] if page_first else [frames, page])
    whole = AlpacaParser().parse(both)
    assert whole.trades is not None
    assert whole.trades.row.tolist() == [row for row in range(7) if row != (3 if page_first else 6)]
    symbols = [key.symbol for key in whole.trades.dictionaries.streams]
    assert symbols == (["B", "A", "C"] if page_first else ["C", "A", "B"])
    parser = AlpacaParser()
    pieces = [parser.parse(both.slice(row, 1)) for row in range(len(both))]
    assert [row for piece in pieces for row in canonical(piece)] == canonical(whole)
    assert parser.streams == whole.trades.dictionaries.streams


def test_payload_of_a_page_that_looks_streamed_is_read_as_of_its_page() -> None:
    odd = {"T": "t", "S": "ZZZ", **TRADE, "u": "canceled"}
    parsed = AlpacaParser().parse(paged(page_of({"A": [odd]})))
    assert parsed.trades is None
    assert [row["symbol"] for row in rows(parsed, "corrections")] == ["A"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.sampled_from(["canceled", "2022-10-21T20:19:03Z"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["i", "p", "s", "t", "c", "u", "x"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars"])
@given(
    st.lists(JUNK | st.dictionaries(st.sampled_from(list("itpscuxzovnhl")), JUNK), max_size=6),
    st.binary(max_size=12),
)
def test_parse_of_any_page_never_raises_and_accounts_for_each_record(
    kind: str, junk: list[Any], raw: bytes
) -> None:
    body = page_of({"A": [{**TRADE, "u": None}, *junk], "B": junk}, kind)
    records = paged(body, body[:40] + raw + body[40:], raw, kind=kind)
    parsed = AlpacaParser().parse(records)
    accounted = Counter(row.row for row in parsed.bad)
    for batch in (parsed.trades, parsed.quotes):
        accounted.update([] if batch is None else batch.row.tolist())
    for table in parsed.tables.values():
        accounted.update(table["offset"].to_pylist())
    assert set(accounted.values()) <= {1}
    assert len(accounted) + sum(parsed.unparsed.values()) == len(records)


@pytest.mark.data
def test_real_bodies_parse_whole(market_data: Path) -> None:
    folder = market_data / "alpaca_rest"
    taken_back = 0
    for path in sorted(folder.glob("*.json*")):
        body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        value = json.loads(body)
        for kind in ("trades", "quotes", "bars"):
            if kind not in value:
                continue
            parsed = AlpacaParser().parse(paged(body, kind=kind))
            assert not parsed.bad, (path.name, parsed.bad)
            listed = [e if isinstance(e, list) else [e] for e in value[kind].values()]
            count = sum(map(len, listed))
            gone = len(parsed.tables["corrections"]) if "corrections" in parsed.tables else 0
            of_kind = {"trades": parsed.trades, "quotes": parsed.quotes}
            made = parsed.tables.get("vendor_bars") if kind == "bars" else of_kind[kind]
            assert (0 if made is None else len(made)) + gone == count, path.name
            assert parsed.unparsed == ({} if count else {"page": 1})
            taken_back += gone
    # Both are in go_TestGetTrades_Update_1.json.
    assert taken_back == 2


@pytest.mark.data
def test_real_pages_in_order_join_to_the_whole_of_each_symbol(market_data: Path) -> None:
    folder = market_data / "alpaca_rest"
    bodies = [
        (folder / f"go_TestGetCryptoMultiTrades_{number}.json").read_bytes()
        for number in range(1, 5)
    ]
    batch = AlpacaParser().parse(paged(*bodies, feed="us")).trades
    assert batch is not None
    assert batch.id_lo is not None
    names = [batch.dictionaries.streams[code].symbol for code in batch.stream]
    # By jq: the ids of a symbol go on from page to page; the last page is empty.
    assert list(zip(names, batch.id_lo.tolist(), strict=True)) == [
        *(("BAT/USD", 1957857 + k) for k in range(4)),
        *(("SUSHI/USD", 2590119 + k) for k in range(8)),
    ]
    assert batch.side is not None
    assert batch.side[:4].tolist() == [2, 2, 1, 1]
