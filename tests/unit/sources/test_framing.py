"""Framing: what is split can be joined again, byte for byte, and nothing raises."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.sources.framing import PLAIN_JSON, PLAIN_MSGPACK, WHOLE, Encoding, join, split

BLANKS = st.text(" \t\r\n", max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENCODINGS: tuple[Encoding, ...] = ("json", "msgpack")


@st.composite
def spaced_arrays(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    items = [json.dumps(value).encode() for value in draw(st.lists(VALUES, min_size=1))]
    pads = [draw(BLANKS).encode() for _ in range(2 * len(items) + 2)]
    inner = b",".join(pads[2 * k] + item + pads[2 * k + 1] for k, item in enumerate(items))
    return pads[-2] + b"[" + inner + b"]" + pads[-1], items


def parts(frame: bytes, encoding: Encoding = "json") -> list[bytes]:
    return [bytes(payload) for payload in split(frame, encoding).payloads]


@given(st.binary(), st.sampled_from(ENCODINGS))
def test_split_of_any_bytes_joins_to_the_same_bytes(frame: bytes, encoding: Encoding) -> None:
    assert join(*split(frame, encoding)) == frame


@given(spaced_arrays())
def test_split_of_a_spaced_array_gives_its_elements_as_they_stand(
    case: tuple[bytes, list[bytes]],
) -> None:
    frame, items = case
    assert parts(frame) == items
    assert join(*split(frame)) == frame


@given(st.lists(VALUES, min_size=1))
def test_split_of_msgpack_gives_its_elements_as_they_stand(values: list[object]) -> None:
    frame = msgspec.msgpack.encode(values)
    assert parts(frame, "msgpack") == [msgspec.msgpack.encode(value) for value in values]
    assert join(*split(frame, "msgpack")) == frame


def test_split_of_a_plain_array_has_an_empty_envelope() -> None:
    frame = b'[{"T":"t"},{"T":"q","c":["@","I"]}]'
    assert parts(frame) == [b'{"T":"t"}', b'{"T":"q","c":["@","I"]}']
    assert split(frame).envelope == PLAIN_JSON == b""


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_split_of_msgpack_of_any_header_size_has_the_plain_envelope(count: int) -> None:
    frame = msgspec.msgpack.encode([1] * count)
    split_frame = split(frame, "msgpack")
    assert (len(split_frame.payloads), split_frame.envelope) == (count, PLAIN_MSGPACK)
    assert join(*split_frame) == frame


def test_split_of_msgpack_with_a_long_header_keeps_the_header() -> None:
    frame = b"\xdd\x00\x00\x00\x01\xa1x"
    assert parts(frame, "msgpack") == [b"\xa1x"]
    assert join(*split(frame, "msgpack")) == frame


@pytest.mark.parametrize(
    "frame", [b"", b"[]", b" [ ] ", b'{"T":"t"}', b"[1", b"[1]x", b"[" * 100_000, b'["\xff"]']
)
def test_split_of_no_array_of_messages_is_one_whole_message(frame: bytes) -> None:
    whole = split(frame)
    if whole.is_whole:
        assert parts(frame) == [frame]
    assert join(*whole) == frame
    assert whole.is_whole or frame == b'["\xff"]'


@pytest.mark.parametrize("envelope", [b"?", b"g\x90", WHOLE])
def test_join_with_a_foreign_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(ValueError, match="envelope was"):
        join([b"1", b"2"], envelope)
