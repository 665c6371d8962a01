"""Run every contender on the same data and write ``docs/benchmarks.md``."""

import argparse
import sys
from pathlib import Path

from bench import (
    alpaca,
    alpacaruns,
    correctness,
    data,
    lakes,
    live,
    livepage,
    nautilus,
    ours,
    page,
    peers,
    speed,
    store,
    whole,
)
from bench.bars import straightforward


def main() -> int:
    """Print the tables as they come; exit 1 if ours gave a wrong bar."""
    arguments = _arguments()
    contenders = (ours.FORMULATION, *peers.FORMULATIONS, nautilus.FORMULATION)
    # first, while this process is small: a child's peak memory begins with its parent's
    runs = whole.replays()
    print(page.whole_table(runs), end="\n\n")
    trades = data.load(data.parquet(arguments.trades))
    right = straightforward(trades)
    outcomes = []
    for contender in contenders:
        outcome = speed.measure(contender, trades, right)
        outcomes.append(outcome)
        print(
            f"{contender.family:15} {contender.name:26} {outcome.rate / 1e6:8.2f} M trades/s, "
            f"{outcome.differing:,} bars wrong",
            flush=True,
        )
    del trades, right
    print()
    print(page.target_table(outcomes), end="\n\n")
    orders = correctness.inputs(arguments.trades)
    verdicts = [correctness.judge(contender, orders) for contender in contenders]
    print(page.correctness_table(verdicts))
    print()
    calls = whole.calls()
    print(page.call_table(calls))
    print()
    live_sections = livepage.sections(
        live.measure(),
        live.profile(),
        alpaca.section(alpacaruns.measure()),
        lakes.measure(),
        store.measure(),
    )
    print(live_sections)
    if not arguments.no_page:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            page.page(outcomes, verdicts, runs, calls, live_sections, arguments.date)
        )
        print(f"\nwritten: {arguments.output}")
    own = [*(o.differing for o in outcomes[:1]), *verdicts[0].differing]
    return 1 if any(own) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000_000, help="trades in the main set")
    parser.add_argument("--date", default="", help="date to write on the page")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"), help="the page")
    parser.add_argument("--no-page", action="store_true", help="print only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
