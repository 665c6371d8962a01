"""The compiled reader of usual trades beside the general one: the same answer for any message."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import TradeBatch
from marketpipe.journal import MemoryJournal
from marketpipe.sources.alpaca import AlpacaParser
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
