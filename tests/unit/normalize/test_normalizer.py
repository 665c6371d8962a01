"""`TickNormalizer`: what becomes of each kind of row."""

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from marketpipe.domain.batches import (
    I64,
    BadRow,
    Dictionaries,
    QuoteBatch,
    StreamKey,
    TradeBatch,
)
from marketpipe.domain.findings import Example
from marketpipe.domain.ticks import CLOSING_AUCTION, PLAIN, VOLUME
from marketpipe.domain.units import DAY_NS, MAX_NANOS, NULL_I64
from marketpipe.errors import StateError, UsageError
from marketpipe.normalize import (
    RuleSet,
    Scope,
    SessionIds,
    TickNormalizer,
    content_fingerprint,
    venue_code,
)

RULES = RuleSet.load("plain")
ALPACA = RuleSet.load("alpaca-v1")
AAPL = StreamKey("alpaca", "sip", "AAPL")
I64_MIN, I64_MAX = -(2**63), 2**63 - 1


def i64(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def i32(values: list[int]) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def trades(price: list[int], **columns: Any) -> TradeBatch:
    n = len(price)
    given: dict[str, Any] = {
        "dictionaries": Dictionaries(streams=(AAPL,)),
        "stream": i32([0] * n),
        "row": i64(list(range(2, n + 2))),
        "ts_event": i64([10] * n),
        "size": i64([1] * n),
    }
    return TradeBatch(**{**given, "price": i64(price), **columns})


def quotes(bid: list[int], ask: list[int], **columns: Any) -> QuoteBatch:
    n = len(bid)
    given: dict[str, Any] = {
        "dictionaries": Dictionaries(streams=(AAPL,)),
        "stream": i32([0] * n),
        "row": i64(list(range(2, n + 2))),
        "ts_event": i64([10] * n),
    }
    return QuoteBatch(**{**given, "bid": i64(bid), "ask": i64(ask), **columns})


def test_two_identical_prints_without_ids_are_both_kept() -> None:
    result = TickNormalizer(rule_set=RULES).apply(trades([5, 5]))
    assert len(result.ticks) == 2
    assert not result.findings
    assert result.ticks.key_minor.tolist() == [2, 3]
    absent = trades([5, 5], id_hi=i64([-1, -1]), id_lo=i64([0, 0]))
    assert len(TickNormalizer(rule_set=RULES).apply(absent).ticks) == 2


def test_repeat_same_content_is_duplicate_other_content_conflicts_with_both_rows() -> None:
    batch = trades([5, 5, 6], id_hi=i64([0, 0, 0]), id_lo=i64([9, 9, 9]))
    result = TickNormalizer(rule_set=RULES).apply(batch)
    assert result.ticks.price.tolist() == [5]
    assert result.findings.counts == {"conflicting_duplicate": 1, "duplicate": 1}
    assert result.findings.examples("conflicting_duplicate") == (
        Example(4, "trade_id", "first in row 2; here ts_ns=10 price=0.000000006 size=0.000000001"),
    )
    assert result.findings.examples("duplicate")[0].row == 3


class SomeFetched:
    """Says of given rows that they were fetched."""

    reach = 100

    def __init__(self, *rows: int) -> None:
        self.rows = rows

    def among(self, rows: I64) -> npt.NDArray[np.bool_]:
        return np.isin(rows, self.rows)


@pytest.mark.parametrize(
    ("fetched", "reach", "refetched"),
    [
        ((), 100, []),
        ((3,), 100, [3]),  # the second was fetched: it repeats what was streamed
        ((2,), 100, [3, 5]),  # the first was: the stream was slower
        ((2,), 1, [3]),  # too long ago
        ((2, 3, 4, 5), 100, [3, 5]),
    ],
)
def test_repeat_is_refetched_where_one_of_the_two_was_fetched(
    fetched: tuple[int, ...], reach: int, refetched: list[int]
) -> None:
    # rows 2 to 5; row 4 has the same id and other content
    batch = trades([5, 5, 6, 5], id_hi=i64([0, 0, 0, 0]), id_lo=i64([9, 9, 9, 9]))
    told = SomeFetched(*fetched)
    told.reach = reach
    found = TickNormalizer(rule_set=RULES).apply(batch, told).findings
    assert [example.row for example in found.examples("refetched")] == refetched
    rest = [row for row in (3, 5) if row not in refetched]
    assert [example.row for example in found.examples("duplicate")] == rest
    assert found.count("conflicting_duplicate") == 1


def test_id_used_again_next_day_is_admitted_and_the_date_is_the_callers() -> None:
    batch = trades([5, 5], ts_event=i64([DAY_NS - 1, DAY_NS]), id_hi=i64([0, 0]), id_lo=i64([9, 9]))
    assert len(TickNormalizer(rule_set=RULES).apply(batch).ticks) == 2
    one_day = TickNormalizer(rule_set=RULES, session_dates=lambda ts: np.zeros(len(ts), np.int32))
    assert one_day.apply(batch).findings.counts == {"conflicting_duplicate": 1}


def test_same_id_on_other_venue_tape_or_stream_is_admitted() -> None:
    names = Dictionaries(
        streams=(AAPL, AAPL._replace(symbol="AMD")), venues=("", "N", "Q"), tapes=("", "A", "C")
    )
    batch = trades(
        [5, 5, 5, 5, 5], dictionaries=names, stream=i32([0, 0, 0, 1, 0]),
        venue=i32([1, 2, 1, 1, 1]), tape=i32([1, 1, 2, 1, 1]),
        id_hi=i64([0] * 5), id_lo=i64([9] * 5),
    )  # fmt: skip
    result = TickNormalizer(rule_set=RULES).apply(batch)
    assert len(result.ticks) == 4
    assert result.findings.counts == {"duplicate": 1}


def test_identity_survives_dictionaries_in_another_order() -> None:
    ids = {"id_hi": i64([0]), "id_lo": i64([9]), "venue": i32([1])}
    normalizer = TickNormalizer(rule_set=RULES)
    first = Dictionaries(streams=(AAPL,), venues=("", "N", "Q"))
    other = Dictionaries(streams=(AAPL,), venues=("", "Q", "N"))
    assert len(normalizer.apply(trades([5], dictionaries=first, **ids)).ticks) == 1
    assert len(normalizer.apply(trades([5], dictionaries=other, **ids)).ticks) == 1
    assert len(normalizer.apply(trades([5], dictionaries=first, **ids)).ticks) == 0


def test_dedup_off_admits_repeats_and_keeps_nothing() -> None:
    normalizer = TickNormalizer(rule_set=RULES, dedup=False)
    batch = trades([5, 5], id_hi=i64([0, 0]), id_lo=i64([9, 9]))
    assert len(normalizer.apply(batch).ticks) == 2
    assert normalizer.held_dates == ()
    assert normalizer.sealed_dates_of(batch) == ()


def test_refused_trade_does_not_take_its_identity_along() -> None:
    batch = trades([0, 5], id_hi=i64([0, 0]), id_lo=i64([9, 9]))
    result = TickNormalizer(rule_set=RULES).apply(batch)
    assert result.ticks.price.tolist() == [5]
    assert result.findings.counts == {"non_positive_price": 1}


def test_bad_values_go_to_quarantine_beside_the_sources_and_size_zero_stays() -> None:
    bad = BadRow(1, "below_resolution", "price", b"1.0000000001", 12)
    batch = trades([-5, 5, 5], size=i64([1, -1, 0]), bad=(bad,))
    result = TickNormalizer(rule_set=RULES).apply(batch)
    assert result.ticks.size.tolist() == [0]
    assert result.ticks.flags.tolist() == [PLAIN]
    assert [(q.row, q.reason, q.field) for q in result.quarantined] == [
        (1, "below_resolution", "price"),
        (2, "non_positive_price", "price"),
        (3, "negative_size", "size"),
    ]
    assert result.quarantined[1].raw == (
        b"symbol=AAPL ts_ns=10 price=-0.000000005 size=0.000000001"
    )
    assert result.findings.counts == {
        "below_resolution": 1, "negative_size": 1, "non_positive_price": 1,
    }  # fmt: skip
    assert result.findings.examples("below_resolution") == (Example(1, "price", "1.0000000001"),)


def test_order_key_numeric_id_text_id_and_none() -> None:
    names = Dictionaries(streams=(AAPL,), venues=("", "Q"))
    batch = trades(
        [5, 5, 5, 5], dictionaries=names, venue=i32([1, 0, 1, 1]),
        id_hi=i64([0, 0, 77, -1]), id_lo=i64([42, 43, 44, 0]),
    )  # fmt: skip
    ticks = TickNormalizer(rule_set=RULES).apply(batch).ticks
    keys = zip(
        ticks.key_major.tolist(), ticks.key_mid.tolist(), ticks.key_minor.tolist(), strict=True
    )
    assert list(keys) == [(2**62 + 0x51, 42, 0), (2**62, 43, 0), (0, 0, 4), (0, 0, 5)]


def test_venue_code_is_packed_ascii_or_marked_hash() -> None:
    assert venue_code("") == 0
    assert venue_code("XNAS") == 0x584E4153
    assert venue_code("ABCDEFG") == 0x41424344454647
    hashed = [venue_code(v) for v in ("ABCDEFGH", "é", "A\0", "COINBASE")]
    assert all(2**56 <= code < 2**57 for code in hashed)
    assert len(set(hashed)) == 4


def test_known_at_is_the_receipt_time_where_present() -> None:
    ticks = TickNormalizer(rule_set=RULES).apply(trades([5, 5], ts_recv=i64([99, NULL_I64]))).ticks
    assert ticks.known_at.tolist() == [99, NULL_I64]
    assert TickNormalizer(rule_set=RULES).apply(trades([5])).ticks.known_at.tolist() == [NULL_I64]


def test_conditions_rule_flags_by_row_and_are_counted() -> None:
    names = Dictionaries(
        streams=(AAPL,), venues=("", "Q", "D"), conditions=("", "@ I", "6", "S", "B"),
        tapes=("", "C"),
    )  # fmt: skip
    batch = trades(
        [5] * 6, dictionaries=names, conditions=i32([0, 1, 2, 2, 3, 4]),
        venue=i32([1, 1, 1, 2, 1, 1]), tape=i32([1, 1, 1, 1, 1, 0]),
    )  # fmt: skip
    normalizer = TickNormalizer(rule_set=ALPACA)
    volume_only = VOLUME | VOLUME << 8
    for _ in range(2):  # computed, then looked up
        result = normalizer.apply(batch)
        assert result.ticks.flags.tolist() == [
            PLAIN, volume_only, PLAIN | CLOSING_AUCTION, PLAIN, 0, volume_only,
        ]  # fmt: skip
        assert result.findings.counts == {"missing_tape": 1, "unknown_condition": 1}
        assert result.findings.examples("unknown_condition") == (
            Example(6, "conditions", "'S' of 'S' on tape 'C'"),
        )


def test_unknown_condition_of_a_row_left_out_is_not_counted() -> None:
    names = Dictionaries(streams=(AAPL,), conditions=("", "S"))
    batch = trades([0, 5], dictionaries=names, conditions=i32([1, 0]))
    assert TickNormalizer(rule_set=ALPACA).apply(batch).findings.counts == {"non_positive_price": 1}


def test_trades_without_ids_and_conditions_are_views() -> None:
    batch = trades([5, 6])
    ticks = TickNormalizer(rule_set=RULES).apply(batch).ticks
    assert ticks.price is batch.price
    assert ticks.key_minor is batch.row


def test_mid_leaves_out_one_sided_and_crossed_and_keeps_locked() -> None:
    batch = quotes([10, NULL_I64, 10, 0, 12, 11], [12, 12, NULL_I64, 12, 11, 11])
    result = TickNormalizer(rule_set=RULES, price_type="mid").apply(batch)
    assert result.ticks.price.tolist() == [22, 22]
    assert result.ticks.size.tolist() == [0, 0]
    assert result.ticks.flags.tolist() == [PLAIN, PLAIN]
    assert result.ticks.key_minor.tolist() == [2, 7]
    assert result.findings.counts == {"crossed_quote": 1, "locked_quote": 1, "one_sided_quote": 3}
    assert result.findings.examples("crossed_quote")[0].row == 6


@pytest.mark.parametrize(("side", "kept"), [("bid", [10, 12]), ("ask", [11, 12])])
def test_one_side_needs_only_itself(side: str, kept: list[int]) -> None:
    batch = quotes([10, NULL_I64, 12], [NULL_I64, 11, 12])
    result = TickNormalizer(rule_set=RULES, price_type=side).apply(batch)
    assert sorted(result.ticks.price.tolist()) == kept
    assert result.findings.counts == {"one_sided_quote": 1}


def test_mid_of_the_largest_prices_is_exact() -> None:
    result = TickNormalizer(rule_set=RULES, price_type="mid").apply(
        quotes([MAX_NANOS], [MAX_NANOS])
    )
    assert result.ticks.price.tolist() == [2 * MAX_NANOS]


def test_wrong_price_type_or_batch_error_says_what_is_valid() -> None:
    with pytest.raises(UsageError, match="was 'last'; valid are trade, bid, ask, mid"):
        TickNormalizer(rule_set=RULES, price_type="last")
    with pytest.raises(UsageError, match="was 'mid' and the batch holds trades; choose trade"):
        TickNormalizer(rule_set=RULES, price_type="mid").apply(trades([5]))
    with pytest.raises(UsageError, match="holds quotes; choose bid, ask or mid"):
        TickNormalizer(rule_set=RULES).apply(quotes([5], [6]))


def test_sealed_session_refuses_trades_until_unsealed_and_changes_nothing() -> None:
    normalizer = TickNormalizer(rule_set=RULES)
    batch = trades([5], id_hi=i64([0]), id_lo=i64([9]))
    normalizer.apply(batch)
    sealed = normalizer.seal(1)
    assert normalizer.sealed_dates_of(batch) == (0,)
    before = normalizer.save()
    with pytest.raises(StateError, match=r"unseal\(\) first"):
        normalizer.apply(batch)
    assert normalizer.save().keys() == before.keys()
    assert len(normalizer.apply(trades([5])).ticks) == 1  # no id: needs no session
    normalizer.unseal(sealed)
    assert normalizer.apply(batch).findings.counts == {"duplicate": 1}


def test_ids_read_back_from_a_table_stand_for_a_sealed_session() -> None:
    batch = trades([5], id_hi=i64([0]), id_lo=i64([9]))
    normalizer = TickNormalizer(rule_set=RULES)
    normalizer.apply(batch)
    (sealed,) = normalizer.seal(1)
    rebuilt = SessionIds(
        date=0, scopes=(Scope(AAPL, "", ""),), scope=i32([0]), id_hi=i64([0]), id_lo=i64([9]),
        content=content_fingerprint(i64([10]), i64([5]), i64([1])), row=i64([2]),
    )  # fmt: skip
    assert rebuilt == sealed
    assert rebuilt != "something else"
    assert hash(rebuilt) == hash(sealed)


def test_load_under_another_rule_set_or_of_foreign_state_error() -> None:
    normalizer = TickNormalizer(rule_set=RULES)
    normalizer.apply(trades([5], id_hi=i64([0]), id_lo=i64([9])))
    state = normalizer.save()
    with pytest.raises(StateError, match=r"was 'alpaca-v1' .* saved\s+under 'plain'"):
        TickNormalizer.load(state, rule_set=ALPACA)
    with pytest.raises(StateError, match="no readable header"):
        TickNormalizer.load({}, rule_set=RULES)
    with pytest.raises(StateError, match="no readable header"):
        TickNormalizer.load({"header": np.zeros(3, np.uint8)}, rule_set=RULES)
    later = state["header"].tobytes().replace(b'"version":1', b'"version":2')
    with pytest.raises(StateError, match="version 2; valid is"):
        TickNormalizer.load({"header": np.frombuffer(later, np.uint8)}, rule_set=RULES)
    del state["0.row"]
    with pytest.raises(StateError, match="lacks row of session date 0"):
        TickNormalizer.load(state, rule_set=RULES)


def test_empty_batch_gives_empty_ticks() -> None:
    result = TickNormalizer(rule_set=ALPACA).apply(trades([], id_hi=i64([]), id_lo=i64([])))
    assert {f.name: len(getattr(result.ticks, f.name)) for f in fields(result.ticks)} == {
        f.name: 1 if f.name == "streams" else 0 for f in fields(result.ticks)
    }
    for price_type in ("bid", "mid"):
        empty = TickNormalizer(rule_set=RULES, price_type=price_type).apply(quotes([], []))
        assert len(empty.ticks) == 0


def test_id_halves_must_come_together() -> None:
    with pytest.raises(StateError, match="both or neither"):
        TickNormalizer(rule_set=RULES).apply(trades([5], id_hi=i64([0])))
