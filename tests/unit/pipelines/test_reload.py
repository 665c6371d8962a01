"""Which rows of a file are new, known or restated, beside what the lake has."""

from decimal import Decimal
from typing import Any

import pyarrow as pa

from marketpipe.domain.schemas import CORRECTIONS, TRADES
from marketpipe.pipelines.fresh import effective, once
from marketpipe.pipelines.reload import beside, restatements

NOW = 10**18


def row(offset: int, trade_id: str | None = None, price: str = "5", **changes: Any) -> Any:
    """Return a canonical trade."""
    made: dict[str, Any] = {
        "source": "s", "feed": "", "symbol": "A", "venue": "V", "session_date": 20458,
        "ts_event": 1000, "ts_recv": None, "recorded_at": offset, "known_at": offset,
        "key_major": 0, "key_mid": 0, "key_minor": offset, "journal_id": "feed",
        "offset": offset, "schema_version": 1, "trade_id": trade_id, "price": Decimal(price),
        "size": Decimal(1), "conditions": "@", "tape": "C", "side": None, "flags": 0,
    }  # fmt: skip
    return made | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    """Return trades as a table."""
    return pa.Table.from_pylist(list(rows), schema=TRADES)


def cancels(trade: dict[str, Any]) -> pa.Table:
    """Return the vendor's cancel of a trade."""
    made = restatements(table(trade), NOW).to_pylist()[0]
    made |= {"kind": "cancel", "action": "C", "ts_event": 2000}
    return pa.Table.from_pylist([made], schema=CORRECTIONS)


NONE = CORRECTIONS.empty_table()


def counts(loaded: pa.Table, there: pa.Table, corrections: pa.Table = NONE) -> tuple[int, ...]:
    """Return how many are new, restated, known."""
    found = beside(loaded, there, corrections)
    return len(found.new), len(found.restated), found.known


def test_beside_id_is_one_with_its_venue_tape_and_date() -> None:
    there = table(row(0, "1"))
    assert counts(table(row(9, "1", key_minor=77)), there) == (0, 0, 1)
    others = ({"venue": "Q"}, {"tape": "A"}, {"session_date": 20459}, {"symbol": "B"})
    for other in others:
        assert counts(table(row(9, "1", **other)), there) == (1, 0, 0), other


def test_beside_price_size_or_conditions_restate_and_a_new_time_does_not() -> None:
    there = table(row(0, "1"))
    for other in ({"price": Decimal(6)}, {"size": Decimal(2)}, {"conditions": "I"}):
        assert counts(table(row(9, "1", **other)), there) == (0, 1, 0), other
    assert counts(table(row(9, "1", ts_event=1001)), there) == (0, 0, 1)


def test_beside_without_ids_counts_equal_prints() -> None:
    there = table(row(0), row(1))
    assert counts(table(row(7), row(8), row(9)), there) == (1, 0, 2)
    assert counts(table(row(7)), there) == (0, 0, 1)
    assert counts(table(row(7, price="6")), there) == (1, 0, 0)


def test_beside_cancelled_trade_is_known_and_stays_cancelled() -> None:
    there = table(row(0, "1"))
    gone = cancels(row(0, "1"))
    assert counts(table(row(9, "1")), there, gone) == (0, 0, 1)
    assert counts(table(row(9, "1", "6")), there, gone) == (0, 0, 1)


def test_beside_first_content_is_known_unless_a_load_restated_it() -> None:
    there = table(row(0, "1", "5"))
    loaded_later = restatements(table(row(3, "1", "6")), NOW)
    vendors = loaded_later.set_column(
        CORRECTIONS.names.index("action"), CORRECTIONS.field("action"), pa.array(["C"])
    )
    assert counts(table(row(9, "1", "5")), there, vendors) == (0, 0, 1)
    assert counts(table(row(9, "1", "5")), there, loaded_later) == (0, 1, 0)
    assert counts(table(row(9, "1", "6")), there, loaded_later) == (0, 0, 1)


def test_restatements_replace_what_a_trade_says_and_keep_its_time() -> None:
    there = table(row(0, "1", "5"))
    fixes = restatements(table(row(9, "1", "6", ts_event=5000)), NOW)
    (left,) = effective(there, fixes).to_pylist()
    assert (left["price"], left["ts_event"], left["offset"]) == (6, 1000, 0)
    assert fixes["known_at"].to_pylist() == fixes["recorded_at"].to_pylist() == [NOW]


def test_once_keeps_the_trade_that_was_received_first_of_two_journals() -> None:
    feed, loaded = row(5, "1", recorded_at=9), row(0, "1", recorded_at=3, journal_id="load")
    plain = row(6), row(1, journal_id="load")
    kept = once(table(feed, loaded, *plain)).to_pylist()
    assert sorted((r["journal_id"], r["offset"]) for r in kept) == [
        *(("feed", 6), ("load", 0), ("load", 1)),
    ]
    same = table(feed, plain[0])
    assert once(same).equals(same)
