"""One engine, one way in; and states of engines that were given tables."""

import pyarrow as pa
import pytest

from marketpipe.bars import BarEngine
from marketpipe.errors import EngineError, InputError, StateError

SECOND = 1_000_000_000


def table(*trades: tuple[str, int, float]) -> pa.Table:
    """Make a table of (symbol, second, price), size 1."""
    return pa.table(
        {
            "symbol": [t[0] for t in trades],
            "ts_ns": [t[1] * SECOND for t in trades],
            "price": [t[2] for t in trades],
            "size": [1] * len(trades),
        }
    )


def test_engine_tables_and_single_trades_do_not_mix() -> None:
    engine = BarEngine(["1m"])
    engine.apply(table(("A", 1, 1.0)))
    with pytest.raises(EngineError, match="given tables before, now single trades"):
        engine.apply_trade("A", 2 * SECOND, SECOND, SECOND)


@pytest.mark.parametrize("which", ["ts_event", "price", "size"])
def test_apply_trade_that_is_no_integer_is_refused_and_not_cut(which: str) -> None:
    values = {"ts_event": SECOND, "price": SECOND, "size": SECOND} | {which: 1.5}
    with pytest.raises(InputError, match="expected integers"):
        BarEngine(["1m"]).apply_trade("A", **values)  # type: ignore[arg-type]


def test_engine_of_tables_cannot_be_loaded_and_says_why() -> None:
    engine = BarEngine(["1m"])
    engine.apply(table(("A", 1, 1.0)))
    with pytest.raises(StateError, match="was given tables"):
        BarEngine(["1m"]).load(engine.save())


def test_merge_streams_seen_in_another_order_are_matched_by_name() -> None:
    rows = [("A", 1, 1.0), ("B", 2, 5.0), ("C", 3, 7.0), ("B", 70, 6.0), ("A", 4, 0.5)]
    whole = BarEngine(["1m", "1h"])
    whole.apply(table(*rows))
    whole.flush()
    merged = BarEngine(["1m", "1h"])
    for part in (rows[3:], rows[1:3], rows[:1]):
        engine = BarEngine(["1m", "1h"])
        engine.apply(table(*part))
        merged.merge(engine.save())
    merged.flush()
    columns = ["symbol", "timeframe", "ts_open", "open", "high", "low", "close", "volume"]
    assert merged.bars().select(columns) == whole.bars().select(columns)


def test_merge_adds_up_what_was_outside_the_session() -> None:
    first = BarEngine(["1m"], calendar="XNYS")
    first.apply(table(("A", 1_704_186_000, 1.0)))  # 2024-01-02 04:00 in New York
    second = BarEngine(["1m"], calendar="XNYS")
    second.merge(first.save())
    assert second.counts["outside_session"] == 1
