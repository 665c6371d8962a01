"""What the recipe refuses, and how it says so."""

from typing import Any

import pytest

from marketpipe.errors import UsageError
from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource

SECOND = 1_000_000_000
VALID: dict[str, Any] = {"symbols": ("AAPL",), "sessions": ((0, 60 * SECOND),), "trades": 10}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbols": ()}, "symbols"),
        ({"symbols": ("AAPL", "AAPL")}, "twice"),
        ({"symbols": ("../x",)}, "'../x'"),
        ({"symbols": ("A,B",)}, "'A,B'"),
        ({"sessions": ()}, "sessions was empty"),
        ({"sessions": ((60 * SECOND, 0),)}, "sessions"),
        ({"sessions": ((0, 3 * 86_400 * SECOND),)}, "two days"),
        ({"sessions": ((0, 60 * SECOND), (59 * SECOND, 90 * SECOND))}, "disjoint"),
        ({"trades": None}, "either trades"),
        ({"trades_per_symbol": 10}, "not both"),
        ({"trades": 0}, "trades"),
        ({"seed": -1}, "seed"),
        ({"tick_nanos": 0}, "tick_nanos"),
        ({"tick_nanos": (1, 2)}, "for each of the 1 symbols"),
        ({"start_nanos": 100 * SECOND + 1}, "multiple of the price step"),
        ({"odd_lot_share": 1.1}, "odd_lot_share"),
        ({"burst_share": 1.0}, "0 to 0.9"),
        ({"late_share": -0.1}, "late_share"),
        ({"late_share": float("nan")}, "late_share"),
        ({"late_max_ns": 0}, "late_max_ns"),
        ({"duplicate_share": 0.1, "with_ids": False}, "needs with_ids"),
        ({"venues": ("a b",)}, "venues"),
        ({"zipf_exponent": 3}, "zipf_exponent"),
    ],
)
def test_config_out_of_range_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        SyntheticConfig(**{**VALID, **change})


def test_trades_per_symbol_counts_over_all_symbols() -> None:
    config = SyntheticConfig(symbols=("A", "B", "C"), sessions=((0, SECOND),), trades_per_symbol=4)
    assert sum(len(batch) for batch in SyntheticSource(config).batches()) == 12


def test_source_with_no_rows_in_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_rows was '0'"):
        SyntheticSource(SyntheticConfig(**VALID), batch_rows=0)


@pytest.mark.parametrize("trades", [1, 2, 65_536, 65_537])
def test_source_of_any_number_of_trades_gives_that_many(trades: int) -> None:
    config = SyntheticConfig(**{**VALID, "trades": trades}, late_share=0.5, duplicate_share=0.5)
    rows = sum(len(batch) for batch in SyntheticSource(config).batches())
    assert rows == trades + trades // 2
