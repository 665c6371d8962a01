"""Integers to decimals, texts and ids, and back."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.columns import decimals, i64_of, nanos_of, texts
from marketpipe.domain.tradeids import (
    canonical_trade_id,
    text_trade_id,
    trade_id_numbers,
    trade_id_texts,
)
from marketpipe.domain.units import MAX_NANOS, NULL_I64

NUMBERS = st.lists(st.integers(-MAX_NANOS, MAX_NANOS) | st.just(NULL_I64), max_size=20)


@given(NUMBERS)
def test_decimals_are_exact_and_come_back(values: list[int]) -> None:
    column = decimals(np.array(values, np.int64))
    wanted = [None if v == NULL_I64 else Decimal(v).scaleb(-9) for v in values]
    assert column.to_pylist() == wanted
    assert nanos_of(column).tolist() == values


@given(NUMBERS, st.integers(0, 5))
def test_nanos_of_slices_and_chunks_are_those_of_their_rows(values: list[int], cut: int) -> None:
    column = decimals(np.array(values, np.int64))
    assert nanos_of(column.slice(cut)).tolist() == values[cut:]
    chunked = pa.chunked_array([column.slice(cut), column.slice(0, cut)], column.type)
    assert nanos_of(chunked).tolist() == values[cut:] + values[:cut]


def test_nanos_of_no_chunks_are_none() -> None:
    assert nanos_of(pa.chunked_array([], pa.decimal128(18, 9))).tolist() == []


def test_texts_are_the_names_of_codes() -> None:
    assert texts(np.array([0, 2, 0], np.int32), ("", "a", "b"), 3).to_pylist() == ["", "b", ""]
    assert texts(None, (), 2).to_pylist() == ["", ""]


def test_i64_of_writes_null_as_the_smallest() -> None:
    assert i64_of(pa.array([3, None], pa.int64())).tolist() == [3, NULL_I64]
    assert i64_of(pa.chunked_array([[1], [2]], pa.int32())).tolist() == [1, 2]


@pytest.mark.parametrize("text", ["0", "7", "52983525034326", str(2**63 - 1)])
def test_trade_id_that_is_a_plain_number_stays_one(text: str) -> None:
    assert canonical_trade_id(text) == text


@pytest.mark.parametrize("text", ["", "007", "-1", "abc", str(2**63), "1e3", "٣", "#1"])
def test_trade_id_of_another_kind_is_a_digest(text: str) -> None:
    found = canonical_trade_id(text)
    assert found[0] == "#"
    assert len(found) == 33
    id_hi, id_lo = text_trade_id(text.encode())
    assert (int(found[1:17], 16), int(found[17:], 16)) == (id_hi, id_lo)


@given(
    st.lists(
        st.tuples(st.just(0), st.integers(0, 2**63 - 1))
        | st.tuples(st.integers(2**62, 2**63 - 1), st.integers(0, 2**63 - 1))
        | st.just((-1, 0)),
        max_size=20,
    )
)
def test_trade_id_texts_come_back(ids: list[tuple[int, int]]) -> None:
    columns = np.array(ids, np.int64).reshape(-1, 2)
    found = trade_id_texts(columns[:, 0], columns[:, 1])
    assert [text is None for text in found.to_pylist()] == [hi < 0 for hi, _ in ids]
    id_hi, id_lo = trade_id_numbers(found)
    assert list(zip(id_hi.tolist(), id_lo.tolist(), strict=True)) == ids
