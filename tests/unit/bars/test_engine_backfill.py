"""Ticks that fill a gap: the same bars as ever, in one revision each."""

import random  # noqa: TID251

import pytest

from barkit import SECOND, Print, life, ns, ticks
from marketpipe.bars import BarEngine
from marketpipe.errors import EngineError

OPEN = ns("2024-01-02T15:00:00Z")
END = ns("2024-01-02T15:10:01Z")


def engine(rules: str = "plain") -> BarEngine:
    """Make an engine as a live pipeline has it."""
    return BarEngine(["1m", "5m", "1h"], watermark="clock", rule_set=rules)


def prints(seed: int, count: int) -> list[Print]:
    """Draw trades of two symbols in ten minutes."""
    rng = random.Random(seed)
    times = sorted(rng.randrange(600) for _ in range(count))
    return [
        Print(
            f"2024-01-02T15:{s // 60:02}:{s % 60:02}.{rng.randrange(10**9):09}Z",
            str(rng.randrange(900, 1100)),
            str(rng.randrange(1, 500)),
            rng.choice(("AAA", "BBB")),
            key=(0, 0, place),
            known="2024-01-02T15:20:00Z",
        )
        for place, s in enumerate(times)
    ]


@pytest.mark.parametrize("rules", ["plain", "alpaca-v1"])
@pytest.mark.parametrize("seed", range(5))
def test_backfill_makes_the_bars_of_late_ticks_in_one_revision_each(seed: int, rules: str) -> None:
    all_of_them = prints(seed, 400)
    missing = [p for p in all_of_them if "15:03:20" < p.at[11:19] < "15:06:40"]
    there = [p for p in all_of_them if p not in missing]
    late, filled = engine(rules), engine(rules)
    for one in (late, filled):
        one.apply(ticks(there))
        one.advance(END, END)
    revised = late.apply(ticks(missing)).to_arrow()
    changed = filled.backfill(ticks(missing)).to_arrow()
    names = ("symbol", "timeframe", "ts_open")
    bars = [tuple(row[n] for n in names) for row in changed.to_pylist()]
    assert len(set(bars)) == len(bars) < len(revised)
    assert set(bars) == {tuple(row[n] for n in names) for row in revised.to_pylist()}
    assert set(changed["cause"].to_pylist()) == {"backfill"}
    last = {tuple(row[n] for n in names): row for row in revised.to_pylist()}
    for row in changed.to_pylist():
        was = last[tuple(row[n] for n in names)]
        fixed = {"cause": "backfill", "revision": row["revision"]}
        assert row == was | fixed
    first = {tuple(row[n] for n in names): row["revision"] for row in revised.to_pylist()[::-1]}
    assert {tuple(row[n] for n in names): row["revision"] for row in changed.to_pylist()} == first
    assert filled.counts["late"] == 0
    late.advance(END + 3600 * SECOND)
    filled.advance(END + 3600 * SECOND)
    drop = ["cause", "revision"]
    assert filled.bars().drop_columns(drop).equals(late.bars().drop_columns(drop))


def test_backfill_is_followed_by_the_next_revision() -> None:
    one = engine()
    one.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    one.advance(END, END)
    one.backfill(ticks([Print("2024-01-02T15:00:20Z", "12"), Print("2024-01-02T15:00:30Z", "11")]))
    events = one.apply(ticks([Print("2024-01-02T15:00:40Z", "13")]))
    assert life(events)[0] == ("revised", "1m", 2, "late", "10 13 10 13")


def test_backfill_into_an_open_bar_says_nothing() -> None:
    one = engine()
    one.apply(ticks([Print("2024-01-02T15:00:10Z", "10")]))
    assert life(one.backfill(ticks([Print("2024-01-02T15:00:05Z", "9")]))) == []
    confirmed = life(one.advance(OPEN + 61 * SECOND, END))
    assert confirmed == [("confirmed", "1m", 0, "first", "9 10 9 10")]


def test_backfill_needs_a_clock() -> None:
    with pytest.raises(EngineError, match="watermark was 'event'"):
        BarEngine(["1m"]).backfill(ticks([Print("2024-01-02T15:00:10Z", "10")]))
