"""What was known when: revisions of bars, cancels and corrections of trades.

The expected rows come from the oracles below: plain loops over records, without SQL.
"""

import tempfile
from datetime import date
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakerows import DAY, T0, Lakeside, S, row
from marketpipe.errors import UsageError
from marketpipe.lake.reading import Lake

Row = dict[str, Any]


def name_of(trade: Row) -> tuple[Any, ...]:
    keys = ("source", "feed", "symbol", "venue", "tape", "session_date", "trade_id")
    return tuple(trade.get(key) for key in keys)


def reaching(trade: Row, fixes: list[Row]) -> list[Row]:
    """Follow the chain of ids from a trade: every fix that names it, or what it became."""
    names, found = {name_of(trade)}, []
    rest = list(fixes)
    while hit := next((fix for fix in rest if name_of(fix) in names), None):
        rest.remove(hit)
        found.append(hit)
        if hit["kind"] == "correction" and hit["new_trade_id"] is not None:
            names.add(name_of({**hit, "trade_id": hit["new_trade_id"]}))
    return found


def oracle(trades: list[Row], fixes: list[Row], as_of: int, clock: str) -> list[Row]:
    known = [fix for fix in fixes if fix[clock] <= as_of]
    corrected = [name_of(fix) for fix in known if fix["kind"] == "correction"]
    known = [f for f in known if f["action"] != "incorrect" or name_of(f) not in corrected]
    answer = []
    for trade in (t for t in trades if t[clock] <= as_of):
        mine = reaching(trade, known)
        if any(fix["kind"] == "cancel" for fix in mine):
            continue
        now = dict(trade)
        for fix in sorted(mine, key=lambda f: (f["ts_event"], f["offset"])):
            now |= {k: fix[f"new_{k}"] for k in ("price", "size", "conditions")}
            now["trade_id"] = fix["new_trade_id"] or trade["trade_id"]
        for stamp in ("known_at", "recorded_at"):
            now[stamp] = max([trade[stamp], *(fix[stamp] for fix in mine)])
        answer.append(now)
    return answer


IDS = st.sampled_from("abcd")
INSTANTS = st.integers(0, 6)


