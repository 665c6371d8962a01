"""The demonstration's input, and a glance at its output."""

import csv
from pathlib import Path

from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource
from marketpipe.sources.synthetic.write import write_csv

SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY", "TSLA")
# XNYS on Monday 2026-01-05: 09:30 to 16:00 in New York
SESSION = (1_767_623_400_000_000_000, 1_767_646_800_000_000_000)


def generate(path: Path, trades: int, seed: int) -> None:
    """Write generated ticks: half a percent late by up to 10 s, half a percent sent twice."""
    config = SyntheticConfig(
        symbols=SYMBOLS,
        sessions=(SESSION,),
        trades=trades,
        seed=seed,
        start_nanos=(190_000_000_000, 410_000_000_000, 180_000_000_000, 590_000_000_000,
                     250_000_000_000),
        late_share=0.005,
        duplicate_share=0.005,
        venues=("N", "Q", "P", "D"),
        with_conditions=True,
        with_tape=True,
    )  # fmt: skip
    write_csv(SyntheticSource(config), path)


def sample(bars: Path, symbol: str, timeframe: str) -> str:
    """Return one symbol's bars of one timeframe as a small table."""
    with bars.open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["symbol"] == symbol and row["timeframe"] == timeframe
        ]
    names = ("ts_open", "open", "high", "low", "close", "volume", "trade_count")
    lines = [f"{symbol} {timeframe}".ljust(22) + "".join(n.rjust(12) for n in names[1:])]
    lines += [
        row["ts_open"].ljust(22) + "".join(row[n].rjust(12) for n in names[1:]) for row in rows
    ]
    return "\n".join(lines)
