"""A market from a recording: the same messages again, and the history that they make."""

import io
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.errors import InputError
from marketpipe.simulator.generate import GeneratedMarket, generate
from marketpipe.simulator.market import Event, Kind
from marketpipe.simulator.recorded import RecordedMarket, recorded

OPEN_NS = 1_767_623_400 * NANOS  # 2026-01-05 09:30 in New York
MINUTE_NS = 60 * NANOS

_row = msgspec.json.Decoder(dict[str, Any]).decode


def drawn(kind: Kind = "stocks") -> GeneratedMarket:
    """Return a small generated market."""
    symbols = ("AAPL", "F") if kind == "stocks" else ("BTC/USD", "ETH/USD")
    end_ns = OPEN_NS + 6 * MINUTE_NS
    shares = {"late_share": 0.05, "cancel_share": 0.05, "correction_share": 0.05}
    return generate(
        symbols, kind, OPEN_NS, end_ns, 3, trades_per_second=3.0, quotes_per_second=3.0, **shares
    )


def recording(events: list[Event]) -> io.BytesIO:
    """Write events as a recording, one frame for what was sent at once."""
    lines = [b'%d [{"T":"success","msg":"authenticated"}]' % (OPEN_NS - 1)]
    for at, group in groupby(events, key=lambda event: event.ts_send_ns):
        lines.append(b"%d [%s]" % (at, b",".join(event.encode("json") for event in group)))
    return io.BytesIO(b"\n".join(lines))


def replayed(*messages: dict[str, Any]) -> RecordedMarket:
    """Record messages, a second apart, and read them."""
    lines = [
        b"%d [%s]" % (OPEN_NS + k * NANOS, msgspec.json.encode(message))
        for k, message in enumerate(messages)
    ]
    return recorded(io.BytesIO(b"\n".join(lines)))


def trade(number: int, price: float, second: int = 0, **more: Any) -> dict[str, Any]:
    """Make a trade message."""
    at = format_ns(OPEN_NS + second * NANOS)
    named = {"S": "F", "i": number, "x": "V", "z": "A", "c": ["@"]}
    return {"T": "t", **named, "p": price, "s": 100, "t": at, **more}


def shown(market: RecordedMarket, known_ns: int | None = None) -> list[tuple[int, float, Any]]:
    """Return (id, price, mark) of the trades of F."""
    known_ns = market.end_ns if known_ns is None else known_ns
    rows = [_row(row.json) for row in market.trades("F", 0, 2 * OPEN_NS, known_ns)]
    return [(row["i"], row["p"], row.get("u")) for row in rows]


@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_recording_of_a_market_is_that_market_again(kind: Kind) -> None:
    whole = drawn(kind)
    events = list(whole.events())
    again = recorded(recording(events))
    assert (again.kind, set(again.symbols)) == (kind, set(whole.symbols))
    for one, other in zip(events, again.events(), strict=True):
        assert (one.ts_send_ns, one.ts_event_ns) == (other.ts_send_ns, other.ts_event_ns)
        assert (one.channel, one.symbol) == (other.channel, other.symbol)
        assert one.encode("json") == other.encode("json")
        assert one.encode("msgpack") == other.encode("msgpack")
    for symbol in whole.symbols:
        for known_ns in (OPEN_NS + 2 * MINUTE_NS, whole.end_ns):
            for view in ("trades", "quotes"):
                found, wanted = (
                    [_row(row.json) for row in getattr(m, view)(symbol, 0, whole.end_ns, known_ns)]
                    for m in (again, whole)
                )
                assert found == wanted
                assert found
            book, same = again.book(symbol, known_ns), whole.book(symbol, known_ns)
            assert (book and _row(book.encode("json"))) == (same and _row(same.encode("json")))


def test_bars_of_a_recording_are_as_last_sent() -> None:
    bar = {"T": "b", "S": "F", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "n": 1, "vw": 1.5}
    bar["t"] = format_ns(OPEN_NS)
    market = replayed(bar, bar | {"T": "u", "c": 1})
    for known_ns, close in ((OPEN_NS, 2), (OPEN_NS + NANOS, 1)):
        (row,) = market.bars("F", 0, market.end_ns, known_ns)
        assert (row.ts_event_ns, _row(row.json)["c"]) == (OPEN_NS, close)
    assert list(market.bars("F", 0, market.end_ns, OPEN_NS - 1)) == []


