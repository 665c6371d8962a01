"""AlpacaParser: the vendor's own examples, real frames, exact numbers, faults, and any bytes."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.schemas import CANONICAL
from marketpipe.domain.units import NULL_I64
from marketpipe.normalize import RuleSet
from marketpipe.sources.alpaca import AlpacaParser, symbol_reader, wire
from marketpipe.sources.framing import Encoding
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import RecordBuilder
from recordkit import data_records, stored

TRADE = (
    b'{"T":"t","S":"AAPL","i":96921,"x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:44.208Z",'
    b'"c":["@","I"],"z":"C"}'
)
QUOTE = (
    b'{"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":1,"ax":"Q","ap":87.68,"as":4,"c":["R"],'
    b'"z":"C","t":"2021-02-22T15:51:45.335689322Z"}'
)
CRYPTO = (
    b'{"T":"t","S":"AVAX/USD","p":47.299,"s":29.205707815,'
    b'"t":"2024-03-12T10:27:48.858228144Z","i":3447222699101865076,"tks":"S"}'
)
# 2021-02-22T15:51:44Z: 18,680 days and 57,104 seconds.
TRADE_NS = (18_680 * 86_400 + 57_104) * 1_000_000_000 + 208_000_000

EPOCH = msgspec.msgpack.Ext(-1, bytes(4))


def parse(*payloads: bytes) -> Parsed:
    return AlpacaParser().parse(data_records(list(payloads)))


def faults(parsed: Parsed) -> list[tuple[int, str, str]]:
    return [(row.row, row.reason, row.field) for row in parsed.bad]


def rows(parsed: Parsed, kind: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = parsed.tables[kind].to_pylist()
    return found


def test_parse_of_a_trade_reads_every_field() -> None:
    batch = parse(TRADE, QUOTE, TRADE).trades
    assert batch is not None
    assert batch.dictionaries.streams[batch.stream[0]] == StreamKey("alpaca", "sip", "AAPL")
    assert batch.row.tolist() == [0, 2]
    assert batch.ts_event.tolist() == [TRADE_NS] * 2
    assert (batch.price[0], batch.size[0]) == (126_550_000_000, 1_000_000_000)
    assert batch.id_hi is not None
    assert batch.id_lo is not None
    assert (batch.id_hi[0], batch.id_lo[0]) == (0, 96_921)
    names = batch.dictionaries
    assert batch.venue is not None
    assert batch.conditions is not None
    assert batch.tape is not None
    assert names.venues[batch.venue[0]] == "D"
    assert names.conditions[batch.conditions[0]] == "@ I"
    assert names.tapes[batch.tape[0]] == "C"
    assert batch.arrival is not None
    assert batch.arrival.seq.tolist() == [0, 2 << 20]
    assert batch.ts_recv is not None
    assert batch.ts_recv.tolist() == [0, 2_000_000_000]


def test_parse_of_a_crypto_trade_keeps_id_size_and_side_exact() -> None:
    batch = parse(CRYPTO).trades
    assert batch is not None
    assert batch.id_lo is not None
    assert batch.side is not None
    assert (batch.price[0], batch.size[0]) == (47_299_000_000, 29_205_707_815)
    assert (batch.id_lo[0], batch.side[0]) == (3_447_222_699_101_865_076, 2)


def test_parse_of_a_quote_reads_both_sides_and_its_details() -> None:
    parsed = parse(QUOTE, b'{"T":"q","S":"AMD","bp":1,"t":"2021-02-22T00:00:00Z"}')
    batch = parsed.quotes
    assert batch is not None
    assert batch.bid_size is not None
    assert batch.bid.tolist() == [87_660_000_000, 1_000_000_000]
    assert batch.ask.tolist() == [87_680_000_000, NULL_I64]
    assert batch.bid_size.tolist() == [1_000_000_000, NULL_I64]
    assert batch.ts_event[0] % 1_000_000_000 == 335_689_322
    assert parsed.quote_details is not None
    assert parsed.quote_details.to_pylist() == [
        {"bid_venue": "U", "ask_venue": "Q", "conditions": "R", "tape": "C"},
        {"bid_venue": "", "ask_venue": "", "conditions": "", "tape": ""},
    ]


@pytest.mark.parametrize(
    ("codes", "text", "same_as"),
    [
        (b"null", "", ""),
        (b"[]", "", ""),
        (b'[" "]', "", ""),
        (b'[" ","F","T","I"]', "F T I", "F T I"),
        (b'["@"]', "@", "@"),
    ],
)
def test_parse_of_conditions_leaves_out_the_blank_code(
    codes: bytes, text: str, same_as: str
) -> None:
    batch = parse(TRADE.replace(b'["@","I"]', codes)).trades
    assert batch is not None
    assert batch.conditions is not None
    assert batch.dictionaries.conditions[batch.conditions[0]] == text
    rules = RuleSet.load("alpaca-v1")
    assert rules.judge(text, "B") == rules.judge(same_as, "B")
    assert not rules.judge(text, "B").unknown or text == "@"


@pytest.mark.parametrize(
    ("change", "reason", "key"),
    [
        ((b"126.55", b"1.0000000001"), "below_resolution", "p"),
        ((b"126.55", b"1000000000"), "out_of_range", "p"),
        ((b"126.55", b'"126.55"'), "bad_number", "p"),
        ((b"126.55", b"null"), "missing_value", "p"),
        ((b'"s":1,', b""), "missing_value", "s"),
        ((b".208Z", b".208"), "naive_timestamp", "t"),
        ((b".208Z", b"?"), "bad_timestamp", "t"),
        ((b"2021-", b"1921-"), "out_of_range", "t"),
        ((b'"AAPL"', b'"../x"'), "bad_symbol", "S"),
        ((b'"AAPL"', b"5"), "bad_symbol", "S"),
        ((b'"S":"AAPL",', b""), "missing_value", "S"),
        ((b'["@","I"]', b"[5]"), "bad_text", "c"),
        ((b'"D"', b"5"), "bad_record", ""),
        ((b'"T":"t"', b'"T":5'), "bad_record", "T"),
        ((b'"T":"t",', b""), "missing_value", "T"),
        ((TRADE, b"{"), "bad_record", ""),
        ((b'"z":"C"', b'"tks":"?"'), "bad_side", "tks"),
    ],
)
def test_parse_of_a_bad_trade_quarantines_it_alone(
    change: tuple[bytes, bytes], reason: str, key: str
) -> None:
    broken = TRADE.replace(*change)
    parsed = parse(TRADE, broken, TRADE)
    assert faults(parsed) == [(1, reason, key)]
    assert parsed.bad[0].raw == broken
    assert parsed.trades is not None
    assert parsed.trades.row.tolist() == [0, 2]


def test_parse_of_unknown_kinds_and_controls_counts_them() -> None:
    parsed = parse(
        b'{"T":"i","S":"INAQU","p":9.12,"z":"C","t":"2024-12-13T19:58:09.242138635Z"}',
        b'{"T":"success","msg":"connected"}',
        b'{"T":"subscription","trades":["AAPL"],"news":["*"]}',
        b'{"T":"error","code":406,"msg":"connection limit exceeded"}',
        b'{"T":"zz"}',
        b'{"T":"' + b"z" * 100 + b'"}',
    )
    assert parsed.unparsed == {
        "error": 1, "i": 1, "other": 1, "subscription": 1, "success": 1, "zz": 1
    }  # fmt: skip
    assert parsed.bad == ()


def test_parse_of_unknown_keys_skips_them() -> None:
    assert len(parse(TRADE[:-1] + b',"r":"2021","new":{"a":[1]}}').trades or ()) == 1


def test_parse_of_bars_keeps_what_the_vendor_said() -> None:
    body = b'"S":"SPY","o":132.65,"h":136,"l":132.12,"c":134.65,"v":20512345678,'
    body += b'"t":"2024-07-24T07:56:00Z","n":16,"vw":133.7}'
    parsed = parse(*(b'{"T":"%c",' % kind + body for kind in b"bud"))
    found = rows(parsed, "vendor_bars")
    assert [(r["kind"], r["timeframe"], r["offset"]) for r in found] == [
        ("bar", "1m", 0), ("updated", "1m", 1), ("daily", "1d", 2)
    ]  # fmt: skip
    assert found[0]["volume"] == Decimal(20_512_345_678)
    assert (found[0]["open"], found[0]["vwap"]) == (Decimal("132.65"), Decimal("133.7"))
    assert found[0]["ts_open"] == found[0]["ts_event"]
    assert found[0]["trade_count"] == 16


def test_parse_of_halts_and_bands_gives_statuses() -> None:
    found = rows(
        parse(
            b'{"T":"s","S":"AAPL","sc":"H","sm":"Trading Halt","rc":"T12","rm":"more",'
            b'"t":"2021-02-22T19:15:00Z","z":"C"}',
            b'{"T":"l","S":"IONM","u":3.24,"d":2.65,"i":"B","t":"2023-04-06T13:34:45.5Z","z":"C"}',
        ),
        "statuses",
    )
    assert [(r["kind"], r["status_code"], r["limit_up"], r["indicator"]) for r in found] == [
        ("status", "H", None, None),
        ("luld", None, Decimal("3.24"), "B"),
    ]


def test_parse_of_corrections_and_cancels_names_the_trade() -> None:
    correction = (
        b'{"T":"c","S":"EEM","x":"M","oi":52983525033527,"op":39.1582,"os":440000,'
        b'"oc":[" ","7"],"ci":52983525034326,"cp":39.1809,"cs":440000,"cc":[" ","7"],"z":"B",'
        b'"t":"2023-04-06T14:25:06.542305024Z"}'
    )
    cancel = (
        b'{"T":"x","S":"GOOGL","i":465,"x":"D","p":105.31,"s":300,"a":"C","z":"C",'
        b'"t":"2023-04-06T13:15:42.83540958Z"}'
    )
    first, second = rows(parse(cancel, correction), "corrections")
    assert (first["kind"], first["trade_id"], first["action"], first["venue"]) == (
        "cancel", "465", "C", "D"
    )  # fmt: skip
    assert (second["trade_id"], second["new_trade_id"]) == ("52983525033527", "52983525034326")
    assert (second["price"], second["new_price"]) == (Decimal("39.1582"), Decimal("39.1809"))
    assert second["conditions"] == second["new_conditions"] == "7"


def test_parse_of_books_gives_one_row_a_level_and_quarantines_levels_alone() -> None:
    head = b'{"T":"o","S":"BTC/USD","t":"2024-03-12T10:38:50Z",'
    parsed = parse(
        head + b'"b":[{"p":71859.53,"s":0.27994},{"p":1e-10,"s":1}],"a":[{"p":2,"s":0}],"r":true}',
        head + b'"b":[],"a":[],"r":true}',
        head + b'"b":[],"a":[]}',
    )
    assert faults(parsed) == [(0, "below_resolution", "b[1].p")]
    keys = ("offset", "is_snapshot", "side", "level", "price", "size")
    assert [tuple(r[key] for key in keys) for r in rows(parsed, "book")] == [
        (0, True, "bid", 0, Decimal("71859.53"), Decimal("0.27994")),
        (0, True, "ask", 0, Decimal(2), Decimal(0)),
        (1, True, "", 0, None, None),
    ]


def test_parse_of_tables_has_the_canonical_types() -> None:
    parsed = parse(b'{"T":"s","S":"A","t":"2021-02-22T19:15:00Z"}')
    for field in parsed.tables["statuses"].schema:
        assert field.type == CANONICAL["statuses"].field(field.name).type


def test_parse_of_msgpack_equals_that_of_json() -> None:
    def trade(encoding: Encoding, nanos: int, ts_ns: int) -> bytes:
        message = wire.Trade(
            "AAPL",
            trade_id=nanos,
            venue="D",
            price=wire.number(nanos, encoding),
            size=wire.number(2_000_000_000, encoding),
            conditions=wire.texts([" ", "I"], encoding),
            ts=wire.instant(ts_ns, encoding),
        )
        frame = wire.encode([message], encoding)
        return frame[1:] if encoding == "msgpack" else frame[1:-1]

    cases = [(126_550_000_000, TRADE_NS), (1, 5), (10**18 - 10**9, (1 << 62) + 1)]
    texts = parse(*(trade("json", *case) for case in cases)).trades
    packed = parse(*(trade("msgpack", *case) for case in cases)).trades
    mixed = parse(
        *(trade(("json", "msgpack")[k % 2], *case) for k, case in enumerate(cases))
    ).trades
    for column in ("ts_event", "price", "size", "id_lo", "conditions"):
        expected = getattr(texts, column).tolist()
        assert getattr(packed, column).tolist() == expected
        assert getattr(mixed, column).tolist() == expected
    assert texts is not None
    assert texts.price.tolist() == [nanos for nanos, _ in cases]
    assert texts.ts_event.tolist() == [ts_ns for _, ts_ns in cases]


@given(st.lists(st.floats(-1e10, 1e10) | st.decimals(-5_000_000, 5_000_000, places=9).map(float)))
def test_parse_of_msgpack_floats_reads_their_shortest_decimals(values: list[float]) -> None:
    payloads = [
        msgspec.msgpack.encode({"T": "t", "S": "A", "p": v, "s": 1, "t": EPOCH}) for v in values
    ]
    parsed = parse(*payloads)
    exact = [Decimal(repr(v)) * 10**9 for v in values]
    fits = [x == x.to_integral_value() and abs(x) < 10**18 for x in exact]
    expected = [int(x) for x, fit in zip(exact, fits, strict=True) if fit]
    assert (parsed.trades.price.tolist() if parsed.trades is not None else []) == expected
    assert [row.row for row in parsed.bad] == [k for k, fit in enumerate(fits) if not fit]


def test_parse_in_any_cut_gives_the_same_trades_and_codes() -> None:
    records = data_records([TRADE, CRYPTO, QUOTE, TRADE.replace(b"AAPL", b"MSFT")] * 3)
    whole = AlpacaParser().parse(records).trades
    assert whole is not None
    parser = AlpacaParser()
    codes: list[int] = []
    for k in range(len(records)):
        batch = parser.parse(records.slice(k, 1)).trades
        codes += batch.stream.tolist() if batch is not None else []
        parser = AlpacaParser(parser.streams, parser.state())
    assert codes == whole.stream.tolist()
    assert parser.streams == whole.dictionaries.streams


def test_parse_passes_over_controls_and_clocks() -> None:
    builder = RecordBuilder(
        source="alpaca", feed="iex", stream="", conn_id=1, conn_started_ns=9
    )  # fmt: skip
    builder.add_control({"event": "connected"}, 10)
    builder.add_frame(b"[" + TRADE + b"," + TRADE + b"]", 11)
    builder.add_clock(12)
    parsed = AlpacaParser().parse(stored(builder.take()))
    assert parsed.trades is not None
    assert parsed.trades.row.tolist() == [1, 2]
    assert parsed.trades.arrival is not None
    assert parsed.trades.arrival.seq.tolist() == [0, 1]
    assert parsed.trades.dictionaries.streams == (StreamKey("alpaca", "iex", "AAPL"),)
    assert parsed.bad == ()


@pytest.mark.parametrize(
    ("payload", "symbol"),
    [
        ({"T": "t", "S": "BTC/USD", "p": 1}, "BTC/USD"),
        ({"T": "success"}, ""),
        ({"S": "../x"}, ""),
        ({"S": 5}, ""),
        ([], ""),
    ],
)
def test_symbol_of_a_message_is_its_valid_symbol(payload: object, symbol: str) -> None:
    assert symbol_reader("json")(msgspec.json.encode(payload)) == symbol
    assert symbol_reader("msgpack")(msgspec.msgpack.encode(payload)) == symbol


@pytest.mark.data
def test_parse_of_real_frames_reads_all_of_them(market_data: Path) -> None:
    lines = (market_data / "live_frames" / "alpaca_frames.jsonl").read_bytes().splitlines()
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream="", conn_id=1, conn_started_ns=9
    )  # fmt: skip
    for k, line in enumerate(lines):
        builder.add_frame(line, k)
    parsed = AlpacaParser().parse(stored(builder.take()))
    messages = [message for line in lines for message in json.loads(line, parse_float=Decimal)]
    expected = [m for m in messages if m["T"] == "t"]
    assert parsed.trades is not None
    assert parsed.quotes is not None
    assert parsed.bad == ()
    assert parsed.trades.price.tolist() == [int(m["p"] * 10**9) for m in expected]
    assert len(parsed.quotes) == sum(m["T"] == "q" for m in messages)
    assert parsed.tables["vendor_bars"].num_rows == sum(m["T"] == "b" for m in messages)


ANY_VALUE = st.sampled_from(
    [
        b"null",
        b"1",
        b"-1.5e300",
        b'"x"',
        b"[]",
        b'[{"p":1,"s":null}]',
        b"{}",
        b"true",
        b"1e99",
    ]
)
KEYS = st.sampled_from(
    ["S", "i", "x", "p", "s", "t", "c", "z", "o", "b", "a", "v", "vw", "n", "oi"]
)


@st.composite
def near_messages(draw: st.DrawFn) -> bytes:
    fields = draw(st.dictionaries(KEYS, ANY_VALUE))
    known = {"S": b'"AAPL"', "t": b'"2021-02-22T15:51:44.208Z"', "p": b"1", "s": b"1", "oi": b"1"}
    kind = draw(st.sampled_from("tqbudslcxoiz"))
    if draw(st.booleans()):
        values = {k: msgspec.json.decode(v) for k, v in {**known, **fields}.items()}
        return msgspec.msgpack.encode({"T": kind, **values, "t": EPOCH})
    body = b",".join(b'"%s":%s' % (k.encode(), v) for k, v in {**known, **fields}.items())
    return b'{"T":"%s",' % kind.encode() + body + b"}"


@given(st.lists(st.binary(max_size=60) | near_messages() | st.just(TRADE), max_size=8))
def test_parse_of_any_bytes_accounts_for_every_message(payloads: list[bytes]) -> None:
    parsed = parse(*payloads)
    seen = {row.row for row in parsed.bad}
    for batch in (parsed.trades, parsed.quotes):
        seen |= set(batch.row.tolist()) if batch is not None else set()
    for table in parsed.tables.values():
        table.validate(full=True)
        seen |= set(table.column("offset").to_pylist())
    hidden = len(payloads) - len(seen)
    empty_books = sum(b'"T":"o"' in payload or b"\xa1T\xa1o" in payload for payload in payloads)
    counted = sum(parsed.unparsed.values())
    assert counted <= hidden <= counted + empty_books
