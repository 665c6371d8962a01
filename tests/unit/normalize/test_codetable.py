"""`CodeTable` computes once per combination, and follows dictionaries as they grow."""

import numpy as np
import numpy.typing as npt
import pytest

from marketpipe.normalize.codetable import DENSE_LIMIT, CodeTable


def codes(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def test_codetable_computes_each_combination_once_and_follows_growth() -> None:
    calls: list[tuple[int, int]] = []

    def compute(a: int, b: int) -> int:
        calls.append((a, b))
        return 10 * a + b

    table = CodeTable(compute)
    left, right = ("", "x", "y"), ("", "p")
    assert table.gather((codes(2, 1, 2), codes(1, 0, 1)), (left, right)).tolist() == [21, 10, 21]
    assert table.gather((codes(2), None), (left, right)).tolist() == [20]
    assert table.gather((codes(2, 1), codes(1, 0)), (left, right)).tolist() == [21, 10]
    grown = (*left, "z", "q", "r")
    assert table.gather((codes(2, 5), codes(1, 1)), (grown, right)).tolist() == [21, 51]
    assert sorted(calls) == [(1, 0), (2, 0), (2, 1), (5, 1)]


def test_codetable_forgets_dictionaries_of_another_source() -> None:
    words: tuple[str, ...] = ("", "aa")
    table = CodeTable(lambda a: len(words[a]))
    assert table.gather((codes(1),), (words,)).tolist() == [2]
    words = ("", "bbbb")
    assert table.gather((codes(1),), (words,)).tolist() == [4]


def test_codetable_past_the_dense_limit_gives_the_same_values() -> None:
    wide = tuple(map(str, range(DENSE_LIMIT // 2 + 1)))
    table = CodeTable(lambda a, b: a + b)
    first, second = codes(len(wide) - 1, 0, 7, 0), codes(3, 1, 0, 1)
    names = (wide, ("", "a", "b", "c"))
    assert table.gather((first, second), names).tolist() == (first + second).tolist()
    assert table.gather((first[:0], second[:0]), names).tolist() == []


def test_codetable_without_any_column_error() -> None:
    with pytest.raises(ValueError, match="all None"):
        CodeTable(lambda a: a).gather((None,), (("",),))
