"""The rule for names from outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.sources.csvfile._texts_kernel import is_name


@pytest.mark.parametrize(
    "symbol",
    ["A", "AAPL", "BTC/USD", "BRK.B", "^GSPC", "GC=F", "BINANCE:BTC_USDT", "7", "-", "x" * 32],
)
def test_symbol_of_a_real_market_is_valid(symbol: str) -> None:
    assert is_valid_symbol(symbol)


@pytest.mark.parametrize(
    "symbol",
    ["", ".", "..", ".A", "A..B", "../../x", "/A", "A/", "A//B", "A/.B", "A B", "A\n", "é", "A\0"],
)
def test_symbol_that_could_leave_its_place_is_not_valid(symbol: str) -> None:
    assert not is_valid_symbol(symbol)


@pytest.mark.parametrize("symbol", ["A#1", "A\\B", "A%2FB", "'", "A,B", "\u0661", "x" * 33])
def test_symbol_of_other_characters_or_too_long_is_not_valid(symbol: str) -> None:
    assert not is_valid_symbol(symbol)


@given(st.text(st.sampled_from("Az09./_:=^- \0é~"), max_size=35))
def test_symbol_rule_is_the_same_in_the_compiled_reader(text: str) -> None:
    raw = np.frombuffer(text.encode() + b"!", np.uint8)
    assert is_name(raw, 0, len(raw) - 1) == is_valid_symbol(text)
    assert is_name.py_func(raw, 0, len(raw) - 1) == is_valid_symbol(text)
