"""The benchmark page: what was measured, on what, and how to measure it again."""

import os
import platform
from importlib.metadata import version

from bench import correctness, whole
from bench.bars import TIMEFRAMES
from bench.correctness import Verdict
from bench.data import SYMBOLS
from bench.peers import EXACT
from bench.speed import RUNS, TARGETS, Outcome, best
from bench.whole import Call, Run

_PACKAGES = (
    *("duckdb", "polars", "nautilus_trader", "alpaca-py", "arcticdb", "deltalake"),
    *("numpy", "numba", "pyarrow"),
)
_OURS = "MarketPipe"


def speed_table(outcomes: list[Outcome]) -> str:
    """Return the table of rates as Markdown; ratios are ours over theirs."""
    ours = best(outcomes, _OURS)
    lines = [
        "| contender | formulation | trades | seconds | M trades/s | ours is | answer |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for outcome in outcomes:
        ratio = f"{ours.rate / outcome.rate:.1f}×" if outcome is not ours else ""
        answer = f"{outcome.differing:,} bars wrong" if outcome.differing else "right"
        lines.append(
            f"| {outcome.formulation.family} | {outcome.formulation.name} | {outcome.trades:,} "
            f"| {outcome.seconds:.3f} | {outcome.rate / 1e6:.2f} | {ratio} | {answer} |"
        )
    return "\n".join(lines)


def target_table(outcomes: list[Outcome]) -> str:
    """Return ours against each peer's fastest right formulation, beside the aim."""
    ours = best(outcomes, _OURS)
    lines = ["| against | its best | ours is | aim | |", "|---|---|---:|---:|---|"]
    for family, aim in TARGETS.items():
        peer = best(outcomes, family)
        ratio = ours.rate / peer.rate
        verdict = _verdict(reached=ratio >= aim)
        lines.append(f"| {family} | {peer.formulation.name} | {ratio:.2f}× | {aim}× | {verdict} |")
    return "\n".join(lines)


def exact_table(outcomes: list[Outcome]) -> str:
    """Return ours against the peers' formulations that compute the same columns as ours."""
    ours = best(outcomes, _OURS)
    lines = ["| against | ours is |", "|---|---:|"]
    lines += [
        f"| {outcome.formulation.family} | {ours.rate / outcome.rate:.1f}× |"
        for outcome in outcomes
        if outcome.formulation.name == EXACT
    ]
    return "\n".join(lines)


def whole_table(runs: list[Run]) -> str:
    """Return whole runs of `marketpipe replay`: start-up, reading, bars, digest, printing."""
    memory_aim = f"{whole.MEMORY_AIM / 2**20:,.0f} MiB"
    lines = [
        "| input | trades | seconds | M trades/s | aim | | peak memory | aim | |",
        "|---|---:|---:|---:|---:|---|---:|---:|---|",
    ]
    for run in runs:
        aim, verdict = "", ""
        if run.aim is not None:
            aim, verdict = f"{run.aim / 1e6:g}", _verdict(reached=run.rate >= run.aim)
        lines.append(
            f"| {run.name} | {run.trades:,} | {run.seconds:.1f} | {run.rate / 1e6:.2f} | {aim} "
            f"| {verdict} | {run.peak_bytes / 2**20:,.0f} MiB | {memory_aim} "
            f"| {_verdict(reached=run.peak_bytes < whole.MEMORY_AIM)} |"
        )
    return "\n".join(lines)


def _verdict(*, reached: bool) -> str:
    return "reached" if reached else "not reached"


def correctness_table(verdicts: list[Verdict]) -> str:
    """Return who changes the answer when the order changes."""
    lines = [
        f"| contender | formulation | {' | '.join(correctness.INPUTS)} |",
        "|---|---|" + "---|" * len(correctness.INPUTS),
    ]
    for verdict in verdicts:
        pairs = zip(verdict.differing, verdict.bars, strict=True)
        cells = [f"{w:,} of {n:,} bars wrong" if w else "right" for w, n in pairs]
        formulation = verdict.formulation
        lines.append(f"| {formulation.family} | {formulation.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def call_table(calls: list[Call]) -> str:
    """Return the cost of one call of `apply_trade`."""
    lines = ["| symbols | events | µs a trade | aim |", "|---:|---:|---:|---:|"]
    lines += [
        f"| {call.symbols} | {call.events:,} | {call.microseconds:.2f} | 5 |" for call in calls
    ]
    return "\n".join(lines)


def machine() -> str:
    """Return cores, memory and versions in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name.replace('_', '-')} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}, {packages}"
    )


def page(
    outcomes: list[Outcome],
    verdicts: list[Verdict],
    runs: list[Run],
    calls: list[Call],
    live_sections: str,
    date: str,
) -> str:
    """Return the whole page as Markdown; an empty ``date`` is left out."""
    measured = f"; measured on {date}" if date else ""
    trades = max(outcome.trades for outcome in outcomes)
    return f"""# Benchmarks

Written by `make bench`{measured}. Trust the ratios, not the seconds.

Machine: {machine()}.

## Bars of six timeframes

{trades:,} generated trades of {len(SYMBOLS)} symbols in one session, sorted by time, held in
memory as integers; bars of {", ".join(TIMEFRAMES)}: open, high, low, close, volume, count. Best
of {RUNS} runs, all cores; loading is not counted. Peers may roll up and may pack symbol and
second into one key, which is faster for both. Every answer is compared bar by bar with a plain
sort-and-cut computation.

{speed_table(outcomes)}

Ours against each peer's fastest formulation that gave the right bars:

{target_table(outcomes)}

The peers' formulations above leave out what ours always keeps: the exact notional (a 128-bit sum
of price times size), order keys, revisions. With the notional alone added to theirs:

{exact_table(outcomes)}

NautilusTrader gets the first trades of the session as ready-made ticks, one clock per symbol,
and is timed without building either; its bars carry no count of trades. It takes live one trade
at a time, which is another job than a columnar query.

## Whole replays

`marketpipe replay` as a process of its own, from start to exit, default timeframes where none are
named, one engine thread beside the reader: reading, normalizing, bars, digest. Median of
{whole.RUNS} runs, the largest peak of them.

{whole_table(runs)}

## One trade at a time

`BarEngine.apply_trade` with six timeframes, called from Python, events included. Best of
{whole.CALL_RUNS} runs.

{call_table(calls)}

## Does the order of arrival change the answer?

The first {correctness.TRADES:,} trades of the same session ({outcomes[-1].trades:,} for
NautilusTrader), in order of time, in random order, and with one in a hundred arriving late.

{correctness_table(verdicts)}

`first` and `last` trust the order of the rows, and DuckDB promises none to them. `arg_min` and
`min_by` look at the time, so they hold in any order as long as no two trades of a symbol share
an instant, which is so in this set and not in real ones. NautilusTrader drops a trade that is
older than the symbol's last and never reopens a bar.

{live_sections}

## Again

```
make bench
.venv-bench/bin/python -m bench.alpaca --output docs/benchmarks.md
.venv-bench/bin/python -m bench.soak
.venv-bench/bin/python -m bench --trades 1000000 --date 2026-01-05
```
"""
