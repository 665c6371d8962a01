"""The sections of the page about the live path, the lake and the store."""

from bench import lakes, live, soak, store
from bench.lakes import Lakes
from bench.live import LiveRun, Stage
from bench.store import Adding


def live_table(run: LiveRun) -> str:
    """Return the rates of the live path and of a rebuild, beside their aims."""
    return "\n".join(
        [
            "| what | messages | seconds | a second | aim | |",
            "|---|---:|---:|---:|---:|---|",
            _rate("frames to everything committed", run, run.seconds, live.AIM),
            _rate("raw lake to ticks and bars", run, run.rebuild_seconds, live.REBUILD_AIM),
        ]
    )


def _rate(name: str, run: LiveRun, seconds: float, aim: int) -> str:
    rate = run.messages / seconds
    reached = "reached" if rate >= aim else "not reached"
    return f"| {name} | {run.messages:,} | {seconds:.1f} | {rate:,.0f} | {aim:,} | {reached} |"


def profile_table(stages: list[Stage], messages: int) -> str:
    """Return what each stage takes when it runs alone."""
    total = sum(stage.cpu_seconds for stage in stages)
    lines = ["| stage | CPU µs a message | share | µs a message |", "|---|---:|---:|---:|"]
    for stage in stages:
        cpu, wall = (s / messages * 1e6 for s in (stage.cpu_seconds, stage.seconds))
        lines.append(f"| {stage.name} | {cpu:.2f} | {stage.cpu_seconds / total:.0%} | {wall:.2f} |")
    lines.append(f"| all | {total / messages * 1e6:.2f} | 100% | |")
    return "\n".join(lines)


def lakes_table(found: list[Lakes]) -> str:
    """Return the stores side by side; the aim is for ours alone."""
    heads = [
        *("store", "append a session, s", "symbol-day, ms", "as of an instant, ms"),
        *("its minute bars as of, ms", "as of what"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---:|---:|---:|---|"]
    for each in found:
        as_of = "cannot" if each.as_of_ms is None else f"{each.as_of_ms:.1f}"
        bars = "" if each.bars_ms is None else f"{each.bars_ms:.1f}"
        lines.append(
            f"| {each.name} | {each.append_seconds:.1f} | {each.range_ms:.1f} | {as_of} | {bars} "
            f"| {each.note} |"
        )
    slowest = max(found[0].range_ms, found[0].as_of_ms or 0.0, found[0].bars_ms or 0.0)
    reached = "reached" if slowest < lakes.AIM_MS and found[0].kept else "not reached"
    return "\n".join([*lines, "", f"Aim for ours: each below {lakes.AIM_MS:.0f} ms: {reached}."])


def store_table(found: list[Adding]) -> str:
    """Return how fast bars go into the database; the aim is for the largest add."""
    lines = ["| bars an add | bars | seconds | bars/s | aim | |", "|---:|---:|---:|---:|---:|---|"]
    for each in found:
        reached = "reached" if each.rate >= store.AIM else "not reached"
        lines.append(
            f"| {each.bars_an_add:,} | {each.bars:,} | {each.seconds:.1f} | {each.rate:,.0f} "
            f"| {store.AIM:,} | {reached} |"
        )
    return "\n".join(lines)


def sections(
    run: LiveRun, stages: list[Stage], streamed: str, found: list[Lakes], adding: list[Adding]
) -> str:
    """Return all sections as Markdown; ``streamed`` is the one on live feeds of Alpaca."""
    return f"""## Live

Trades of 500 symbols as Alpaca sends them, {run.message_bytes:.0f} bytes each, 10 to a frame,
{live.PER_SECOND:,} to a second of the feed. One process takes them from frame to journal
(durability `process`), raw and canonical tables (zstd), bars of {live.TIMEFRAMES} and store
(SQLite), everything committed at the end. Best of {live.RUNS} runs.

{live_table(run)}

Where the time goes: the stages one after the other, each alone, CPU of all its threads. In the
run above they overlap.

{profile_table(stages, live.MESSAGES // 3)}

{streamed}

## Reading the lake

{lakes.TRADES:,} trades of 500 symbols in {lakes.SESSIONS} sessions, appended session by session,
and one correction. Read is one session of one symbol, {found[0].rows:,} trades; median of
{lakes.READS} reads, file cache warm. All three give the same number of rows. Only ours keeps
what a row needs to be explained (ids, times of receipt, order keys, conditions) and sorts by
instrument within 16 buckets a day; the others keep time, price, size and row number, and a file or
a key for each symbol, which is why they read faster.

{lakes_table(found)}

## Bars into the store

`BarRepository.add` of new minute bars into a new SQLite file; each add is one transaction.

{store_table(adding)}

## Ten minutes of memory

{_soak()}"""


def _soak() -> str:
    told = (
        f"`python -m bench.soak` runs the live pipeline for {soak.MINUTES} minutes at "
        f"{soak.RATE:,} messages/s in real time and plots the least and most memory of each "
        "second. What stays after flushes is the least of each half minute; the plot says by how "
        "much that grew. Aim: less than "
        f"{soak.AIM_MB_A_MINUTE:.0f} MB a minute after minute {soak.SETTLED_AFTER_S // 60}."
    )
    if not soak.PLOT.exists():
        return told
    return f"{told}\n\n![Resident memory by minute]({soak.PLOT.name})"
