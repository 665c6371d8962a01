"""The section of the page on live feeds of Alpaca; ``python -m bench.alpaca`` measures it alone."""

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

from bench.alpacaruns import (
    AIMS,
    MEMORY_AIM_BYTES,
    MESSAGES,
    OVERLOAD,
    RUNS,
    SDK,
    SECONDS,
    Measured,
    Overload,
    measure,
)

HEADING: Final = "## Live from Alpaca"
_NEXT: Final = "\n## "
_BEHIND: Final = "## Reading the lake"
_MIB: Final = 2**20


def speed_table(found: Measured) -> str:
    """Return who takes how many messages a second."""
    lines = [
        "| messages a frame | contender | messages | seconds | messages/s | CPU µs a message |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.per_frame} | {one.name} | {one.messages:,} | {one.seconds:.2f} | {one.rate:,.0f} "
        f"| {one.cpu_seconds / one.messages * 1e6:.2f} |"
        for one in found.speeds
    ]
    return "\n".join(lines)


def aim_table(found: Measured) -> str:
    """Return ours against the SDK, beside the aims."""
    lines = [f"| messages a frame | ours is, of {SDK}'s | aim | |", "|---:|---:|---:|---|"]
    for per_frame, aim in AIMS.items():
        ratio = found.ratio(per_frame)
        lines.append(
            f"| {per_frame} | {ratio:.2f}× | {aim:g}× | {_verdict(reached=ratio >= aim)} |"
        )
    return "\n".join(lines)


def delay_table(found: Measured) -> str:
    """Return how long trades and bars take at each rate, and what that costs."""
    heads = [
        *("messages/s", "trade, sent to durable, ms", "trade, received to durable, ms"),
        *("bar, closed to visible, ms", "bars", "CPU, of a core", "memory", "keeps up"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---:|---:|---:|---:|---:|---:|---:|---|"]
    for one in found.paced:
        took = one.took
        lengths = (took.sent_ms, took.received_ms, took.bar_ms)
        told = " | ".join(" / ".join(f"{value:,.0f}" for value in each) for each in lengths)
        lines.append(
            f"| {one.wanted:,} | {told} | {took.bars:,} | {took.cpu_seconds / took.seconds:.0%} "
            f"| {max(took.resident) / _MIB:,.0f} MiB | {'yes' if one.keeps_up else 'no'} |"
        )
    return "\n".join(lines)


def overload_table(one: Overload) -> str:
    """Return what came of more than can be taken."""
    took = one.took
    most, aim = max(took.resident), f"{MEMORY_AIM_BYTES / _MIB:,.0f} MiB"
    rows = [
        ("messages sent", f"{one.sent.sent:,}", ""),
        (
            "messages and trades in the lake",
            f"{took.messages:,} and {took.trades:,}",
            f"none lost: {_verdict(reached=one.loses_nothing)}",
        ),
        ("sending took, s", f"{(one.sent.ended_ns - one.sent.begun_ns) / 1e9:.1f}", ""),
        ("all committed after, s", f"{(took.ended_ns - one.sent.begun_ns) / 1e9:.1f}", ""),
        (
            "most memory",
            f"{most / _MIB:,.0f} MiB",
            f"below {aim}: {_verdict(reached=most < MEMORY_AIM_BYTES)}",
        ),
        ("most memory in each quarter of the run, MiB", _quarters(took.resident), ""),
        ("receiving stood still, s (`blocked_ns`)", f"{took.blocked_s:.1f}", ""),
        ("records that waited, at most (`waiting`)", f"{took.waiting:,}", ""),
        ("hung up for being slow (`slow_clients`)", f"{took.slow_clients}", ""),
    ]
    lines = ["| what | | aim |", "|---|---:|---|"]
    return "\n".join([*lines, *(f"| {what} | {value} | {aim} |" for what, value, aim in rows)])


def _quarters(resident: list[int]) -> str:
    count = len(resident)
    cuts = [count * k // 4 for k in range(5)]
    most = (max(resident[a:b], default=0) for a, b in pairwise(cuts))
    return " / ".join(f"{value / _MIB:,.0f}" for value in most)


def _verdict(*, reached: bool) -> str:
    return "reached" if reached else "not reached"


def section(found: Measured) -> str:
    """Return the section as Markdown."""
    return f"""{HEADING}

A server in a process of its own, built of the simulator's sessions, sends trades of 500 symbols in
msgpack, made beforehand; only ids and times are written as they are sent. Ours is all of
`marketpipe stream`: connector, journal (durability `process`), tables of the lake (zstd), bars of
1m,5m,15m,1h,1d by `alpaca-v1` and store (SQLite), timed from the first byte sent until everything
is committed and a checkpoint is saved; that includes waiting for the tick of the clock, once a
second, that closes the last records. {SDK} is its `StockDataStream` with typed handlers that do
nothing, timed until the handler of the last message is called. Both get the same messages, after a
first run that is not counted; the best of {found.runs} runs each, by turns. Below them, once each:
`websockets` takes the frames apart and looks at none, `bytes` only reads the socket, which is how
fast the sender is.

{speed_table(found)}

{aim_table(found)}

CPU is of all threads of the process: ours does its work on both cores.

### How long it takes

Sent in real time, 10 to a frame, with bars of seconds besides (rules `plain`). Times are 50 / 99 /
99.9 % of all trades or bars. A trade is *sent* when the sender writes it, *received* when the
connector stamps its frame, and *durable* when the journal has it. A bar is *closed* when the clock,
which ticks once a second, is the grace (a second, for late trades) beyond its end: nobody can know
it before. It is *visible* when another connection to the database sees it. Bars of one tick become
visible together, {found.ticks} ticks a rate, so the highest figure is of the slowest tick. It keeps
up if everything was sent on time and the slowest tick's bars were visible within a second.

{delay_table(found)}

### More than it can take

The sender writes as fast as it is let. The journal takes messages faster than bars are made of
them; what is not derived yet is on disk. When the journal is behind, too, the connector reads no
more from the socket, and the sender waits.

{overload_table(found.overload)}"""


def replaced(page: str, new: str) -> str:
    """Put a section into the page, in place of the one that is there, if there is one."""
    begin = page.find(HEADING)
    if begin < 0:
        begin = end = page.index(_BEHIND)
    else:
        end = page.index(_NEXT, begin) + 1
    return f"{page[:begin]}{new}\n\n{page[end:]}"


def main() -> int:
    """Measure this section alone, print it, and put it into the page; 1 where something is lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.alpaca", description=main.__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual length of runs")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each contender")
    parser.add_argument("--output", type=Path, help="the page; without it, print only")
    arguments = parser.parse_args()
    share = arguments.share
    counts = {per_frame: _tens(count * share) for per_frame, count in MESSAGES.items()}
    found = measure(counts, arguments.runs, max(SECONDS * share, 3.0), _tens(OVERLOAD * share))
    new = section(found)
    print(new)
    if arguments.output is not None:
        arguments.output.write_text(replaced(arguments.output.read_text(), new))
        print(f"\nwritten: {arguments.output}")
    return 0 if found.overload.loses_nothing else 1


def _tens(count: float) -> int:
    return int(count) // 10 * 10


if __name__ == "__main__":
    sys.exit(main())
