"""MarketPipe's `BarEngine` as a contender."""

from typing import Final, NoReturn

from bench.data import Trades
from bench.peers import Formulation


def load(trades: Trades) -> NoReturn:
    """Hand the trades to the engine."""
    raise NotImplementedError(
        f"BarEngine is not wired into bench/ours.py yet, so its bars of {len(trades):,} trades "
        "cannot be timed: let load() return a Ready whose run() builds them"
    )


FORMULATION: Final = Formulation("MarketPipe", "BarEngine", load)
