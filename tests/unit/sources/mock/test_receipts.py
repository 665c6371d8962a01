"""Receipts: a line's own time, but no single line moves the clock far ahead."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.units import DAY_NS, NANOS, NULL_I64
from marketpipe.sources.mock.messages import CsvMessages
from marketpipe.sources.mock.receipt import LOOK_AHEAD, Receipts

T0 = 20_000 * DAY_NS
STRAY = 47_482 * DAY_NS  # the first day of the year 2100
NO = NULL_I64


def received(*own: int) -> list[int]:
    """Return when the lines of a whole file are received, in whole seconds after `T0`."""
    nothing = np.empty(0, np.int64)
    times = Receipts().of(np.array(own, np.int64), nothing).tolist()
    return [(ts - T0) // NANOS if ts else -1 for ts in times]


def at(*seconds: int) -> list[int]:
    return [T0 + second * NANOS for second in seconds]


def test_receipts_never_step_back_and_fill_what_cannot_be_read() -> None:
    assert received(NO, *at(5, 3), NO, *at(9)) == [5, 5, 5, 5, 9]
    assert received(NO, NO) == [-1, -1]


@pytest.mark.parametrize("place", [0, 1, 7, 20])
def test_receipts_of_a_stray_line_are_those_of_the_lines_about_it(place: int) -> None:
    own = at(*range(20))
    own.insert(place, STRAY)
    expected = [*range(place), max(0, place - 1), *range(place, 20)]
    assert received(*own) == expected


def test_receipts_of_several_stray_lines_in_a_row_do_not_bear_each_other_out() -> None:
    own = [*at(*range(20)), *[STRAY] * 5, *at(*range(20, 40))]
    assert received(*own) == [*range(20), *[19] * 5, *range(20, 40)]


def test_receipts_of_a_pause_of_days_are_the_times_of_the_lines() -> None:
    friday, monday = range(20), range(3 * 86_400, 3 * 86_400 + 20)
    assert received(*at(*friday, *monday)) == [*friday, *monday]
    # a trade of Friday that came on Monday is no reason against Monday
    assert received(*at(*friday, *monday[:1], 19, *monday[1:]))[20:22] == [monday[0]] * 2


def test_receipts_of_a_last_line_far_ahead_are_not_believed() -> None:
    assert received(*at(0, 1), STRAY) == [0, 1, 1]
    assert received(*at(0, 1, 86_401)) == [0, 1, 86_401]  # a day is no leap
    assert received(STRAY) == [(STRAY - T0) // NANOS]  # there is no other time


@given(
    st.lists(st.sampled_from([*at(0, 1, 2), T0 + 5 * DAY_NS, STRAY, NO]), min_size=1, max_size=60),
    st.lists(st.integers(1, 59), max_size=6),
)
def test_receipts_in_any_cut_are_the_same(own: list[int], cuts: list[int]) -> None:
    column = np.array(own, np.int64)
    whole = Receipts().of(column, column[:0])
    ends = sorted({0, *(cut for cut in cuts if cut < len(own)), len(own)})
    receipts = Receipts()
    parts = [receipts.of(column[a:b], column[b : b + LOOK_AHEAD]) for a, b in pairwise(ends)]
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert (np.diff(whole) >= 0).all()


@pytest.mark.parametrize("batch_lines", [1, 5, 10_000])
def test_messages_behind_a_stray_line_keep_their_times(batch_lines: int) -> None:
    lines = [f"A,{ts},1,1" for ts in [*at(0, 1), STRAY, *at(*range(2, 30))]]
    data = "\n".join(["symbol,ts_ns,price,size", *lines, ""]).encode()
    source = CsvMessages(io.BytesIO(data), batch_lines=batch_lines, final_clock=True)
    records = [row for batch in source.records() for row in batch.to_pylist()]
    stamps = [(row["ts_recv"] - T0) // NANOS for row in records if row["kind"] == "data"]
    assert stamps == [0, 1, 1, *range(2, 30)]
    assert records[-1]["ts_recv"] == T0 + 30 * NANOS
