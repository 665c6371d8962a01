"""Laws of a generated market: order, what its history shows when, and how it is written."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.ticks import HIGH_LOW, LAST, VOLUME
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.normalize import RuleSet
from marketpipe.simulator.generate import GeneratedMarket, generate
from marketpipe.simulator.market import Event, Kind, Row
from marketpipe.sources.alpaca import wire
from marketpipe.sources.alpaca.values import decimals, instants

OPEN_NS = 1_767_623_400 * NANOS  # 2026-01-05 09:30 in New York
MINUTE_NS = 60 * NANOS
SYMBOLS: dict[Kind, tuple[str, ...]] = {
    "stocks": ("AAPL", "MSFT", "F"),
    "crypto": ("BTC/USD", "ETH/USD"),
}
RULES = RuleSet.load("alpaca-v1")

_row = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def market(kind: Kind = "stocks", seed: int = 1, **changes: Any) -> GeneratedMarket:
    """Return a small market with much going wrong."""
    recipe: dict[str, Any] = {
        "trades_per_second": 3.0,
        "quotes_per_second": 2.0,
        "late_share": 0.05,
        "cancel_share": 0.05,
        "correction_share": 0.05,
        "halt_share": 0.2,
    }
    recipe |= changes
    minutes = recipe.pop("minutes", 8)
    start_ns = recipe.pop("start_ns", OPEN_NS)
    return generate(SYMBOLS[kind], kind, start_ns, start_ns + minutes * MINUTE_NS, seed, **recipe)


def rows(of: GeneratedMarket, known_ns: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the history's trades as known then, or at the end."""
    known_ns = of.end_ns if known_ns is None else known_ns
    return {
        symbol: [_row(row.json) for row in of.trades(symbol, 0, of.end_ns, known_ns)]
        for symbol in of.symbols
    }


def fields(events: Iterable[Event], channel: str) -> list[dict[str, Any]]:
    """Return the messages of a channel."""
    return [_row(event.encode("json")) for event in events if event.channel == channel]


markets = st.builds(
    market,
    st.sampled_from(["stocks", "crypto"]),
    st.integers(0, 2**64 - 1),
    trades_per_second=st.sampled_from([0.0, 0.2, 3.0]),
    quotes_per_second=st.sampled_from([0.0, 1.0]),
    start_ns=st.integers(OPEN_NS - 6 * MINUTE_NS, OPEN_NS + 6 * MINUTE_NS),
)


@given(markets)
@settings(max_examples=20)
def test_events_are_in_order_of_sending_and_within_the_market(of: GeneratedMarket) -> None:
    events = list(of.events())
    assert all(one.ts_send_ns <= other.ts_send_ns for one, other in pairwise(events))
    assert all(of.start_ns <= event.ts_send_ns < of.end_ns for event in events)
    assert all(event.ts_event_ns <= event.ts_send_ns for event in events)


@given(markets)
@settings(max_examples=20)
def test_history_has_each_streamed_trade_once_and_marks_what_became_of_it(
    of: GeneratedMarket,
) -> None:
    events = list(of.events())
    shown = [(symbol, row) for symbol, found in rows(of).items() for row in found]
    assert max(Counter((s, row.get("x"), row["i"]) for s, row in shown).values(), default=1) == 1
    sent = {(f["S"], f["i"]): f for f in fields(events, "trades")}
    fixed = {(f["S"], f["ci"]): f for f in fields(events, "corrections")}
    gone = {(f["S"], f["i"]) for f in fields(events, "cancelErrors")}
    wrong = {(f["S"], f["oi"]) for f in fields(events, "corrections")}
    assert {(symbol, row["i"]) for symbol, row in shown} == sent.keys() | fixed.keys()
    for symbol, row in shown:
        key = symbol, row["i"]
        mark = row.pop("u", None)
        if key in gone:
            assert mark == "canceled"
        elif key in wrong:
            assert mark == "incorrect"
        else:
            assert mark == ("corrected" if key in fixed else None)
        if key in sent:
            assert row == {name: sent[key][name] for name in row}
        else:
            said = fixed[key]
            assert [row[name] for name in "psc"] == [said["c" + name] for name in "psc"]
            before = next(r for s, r in shown if s == symbol and r["i"] == said["oi"])
            assert row["t"] == before["t"]


