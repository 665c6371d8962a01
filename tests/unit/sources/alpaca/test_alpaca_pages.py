"""Pages of history to records and back: real bodies, byte for byte, and any bytes."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketpipe.domain.records import NOT_SPLIT
from marketpipe.sources.alpaca.pages import PageKind, add_page, is_empty_page, stream_of
from marketpipe.sources.records import RecordBuilder, frames_of

KINDS: tuple[PageKind, ...] = ("trades", "quotes", "bars")
TRADES = b'{"trades":{"AAPL":[{"p":1},{"p":2}],"MSFT":[{"p":3}]},"next_page_token":"x"}'


def records_of(*bodies: bytes, kind: PageKind = "trades") -> pa.RecordBatch:
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream=stream_of(kind), conn_id=0, conn_started_ns=1
    )
    counts = [add_page(builder, body, 5) for body in bodies]
    records = builder.take()
    assert len(records) == sum(counts)
    assert list(frames_of(records)) == list(bodies)
    return records


def elements(records: pa.RecordBatch) -> list[tuple[str, bytes]]:
    columns = (records.column(name).to_pylist() for name in ("symbol", "payload"))
    return list(zip(*columns, strict=True))


def is_whole(records: pa.RecordBatch) -> bool:
    indices: list[int] = records.column("msg_index").to_pylist()
    return indices == [NOT_SPLIT]


def test_page_of_two_symbols_becomes_a_record_per_element_with_its_symbol() -> None:
    records = records_of(TRADES)
    assert elements(records) == [
        ("AAPL", b'{"p":1}'),
        ("AAPL", b'{"p":2}'),
        ("MSFT", b'{"p":3}'),
    ]
    assert records.column("msg_index").to_pylist() == [0, 1, 2]
    assert set(records.column("stream").to_pylist()) == {"rest/trades"}
    assert set(records.column("frame_len").to_pylist()) == {len(TRADES)}


def test_pages_of_one_builder_stay_apart() -> None:
    records = records_of(TRADES, b'{"trades":{}}', TRADES)
    assert records.column("frame_seq").to_pylist() == [0, 0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "body",
    [
        b'{"trades":{},"next_page_token":null}',
        b'{"next_page_token":null,"trades":null}',
        b'{ "trades" : { "AAPL" : [ ] , "MSFT":null } }\n',
        b'{"trades":[]}',
    ],
)
def test_page_without_elements_is_one_record_and_known_to_be_empty(body: bytes) -> None:
    records = records_of(body)
    assert is_whole(records)
    assert elements(records) == [("", body)]
    assert is_empty_page(body, "trades")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"quotes":{"AAPL":[{"p":1}]}}',
        b'{"trades":{"AAPL":[{"p":1}]',
        b'{"trades":{"AAPL":7}}',
        b'{"trades":{"AAPL":[{"p":1}],"B":"x"}}',
        b'{"trades":"AAPL"}',
        b'{"trades":{"\xff":[{"p":1}]}}',
        b"[" * 5000,
    ],
)
def test_page_of_another_shape_is_one_record_and_not_empty(body: bytes) -> None:
    assert is_whole(records_of(body))
    assert not is_empty_page(body, "trades")


@pytest.mark.parametrize(
    "body",
    [
        b'{"trades":{"A":[{"p":1}],"A":[{"p":2}]}}',
        b'{"trades":{"A":[{"p":1}],"A":[{"p":1}]}}',
        b'{"trades":{"A":[{"p":1}],"B":[{"p":2}],"A":[{"p":1}]}}',
        b'{"trades":{"A":[{"p":1}]},"trades":{"A":[{"p":2}]}}',
        b'{"trades":{"A":[{"p":1}],"\\u0041":[{"p":2}]}}',
    ],
)
def test_page_that_names_something_twice_hides_no_element(body: bytes) -> None:
    assert is_whole(records_of(body))
    assert not is_empty_page(body, "trades")


def test_elements_of_what_is_no_symbol_have_none() -> None:
    assert elements(records_of(b'{"trades":{"../x":[{"p":1}],"BTC\\/USD":{"p":2}}}')) == [
        ("", b'{"p":1}'),
        ("BTC/USD", b'{"p":2}'),
    ]


BLANKS = st.text(" \t\r\n", max_size=2)


@st.composite
def spaced_pages(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Draw a page with blanks anywhere, and the elements that it holds."""
    values = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=4), max_size=3)
    symbols = st.from_regex(r"[A-Z]{1,4}(/USD)?", fullmatch=True)
    found: list[tuple[str, bytes]] = []

    def blank() -> str:
        return draw(BLANKS)

    members = []
    for symbol in draw(st.lists(symbols, unique=True, max_size=4)):
        dumped = [json.dumps(draw(values)) for _ in range(draw(st.integers(0, 3)))]
        found += [(symbol, text.encode()) for text in dumped]
        inner = ",".join(blank() + text + blank() for text in dumped)
        members.append(f'{blank()}"{symbol}"{blank()}:{blank()}[{inner}]{blank()}')
    others = [f'"next_page_token":{blank()}null{blank()}', f'"x":{json.dumps(draw(values))}']
    outer = draw(st.permutations([f'"trades":{blank()}{{{",".join(members)}}}', *others]))
    body = blank() + "{" + ",".join(blank() + member + blank() for member in outer) + "}" + blank()
    return body.encode(), found


@given(spaced_pages())
def test_every_element_of_a_well_formed_page_is_found(
    drawn: tuple[bytes, list[tuple[str, bytes]]],
) -> None:
    body, found = drawn
    assert elements(records_of(body)) == (found or [("", body)])


@given(st.binary(max_size=60), st.integers(0, len(TRADES)), st.integers(0, 20))
@example(b'"AAPL":[{"p":1}],', 10, 0)
def test_any_damage_to_a_page_loses_no_byte(junk: bytes, at: int, gone: int) -> None:
    records_of(TRADES[:at] + junk + TRADES[at + gone :])


@pytest.mark.data
def test_real_bodies_come_back_byte_for_byte_with_every_element(market_data: Path) -> None:
    found = 0
    for path in sorted((market_data / "alpaca_rest").glob("*.json*")):
        body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        value = json.loads(body)
        for kind in KINDS:
            records = records_of(body, kind=kind)
            by_symbol = value.get(kind) or {}
            wanted = [
                (symbol, element)
                for symbol, listed in by_symbol.items()
                for element in (listed if isinstance(listed, list) else [listed])
            ]
            assert is_empty_page(body, kind) == (kind in value and not wanted), path.name
            got = [(s, json.loads(payload)) for s, payload in elements(records)]
            assert got == (wanted or [("", value)]), (path.name, kind)
            found += len(wanted)
    # Counted by jq: the elements under trades, quotes and bars, by symbol.
    assert found == 167