@st.composite
def trades_and_fixes(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    offsets = count(1)

    def common() -> Row:
        return {
            "venue": draw(st.sampled_from("VN")),
            "tape": draw(st.sampled_from(["C", None])),
            "session_date": draw(st.sampled_from([DAY, date(2026, 1, 6)])),
            "known_at": draw(INSTANTS),
            "recorded_at": draw(INSTANTS),
            "trade_id": draw(IDS),
            "offset": next(offsets),
        }

    trades = [
        row(**common(), ts_event=T0 + n, price=Decimal(n + 1))
        for n in range(draw(st.integers(1, 6)))
    ]
    kinds = [("correction", None), ("correction", None), ("cancel", "C"), ("cancel", "incorrect")]
    fixes = [
        row(
            **common(),
            ts_event=T0 + draw(INSTANTS),
            **dict(zip(("kind", "action"), draw(st.sampled_from(kinds)), strict=True)),
            new_trade_id=draw(st.one_of(st.none(), IDS)),
            new_price=Decimal(100 + n),
            new_size=Decimal(200 + n),
            new_conditions=draw(st.sampled_from([None, "@ Z"])),
        )
        for n in range(draw(st.integers(0, 8)))
    ]
    return trades, fixes


@settings(max_examples=40)
@given(trades_and_fixes(), INSTANTS, st.sampled_from(["assumed", "strict"]), st.randoms())
def test_trades_as_of_match_a_slow_oracle_in_any_order_of_arrival(
    data: tuple[list[Row], list[Row]], as_of: int, knowledge: Any, shuffler: Any
) -> None:
    trades, fixes = data
    clock = "known_at" if knowledge == "assumed" else "recorded_at"
    expected = oracle(trades, fixes, as_of, clock)
    with tempfile.TemporaryDirectory() as folder:
        shuffled = shuffler.sample(fixes, len(fixes))
        side, lake = Lakeside(Path(folder)), Lake(folder)
        side.put("trades", *trades)
        if fixes:
            side.put("corrections", *shuffled)
        found = lake.trades("AAPL", as_of=as_of, knowledge=knowledge)
        raw = lake.trades("AAPL", as_of=as_of, knowledge=knowledge, raw=True)
    names = found.columns
    assert found.to_dicts() == [{name: trade.get(name) for name in names} for trade in expected]
    assert raw["offset"].to_list() == [t["offset"] for t in trades if t[clock] <= as_of]


def fix(of: str, to: str | None, price: int, at: int, **more: Any) -> Row:
    """Return a correction `at` seconds after T0."""
    return row(
        kind="correction", trade_id=of, new_trade_id=to, new_price=Decimal(price),
        new_size=Decimal(1), ts_event=T0 + at * S, **more,
    )  # fmt: skip


def cancel(of: str, at: int, **more: Any) -> Row:
    return row(kind="cancel", trade_id=of, ts_event=T0 + at * S, **more)


def prices(lake: Lake, at: int | None = None) -> list[int]:
    as_of = None if at is None else T0 + at * S
    return [int(price) for price in lake.trades("AAPL", as_of=as_of)["price"]]


def test_trade_corrected_twice_and_cancelled_says_what_was_known_each_time(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": "1", "price": Decimal(10), "key_minor": 5, "offset": 3})
    side.put("corrections", cancel("3", 30), fix("2", "3", 12, 20), fix("1", "2", 11, 10))
    assert prices(lake, -1) == []
    assert [prices(lake, at) for at in (0, 9, 10, 19, 20, 29, 30)] == [
        [10], [10], [11], [11], [12], [12], [],
    ]  # fmt: skip
    corrected = lake.trades("AAPL", as_of=T0 + 25 * S).row(0, named=True)
    assert (corrected["trade_id"], corrected["ts_event"], corrected["key_minor"]) == ("3", T0, 5)
    assert (corrected["known_at"], corrected["offset"]) == (T0 + 20 * S, 3)
    assert lake.trades("AAPL", raw=True)["price"].to_list() == [Decimal(10)]


def test_correction_without_its_original_changes_nothing(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": "1", "price": Decimal(10)})
    side.put("corrections", fix("9", "1", 99, 1), cancel("8", 1))
    assert prices(lake) == [10]


def test_trade_replaced_in_history_is_gone_only_until_its_correction_is_known(
    tmp_path: Path,
) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    ids = ("1", 10), ("2", 11)
    side.put("trades", *({"trade_id": name, "price": Decimal(price)} for name, price in ids))
    side.put("corrections", cancel("1", 5, action="incorrect"), fix("1", "2", 11, 20))
    assert [prices(lake, at) for at in (4, 5, 19, 20)] == [[10, 11], [11], [11], [11]]
    shown = lake.trades("AAPL", as_of=T0 + 20 * S)
    assert shown["known_at"].to_list() == [T0 + 20 * S]


def test_corrections_in_a_circle_end_with_the_latest(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": "1", "price": Decimal(10)})
    side.put("corrections", fix("1", "2", 11, 1), fix("2", "1", 12, 2))
    assert prices(lake) == [12]


def test_id_used_again_the_next_day_is_another_trade(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    for n, day in enumerate((DAY, date(2026, 1, 6))):
        side.put("trades", {"trade_id": "1", "session_date": day, "ts_event": T0 + n * 86_400 * S})
    side.put("corrections", cancel("1", 5, session_date=DAY))
    assert lake.trades("AAPL")["session_date"].to_list() == [date(2026, 1, 6)]


def test_cancel_of_an_earlier_session_counts_from_when_it_was_known(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": "1"})
    side.put("corrections", cancel("1", 3 * 86_400, session_date=DAY))
    assert lake.trades("AAPL", as_of="2026-01-08").height == 1
    assert lake.trades("AAPL", as_of="2026-01-09").is_empty()


def test_trades_without_an_id_are_never_corrected(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": None}, {"trade_id": None, "key_minor": 1})
    side.put("corrections", fix("1", None, 11, 1))
    assert prices(lake) == [100, 100]


def test_correction_of_one_feed_leaves_the_other_alone(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path, priority=["alpaca/iex"])
    side.put("trades", *({"trade_id": "1", "feed": feed} for feed in ("iex", "sip")))
    side.put("corrections", cancel("1", 1, feed="sip"))
    assert lake.trades("AAPL").height == 1
    assert lake.trades("AAPL", feed="sip").is_empty()


def test_sql_trades_have_corrections_applied_as_of(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("trades", {"trade_id": "1", "price": Decimal(10)}, {"trade_id": "2", "key_minor": 1})
    side.put("corrections", fix("1", "3", 11, 10), cancel("2", 20))
    query = "SELECT price::INT FROM trades WHERE symbol = 'AAPL' ORDER BY key_minor"
    for at, expected in ((5, [10, 100]), (10, [11, 100]), (20, [11])):
        found = lake.sql(query, as_of=T0 + at * S)
        assert found.to_series().to_list() == expected
    assert lake.sql("SELECT count(*) FROM corrections", as_of=T0 + 15 * S).item() == 1


BARS = st.lists(
    st.tuples(
        st.integers(0, 2),  # which bar
        INSTANTS,  # known_at
        st.one_of(st.none(), INSTANTS),  # recorded_at
        st.booleans(),  # void
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40)
@given(BARS, INSTANTS, st.sampled_from(["assumed", "strict"]), st.randoms())
def test_bars_as_of_are_the_highest_revision_known(
    drawn: list[tuple[int, int, int | None, bool]], as_of: int, knowledge: Any, shuffler: Any
) -> None:
    revisions = [count() for _ in range(3)]
    bars = [
        row(
            ts_open=T0 + bar * 60 * S, known_at=known, recorded_at=recorded, trade_count=n,
            coverage="void" if void else "traded", revision=next(revisions[bar]),
        )
        for n, (bar, known, recorded, void) in enumerate(drawn)
    ]  # fmt: skip

    def when(bar: Row) -> int:
        strict = knowledge == "strict" and bar["recorded_at"] is not None
        return int(bar["recorded_at"] if strict else bar["known_at"])

    known = sorted(
        (bar for bar in bars if when(bar) <= as_of), key=lambda b: (b["ts_open"], b["revision"])
    )
    latest = {bar["ts_open"]: bar for bar in known}
    there = [bar["trade_count"] for bar in latest.values() if bar["coverage"] != "void"]
    with tempfile.TemporaryDirectory() as folder:
        Lakeside(Path(folder)).put("bars", *shuffler.sample(bars, len(bars)))
        lake = Lake(folder)
        found = lake.bars("AAPL", "1m", as_of=as_of, knowledge=knowledge)
        history = lake.bars("AAPL", "1m", as_of=as_of, knowledge=knowledge, history=True)
    assert found["trade_count"].to_list() == there
    assert history["trade_count"].to_list() == [bar["trade_count"] for bar in known]


def test_bar_voided_later_is_there_until_then(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("bars", {"ts_open": T0, "known_at": T0 + 61 * S, "close": Decimal("1.5")})
    void = {"ts_open": T0, "known_at": T0 + 90 * S, "coverage": "void", "revision": 1}
    side.put("bars", {**void, "cause": "cancel"})
    assert lake.bars("AAPL", "1m", as_of=T0 + 61 * S - 1).is_empty()
    assert lake.bars("AAPL", "1m", as_of=T0 + 61 * S)["close"].to_list() == [Decimal("1.5")]
    assert lake.bars("AAPL", "1m", as_of=T0 + 90 * S).is_empty()
    assert lake.bars("AAPL", "1m").is_empty()
    assert lake.bars("AAPL", "1m", history=True)["coverage"].to_list() == ["traded", "void"]
    assert lake.sql("SELECT count(*) FROM bars").item() == 0
    assert lake.sql("SELECT count(*) FROM bars", as_of=T0 + 61 * S).item() == 1


@pytest.mark.parametrize("name", ["quotes", "book", "statuses", "vendor_bars", "corrections"])
def test_other_tables_hide_what_was_not_known_yet(tmp_path: Path, name: str) -> None:
    late = {"known_at": T0, "recorded_at": T0 + 9, "kind": "cancel", "trade_id": "1"}
    Lakeside(tmp_path).put(name, late)
    read = getattr(Lake(tmp_path), name)
    assert [read("AAPL", as_of=T0 + n).height for n in (-1, 0)] == [0, 1]
    assert [read("AAPL", as_of=T0 + n, knowledge="strict").height for n in (8, 9)] == [0, 1]


def test_raw_and_quarantine_as_of_are_what_was_received(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    side.put("raw", *({"ts_recv": T0 + n, "offset": n, "payload": b"{}"} for n in range(3)))
    side.put("quarantine", {"ts_recv": T0 + 1})
    assert lake.sql('SELECT "offset" FROM raw', as_of=T0 + 1).to_series().sort().to_list() == [0, 1]
    assert lake.sql("FROM quarantine", as_of=T0).is_empty()
    assert lake.sql("FROM quarantine", as_of=T0 + 1, knowledge="strict").height == 1


def test_knowledge_of_another_word_is_refused(tmp_path: Path) -> None:
    other: Any = "guessed"
    with pytest.raises(UsageError, match="was 'guessed'; valid are assumed, strict"):
        Lake(tmp_path).trades("AAPL", knowledge=other)
    with pytest.raises(UsageError, match="knowledge"):
        Lake(tmp_path).sql("SELECT 1", knowledge=other)
