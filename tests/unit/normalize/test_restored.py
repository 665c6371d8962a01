"""Canonical tables and back: what is stored of ticks is all that the engine needs of them."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from livekit import FAULTY, OPEN_NS, derive_settings, derived, framed, numbered, records, trade
from marketpipe.domain.batches import Batch, StreamKey
from marketpipe.domain.ticks import Ticks
from marketpipe.domain.units import NANOS, NULL_I64, format_ns
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.normalize.canonical import Knowledge, canonical_ticks
from marketpipe.normalize.identity import utc_dates
from marketpipe.normalize.restored import chosen, distinct_rows, stored_ticks
from marketpipe.sources.alpaca import AlpacaParser

QUOTES = [(10, 11), (12, 11), (11, 11), (0, 11)]


def quote_records() -> pa.Table:
    """Four quotes: usual, crossed, locked, one-sided."""
    feed: list[tuple[int, dict[str, Any] | None]] = [
        (
            OPEN_NS + n,
            {
                "T": "q", "S": "AAPL", "bx": "V", "bp": bid, "bs": 1, "ax": "Q", "ap": ask,
                "as": 2, "c": ["R"], "z": "A", "t": format_ns(OPEN_NS + n),
            },
        )
        for n, (bid, ask) in enumerate(QUOTES)
    ]  # fmt: skip
    return numbered(framed(feed))


def batch_of(rows: pa.Table) -> Batch:
    """Parse records of one kind of tick."""
    parsed = AlpacaParser().parse(rows.combine_chunks().to_batches()[0])
    batch = parsed.trades if parsed.trades is not None else parsed.quotes
    assert batch is not None
    return batch


def stored_again(batch: Batch, price_type: str, rules: RuleSet) -> tuple[Ticks, Ticks]:
    """Return the normalizer's ticks, and those that canonical rows give."""
    done = TickNormalizer(rule_set=rules, price_type=price_type).apply(batch)
    known = np.arange(len(batch), dtype=np.int64)
    table = canonical_ticks(
        batch,
        done.admitted if price_type == "trade" else None,
        journal_id="alpaca",
        dates=utc_dates,
        knowledge=Knowledge(
            recorded_at=known, known_at=known, backfilled=np.zeros(len(batch), np.bool_)
        ),
    )
    return done.ticks, stored_ticks(table, rules, price_type, batch.dictionaries.streams)


def assert_same(first: Ticks, second: Ticks) -> None:
    assert first.streams == second.streams
    for name in (field.name for field in fields(Ticks)):
        if name not in ("streams", "known_at"):
            assert getattr(first, name).tolist() == getattr(second, name).tolist(), name


@pytest.mark.parametrize("rules", ["plain", "alpaca-v1"])
def test_stored_trades_are_the_ticks_that_were_admitted(rules: str) -> None:
    spec = replace(FAULTY, trades=500, minutes=2, bad=0.02, corrections=0.0, cancels=0.0)
    given, again = stored_again(batch_of(numbered(records(spec))), "trade", RuleSet.load(rules))
    assert len(given) == 500
    assert_same(given, again)


@pytest.mark.parametrize("price_type", ["bid", "ask", "mid"])
def test_stored_quotes_give_the_ticks_of_each_price_type(price_type: str) -> None:
    given, again = stored_again(batch_of(quote_records()), price_type, RuleSet.load("plain"))
    assert len(given) == {"bid": 3, "ask": 4, "mid": 2}[price_type]
    assert_same(given, again)


def test_stored_ticks_number_streams_that_are_new_after_those_given() -> None:
    prints = [trade(1, OPEN_NS, "1", symbol="MSFT"), trade(2, OPEN_NS, "2", symbol="AAPL")]
    feed = [*((OPEN_NS, message) for message in prints), (OPEN_NS + NANOS, None)]
    table = derived(derive_settings(), numbered(framed(feed))).tables["trades"]
    known = StreamKey("alpaca", "sip", "AAPL")
    ticks = stored_ticks(table, RuleSet.load("plain"), streams=(known,))
    assert [stream.symbol for stream in ticks.streams] == ["AAPL", "MSFT"]
    assert ticks.stream.tolist() == [1, 0]


def test_stored_ticks_of_no_rows_are_none() -> None:
    table = derived(
        derive_settings(),
        numbered(framed([(OPEN_NS, trade(1, OPEN_NS, "1")), (OPEN_NS + NANOS, None)])),
    ).tables["trades"]
    ticks = stored_ticks(table.slice(0, 0), RuleSet.load("plain"))
    assert (len(ticks), ticks.streams) == (0, ())


def test_canonical_trade_without_an_id_has_a_null_one_and_an_order_of_arrival() -> None:
    nameless = trade(1, OPEN_NS, "1")
    del nameless["i"]
    rows = numbered(framed([(OPEN_NS, nameless), (OPEN_NS + NANOS, None)]))
    table = derived(derive_settings(), rows).tables["trades"]
    assert table["trade_id"].to_pylist() == [None]
    assert table["key_major"].to_pylist() == [OPEN_NS - NANOS]  # when the connection was made
    assert table["ts_recv"].to_pylist() == [OPEN_NS]


def test_distinct_rows_number_combinations_by_first_appearance() -> None:
    table = pa.table({"a": ["x", "y", "x", None], "b": ["1", "1", "1", "2"]})
    codes, names = distinct_rows(table, ("a", "b"))
    assert codes.tolist() == [0, 1, 0, 2]
    assert names == [("x", "1"), ("y", "1"), ("", "2")]


def test_chosen_takes_masks_slices_and_places() -> None:
    prints = [(OPEN_NS, trade(n, OPEN_NS, str(n))) for n in (1, 2, 3)]
    rows = numbered(framed([*prints, (OPEN_NS + NANOS, None)]))
    table = derived(derive_settings(), rows).tables["trades"]
    ticks = stored_ticks(table, RuleSet.load("plain"))
    for rows_wanted in (np.array([True, False, True]), slice(0, 3, 2), [0, 2]):
        assert chosen(ticks, rows_wanted).price.tolist() == [NANOS, 3 * NANOS]
    assert NULL_I64 not in ticks.known_at
