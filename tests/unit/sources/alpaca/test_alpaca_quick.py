"""The compiled reader of usual trades beside the general one: the same answer for any message."""

import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import TradeBatch
from marketpipe.journal import MemoryJournal
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.alpaca.quick import Scanner
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import RecordBuilder

USUAL = (
    '{"T":"t","S":"AAPL","i":52983525034326,"x":"V","p":126.55,"s":1,'
    '"t":"2021-02-22T15:51:44.208Z","c":["@","I"],"z":"C"}'
)

TEXTS = st.sampled_from(["AAPL", "BTC/USD", "", "..", "A B", "é", 'x"y', "t", "q", "V" * 70, "@"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 0.5, 126.55, 1e-9, 1e-10, 1e9, 12345678901234567890, 2**63 - 1, 10**17, -0.0, 1e300]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    TEXTS,
    NUMBERS,
    st.lists(TEXTS, max_size=3),
    st.just({"a": [1, {"b": "}"}]}),
    st.sampled_from(
        ["2021-02-22T15:51:44.208Z", "2021-02-22T15:51:44+01:00", "2021-02-30T00:00:00Z"]
    ),
)
KEYS = st.sampled_from(["T", "S", "i", "x", "p", "s", "t", "c", "z", "tks", "u", "pt"])
CHANGES = st.lists(st.tuples(KEYS, VALUES), max_size=3)
GONE = st.lists(KEYS, max_size=2)


def records(payloads: list[bytes]) -> pa.RecordBatch:
    builder = RecordBuilder(source="alpaca", feed="sip", stream="t", conn_id=1, conn_started_ns=5)
    for at, payload in enumerate(payloads):
        # Alone in its frame: what is malformed reaches the parser as it is.
        builder.add_frame(payload, at)
    builder.add_clock(len(payloads))
    journal = MemoryJournal("alpaca")
    journal.append(builder.take())
    return pa.concat_batches(list(journal.reader().read(0)))


def facts(parsed: Parsed) -> list[tuple[Any, ...]]:
    """Spell a batch of trades out, so that codes play no part."""
    batch = parsed.trades
    if batch is None:
        return []
    names = batch.dictionaries
    assert batch.arrival is not None
    return [
        (
            names.streams[batch.stream[k]],
            *(int(column[k]) for column in numbers(batch)),
            *(int(column[k]) for column in batch.arrival),
            names.venues[batch.venue[k]] if batch.venue is not None else "",
            names.conditions[batch.conditions[k]] if batch.conditions is not None else "",
            names.tapes[batch.tape[k]] if batch.tape is not None else "",
        )
        for k in range(len(batch))
    ]


def numbers(batch: TradeBatch) -> list[Any]:
    return [
        batch.row, batch.ts_event, batch.price, batch.size, batch.id_hi, batch.id_lo,
        batch.side, batch.ts_recv,
    ]  # fmt: skip


def outcome(parser: AlpacaParser, payloads: list[bytes]) -> tuple[Any, ...]:
    parsed = parser.parse(records(payloads))
    bad = [(row.row, row.reason, row.field) for row in parsed.bad]
    return facts(parsed), bad, dict(parsed.unparsed), parser.streams


