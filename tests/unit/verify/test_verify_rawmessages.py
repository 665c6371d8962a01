"""The independent side of a journal, against bars worked out by hand."""

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pytest

from livekit import OPEN_NS, Message, cancel, correction, framed, numbered, trade
from marketpipe.domain.units import NANOS
from marketpipe.verify.rawmessages import bars_of_messages

DAY_NS = 86_400 * NANOS


def bars(messages: Sequence[Message], watermark_ns: int = OPEN_NS + 2 * DAY_NS) -> pa.Table:
    """Work out minute bars of messages that came one second apart, a day after the open."""
    feed = [(OPEN_NS + DAY_NS + n * NANOS, message) for n, message in enumerate(messages)]
    return bars_of_messages(numbered(framed(feed)), ["1m"], watermark_ns=watermark_ns)


def ohlcv(table: pa.Table) -> list[tuple[object, ...]]:
    names = ("open", "high", "low", "close", "volume", "trade_count")
    return [tuple(row[name] for name in names) for row in table.to_pylist()]


PRINTS = [
    trade(1, OPEN_NS + 1, "10", 1),
    trade(2, OPEN_NS + 2, "12.25", 2),
    trade(3, OPEN_NS + 3, "9", 4),
    trade(4, OPEN_NS + 4, "11", 8),
]


def test_bars_of_trades_are_their_first_extremes_last_and_sums() -> None:
    table = bars(PRINTS)
    assert ohlcv(table) == [(10, Decimal("12.25"), 9, 11, 15, 4)]
    (row,) = table.to_pylist()
    assert row["notional"] == 10 + Decimal("24.5") + 36 + 88
    assert row["vwap"] == Decimal("10.566666667")  # 158.5 / 15
    assert (row["ts_open"], row["ts_close"]) == (OPEN_NS, OPEN_NS + 60 * NANOS)
    assert str(row["session_date"]) == "2026-01-05"


def test_bars_leave_out_repeats_and_what_is_no_trade() -> None:
    broken: list[Message] = [
        {**PRINTS[0], "i": 50, "p": -1},
        {**PRINTS[0], "i": 51, "s": -1},
        {**PRINTS[0], "i": 52, "t": "yesterday"},
        {**PRINTS[0], "i": 53, "p": 1.0000000001},
        {**PRINTS[0], "i": 54, "S": ""},
        {**PRINTS[0], "T": "?"},
    ]
    assert ohlcv(bars([*PRINTS, *broken, *PRINTS])) == ohlcv(bars(PRINTS))


def test_bars_after_a_cancel_lack_its_trade() -> None:
    assert ohlcv(bars([*PRINTS, cancel(PRINTS[1], OPEN_NS + 9)])) == [(10, 11, 9, 11, 13, 3)]
    assert ohlcv(bars([cancel(PRINTS[1], OPEN_NS + 9), *PRINTS])) == [(10, 11, 9, 11, 13, 3)]
    assert len(bars([PRINTS[0], cancel(PRINTS[0], OPEN_NS + 9)])) == 0


def test_bars_after_a_chain_of_corrections_have_its_latest_content() -> None:
    first = correction(PRINTS[0], OPEN_NS + 9, new_id=10, price="20")
    second = correction({**PRINTS[0], "i": 10}, OPEN_NS + 10, new_id=11, price="8", size=100)
    gone = cancel({**PRINTS[0], "i": 11}, OPEN_NS + 11)
    for chain in ([first, second], [second, first]):
        assert ohlcv(bars([*PRINTS, *chain])) == [(8, Decimal("12.25"), 8, 11, 114, 4)]
    assert ohlcv(bars([gone, *PRINTS, first, second])) == ohlcv(bars(PRINTS[1:]))


def test_bars_of_an_id_used_on_two_days_lose_the_one_that_is_named() -> None:
    later = trade(1, OPEN_NS + DAY_NS, "30", 1)
    both = [PRINTS[0], later]
    assert ohlcv(bars([*both, cancel(later, OPEN_NS + DAY_NS)])) == [(10, 10, 10, 10, 1, 1)]
    assert ohlcv(bars([*both, cancel(PRINTS[0], OPEN_NS)])) == [(30, 30, 30, 30, 1, 1)]


def test_bars_above_the_watermark_are_left_out() -> None:
    end = OPEN_NS + 60 * NANOS
    assert len(bars(PRINTS, end)) == 1
    assert len(bars(PRINTS, end - 1)) == 0


@pytest.mark.parametrize("messages", [[], [cancel(PRINTS[0], OPEN_NS)]])
def test_bars_without_trades_are_none(messages: list[Message]) -> None:
    feed = [*((OPEN_NS, message) for message in messages), (OPEN_NS, None)]
    assert len(bars_of_messages(numbered(framed(feed)), ["1m"], watermark_ns=2**62)) == 0
