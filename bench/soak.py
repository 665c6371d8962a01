"""A soak: the live pipeline at a steady rate in real time, its memory sampled all the time."""

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench import feed
from bench.live import builder, live_settings
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.live import LivePipeline
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.sources.alpaca import AlpacaParser

RATE: Final = 20_000
MINUTES: Final = 10
SETTLED_AFTER_S: Final = 180
WINDOW_S: Final = 30
SAMPLES_A_SECOND: Final = 20
AIM_MB_A_MINUTE: Final = 1.0
PLOT: Final = Path("docs/soak.svg")
_MEGA: Final = 1e6


@dataclass(frozen=True, slots=True)
class Soak:
    """Least and most memory of each second, in bytes; ``late_s`` how far it ever fell behind.

    Memory rises while rows wait for a flush and falls after it, several times a minute, and once
    a second with what it takes to derive a second's messages. What stays is the least of each half
    minute, so growth is measured by those.
    """

    rate: int
    least: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]
    late_s: float

    @property
    def growth(self) -> float:
        """Bytes a minute that stay, after the start has settled, by least squares."""
        settled = self.least[min(SETTLED_AFTER_S, len(self.least) // 2) :]
        windows = max(len(settled) // WINDOW_S, 2)
        floors = [part.min() for part in np.array_split(settled, windows)]
        by_window = float(np.polyfit(np.arange(windows), floors, 1)[0])
        return by_window * windows / (len(settled) / 60)


def resident_bytes() -> int:
    """Return what the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def _sampled() -> Iterator[list[int]]:
    """Give a list that a thread of its own adds the memory to, `SAMPLES_A_SECOND`."""
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(1 / SAMPLES_A_SECOND):
            samples.append(resident_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


async def _soak(folder: Path, minutes: float, rate: int) -> Soak:
    count = int(minutes * 60)
    least, most = np.zeros(count), np.zeros(count)
    late = 0.0
    opened = live_pipeline(DataFolder(folder), live_settings(), AlpacaParser)
    async with opened as pipeline:
        made = builder()
        with _sampled() as samples:
            start = time.monotonic()
            for number, second in enumerate(feed.seconds(count * rate, rate)):
                for at, frame in second.frames:
                    made.add_frame(frame, at)
                made.add_clock(second.ends_ns)
                await _take(pipeline, made.take())
                ahead = start + number + 1 - time.monotonic()
                late = max(late, -ahead)
                await asyncio.sleep(max(0.0, ahead))
                seen = [*samples, resident_bytes()]
                samples.clear()
                least[number], most[number] = min(seen), max(seen)
        await pipeline.stop()
    return Soak(rate, least, most, late)


async def _take(pipeline: LivePipeline, records: pa.RecordBatch) -> None:
    await pipeline.append(records)
    await pipeline.catch_up()


def run(minutes: float = MINUTES, rate: int = RATE) -> Soak:
    """Run one soak in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="marketpipe-soak-") as name:
        return asyncio.run(_soak(Path(name), minutes, rate))


def plot(soak: Soak) -> str:
    """Draw the least and the most memory of each second as SVG."""
    width, height, left, top = 720, 300, 64, 16
    seconds = len(soak.least)
    high = float(np.ceil(soak.most.max() / _MEGA / 100) * 100)
    across = (width - left - 16) / max(seconds - 1, 1)
    up = (height - top - 40) / high
    floor = height - 40
    curves = [
        f'<polyline points="{_points(values / _MEGA * up, left, across, floor)}" fill="none" '
        f'stroke="{colour}" stroke-width="1.2"/>'
        for colour, values in (("#9cc3e6", soak.most), ("#1668b8", soak.least))
    ]
    lines = [
        f'<line x1="{left}" y1="{floor - mark * up:.1f}" x2="{width - 16}" '
        f'y2="{floor - mark * up:.1f}" stroke="#ddd"/>'
        f'<text x="{left - 8}" y="{floor - mark * up + 4:.1f}" text-anchor="end">{mark:.0f}</text>'
        for mark in np.linspace(0, high, 6).tolist()
    ]
    minutes = [
        f'<text x="{left + minute * 60 * across:.1f}" y="{height - 20}" '
        f'text-anchor="middle">{minute}</text>'
        for minute in range(seconds // 60 + 1)
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="11" fill="#333">
<rect width="{width}" height="{height}" fill="#fff"/>
{"".join(lines)}
{"".join(minutes)}
{"".join(curves)}
<text x="{left}" y="{height - 4}">resident memory (MB) by minute, {soak.rate:,} messages/s: least \
and most of each second; growth after it settled: {soak.growth / _MEGA:+.2f} MB/min</text>
</svg>
"""


def _points(values: npt.NDArray[np.float64], left: int, across: float, floor: int) -> str:
    return " ".join(
        f"{left + second * across:.1f},{floor - value:.1f}"
        for second, value in enumerate(values.tolist())
    )


def main() -> int:
    """Run a soak of its own and write the plot; exit 1 if memory grows beyond the aim."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--rate", type=int, default=RATE, help="messages a second")
    parser.add_argument("--output", type=Path, default=PLOT, help="the plot")
    arguments = parser.parse_args()
    soak = run(arguments.minutes, arguments.rate)
    arguments.output.write_text(plot(soak))
    growth = soak.growth / _MEGA
    print(
        f"{len(soak.least)} s at {soak.rate:,} messages/s: {growth:+.2f} MB a minute, "
        f"{soak.most.max() / _MEGA:.0f} MB at most, {soak.late_s:.1f} s behind at most"
    )
    return 1 if growth > AIM_MB_A_MINUTE else 0


if __name__ == "__main__":
    raise SystemExit(main())
