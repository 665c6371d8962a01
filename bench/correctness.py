"""Who gives another answer when the same trades come in another order."""

from dataclasses import dataclass
from typing import Final

from bench import data, nautilus
from bench.bars import differing, straightforward
from bench.data import Trades
from bench.peers import Formulation

TRADES: Final = 1_000_000
INPUTS: Final = ("sorted", "shuffled", "1 % late by up to 10 s")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many of the right bars a formulation missed or got wrong, for each of `INPUTS`."""

    formulation: Formulation
    differing: tuple[int, ...]
    bars: tuple[int, ...]


def inputs(path_trades: int) -> tuple[Trades, ...]:
    """Return the trades in the orders of `INPUTS`, from the sets of ``path_trades`` trades."""
    ascending = data.load(data.parquet(path_trades)).take(slice(TRADES))
    late = data.load(data.parquet(path_trades, late_share=0.01)).take(slice(TRADES))
    return ascending, data.shuffled(ascending), late


def judge(formulation: Formulation, given: tuple[Trades, ...]) -> Verdict:
    """Run one formulation on every order and compare each answer with the right one."""
    limit = nautilus.TRADES if formulation is nautilus.FORMULATION else TRADES
    wrong, bars = [], []
    for trades in given:
        used = trades.take(slice(limit))
        ready = formulation.load(used)
        ready.reset()
        ready.run()
        right = straightforward(used)
        wrong.append(differing(ready.answer(), right))
        bars.append(sum(len(answer) for answer in right.values()))
    return Verdict(formulation, tuple(wrong), tuple(bars))
