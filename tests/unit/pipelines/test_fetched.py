"""Which records were fetched, noted interval by interval, however the journal is cut."""

from collections.abc import Sequence

import numpy as np
import pytest

from marketpipe.pipelines.fetched import Fetched

FILLS = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 1], np.bool_)
OFFSETS = np.arange(10, 20)


@pytest.mark.parametrize("cuts", [(), (5,), (2,), (1, 2, 3, 6, 8)])
def test_fetched_records_are_told_however_the_journal_was_cut(cuts: Sequence[int]) -> None:
    fetched = Fetched()
    for offsets, fills in zip(np.split(OFFSETS, cuts), np.split(FILLS, cuts), strict=True):
        fetched.note(offsets, fills if fills.any() else None)
        fetched = Fetched(fetched.save())
    assert fetched.among(np.arange(8, 22)).tolist() == [False] * 2 + FILLS.tolist() + [False] * 2
    assert fetched.save() == [(11, 12), (15, 15), (17, 19)]


def test_fetched_records_are_forgotten_when_they_are_out_of_reach() -> None:
    fetched = Fetched()
    fetched.note(OFFSETS, FILLS)
    assert fetched
    fetched.note(np.array([15 + fetched.reach, 18 + fetched.reach]), None)
    assert fetched.among(np.array([12, 15, 17])).tolist() == [False, True, True]
    assert fetched.save() == [(17, 19)]
    fetched.note(np.array([20 + fetched.reach]), None)
    assert not fetched
    assert fetched.among(OFFSETS).tolist() == [False] * 10