def generally(payloads: list[bytes]) -> list[bytes]:
    """Put a blank into each object, which only the general reader takes."""
    return [b"{ " + payload[1:] for payload in payloads]


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(st.tuples(CHANGES, GONE), min_size=1, max_size=6))
def test_quick_reader_any_message_reads_as_the_general_reader_has_it(
    messages: list[tuple[list[tuple[str, Any]], list[str]]],
) -> None:
    payloads = []
    for changes, gone in messages:
        message = json.loads(USUAL) | dict(changes)
        kept = {key: value for key, value in message.items() if key not in gone}
        payloads.append(json.dumps(kept, separators=(",", ":")).encode())
    assert outcome(AlpacaParser(), payloads) == outcome(AlpacaParser(), generally(payloads))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (":126.55", ":0126.55"), (":126.55", ":+126.55"), (":126.55", ":.55"),
        (":126.55", ":126."), (":126.55", ":1.2655e2"), (":126.55", ":-126.55"),
        (":126.55", ':"126.55"'), (":126.55", ":--1"), (":1,", ":1_0,"),
        (":52983525034326", ":052983525034326"), (":52983525034326", ":-5"),
        (":52983525034326", ":1.5"), (":52983525034326", ':"52983525034326"'),
        ('"V"', '"\\u0056"'), ('"V"', '"V","x":"Q"'), ('"V"', "null"), ('"V"', '"V'),
        ('["@","I"]', '["@" ,"I"]'), ('["@","I"]', '["@",]'), ('["@","I"]', "[]"),
        ('["@","I"]', "[1]"), ('"t","S"', '"q","S"'), ('"t","S"', '"t", "S"'), ("}", ",}"),
        ("}", "} "), ("}", ""), ("}", "}}"), ('"T"', '"TT"'), ("208Z", "2080000001Z"),
        ("208Z", "208"), ("208Z", "208z"), ('"C"}', '"C","tks":"B"}'), ('"C"}', '"C","tks":"-"}'),
        ('"C"}', '"C","tks":"?"}'), ('"C"}', '"C","tks":""}'), ('"C"}', '"C","n":{"p":1}}'),
        ('"C"}', '"C","n":tru}'),
    ],
)  # fmt: skip
def test_quick_reader_other_spellings_read_as_the_general_reader_has_them(
    old: str, new: str
) -> None:
    payloads = [USUAL.encode(), USUAL.replace(old, new, 1).encode()]
    assert payloads[0] != payloads[1]
    assert outcome(AlpacaParser(), payloads) == outcome(AlpacaParser(), generally(payloads))


PACKED: dict[str, Any] = json.loads(USUAL) | {
    "t": msgspec.msgpack.Ext(-1, (208_000_000 << 34 | 1_614_009_104).to_bytes(8, "big"))
}
"""The same message in msgpack; extensions stand for other times and for what is no time."""
EXTENSIONS = st.sampled_from(
    [
        msgspec.msgpack.Ext(code, value.to_bytes(size, "big"))
        for code, size, value in [
            (-1, 8, 5), (-1, 4, 1_614_009_104), (-1, 8, (1 << 64) - 1), (3, 8, 5), (-1, 12, 7),
            (-1, 8, 999_999_999 << 34 | 9_223_372_036), (-1, 8, 1_000_000_000 << 34 | 1),
        ]
    ]
)  # fmt: skip
PACKED_CHANGES = st.lists(st.tuples(KEYS, VALUES | EXTENSIONS), max_size=3)


def packed_records(payloads: list[bytes]) -> pa.RecordBatch:
    """Return records of messages that came in one frame, so that none is taken for a frame."""
    builder = RecordBuilder(source="alpaca", feed="sip", stream="t", conn_id=1, conn_started_ns=5)
    builder.add_frame(msgspec.msgpack.encode([msgspec.Raw(one) for one in payloads]), 7, "msgpack")
    journal = MemoryJournal("alpaca")
    journal.append(builder.take())
    return pa.concat_batches(list(journal.reader().read(0)))


def packed_outcome(payloads: list[bytes]) -> tuple[Any, ...]:
    parser = AlpacaParser()
    parsed = parser.parse(packed_records(payloads))
    bad = [(row.row, row.reason, row.field) for row in parsed.bad]
    return facts(parsed), bad, dict(parsed.unparsed), parser.streams


def with_long_head(payload: bytes) -> bytes:
    """Write the size of a map in two bytes, which only the general reader takes."""
    return b"\xde\x00" + bytes((payload[0] & 0x0F,)) + payload[1:]


