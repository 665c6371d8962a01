"""The identity set grows through many batches, from numbers to text ids, and stays exact."""

from pathlib import Path

import numpy as np
import pytest

from marketpipe.domain.batches import Dictionaries, StreamKey, TradeBatch
from marketpipe.normalize import TickNormalizer
from marketpipe.normalize.ruleset import RuleSet


def batch(id_hi: list[int], id_lo: list[int]) -> TradeBatch:
    n = len(id_lo)
    one = np.ones(n, np.int64)
    return TradeBatch(
        dictionaries=Dictionaries(streams=(StreamKey("s", "f", "A"),)),
        stream=np.zeros(n, np.int32), row=np.arange(n) + 1, ts_event=one, price=one, size=one,
        id_hi=np.array(id_hi, np.int64), id_lo=np.array(id_lo, np.int64),
    )  # fmt: skip


@pytest.mark.parametrize("stride", [1, 16, 1 << 40])
def test_identity_set_after_growth_still_knows_every_id(stride: int) -> None:
    normalizer = TickNormalizer(rule_set=RuleSet.load("plain"))
    ids = [k * stride for k in range(5000)]
    for start in range(0, 5000, 700):
        part = ids[start : start + 700]
        assert len(normalizer.apply(batch([0] * len(part), part)).ticks) == len(part)
    assert normalizer.apply(batch([0] * 5000, ids)).findings.counts == {"duplicate": 5000}


def test_identity_set_text_id_with_the_low_half_of_a_number_is_another_id() -> None:
    normalizer = TickNormalizer(rule_set=RuleSet.load("plain"))
    numbers = list(range(2000))
    normalizer.apply(batch([0] * 2000, numbers))
    assert len(normalizer.apply(batch([5] * 2000, numbers)).ticks) == 2000
    assert len(normalizer.apply(batch([6] * 2000, numbers)).ticks) == 2000
    everything = batch([0, 5, 6, 7], [1999] * 4)
    assert normalizer.apply(everything).findings.counts == {"duplicate": 3}


@pytest.mark.parametrize("usable", [True, False])
def test_identity_set_with_a_folder_knows_every_id_whether_it_can_be_used_or_not(
    tmp_path: Path, usable: bool
) -> None:
    folder = tmp_path / "ids"
    if not usable:
        folder.touch()
    rules = RuleSet.load("plain")
    normalizer = TickNormalizer(rule_set=rules, folder=folder, ids_in_memory=1000)
    for start in range(0, 5000, 700):
        part = list(range(start, min(start + 700, 5000)))
        assert len(normalizer.apply(batch([0] * len(part), part)).ticks) == len(part)
    everything = batch([0] * 5001, list(range(5001)))
    done = normalizer.apply(everything)
    assert done.findings.counts == {"duplicate": 5000}
    assert done.ticks.key_mid.tolist() == [5000]
    assert not usable or list(folder.iterdir()) == []