def counted(found: list[dict[str, Any]]) -> tuple[Any, ...] | None:
    """Count a minute's surviving trades by the pipeline's reading of the rules."""
    flags = [RULES.judge(" ".join(row.get("c", ())), row.get("z", "")).flags for row in found]
    last = [row["p"] for row, flag in zip(found, flags, strict=True) if flag & LAST]
    extremes = [row["p"] for row, flag in zip(found, flags, strict=True) if flag & HIGH_LOW]
    sizes = [row["s"] for row, flag in zip(found, flags, strict=True) if flag & VOLUME]
    both = [
        row for row, flag in zip(found, flags, strict=True) if flag & HIGH_LOW and flag & VOLUME
    ]
    if not last or not sum(sizes):
        return None
    spent = sum(Fraction(row["p"]) * Fraction(row["s"]) for row in both)
    vwap = spent / sum(Fraction(row["s"]) for row in both)
    return last[0], max(extremes), min(extremes), last[-1], sum(sizes), len(sizes), vwap


@given(markets)
@settings(max_examples=20)
def test_bars_at_the_end_are_a_count_of_the_trades_that_survive(of: GeneratedMarket) -> None:
    digits = 6 if of.kind == "stocks" else 9
    for symbol, found in rows(of).items():
        minutes: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            if row.get("u") not in ("canceled", "incorrect"):
                minutes.setdefault(row["t"][:16] + ":00Z", []).append(row)
        bars = [_row(row.json) for row in of.bars(symbol, 0, of.end_ns, of.end_ns)]
        shown = {bar["t"]: bar for bar in bars if bar["n"]}
        ended = {t: part for t, part in minutes.items() if instant(t) + MINUTE_NS <= of.end_ns}
        wanted = {t: bar for t, part in ended.items() if (bar := counted(part)) is not None}
        assert shown.keys() == wanted.keys()
        for t, (*numbers, vwap) in wanted.items():
            assert [shown[t][name] for name in "ohlcvn"] == numbers
            assert abs(Fraction(shown[t]["vw"]) - vwap) <= Fraction(1, 2 * 10**digits)


def instant(text: str) -> int:
    """Read an instant, ns."""
    return int(instants([msgspec.Raw(f'"{text}"'.encode())], None)[0][0])


