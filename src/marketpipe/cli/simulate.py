"""`marketpipe simulate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from marketpipe.cli.common import split

if TYPE_CHECKING:
    from marketpipe.simulator import Fault, Plan, Simulator, Wire
    from marketpipe.simulator.market import Kind, Market

_TAIL_NS: Final = 150_000_000_000


class Vendor(StrEnum):
    """Whom to simulate."""

    ALPACA = "alpaca"


class PlanName(StrEnum):
    """What the accounts may do."""

    PLUS = "plus"
    BASIC = "basic"


def simulate(
    vendor: Annotated[Vendor, typer.Argument(help="The vendor.")],  # noqa: ARG001  # one as yet
    recording: Annotated[
        Path | None, typer.Option("--from", help="Recording of frames: a time in ns, a frame.")
    ] = None,
    generate: Annotated[
        str | None, typer.Option(help="Stocks to generate, separated by commas.")
    ] = None,
    crypto: Annotated[
        str | None, typer.Option(help="Crypto pairs to generate, such as BTC/USD.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="When the generated session starts; default: now.")
    ] = None,
    seconds: Annotated[
        int, typer.Option(min=1, max=30 * 86_400, help="Length of the generated session.")
    ] = 23_400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generator and of storms.")] = 1,
    trades_per_second: Annotated[
        float, typer.Option(min=0, max=1e6, help="Generated trades, over all symbols of a kind.")
    ] = 20.0,
    quotes_per_second: Annotated[
        float, typer.Option(min=0, max=1e6, help="Generated quotes, over all symbols of a kind.")
    ] = 20.0,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of 127.0.0.1; 0 takes a free one.")
    ] = 8765,
    speed: Annotated[float, typer.Option(help="Seconds of the session in one real second.")] = 1.0,
    faults: Annotated[
        str, typer.Option(help="KIND@SECONDS+LENGTH=AMOUNT, separated by commas; or storm=20.")
    ] = "",
    plan: Annotated[
        PlanName, typer.Option(help="basic: no SIP in real time, 30 symbols.")
    ] = PlanName.PLUS,
    per_frame: Annotated[
        int, typer.Option(min=1, max=10_000, help="Most messages of a frame.")
    ] = 10,
    wait: Annotated[
        bool, typer.Option("--wait", help="Start the clock when a client has subscribed.")
    ] = False,
    stop_at_end: Annotated[
        bool, typer.Option("--stop-at-end", help="Stop when the session has ended.")
    ] = False,
) -> None:
    """Be a vendor, on loopback: stream, history, keys, limits, and faults on demand.

    Example: marketpipe simulate alpaca --generate AAPL,MSFT --speed 60
    """
    from marketpipe.simulator import Plan, Wire, parse_faults

    markets = _markets(
        recording,
        {"stocks": split(generate or ""), "crypto": split(crypto or "")},
        start,
        {
            "seconds": seconds,
            "seed": seed,
            "trades_per_second": trades_per_second,
            "quotes_per_second": quotes_per_second,
        },
    )
    if recording is None:
        print("These ticks are GENERATED, by a seeded recipe: they are no market's data.")
    start_ns = min(market.start_ns for market in markets)
    end_ns = max(market.end_ns for market in markets)
    _run(
        markets,
        parse_faults(faults, start_ns, end_ns, seed),
        Plan.basic() if plan is PlanName.BASIC else Plan(),
        Wire(per_frame=per_frame, waits=wait),
        (port, speed),
        stop_at_end,
    )


def _markets(
    recording: Path | None,
    symbols: "dict[Kind, list[str]]",
    start: str | None,
    recipe: dict[str, float],
) -> "list[Market]":
    """Make what is served: a recording, or what the recipe draws."""
    from marketpipe.cli.clock import now_ns
    from marketpipe.domain.units import NANOS
    from marketpipe.errors import UsageError
    from marketpipe.lake.instants import instant_ns
    from marketpipe.simulator.generate import generate
    from marketpipe.simulator.recorded import recorded

    if (recording is not None) == any(symbols.values()):
        raise UsageError(
            "simulate: give either --from FILE, or --generate AAPL,MSFT (and --crypto BTC/USD)"
        )
    if recording is not None:
        if start is not None:
            raise UsageError("--start: a recording starts when it did; leave it out with --from")
        return [recorded(recording)]
    start_ns = now_ns() if start is None else instant_ns(start, "--start")
    end_ns = start_ns + int(recipe.pop("seconds")) * NANOS
    seed = int(recipe.pop("seed"))
    # The bars of the last minutes, and what late trades make of them, are sent before the end.
    tail_ns = min(_TAIL_NS, (end_ns - start_ns) // 4)
    return [
        generate(names, kind, start_ns, end_ns, seed, tail_ns=tail_ns, **recipe)
        for kind, names in symbols.items()
        if names
    ]


def _run(
    markets: "list[Market]",
    faults: "list[Fault]",
    plan: "Plan",
    wire: "Wire",
    place: tuple[int, float],
    stop_at_end: bool,
) -> None:
    """Serve until a signal comes, or the session has ended."""
    import asyncio
    import signal
    from contextlib import suppress

    from marketpipe.simulator import Schedule, serve

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        port, speed = place
        async with serve(
            *markets, port=port, speed=speed, plan=plan, faults=Schedule(faults), wire=wire
        ) as simulator:
            _print(simulator, markets, len(faults))
            ending = asyncio.ensure_future(simulator.ended())
            stopped = asyncio.ensure_future(stop.wait())
            waited = (ending, stopped) if stop_at_end else (stopped,)
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, stopped):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        print("stopped")

    asyncio.run(until_stopped())


def _print(simulator: "Simulator", markets: "list[Market]", faults: int) -> None:
    """Print where things are, one fact a line; the last one says that it is ready."""
    from marketpipe.domain.units import format_ns
    from marketpipe.simulator.plans import ENDPOINTS
    from marketpipe.simulator.server import DEFAULT_KEYS, TEST_SYMBOL

    print(
        f"session    {format_ns(simulator.start_ns)} to {format_ns(simulator.end_ns)}, "
        f"at speed {simulator.clock.speed:g}"
    )
    for market in markets:
        print(f"{market.kind:<10} {', '.join(market.symbols)}")
    kinds = {market.kind for market in markets}
    for path, endpoint in ENDPOINTS.items():
        if endpoint.feed == "test":
            print(f"stream     {simulator.ws_url}/{path} ({TEST_SYMBOL})")
        elif endpoint.kind in kinds and path.endswith(("sip", "iex", "/us")):
            print(f"stream     {simulator.ws_url}/{path}")
    print(f"rest       {simulator.url}")
    for key, secret in DEFAULT_KEYS.items():
        print(f"keys       {key} and, as its secret, {secret}")
    print(f"clock      {simulator.clock_url}")
    print(f"faults     {simulator.url}/faults ({faults} planned)")
    print("ready", flush=True)
