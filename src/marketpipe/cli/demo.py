"""`marketpipe demo`: a live feed of a simulated vendor, end to end, and the proof of its bars."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from marketpipe.cli.common import DEFAULT_DATA_DIR, settings
from marketpipe.cli.options import DataDir, Quiet

if TYPE_CHECKING:
    from marketpipe.pipelines.datafolder import DataFolder
    from marketpipe.pipelines.service import Ingested
    from marketpipe.settings import Settings
    from marketpipe.sources.clocks import Clock
    from marketpipe.store import GapStore

STOCKS: Final = ("AAPL", "MSFT", "NVDA", "SPY", "TSLA")
CRYPTO: Final = ("BTC/USD", "ETH/USD")
START: Final = "2026-01-05T14:30:00Z"
"""09:30 in New York, on a Monday."""

_SHOWN: Final = ("AAPL", "BTC/USD")
_LOOK_SECONDS: Final = 0.5


def demo(
    ctx: typer.Context,
    seconds: Annotated[
        int, typer.Option(min=10, max=3600, help="Real seconds that the session lasts.")
    ] = 30,
    speed: Annotated[
        float, typer.Option(min=1, max=600, help="Seconds of the session in one real second.")
    ] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated ticks.")] = 1,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    quiet: Quiet = False,
) -> None:
    """Take in a simulated Alpaca, live, through a lost connection; prove the bars by a replay.

    The folder demo of the data folder is made anew.

    Example: marketpipe demo --seconds 20 --seed 7
    """
    settings(ctx)
    folder = data_dir / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    print("These ticks are GENERATED, by a seeded recipe: they are no market's data.")
    length = int(seconds * speed)
    with _simulator(length, speed, seed) as addresses:
        read = _settings(folder, addresses)
        print(
            f"simulator  {addresses['rest']}, {length // 60} minutes at speed {speed:g}", flush=True
        )
        done = asyncio.run(_live(read, length, quiet=quiet))
    agrees = _report(done, read)
    if not agrees:
        raise typer.Exit(1)


@contextmanager
def _simulator(length: int, speed: float, seed: int) -> Iterator[dict[str, str]]:
    """Run a simulator in a process of its own; give its addresses, by what they are of."""
    words = [
        *("simulate", "alpaca", "--generate", ",".join(STOCKS), "--crypto", ",".join(CRYPTO)),
        *("--start", START, "--seconds", str(length), "--speed", str(speed), "--seed", str(seed)),
        *("--trades-per-second", "40", "--quotes-per-second", "10", "--port", "0", "--wait"),
        *("--faults", f"drop@{length // 3}"),
    ]
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-m", "marketpipe", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        yield _addresses(process)
    finally:
        process.terminate()
        process.communicate()


def _addresses(process: "subprocess.Popen[str]") -> dict[str, str]:
    from marketpipe.errors import ConnectError

    found: dict[str, str] = {}
    for line in process.stdout or ():
        name, _, value = line.strip().partition(" ")
        if name == "ready":
            return found
        found[name] = value.split()[0] if value else ""
    raise ConnectError("the simulator did not start; run marketpipe simulate alpaca to see why")


def _settings(folder: Path, addresses: dict[str, str]) -> "Settings":
    from marketpipe.settings import AlpacaSettings, Settings, StreamSettings

    return Settings(
        data_dir=folder,
        stream=StreamSettings(
            symbols=STOCKS, crypto_symbols=CRYPTO, timeframes=("1m", "5m"), rules="alpaca-v1"
        ),
        alpaca=AlpacaSettings.model_validate(
            {
                "key": "KEY",
                "secret": "SECRET",
                "stream_url": addresses["rest"].replace("http", "ws", 1),
                "rest_url": addresses["rest"],
                "clock": addresses["clock"],
            }
        ),
    )


async def _live(read: "Settings", length: int, *, quiet: bool) -> "list[Ingested]":
    """Take the session in, and show bars as they are confirmed."""
    from marketpipe.access import folder_of
    from marketpipe.cli.live import feeds_of, run_beside, services_of
    from marketpipe.domain.units import NANOS
    from marketpipe.lake.instants import instant_ns

    end_ns = instant_ns(START, "start") + (length + 5) * NANOS
    async with feeds_of(read) as feeds:
        services = services_of(read, feeds)
        running = asyncio.create_task(run_beside(services))
        watching = asyncio.create_task(_watch(folder_of(read), feeds[0].clock, end_ns, quiet=quiet))
        await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
        for service in services:
            service.stop()
        watching.cancel()
        return await running


async def _watch(folder: "DataFolder", clock: "Clock", end_ns: int, *, quiet: bool) -> None:
    """Print new minute bars of a few symbols until a time has come and no gap waits."""
    from marketpipe.store import BarRepository, GapStore

    seq = 0
    async with await BarRepository.open(folder.store_url) as store:
        gaps = GapStore(store.database)
        while clock.now_ns() < end_ns or await _waits(gaps):
            bars = await store.outbox(seq)
            if len(bars):
                seq = int(bars["seq"][-1].as_py())
            latest = {
                (row["symbol"], row["ts_open"]): row for row in bars.to_pylist() if _is_shown(row)
            }
            for row in [] if quiet else latest.values():
                _show(row)
            await asyncio.sleep(_LOOK_SECONDS)


async def _waits(gaps: "GapStore") -> bool:
    from marketpipe.store.gaps import DAY

    return any(gap.state == "open" and gap.reason != DAY for gap in await gaps.every())


def _is_shown(row: dict[str, Any]) -> bool:
    return row["symbol"] in _SHOWN and row["timeframe"] == "1m"


def _show(row: dict[str, Any]) -> None:
    from marketpipe.domain.units import format_ns

    names = ("open", "high", "low", "close", "volume")
    cells = "  ".join(f"{name[0]} {row[name].normalize():f}" for name in names if row[name])
    change = "" if row["revision"] == 0 else f"  revision {row['revision']}: {row['cause']}"
    print(f"{format_ns(row['ts_open'])} {row['symbol']:<8} {cells}{change}", flush=True)


def _report(done: "list[Ingested]", read: "Settings") -> bool:
    """Print what each feed came to, its gaps, and its proof; say whether all agree."""
    from marketpipe.access import folder_of
    from marketpipe.cli.gaps import print_gaps
    from marketpipe.cli.verify import print_proofs

    for one in done:
        bars = " · ".join(f"{tf} {count:,}" for tf, count in one.held.bars.items())
        print(f"feed       {one.journal_id}: {one.appended:,} messages, bars {bars or 'none'}")
    print_gaps(folder_of(read))
    return print_proofs(folder_of(read), [one.journal_id for one in done], None, None)