def test_bars_streamed_are_the_history_of_the_moment() -> None:
    of = market(trades_per_second=1.0, minutes=15, seed=5)
    kinds: Counter[str] = Counter()
    for event in of.events():
        if event.channel in ("bars", "updatedBars"):
            kinds[event.channel] += 1
            at = event.ts_event_ns
            known_ns = event.ts_send_ns - event.ts_send_ns % (MINUTE_NS // 2)
            (row,) = of.bars(event.symbol, at, at, known_ns)
            said = _row(event.encode("json"))
            assert {k: v for k, v in said.items() if k not in "TS"} == _row(row.json)
    assert kinds["bars"] > 20
    assert kinds["updatedBars"] > 3


def test_updated_bars_follow_each_half_minute_with_a_late_trade() -> None:
    of = market(trades_per_second=1.0, minutes=15, seed=5)
    late, updated = set(), set()
    for event in of.events():
        minute = event.ts_event_ns // MINUTE_NS * MINUTE_NS
        if event.channel == "trades" and event.ts_send_ns > minute + MINUTE_NS:
            mark = (event.ts_send_ns - MINUTE_NS // 2 - 1) // MINUTE_NS + 1
            late.add((event.symbol, minute, mark))
        elif event.channel == "updatedBars":
            mark, rest = divmod(event.ts_send_ns - MINUTE_NS // 2, MINUTE_NS)
            updated.add((event.symbol, minute, mark))
            assert 0 < rest < NANOS
    assert updated <= late
    # Some late trades change nothing: what sets no price and has no volume.
    assert len(updated) > len(late) // 2


def test_history_shows_only_what_was_sent_by_then() -> None:
    of = market(halt_share=0)
    known_ns = OPEN_NS + 4 * MINUTE_NS
    before = [event for event in of.events() if event.ts_send_ns <= known_ns]
    for symbol, found in rows(of, known_ns).items():
        channels = ("trades", "corrections")
        sent = [e for e in before if e.symbol == symbol and e.channel in channels]
        assert len(found) == len(sent)
        gone = [e for e in before if e.symbol == symbol and e.channel == "cancelErrors"]
        assert sum(row.get("u") == "canceled" for row in found) == len(gone)
        times = [row["t"] for row in found]
        assert sorted(times, key=instant) == times
    assert len(of.bars("AAPL", 0, of.end_ns, known_ns)) == 4
    assert len(of.bars("AAPL", 0, of.end_ns, known_ns - 1)) == 3


def test_history_takes_both_ends_in() -> None:
    of = market(trades_per_second=3.0, cancel_share=0, correction_share=0)
    everything = of.trades("AAPL", 0, of.end_ns, of.end_ns)
    first, second, last = (everything[k].ts_event_ns for k in (0, 1, -1))
    assert len(of.trades("AAPL", first, last, of.end_ns)) == len(everything)
    assert list(of.trades("AAPL", first + 1, second, of.end_ns)) == [everything[1]]
    assert list(everything[2:4]) == [everything[2], everything[3]]
    quotes = of.quotes("AAPL", 0, of.end_ns, of.end_ns)
    assert of.quotes("AAPL", quotes[3].ts_event_ns, of.end_ns, of.end_ns)[0] == quotes[3]
    assert everything[-3:] == [everything[k] for k in (-3, -2, -1)]
    assert everything[3:0:-1] == everything[1:4][::-1]
    with pytest.raises(IndexError):
        everything[len(everything)]


def test_history_of_an_unknown_symbol_is_empty() -> None:
    of, end = market(), OPEN_NS + MINUTE_NS * 100
    views = (of.trades, of.quotes, of.bars)
    assert [len(view("NONE", 0, end, end)) for view in views] == [0, 0, 0]


def test_market_of_the_same_recipe_gives_the_same_bytes_whatever_was_asked_before() -> None:
    one, other = market(), market()
    other.bars("F", 0, other.end_ns, other.end_ns)
    list(other.events())
    sent = [(event.ts_send_ns, event.encode("msgpack")) for event in one.events()]
    assert [(event.ts_send_ns, event.encode("msgpack")) for event in other.events()] == sent
    assert [event.encode("msgpack") for event in market(seed=2).events()] != [b for _, b in sent]


def test_market_that_begins_later_has_the_same_prices() -> None:
    whole, part = market(minutes=20), market(minutes=10, start_ns=OPEN_NS + 10 * MINUTE_NS)
    names = ("t", "p", "s", "x")
    later = [r for r in rows(whole)["F"] if instant(r["t"]) >= part.start_ns and "u" not in r]
    assert later
    mine = [[row[name] for name in names] for row in rows(part)["F"]]
    assert all([row[name] for name in names] in mine for row in later)


@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_message_decodes_to_the_same_values_in_both_encodings(kind: Kind) -> None:
    seen: Counter[str] = Counter()
    for event in market(kind, minutes=11, start_ns=OPEN_NS - MINUTE_NS).events():
        json, packed = event.encode("json"), event.encode("msgpack")
        assert json.startswith(b'{"T":"')
        assert packed[1:3] == b"\xa1T"
        assert event.encode("json") is json
        one, other = wire.decode_json(json), wire.decode_msgpack(packed)
        assert type(one) is type(other)
        for name in one.__struct_fields__:
            assert _plain(getattr(one, name), None) == _plain(getattr(other, name), [True]), name
        assert not isinstance(one, (wire.Success, wire.Failure, wire.Subscription))
        assert one.symbol == event.symbol
        assert _plain(one.ts, None) == event.ts_event_ns
        seen[event.channel] += 1
    both = {"trades", "quotes", "bars", "updatedBars", "dailyBars"}
    stocks = {"corrections", "cancelErrors", "lulds", "statuses"}
    assert seen.keys() == both | (stocks if kind == "stocks" else {"orderbooks"})


def _plain(value: Any, packed: list[bool] | None) -> Any:
    """Read a raw value of either encoding: an instant, a number or a list of texts."""
    if isinstance(value, list):
        return [[_plain(v, packed) for v in (level.price, level.size)] for level in value]
    if not isinstance(value, msgspec.Raw) or not value:
        return bytes(value) if isinstance(value, msgspec.Raw) else value
    for read in (decimals, instants):
        numbers, reasons = read([value], packed)
        if not reasons[0]:
            return int(numbers[0])
    return (msgspec.msgpack if packed else msgspec.json).decode(value)


def test_crypto_ids_are_beyond_what_a_float_holds_and_sizes_are_fractions() -> None:
    found = fields(market("crypto").events(), "trades")
    assert min(row["i"] for row in found) > 2**53
    assert len({row["i"] for row in found}) == len(found)
    assert {row["tks"] for row in found} == {"B", "S", "-"}
    assert any(isinstance(row["s"], Decimal) for row in found)
    assert not any(key in row for row in found for key in "xcz")


def test_crypto_minute_without_trades_has_a_bar_of_its_quotes() -> None:
    of = market("crypto", trades_per_second=0.0, quotes_per_second=1.0)
    (row,) = of.bars("BTC/USD", OPEN_NS, OPEN_NS, of.end_ns)
    quotes = of.quotes("BTC/USD", OPEN_NS, OPEN_NS + MINUTE_NS - 1, of.end_ns)
    mids = [(q["bp"] + q["ap"]) / 2 for q in (_row(quote.json) for quote in quotes)]
    bar = _row(row.json)
    assert [bar[key] for key in "ohlc"] == [mids[0], max(mids), min(mids), mids[-1]]
    assert (bar["v"], bar["n"], bar["vw"]) == (0, 0, 0)
    sent = fields(of.events(), "bars")
    assert {**bar, "T": "b", "S": "BTC/USD"} in sent


def test_book_on_request_is_the_last_snapshot_and_the_deltas_since() -> None:
    # So slow that quotes of the end of five minutes would come after the next snapshot.
    of = market("crypto", minutes=12, latency_ns=5 * NANOS)
    sides: dict[str, dict[Decimal, Decimal]] = {}
    snapshots = 0
    for event in of.events():
        if event.channel != "orderbooks" or event.symbol != "ETH/USD":
            continue
        said = _row(event.encode("json"))
        if said.get("r"):
            sides = {"b": {}, "a": {}}
            snapshots += 1
        for side, levels in sides.items():
            levels.update({level["p"]: level["s"] for level in said[side]})
            sides[side] = {price: size for price, size in levels.items() if size}
        assert max(sides["b"]) < min(sides["a"])
        book = of.book("ETH/USD", event.ts_send_ns)
        assert book is not None
        whole = _row(book.encode("json"))
        assert whole["r"] is True
        for side, levels in sides.items():
            assert {level["p"]: level["s"] for level in whole[side]} == levels
    assert snapshots == 3
    assert of.book("ETH/USD", of.start_ns - 1) is None
    assert market().book("AAPL", OPEN_NS) is None


def test_halt_stops_the_trades_of_its_symbol() -> None:
    of = market(halt_share=1.0, minutes=5)
    halts = [f for f in fields(of.events(), "statuses") if f["S"] == "F"]
    assert [halt["sm"] for halt in halts] == ["Trading Halt", "Trading Resumption"]
    halt_ns, resume_ns = (instant(halt["t"]) for halt in halts)
    assert len(of.trades("F", halt_ns, resume_ns - 1, of.end_ns)) == 0
    assert len(of.trades("F", resume_ns, of.end_ns, of.end_ns)) > 0


def test_row_is_written_as_the_vendors_history_has_it() -> None:
    of = market(cancel_share=0, correction_share=0)
    row: Row = of.trades("AAPL", 0, of.end_ns, of.end_ns)[0]
    assert list(_row(row.json)) == ["t", "x", "p", "s", "c", "i", "z"]
    quote = of.quotes("AAPL", 0, of.end_ns, of.end_ns)[0]
    assert list(_row(quote.json)) == ["t", "ax", "ap", "as", "bx", "bp", "bs", "c", "z"]
    bar = of.bars("AAPL", 0, of.end_ns, of.end_ns)[0]
    assert list(_row(bar.json)) == ["t", "o", "h", "l", "c", "v", "n", "vw"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trades_per_second": -1.0}, "trades_per_second"),
        ({"late_share": 1.5}, "late_share"),
        ({"cancel_share": 0.6, "correction_share": 0.6}, "cancel_share"),
        ({"minutes": 0}, "end_ns"),
        ({"seed": -1}, "seed"),
        ({"venues": ()}, "venues"),
    ],
)
def test_recipe_out_of_range_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        market(**changes)
