"""What a stream says around its data, whatever the bytes are."""

import msgspec
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.protocol import (
    CRYPTO_CHANNELS,
    EXTRA_CHANNELS,
    STOCK_CHANNELS,
    WITH_TRADES,
    Echo,
    controls,
    is_control,
    newest_of,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(["t", "q", "zz", "success", "error", "subscription", 7, None])
MESSAGES = st.builds(
    lambda kind, more: {"T": kind, **more},
    KINDS,
    st.dictionaries(st.sampled_from(["msg", "code", "trades", "new"]), PLAIN, max_size=4),
)
ENCODERS = {"json": msgspec.json.encode, "msgpack": msgspec.msgpack.encode}


@given(frame=st.binary(max_size=200), encoding=st.sampled_from(["json", "msgpack"]))
def test_any_bytes_are_passed_over(frame: bytes, encoding: str) -> None:
    controls(frame, "json" if encoding == "json" else "msgpack")
    is_control(frame)


@given(messages=st.lists(MESSAGES, max_size=5), encoding=st.sampled_from(["json", "msgpack"]))
def test_messages_of_control_are_found_among_others_in_order(
    messages: list[dict[str, object]], encoding: str
) -> None:
    frame = ENCODERS[encoding](messages)
    found = controls(frame, "json" if encoding == "json" else "msgpack")
    # What is well formed must be found; of the rest nothing may be.
    kinds = [m["T"] for m in messages if _is_well_formed(m)]
    assert [_kind(message) for message in found] == kinds


def _is_well_formed(message: dict[str, object]) -> bool:
    kind, msg = message["T"], message.get("msg", "")
    if kind == "success":
        return isinstance(msg, str)
    if kind == "error":
        code = message.get("code")
        # JSON writes whole floats, and msgspec reads them, as integers.
        is_whole = isinstance(code, float) and code.is_integer()
        return (
            isinstance(msg, str)
            and not isinstance(code, bool)
            and (isinstance(code, int) or is_whole)
        )
    names = message.get("trades", [])
    return kind == "subscription" and (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    )


def _kind(message: object) -> str:
    if isinstance(message, Echo):
        return "subscription"
    return "success" if isinstance(message, wire.Success) else "error"


@given(payloads=st.lists(st.binary(max_size=12), max_size=8), first=st.integers(0, 8))
def test_newest_of_any_payloads_are_channels(payloads: list[bytes], first: int) -> None:
    array = pa.array(payloads, pa.binary()).slice(min(first, len(payloads)))
    for encoding in ("json", "msgpack"):
        found = newest_of(array, "json" if encoding == "json" else "msgpack")
        assert set(found) <= {*STOCK_CHANNELS, *CRYPTO_CHANNELS, *WITH_TRADES, *EXTRA_CHANNELS}


@given(
    kinds=st.lists(st.sampled_from([*"tqbudslcxoiz", "success", "tq"]), max_size=20),
    encoding=st.sampled_from(["json", "msgpack"]),
)
def test_channels_are_those_of_the_first_keys(kinds: list[str], encoding: str) -> None:
    array = pa.array([ENCODERS[encoding]({"T": kind, "S": "A"}) for kind in kinds], pa.binary())
    names = {
        "t": "trades", "q": "quotes", "b": "bars", "u": "updatedBars", "d": "dailyBars",
        "s": "statuses", "l": "lulds", "c": "corrections", "x": "cancelErrors",
        "o": "orderbooks", "i": "imbalances",
    }  # fmt: skip
    found = newest_of(array, "json" if encoding == "json" else "msgpack")
    assert sorted(found) == sorted({names[kind] for kind in kinds if kind in names})
