"""Trades a second of every formulation, and whether its answer was right."""

from dataclasses import dataclass
from typing import Final

from bench import nautilus
from bench.bars import Answer, best_of, differing, straightforward
from bench.data import Trades
from bench.peers import Formulation

RUNS: Final = 5
TARGETS: Final = {"DuckDB": 3, "Polars": 10, "NautilusTrader": 50}
"""Peer → how many times its trades a second ours is meant to reach."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One formulation's best run over ``trades`` trades, all timeframes together."""

    formulation: Formulation
    trades: int
    seconds: float
    differing: int

    @property
    def rate(self) -> float:
        """Trades a second."""
        return self.trades / self.seconds


def measure(formulation: Formulation, trades: Trades, right: Answer) -> Outcome:
    """Time one formulation; NautilusTrader gets the first `nautilus.TRADES` trades."""
    if formulation is nautilus.FORMULATION:
        trades = trades.take(slice(nautilus.TRADES))
        right = straightforward(trades)
    ready = formulation.load(trades)
    seconds = best_of(RUNS, ready.run, ready.reset)
    return Outcome(formulation, len(trades), seconds, differing(ready.answer(), right))


def best(outcomes: list[Outcome], family: str) -> Outcome:
    """Return a family's fastest formulation among those whose answer was right."""
    right = [o for o in outcomes if o.formulation.family == family and not o.differing]
    if not right:
        raise ValueError(f"{family}: no formulation gave the right bars")
    return max(right, key=lambda outcome: outcome.rate)