def test_days_of_a_recording_are_as_last_sent() -> None:
    midnight_ns = OPEN_NS - 34_200 * NANOS
    day = {"T": "d", "S": "F", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5, "n": 1, "vw": 1.5}
    day["t"] = format_ns(midnight_ns)
    market = replayed(day, day | {"c": 1})
    for known_ns, close in ((OPEN_NS, 2), (OPEN_NS + NANOS, 1)):
        (row,) = market.days("F", 0, market.end_ns, known_ns)
        assert (row.ts_event_ns, _row(row.json)["c"]) == (midnight_ns, close)
    assert list(market.days("F", midnight_ns + 1, market.end_ns, market.end_ns)) == []


def test_recorded_trade_sent_twice_is_shown_once_and_its_id_on_another_day_again() -> None:
    day = 86_400
    market = replayed(trade(1, 10.0), trade(1, 10.0), trade(1, 11.0, day))
    assert shown(market) == [(1, 10.0, None), (1, 11.0, None)]


def test_recorded_corrections_and_cancels_mark_the_trade_they_mean() -> None:
    at = format_ns(OPEN_NS + 5 * NANOS)
    new = {"ci": 2, "cp": 12.0, "cs": 50, "cc": ["@"]}
    correction = {"T": "c", "S": "F", "x": "V", "oi": 1, "op": 10.0, "os": 100, "t": at, **new}
    cancel = {"T": "x", "S": "F", "x": "V", "i": 2, "p": 12.0, "s": 50, "a": "C", "t": at}
    unknown = cancel | {"i": 77}
    market = replayed(trade(1, 10.0), correction, cancel, unknown)
    assert shown(market, OPEN_NS) == [(1, 10.0, None)]
    assert shown(market, OPEN_NS + NANOS) == [(1, 10.0, "incorrect"), (2, 12.0, "corrected")]
    assert shown(market) == [(1, 10.0, "incorrect"), (2, 12.0, "canceled")]
    early = replayed(correction, trade(1, 10.0))
    assert shown(early) == [(1, 10.0, "incorrect"), (2, 12.0, "corrected")]


def test_recorded_cancel_means_the_last_trade_of_its_id_before_it() -> None:
    at = format_ns(OPEN_NS + 5 * NANOS)
    cancel = {"T": "x", "S": "F", "x": "V", "i": 1, "p": 10.0, "s": 100, "a": "C", "t": at}
    market = replayed(trade(1, 10.0), trade(1, 11.0, 86_400), cancel)
    assert shown(market) == [(1, 10.0, "canceled"), (1, 11.0, None)]
    market = replayed(trade(1, 10.0), trade(1, 11.0, 3), cancel)
    assert shown(market) == [(1, 10.0, None), (1, 11.0, "canceled")]


def test_recording_keeps_what_only_a_newer_vendor_knows() -> None:
    market = replayed({"T": "new", "S": "F"}, trade(1, 10.0, extra={"deep": [1, "t"]}))
    (event,) = market.events()
    assert msgspec.msgpack.decode(event.encode("msgpack"))["extra"] == {"deep": [1, "t"]}
    assert event.encode("msgpack")[1:3] == b"\xa1T"


def test_recording_of_real_frames_needs_times(market_data: Path) -> None:
    frames = market_data / "live_frames" / "alpaca_frames.jsonl"
    with pytest.raises(InputError, match="no time of receipt"):
        recorded(frames)
    lines = [
        b"%d %s" % (OPEN_NS + k, line) for k, line in enumerate(frames.read_bytes().split(b"\n"))
    ]
    market = recorded(io.BytesIO(b"\n".join(lines)))
    channels = [event.channel for event in market.events()]
    assert sorted(channels) == ["bars", "quotes", "quotes", "quotes", *["trades"] * 4]
    assert market.symbols == ("SPY", "MSFT", "AAPL")


def test_recording_without_messages_of_a_market_is_refused() -> None:
    with pytest.raises(InputError, match="no message of a market"):
        recorded(io.BytesIO(b'1 [{"T":"success","msg":"connected"}]'))
