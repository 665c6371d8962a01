"""Every condition of ``alpaca-v1`` in every position of a bar, worked out by hand.

Source: Alpaca, market data FAQ, "How are bars aggregated?". No data set here has Alpaca's
trades and bars together, so nothing below claims a score against the vendor.
"""

import numpy as np
import pytest

from barkit import SECOND, bars, full, nanos, ns
from marketpipe.bars import BarEngine
from marketpipe.domain.bars import OHLCVBar
from marketpipe.domain.batches import Dictionaries, StreamKey, TradeBatch
from marketpipe.normalize import RuleSet, TickNormalizer

ALPACA = RuleSet.load("alpaca-v1")

# What a class of conditions may set: open and close, high and low, volume. A trade is in vwap
# if it is in both of the latter.
#   all    yes         yes  yes
#   half   if first    yes  yes
#   price  yes         yes  no
#   volume no          no   yes
#   none   no          no   no
#
# Conditions by tape, and their class in bars of minutes and of days.
CONDITIONS = [
    *((code, tape, "all", "all") for code, tapes in (
        ("", "AB"), ("@", "CO"), ("A", "C"), ("B", "C"), ("D", "C"), ("E", "AB"), ("F", "ABC"),
        ("K", "ABC"), ("L", "ABC"), ("O", "ABC"), ("X", "ABC"), ("Y", "C"), ("5", "ABC"),
        ("6", "ABC"),
    ) for tape in tapes),
    *((code, tape, "volume", "volume") for code, tapes in (
        ("B", "AB"), ("C", "ABC"), ("H", "ABC"), ("I", "ABC"), ("N", "ABC"), ("R", "ABC"),
        ("U", "ABC"), ("V", "ABC"), ("W", "CO"), ("7", "ABC"),
    ) for tape in tapes),
    *(("T", tape, "all", "volume") for tape in "ABC"),
    ("G", "C", "volume", "half"),
    *((code, tape, "volume", "half") for code in "PZ4" for tape in "ABC"),
    *((code, tape, "none", "none") for code in "MQ" for tape in "ABC"),
    *(("9", tape, "none", "price") for tape in "ABC"),
    # The strictest rule wins over all of a trade's conditions.
    ("@ F T", "C", "all", "volume"),
    ("@ F T I", "C", "volume", "volume"),
    ("@ I", "C", "volume", "volume"),
    ("@ 9", "C", "none", "price"),
    ("I 9", "C", "none", "none"),
    ("@ 4", "C", "volume", "half"),
    ("4 I", "C", "volume", "volume"),
    ("@ M", "C", "none", "none"),
    ("@ Q", "C", "none", "none"),
]  # fmt: skip

# The trade in question is 7 at 100; around it stand regular ones of 2 at 10 and of 4 at 20.
#   volume and count with it: 13 and 3, without: 6 and 2
#   vwap with it: (700 + 20 + 80) / 13 = 61.538461538; without: (20 + 80) / 6 = 16.666666667
# Open, high, low, close, volume, trade count, vwap; None where there is no bar.
WITH, WITHOUT = "61.538461538", "16.666666667"
EXPECTED = {
    ("all", "only"): "100 100 100 100 7 1 100",
    ("half", "only"): "100 100 100 100 7 1 100",  # first in the bar, and nothing else closes it
    ("price", "only"): None,  # its volume would be 0
    ("volume", "only"): None,  # it has no prices
    ("none", "only"): None,
    # 100, then 10 and 20
    ("all", "first"): f"100 100 10 20 13 3 {WITH}",
    ("half", "first"): f"100 100 10 20 13 3 {WITH}",
    ("price", "first"): f"100 100 10 20 6 2 {WITHOUT}",
    ("volume", "first"): f"10 20 10 20 13 3 {WITHOUT}",
    ("none", "first"): f"10 20 10 20 6 2 {WITHOUT}",
    # 10, then 100, then 20
    ("all", "middle"): f"10 100 10 20 13 3 {WITH}",
    ("half", "middle"): f"10 100 10 20 13 3 {WITH}",
    ("price", "middle"): f"10 100 10 20 6 2 {WITHOUT}",
    ("volume", "middle"): f"10 20 10 20 13 3 {WITHOUT}",
    ("none", "middle"): f"10 20 10 20 6 2 {WITHOUT}",
    # 10 and 20, then 100
    ("all", "last"): f"10 100 10 100 13 3 {WITH}",
    ("half", "last"): f"10 100 10 20 13 3 {WITH}",  # not the first, so it closes nothing
    ("price", "last"): f"10 100 10 100 6 2 {WITHOUT}",
    ("volume", "last"): f"10 20 10 20 13 3 {WITHOUT}",
    ("none", "last"): f"10 20 10 20 6 2 {WITHOUT}",
}
SEQUENCES = {"only": "X", "first": "XRS", "middle": "RXS", "last": "RSX"}
TRADES = {"X": ("100", "7"), "R": ("10", "2"), "S": ("20", "4")}


@pytest.fixture(scope="module")
def table_of_all() -> dict[tuple[str, str, str, str], OHLCVBar]:
    """Bars of every condition in every position: each its own symbol, all in one batch."""
    names, rows = [], []
    for code, tape, *_ in CONDITIONS:
        for position, sequence in SEQUENCES.items():
            names.append((code, tape, position))
            for second, trade in enumerate(sequence):
                price, size = TRADES[trade]
                words = (code, tape) if trade == "X" else ("", "A")
                rows.append((len(names) - 1, second, nanos(price), nanos(size), *words))
    codes = ("", *sorted({row[4] for row in rows} - {""}))
    tapes = ("", "A", "B", "C", "O")
    start, n = ns("2024-01-02T15:00:00Z"), len(rows)
    batch = TradeBatch(
        dictionaries=Dictionaries(
            streams=tuple(StreamKey("alpaca", "sip", f"S{i}") for i in range(len(names))),
            conditions=codes,
            tapes=tapes,
        ),
        stream=np.array([row[0] for row in rows], np.int32),
        row=np.arange(1, n + 1),
        ts_event=np.array([start + row[1] * SECOND for row in rows], np.int64),
        price=np.array([row[2] for row in rows], np.int64),
        size=np.array([row[3] for row in rows], np.int64),
        conditions=np.array([codes.index(row[4]) for row in rows], np.int32),
        tape=np.array([tapes.index(row[5]) for row in rows], np.int32),
    )
    engine = BarEngine(["1m", "1d"], rule_set=ALPACA)
    done = TickNormalizer(rule_set=ALPACA).apply(batch)
    assert not done.findings
    engine.apply(done.ticks)
    engine.flush()
    return {(*names[int(b.symbol[1:])], b.timeframe): b for b in bars(engine.bars())}


@pytest.mark.parametrize("position", SEQUENCES)
@pytest.mark.parametrize(("code", "tape", "minute", "day"), CONDITIONS)
def test_alpaca_condition_in_each_position_sets_what_the_table_says(
    table_of_all: dict[tuple[str, str, str, str], OHLCVBar],
    code: str,
    tape: str,
    minute: str,
    day: str,
    position: str,
) -> None:
    for timeframe, effect in (("1m", minute), ("1d", day)):
        bar = table_of_all.get((code, tape, position, timeframe))
        assert (None if bar is None else full(bar)) == EXPECTED[effect, position]
