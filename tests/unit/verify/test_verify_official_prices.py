"""Official prices of day bars, worked out by hand: of the engine's and of SQL's, from messages."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from livekit import (
    OPEN_NS,
    Message,
    cancel,
    correction,
    derivation,
    derive_settings,
    framed,
    numbered,
    trade,
)
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.confirm import segments_of
from marketpipe.verify import first_difference, recompute
from marketpipe.verify.rawmessages import bars_of_messages

CLOSE_NS = OPEN_NS + 23_400 * NANOS
TIMEFRAMES = ["1m", "1h", "1d", "1w"]


def tagged(
    number: int, ts_ns: int, price: str, conditions: str, *, venue: str = "Q", tape: str = "C"
) -> Message:
    words = ["@", *conditions.split()]
    return {**trade(number, ts_ns, price, venue=venue), "c": words, "z": tape}


FIRST = tagged(1, OPEN_NS + NANOS, "10", "")
OPENING = tagged(2, OPEN_NS + 2 * NANOS, "11", "Q")
REOPENING = tagged(3, OPEN_NS + 9 * NANOS, "12", "Q")
LAST = tagged(5, CLOSE_NS - NANOS, "13", "")
EARLY = tagged(6, CLOSE_NS - NANOS // 2, "14", "M")
AUCTION = tagged(7, CLOSE_NS + NANOS, "15", "6")
CLOSING = tagged(8, CLOSE_NS + 2 * NANOS, "16", "M")
AGAIN = tagged(9, CLOSE_NS + 300 * NANOS, "17", "M")
TOO_LATE = tagged(10, CLOSE_NS + 600 * NANOS, "18", "M")
BOTH = tagged(11, CLOSE_NS + 3 * NANOS, "19", "6 M")
ELSEWHERE = tagged(12, OPEN_NS + 1, "20", "Q M", venue="V")
UNPLACED = tagged(13, OPEN_NS + 3 * NANOS, "21", "Q", venue="", tape="")
LISTED = tagged(14, OPEN_NS + 4 * NANOS, "22", "Q M", venue="N", tape="A")
AT_ONCE = tagged(15, CLOSE_NS + 4 * NANOS, "23", "Q M")
WHEN = CLOSE_NS + 700 * NANOS

Day = tuple[str, str, str, str, int, "str | None", "str | None"]


class Case(NamedTuple):
    """Messages, and the day bar: open, high, low, close, count, official open and close.

    On the sessions of XNYS as under plain where not said; under alpaca-v1 as on those.
    """

    name: str
    messages: Sequence[Message]
    plain: Day
    xnys: Day | None = None
    alpaca: Day | None = None

    def on(self, grid: str) -> Day:
        """Return the day bar on a grid."""
        sessions = self.xnys or self.plain
        return {"plain": self.plain, "xnys": sessions, "alpaca": self.alpaca or sessions}[grid]


NONE = (None, None)
CASES = [
    Case("none", [FIRST, LAST], ("10", "13", "10", "13", 2, *NONE)),
    Case(
        "open", [FIRST, OPENING, LAST],
        ("10", "13", "10", "13", 3, "11", None), None, ("10", "13", "10", "13", 2, "11", None),
    ),
    Case(
        "first of two opens", [FIRST, REOPENING, OPENING, LAST],
        ("10", "13", "10", "13", 4, "11", None), None, ("10", "13", "10", "13", 2, "11", None),
    ),
    Case(
        "close within the session", [FIRST, EARLY],
        ("10", "14", "10", "14", 2, None, "14"), None, ("10", "10", "10", "10", 1, None, "14"),
    ),
    Case(
        "close after the session", [FIRST, AUCTION, CLOSING],
        ("10", "16", "10", "16", 3, None, "16"), ("10", "15", "10", "15", 2, None, "16"),
        ("10", "15", "10", "15", 2, None, "16"),
    ),
    Case(
        "last of two closes", [AGAIN, FIRST, CLOSING],
        ("10", "17", "10", "17", 3, None, "17"), ("10", "10", "10", "10", 1, None, "17"),
        ("10", "10", "10", "10", 1, None, "17"),
    ),
    Case(
        "close after the auction's minutes", [FIRST, TOO_LATE],
        ("10", "18", "10", "18", 2, None, "18"), ("10", "10", "10", "10", 1, *NONE),
        ("10", "10", "10", "10", 1, None, "18"),
    ),
    Case(
        "a trade of the auction that is the close", [FIRST, BOTH],
        ("10", "19", "10", "19", 2, None, "19"), None, ("10", "10", "10", "10", 1, None, "19"),
    ),
    Case(
        "open and close at once after the session", [FIRST, AT_ONCE],
        ("10", "23", "10", "23", 2, "23", "23"), ("10", "10", "10", "10", 1, None, "23"),
        ("10", "10", "10", "10", 1, "23", "23"),
    ),
    Case(
        "not of the primary venue", [FIRST, ELSEWHERE],
        ("20", "20", "10", "10", 2, *NONE), None, ("10", "10", "10", "10", 1, *NONE),
    ),
    Case(
        "of no known venue and tape", [FIRST, UNPLACED],
        ("10", "21", "10", "21", 2, "21", None), None, ("10", "10", "10", "10", 1, "21", None),
    ),
    Case(
        "of another tape's venue", [FIRST, LISTED],
        ("10", "22", "10", "22", 2, "22", "22"), None, ("10", "10", "10", "10", 1, "22", "22"),
    ),
    Case(
        "open cancelled", [FIRST, OPENING, LAST, cancel(OPENING, WHEN)],
        ("10", "13", "10", "13", 2, *NONE),
    ),
    Case(
        "first open cancelled", [FIRST, OPENING, REOPENING, cancel(OPENING, WHEN)],
        ("10", "12", "10", "12", 2, "12", None), None, ("10", "10", "10", "10", 1, "12", None),
    ),
    Case(
        "close cancelled before it came", [FIRST, cancel(CLOSING, WHEN), AGAIN, CLOSING],
        ("10", "17", "10", "17", 2, None, "17"), ("10", "10", "10", "10", 1, None, "17"),
        ("10", "10", "10", "10", 1, None, "17"),
    ),
    Case(
        "open corrected", [FIRST, OPENING, correction(OPENING, WHEN, new_id=50, price="9")],
        ("10", "10", "9", "9", 2, "9", None), None, ("10", "10", "10", "10", 1, "9", None),
    ),
    Case(
        "close corrected twice",
        [
            FIRST, CLOSING, correction(CLOSING, WHEN, new_id=50, price="9"),
            correction({**CLOSING, "i": 50}, WHEN + 1, new_id=51, price="9.5"),
        ],
        ("10", "10", "9.5", "9.5", 2, None, "9.5"), ("10", "10", "10", "10", 1, None, "9.5"),
        ("10", "10", "10", "10", 1, None, "9.5"),
    ),
    Case(
        "open made a common trade",
        [FIRST, OPENING, {**correction(OPENING, WHEN, new_id=50, price="11"), "cc": ["@"]}],
        ("10", "11", "10", "11", 2, *NONE),
    ),
    Case(
        "a common trade made the open",
        [FIRST, LAST, {**correction(FIRST, WHEN, new_id=50, price="10.5"), "cc": ["@", "Q"]}],
        ("10.5", "13", "10.5", "13", 2, "10.5", None), None,
        ("13", "13", "13", "13", 1, "10.5", None),
    ),
]  # fmt: skip


def fed(messages: Sequence[Message], *, late: bool) -> list[tuple[int, Message | None]]:
    """Deliver all messages within two minutes of the last, or after the bars were confirmed."""
    at = CLOSE_NS + (2 * DAY_NS if late else 800 * NANOS)
    first = [(OPEN_NS + 5 * NANOS, FIRST), (at - 9 * NANOS, None)]
    rest = [(at + n * NANOS, m) for n, m in enumerate(messages) if m is not FIRST]
    return [*first, *rest, (CLOSE_NS + 9 * DAY_NS, None)]


@pytest.mark.parametrize("late", [False, True], ids=["timely", "late"])
@pytest.mark.parametrize("grid", ["plain", "xnys", "alpaca"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_official_prices_of_engine_and_sql_are_as_by_hand(
    case: Case, grid: str, late: bool
) -> None:
    calendar = {"calendar": "XNYS", "session": "regular"} if grid == "xnys" else {}
    rules = RuleSet.load("alpaca-v1" if grid == "alpaca" else "plain")
    settings = replace(derive_settings(",".join(TIMEFRAMES), **calendar), rule_set=rules)
    made = derivation(settings)
    rows = numbered(framed(fed(case.messages, late=late)))
    live = made.apply(rows).bars
    watermark_ns = CLOSE_NS + 8 * DAY_NS
    table = made.engines["trade"].grid.table if grid == "xnys" else None
    batch = bars_of_messages(
        rows,
        TIMEFRAMES,
        watermark_ns=watermark_ns,
        rules=settings.rule_set.name,
        session=made.engines["trade"].session,
        segments=None if table is None else segments_of(table),
        id_dates="utc" if grid == "plain" else "new_york",
    )
    assert first_difference(live, batch, watermark_ns) is None
    names = ("open", "high", "low", "close", "trade_count", "official_open", "official_close")
    (day,) = [bar for bar in batch.to_pylist() if bar["timeframe"] == "1d"]
    wanted = case.on(grid)
    assert [day[name] for name in names] == [
        Decimal(value) if isinstance(value, str) else value for value in wanted
    ]
    others = [bar for bar in batch.to_pylist() if bar["timeframe"] in ("1m", "1h")]
    assert others
    assert {(bar["official_open"], bar["official_close"]) for bar in others} == {NONE}


def test_official_prices_of_a_week_are_its_first_open_and_last_close_where_ticks_build_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ticks.csv"
    lines = ["symbol,ts_ns,price,size,venue,tape,conditions"]
    for day in range(3):
        at = OPEN_NS + day * DAY_NS
        lines += [
            f"AAPL,{at},1{day},1,Q,C,@",
            f"AAPL,{at + 1},2{day},1,Q,C,@ Q",
            f"AAPL,{at + 2},3{day},1,Q,C,@ M",
        ]
    path.write_text("\n".join(lines))
    for rules, week in (("plain", (20, 32)), ("alpaca-v1", (None, None))):
        bars = recompute(path, ["1d", "1w"], rules=rules).bars.to_pylist()
        found = [(bar["official_open"], bar["official_close"]) for bar in bars]
        assert found == [(20, 30), (21, 31), (22, 32), week]
