"""What a stream lost and a vendor's history has: the final bars are those of a whole stream."""

import json
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit import (
    OPEN_NS,
    Message,
    cancel,
    correction,
    derive_settings,
    derived,
    framed,
    numbered,
    trade,
)
from marketpipe.domain.units import NANOS
from marketpipe.sources.alpaca.pages import add_page, stream_of
from marketpipe.sources.records import RecordBuilder
from marketpipe.verify.digest import DigestTree
from marketpipe.verify.rawmessages import bars_of_messages

TIMEFRAMES = ("1s", "1m", "5m")
SETTINGS = derive_settings(",".join(TIMEFRAMES))
WATERMARK = OPEN_NS + 899 * NANOS

TRADES = [trade(n, OPEN_NS + n * 7 * NANOS, f"{100 + n * 7 % 11}.25", n) for n in range(1, 13)]
AFTER = OPEN_NS + 200 * NANOS
FIRST = correction(TRADES[2], AFTER, new_id=100, price="150")
CHANGES = [
    cancel(TRADES[0], AFTER),
    FIRST,
    correction({**TRADES[2], "i": 100}, AFTER + 1, new_id=101, price="90", size=7),
    correction(TRADES[5], AFTER, new_id=200, price="80"),
    cancel({**TRADES[5], "i": 200}, AFTER + 2),
    correction(TRADES[11], AFTER, new_id=300, price="170"),
]
STREAM: list[Message] = [*TRADES, *CHANGES]


def in_history(messages: list[Message]) -> list[dict[str, Any]]:
    """Spell trades out as history has them: what was replaced is marked, and what replaced it."""
    found = {m["i"]: dict(m) for m in messages if m["T"] == "t"}
    for change in messages:
        if change["T"] == "c":
            old = found[change["oi"]]
            told = {"i": change["ci"], "p": change["cp"], "s": change["cs"], "c": change["cc"]}
            found[change["ci"]] = {**old, **told, "u": "corrected"}
            old["u"] = "incorrect"
        elif change["T"] == "x":
            found[change["i"]]["u"] = "canceled"
    order = sorted(found.values(), key=lambda one: str(one["t"]))
    return [{key: value for key, value in one.items() if key not in "TS"} for one in order]


def page(at_ns: int) -> pa.Table:
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream=stream_of("trades"), conn_id=9, conn_started_ns=at_ns
    )
    body = {"trades": {"AAPL": in_history(STREAM)}, "next_page_token": None}
    add_page(builder, json.dumps(body, default=float).encode(), at_ns)
    return pa.Table.from_batches([builder.take()])


def root(bars: pa.Table) -> str:
    return DigestTree.build(bars, WATERMARK).root


def arriving(messages: list[Message], clocks: list[int], page_at: int | None) -> pa.Table:
    """Return records of a stream, ten seconds apart, and of a page after so many messages."""
    events: list[tuple[int, Message | None]] = [
        (OPEN_NS + (300 + 10 * n) * NANOS, message) for n, message in enumerate(messages)
    ]
    events += [(OPEN_NS + (295 + 10 * n) * NANOS, None) for n in clocks]
    events = sorted([*events, (OPEN_NS + 900 * NANOS, None)], key=lambda event: event[0])
    if page_at is None:
        return numbered(framed(events))
    at = OPEN_NS + (299 + 10 * page_at) * NANOS
    before, after = ([e for e in events if (e[0] < at) == side] for side in (True, False))
    parts = [*([framed(before)] if before else []), page(at), framed(after)]
    return numbered(pa.concat_tables(parts))


WHOLE = root(bars_of_messages(arriving(STREAM, [], None), TIMEFRAMES, watermark_ns=WATERMARK))


def test_whole_stream_gives_the_same_bars_derived_and_in_sql() -> None:
    assert root(derived(SETTINGS, arriving(STREAM, [], None)).bars) == WHOLE


@settings(max_examples=40)
@given(
    st.permutations(STREAM),
    st.sets(st.integers(0, len(STREAM) - 1)),
    st.lists(st.integers(0, 20), max_size=3, unique=True),
    st.integers(0, len(STREAM)),
)
def test_history_and_whatever_was_streamed_give_the_bars_of_the_whole_stream(
    order: list[Message], lost: set[int], clocks: list[int], page_at: int
) -> None:
    left = [message for n, message in enumerate(order) if n not in lost]
    rows = arriving(left, clocks, page_at)
    assert root(bars_of_messages(rows, TIMEFRAMES, watermark_ns=WATERMARK)) == WHOLE
    assert root(derived(SETTINGS, rows).bars) == WHOLE