@settings(max_examples=500, deadline=None)
@given(messages=st.lists(st.tuples(PACKED_CHANGES, GONE), min_size=1, max_size=6))
def test_quick_reader_any_msgpack_message_reads_as_the_general_reader_has_it(
    messages: list[tuple[list[tuple[str, Any]], list[str]]],
) -> None:
    payloads = []
    for changes, gone in messages:
        message = PACKED | dict(changes)
        kept = {key: value for key, value in message.items() if key not in gone}
        payloads.append(msgspec.msgpack.encode(kept))
    assert packed_outcome(payloads) == packed_outcome(list(map(with_long_head, payloads)))


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from("ps"),
    number=st.floats(width=64) | st.floats(width=32) | st.integers(-(2**63), 2**64 - 1)
    | st.integers(0, 10**15).map(lambda nanos: nanos / 10**9),
)  # fmt: skip
def test_quick_reader_any_packed_number_reads_as_the_general_reader_has_it(
    name: str, number: float
) -> None:
    payloads = [msgspec.msgpack.encode(PACKED | {name: number})]
    assert packed_outcome(payloads) == packed_outcome(list(map(with_long_head, payloads)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa1x\xa1V", b"\xa1x\xc0"), (b"\xa1x\xa1V", b"\xa1x\xd9\x01V"),
        (b"\xa1x\xa1V", b"\xa1x\xa1\xff"), (b"\xa1x\xa1V", b"\xa1S\xa1V"),
        (b"\xa1x\xa1V", b"\xd9\x01x\xa1V"), (b"\xa1x\xa1V", b"\x05\xa1V"),
        (b"\xa1s\x01", b"\xa1s\xd3" + bytes(7) + b"\x01"), (b"\xa1s\x01", b"\xa1s\xff"),
        (b"\xa1s\x01", b"\xa1s\xca\x3f\x80\x00\x00"), (b"\xa1s\x01", b"\xa1s\xcf" + b"\xff" * 8),
        (b"\xa1s\x01", b"\xa1s\xc3"), (b"\x92\xa1@\xa1I", b"\x91\x92\xa1@\xa1I"),
        (b"\x92\xa1@\xa1I", b"\xdc\x00\x02\xa1@\xa1I"), (b"\x92\xa1@\xa1I", b"\x90"),
        (b"\xa1z\xa1C", b"\xa3tks\xa1B"), (b"\xa1z\xa1C", b"\xa3tks\xa1?"),
        (b"\xa1z\xa1C", b"\xa3tks\xa0"), (b"\xa1z\xa1C", b"\xa1n\xc4\x01C"),
        (b"\xa1z\xa1C", b"\xa1n\x81\xa1p\x01"), (b"\xa1T\xa1t", b"\xa1T\xa1q"),
    ],
)  # fmt: skip
def test_quick_reader_other_packed_forms_read_as_the_general_reader_has_them(
    old: bytes, new: bytes
) -> None:
    usual = msgspec.msgpack.encode(PACKED)
    payloads = [usual, usual.replace(old, new, 1), usual]
    assert payloads[1] != usual
    assert packed_outcome(payloads) == packed_outcome(list(map(with_long_head, payloads)))


def test_quick_reader_takes_the_usual_trade_in_json_and_in_msgpack() -> None:
    payloads = [USUAL.encode(), msgspec.msgpack.encode(PACKED)]
    assert Scanner().scan(pa.array(payloads, pa.binary())).usual.tolist() == [True, True]
    assert (
        facts(AlpacaParser().parse(records(payloads[:1])))[0][1:7]
        == (facts(AlpacaParser().parse(packed_records(payloads[1:])))[0][1:7])
    )


def test_quick_reader_streams_keep_journal_order_beside_other_messages() -> None:
    quote = USUAL.replace('"T":"t","S":"AAPL"', '"T":"q","S":"NEW","bp":1').encode()
    other = USUAL.replace("AAPL", "MSFT").encode()
    escaped = USUAL.replace("AAPL", "\\u0042").encode()
    parser = AlpacaParser()
    parsed = parser.parse(records([other, escaped, quote, USUAL.encode(), other]))
    assert [key.symbol for key in parser.streams] == ["MSFT", "B", "NEW", "AAPL"]
    assert parsed.trades is not None
    assert parsed.trades.row.tolist() == [0, 1, 3, 4]
    assert parsed.trades.stream.tolist() == [0, 1, 3, 0]


def test_quick_reader_more_texts_than_it_has_room_for_leaves_the_rest_to_the_general_one() -> None:
    payloads = [USUAL.replace("AAPL", f"S{k}").encode() for k in range(40_000)]
    parsed = AlpacaParser().parse(records(payloads))
    assert parsed.trades is not None
    symbols = [parsed.trades.dictionaries.streams[code].symbol for code in parsed.trades.stream]
    assert symbols == [f"S{k}" for k in range(40_000)]
    assert np.array_equal(parsed.trades.row, np.arange(40_000))
