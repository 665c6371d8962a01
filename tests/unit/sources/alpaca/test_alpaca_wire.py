"""Alpaca's wire format: what we write is what the vendor's own documents show."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.values import decimals, instants
from marketpipe.sources.framing import Encoding

# Written as the vendor's documents write them, with keys in our order.
DOCUMENTED = [
    (
        b'{"T":"t","S":"AAPL","i":96921,"x":"D","p":126.55,"s":1,"c":["@","I"],"z":"C",'
        b'"t":"2021-02-22T15:51:44.208Z"}'
    ),
    (
        b'{"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":1,"ax":"Q","ap":87.68,"as":4,"c":["R"],'
        b'"z":"C","t":"2021-02-22T15:51:45.335689322Z"}'
    ),
    (
        b'{"T":"b","S":"FAKEPACA","o":132.65,"h":136,"l":132.12,"c":134.65,"v":205,'
        b'"t":"2024-07-24T07:56:00Z","n":16,"vw":133.7}'
    ),
    (
        b'{"T":"x","S":"GOOGL","i":465,"x":"D","p":105.31,"s":300,"a":"C","z":"C",'
        b'"t":"2023-04-06T13:15:42.83540958Z"}'
    ),
    b'{"T":"l","S":"IONM","u":3.24,"d":2.65,"i":"B","t":"2023-04-06T13:34:45.565004401Z","z":"C"}',
    b'{"T":"o","S":"CRV/USD","t":"2024-03-12T10:38:50Z","b":[{"p":0.7904,"s":0}],"a":[]}',
    b'{"T":"success","msg":"authenticated"}',
    b'{"T":"error","code":406,"msg":"connection limit exceeded"}',
]


@pytest.mark.parametrize("text", DOCUMENTED)
def test_wire_of_a_documented_message_writes_it_back(text: bytes) -> None:
    assert wire.encode([wire.decode_json(text)]) == b"[" + text + b"]"


def test_wire_of_a_subscription_writes_the_keys_of_the_vendor() -> None:
    text = wire.encode([wire.Subscription(trades=("AAPL",), cancel_errors=("AAPL",))])
    assert text == b'[{"T":"subscription","trades":["AAPL"],"cancelErrors":["AAPL"]}]'


def test_wire_in_msgpack_writes_the_kind_first() -> None:
    frame = wire.encode([wire.Trade("A", price=wire.number(1, "msgpack"))], "msgpack")
    assert frame.startswith(b"\x91\x83\xa1T\xa1t\xa1S\xa1A")


@given(st.integers(0, 9_000_000_000 * 10**9))
def test_wire_of_an_instant_reads_back_exactly(ts_ns: int) -> None:
    for encoding, packed in (("json", None), ("msgpack", [True])):
        raw = wire.instant(ts_ns, encoding)  # type: ignore[arg-type]
        values, reasons = instants([raw], packed)
        assert (values.tolist(), reasons.tolist()) == ([ts_ns], [0])


@given(st.integers(0, 10**15))
def test_wire_of_a_number_reads_back_exactly(nanos: int) -> None:
    for encoding, packed in (("json", None), ("msgpack", [True])):
        raw = wire.number(nanos, encoding)  # type: ignore[arg-type]
        values, reasons = decimals([raw], packed)
        assert (values.tolist(), reasons.tolist()) == ([nanos], [0])


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_wire_of_condition_codes_is_a_list_or_null(encoding: Encoding) -> None:
    decode = msgspec.json.decode if encoding == "json" else msgspec.msgpack.decode
    assert decode(wire.texts(["@", "I"], encoding)) == ["@", "I"]
    assert decode(wire.texts(None, encoding)) is None
