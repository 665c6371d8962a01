"""Bars computed anew beside those that are kept: what becomes of each."""

from decimal import Decimal
from typing import Any

import pyarrow as pa

from marketpipe.domain.schemas import BARS
from marketpipe.pipelines.restate import restate

NOW = 10**18
OPEN = 1_767_623_400_000_000_000


def bar(minute: int, at: str = "5", **changes: Any) -> dict[str, Any]:
    """Return a bar of one trade, known a second after it closed."""
    ts_open = OPEN + minute * 60 * 10**9
    price = Decimal(at)
    row = {
        "source": "s", "feed": "", "symbol": "A", "price_type": "trade", "rule_set": "plain",
        "session": "continuous", "timeframe": "1m", "session_date": 20458, "ts_open": ts_open,
        "ts_close": ts_open + 60 * 10**9, "open": price, "high": price, "low": price,
        "close": price, "volume": Decimal(1), "notional": price, "vwap": price, "trade_count": 1,
        "official_open": None, "official_close": None, "state": "confirmed",
        "coverage": "traded", "partial": False, "revision": 0, "cause": "first",
        "recorded_at": None, "known_at": ts_open + 61 * 10**9,
    }  # fmt: skip
    return row | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    """Return bars as a table."""
    return pa.Table.from_pylist(list(rows), schema=BARS)


def test_restate_equal_bars_make_no_revision_however_they_became_known() -> None:
    kept = table(bar(0, revision=3, cause="late", recorded_at=7, partial=True, known_at=9))
    found = restate(kept, table(bar(0)))
    assert not found
    assert found.equal == 1
    assert len(found.revisions("rebuild", NOW)) == 0


def test_restate_bar_that_is_not_kept_is_its_first_revision_known_as_computed() -> None:
    (made,) = restate(BARS.empty_table(), table(bar(0))).revisions("backfill", NOW).to_pylist()
    assert (made["revision"], made["cause"]) == (0, "first")
    assert (made["known_at"], made["recorded_at"]) == (bar(0)["known_at"], NOW)


def test_restate_other_content_is_the_next_revision_known_from_then_on() -> None:
    kept = table(bar(0, revision=2, partial=True), bar(1))
    found = restate(kept, table(bar(0, "6"), bar(1)))
    (made,) = found.revisions("backfill", NOW * 2).to_pylist()
    assert (made["revision"], made["cause"], made["close"]) == (3, "backfill", 6)
    assert made["known_at"] == made["recorded_at"] == NOW * 2
    assert made["partial"]  # the feed was away then, whatever a file says now
    assert {d.field for d in found.differences} == {
        *("open", "high", "low", "close", "notional", "vwap"),
    }
    assert found.differences[0][:3] == ("A", "1m", OPEN)


def test_restate_kept_bar_without_a_trade_becomes_void_once() -> None:
    found = restate(table(bar(0)), BARS.empty_table())
    (made,) = found.revisions("rebuild", NOW * 2).to_pylist()
    assert (made["revision"], made["coverage"], made["trade_count"]) == (1, "void", 0)
    assert made["open"] is made["volume"] is made["vwap"] is None
    assert not restate(table(made), BARS.empty_table())


def test_restate_void_bar_that_has_a_trade_again_goes_on_counting() -> None:
    void = bar(0, revision=1, coverage="void", open=None, high=None, low=None, close=None)
    found = restate(table(void), table(bar(0)))
    assert (len(found.absent), len(found.changed)) == (1, 0)
    (made,) = found.revisions("backfill", NOW * 2).to_pylist()
    assert (made["revision"], made["cause"], made["coverage"]) == (2, "backfill", "traded")
    assert made["known_at"] == NOW * 2


def test_restate_revisions_come_in_the_order_in_which_bars_end() -> None:
    fresh = table(bar(2), bar(0), bar(1))
    made = restate(BARS.empty_table(), fresh).revisions("backfill", NOW)
    assert made["ts_open"].to_pylist() == sorted(fresh["ts_open"].to_pylist())
