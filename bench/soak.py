"""A soak: the live pipeline at a steady rate in real time, its memory sampled each second."""

import argparse
import asyncio
import tempfile
import time
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
AIM_MB_A_MINUTE: Final = 1.0
PLOT: Final = Path("docs/soak.svg")
_MEGA: Final = 1e6


@dataclass(frozen=True, slots=True)
class Soak:
    """Memory by second, in bytes; ``late_s`` how far the pipeline ever fell behind real time.

    Memory rises while rows wait for a flush and falls after it, several times a minute. What
    stays is the least of each half minute, so growth is measured by those.
    """

    rate: int
    resident: npt.NDArray[np.float64]
    late_s: float

    @property
    def growth(self) -> float:
        """Bytes a minute that stay, after the start has settled, by least squares."""
        settled = self.resident[min(SETTLED_AFTER_S, len(self.resident) // 2) :]
        windows = max(len(settled) // WINDOW_S, 2)
        least = [part.min() for part in np.array_split(settled, windows)]
        by_window = float(np.polyfit(np.arange(windows), least, 1)[0])
        return by_window * windows / (len(settled) / 60)


def resident_bytes() -> int:
    """Return what the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def _soak(folder: Path, minutes: float, rate: int) -> Soak:
    count = int(minutes * 60)
    resident = np.zeros(count)
    late = 0.0
    async with live_pipeline(DataFolder(folder), live_settings(), AlpacaParser) as pipeline:
        made = builder()
        start = time.monotonic()
        for number, second in enumerate(feed.seconds(count * rate, rate)):
            for at, frame in second.frames:
                made.add_frame(frame, at)
            made.add_clock(second.ends_ns)
            await _take(pipeline, made.take())
            resident[number] = resident_bytes()
            ahead = start + number + 1 - time.monotonic()
            late = max(late, -ahead)
            await asyncio.sleep(max(0.0, ahead))
        await pipeline.stop()
    return Soak(rate, resident, late)


async def _take(pipeline: LivePipeline, records: pa.RecordBatch) -> None:
    await pipeline.append(records)
    await pipeline.catch_up()


def run(minutes: float = MINUTES, rate: int = RATE) -> Soak:
    """Run one soak in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="marketpipe-soak-") as name:
        return asyncio.run(_soak(Path(name), minutes, rate))


def plot(soak: Soak) -> str:
    """Draw memory over time as SVG."""
    width, height, left, top = 720, 300, 64, 16
    megabytes = soak.resident / _MEGA
    high = float(np.ceil(megabytes.max() / 100) * 100)
    across = (width - left - 16) / max(len(megabytes) - 1, 1)
    up = (height - top - 40) / high
    floor = height - 40
    points = " ".join(
        f"{left + second * across:.1f},{floor - value * up:.1f}"
        for second, value in enumerate(megabytes.tolist())
    )
    lines = [
        f'<line x1="{left}" y1="{floor - mark * up:.1f}" x2="{width - 16}" '
        f'y2="{floor - mark * up:.1f}" stroke="#ddd"/>'
        f'<text x="{left - 8}" y="{floor - mark * up + 4:.1f}" text-anchor="end">{mark:.0f}</text>'
        for mark in np.linspace(0, high, 6).tolist()
    ]
    minutes = [
        f'<text x="{left + minute * 60 * across:.1f}" y="{height - 20}" '
        f'text-anchor="middle">{minute}</text>'
        for minute in range(len(megabytes) // 60 + 1)
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="11" fill="#333">
<rect width="{width}" height="{height}" fill="#fff"/>
{"".join(lines)}
{"".join(minutes)}
<polyline points="{points}" fill="none" stroke="#1668b8" stroke-width="1.2"/>
<text x="{left}" y="{height - 4}">resident memory (MB) by minute, {soak.rate:,} messages/s; \
growth after it settled: {soak.growth / _MEGA:+.2f} MB/min</text>
</svg>
"""


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
        f"{len(soak.resident)} s at {soak.rate:,} messages/s: {growth:+.2f} MB a minute, "
        f"{soak.resident.max() / _MEGA:.0f} MB at most, {soak.late_s:.1f} s behind at most"
    )
    return 1 if growth > AIM_MB_A_MINUTE else 0


if __name__ == "__main__":
    raise SystemExit(main())
