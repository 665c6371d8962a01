"""No integer, however extreme, makes the normalizer lose a row, wrap or raise."""

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from marketpipe.domain.batches import Dictionaries, QuoteBatch, StreamKey, TradeBatch
from marketpipe.domain.units import LAST_TICK_NS, MAX_NANOS, NULL_I64
from marketpipe.normalize import RuleSet, TickNormalizer

NAMES = Dictionaries(
    streams=(StreamKey("s", "f", "AAA"),),
    venues=("", "N", "a longer name"),
    conditions=("", "@ I", "B", "??", "6 M Q"),
    tapes=("", "A", "C", "?"),
)
RULES = {name: RuleSet.load(name) for name in RuleSet.names()}
WHOLE = st.one_of(
    st.sampled_from([NULL_I64, NULL_I64 + 1, -MAX_NANOS - 1, -MAX_NANOS, -1, 0, 1, MAX_NANOS,
                     MAX_NANOS + 1, 2**62, 2**63 - 1]),
    st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip


def column(rows: list[tuple[int, ...]], index: int, low: int = NULL_I64) -> npt.NDArray[np.int64]:
    return np.array([max(row[index], low) for row in rows], np.int64)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, st.integers(0, 2), st.integers(0, 4),
                  st.integers(0, 3)),
        max_size=12,
    ),
    rules=st.sampled_from(sorted(RULES)),
)  # fmt: skip
def test_normalizer_extreme_trades_every_row_is_accounted_for(
    rows: list[tuple[int, ...]], rules: str
) -> None:
    batch = TradeBatch(
        dictionaries=NAMES,
        stream=np.zeros(len(rows), np.int32),
        row=np.arange(len(rows), dtype=np.int64) + 1,
        ts_event=column(rows, 0),
        price=column(rows, 1),
        size=column(rows, 2),
        id_hi=column(rows, 3, low=-1),
        id_lo=column(rows, 4),
        venue=column(rows, 5).astype(np.int32),
        conditions=column(rows, 6).astype(np.int32),
        tape=column(rows, 7).astype(np.int32),
    )
    result = TickNormalizer(rule_set=RULES[rules]).apply(batch)
    good = [
        0 <= ts <= LAST_TICK_NS and 0 < price <= MAX_NANOS and 0 <= size <= MAX_NANOS
        for ts, price, size, *_ in rows
    ]
    repeated = sum(result.findings.count(c) for c in ("duplicate", "conflicting_duplicate"))
    assert len(result.ticks) + repeated == sum(good)
    assert [q.row for q in result.quarantined] == [i + 1 for i, ok in enumerate(good) if not ok]
    assert all(len(q.raw) == q.raw_bytes for q in result.quarantined)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(WHOLE, WHOLE, WHOLE), max_size=12),
    price_type=st.sampled_from(["bid", "ask", "mid"]),
)
def test_normalizer_extreme_quotes_every_row_is_accounted_for(
    rows: list[tuple[int, ...]], price_type: str
) -> None:
    batch = QuoteBatch(
        dictionaries=NAMES,
        stream=np.zeros(len(rows), np.int32),
        row=np.arange(len(rows), dtype=np.int64) + 1,
        ts_event=column(rows, 0),
        bid=column(rows, 1),
        ask=column(rows, 2),
    )
    result = TickNormalizer(rule_set=RULES["plain"], price_type=price_type).apply(batch)
    expected = []
    for ts, bid, ask in rows:
        sides = {"bid": [bid], "ask": [ask], "mid": [bid, ask]}[price_type]
        fits = 0 <= ts <= LAST_TICK_NS and all(0 < side <= MAX_NANOS for side in sides)
        if fits and not (price_type == "mid" and bid > ask):
            expected.append(sum(sides))
    assert result.ticks.price.tolist() == expected
    left_out = sum(result.findings.count(c) for c in ("one_sided_quote", "crossed_quote"))
    assert len(result.ticks) + len(result.quarantined) + left_out == len(rows)
