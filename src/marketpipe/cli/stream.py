"""`marketpipe stream`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.common import note, progress_line, settings
from marketpipe.cli.options import Price, Quiet, Session
from marketpipe.errors import UsageError

if TYPE_CHECKING:
    from marketpipe.pipelines.mockfeed import MockFeed
    from marketpipe.pipelines.service import Ingested, IngestionService, Progress
    from marketpipe.settings import Settings, StreamSettings


class Mode(StrEnum):
    """Where messages come from."""

    LIVE = "live"
    MOCK = "mock"


def stream(
    ctx: typer.Context,
    mode: Annotated[
        Mode | None, typer.Option(help="mock replays a file. Default: INGESTION_MODE, else live.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Tick CSV; .gz and .zst are unpacked.")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Recording of frames: a time in ns and a frame a line.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the source. Default: file; of frames, alpaca.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option(help="Name of the feed. Live, default: iex of stocks.")
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; of a file, default: all.")
    ] = None,
    crypto_symbols: Annotated[
        str | None, typer.Option(help="The same for crypto pairs, such as BTC/USD.")
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="Live: go by the clock at this address; a simulator's.")
    ] = None,
    timeframes: Annotated[
        str | None, typer.Option(help="Any of <n><s|m|h|d|w>; default: 1m,5m,15m,1h,1d.")
    ] = None,
    calendar: Annotated[
        str | None, typer.Option(help="24/7, or an exchange calendar; default: 24/7.")
    ] = None,
    session: Annotated[
        Session | None, typer.Option(help="Default: continuous for 24/7, else regular.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="plain, alpaca-v1, or a TOML file; default: plain.")
    ] = None,
    price: Annotated[Price, typer.Option(help="Bars of trades, or of quotes.")] = Price.TRADE,
    quiet: Quiet = False,
) -> None:
    """Take a feed into journal, lake and store, and go on where the last run stopped.

    Live until SIGINT or SIGTERM; a file to its end.

    Example: marketpipe stream --symbols AAPL,MSFT --crypto-symbols BTC/USD --timeframes 1m,5m
    """
    read = settings(
        ctx,
        stream={
            "mode": None if mode is None else mode.value,
            "symbols": symbols,
            "crypto_symbols": crypto_symbols,
            "timeframes": timeframes,
            "calendar": calendar,
            "session": None if session is None else session.value,
            "rules": rules,
        },
        alpaca={"feed": feed if csv is None and frames is None else None, "clock": clock},
    )
    if read.stream.mode == "live":
        from marketpipe.cli.live import stream_live

        if csv is not None or frames is not None:
            raise UsageError("--csv and --frames: a file is no live feed; add --mode mock")
        done = stream_live(read, source or "alpaca", price.value, quiet=quiet)
        _print(done, [f"live feed {one.journal_id}" for one in done])
        return
    mock = _feed(read.stream, csv, frames, source, feed or "")
    with progress_line(quiet) as show:
        service = _service(read, mock, price.value, show)
        finished = _run(service)
    _print([finished], [f"{mock.path} as the feed of {mock.source}"])
    if finished.absent:
        note(f"marketpipe: {mock.path} holds no row of {', '.join(finished.absent)}")
    if not finished.complete:
        note("marketpipe: stopped before the end of the file; run it again to go on")


def _feed(
    wanted: "StreamSettings",
    csv: Path | None,
    frames: Path | None,
    source: str | None,
    feed: str,
) -> "MockFeed":
    from marketpipe.pipelines.mockfeed import MockFeed

    path = csv if csv is not None else frames
    if path is None or (csv is not None and frames is not None):
        given = "neither" if path is None else "both"
        raise UsageError(f"--csv and --frames: {given} given; mock mode takes one of them")
    named = (wanted.symbols, wanted.crypto_symbols)
    chosen = [name for names in named if names is not None for name in names]
    return MockFeed(
        path=path,
        form="csv" if csv is not None else "frames",
        source=source or ("file" if csv is not None else "alpaca"),
        feed=feed,
        symbols=frozenset(chosen) if any(names is not None for names in named) else None,
    )


def _service(
    read: "Settings", mock: "MockFeed", price: str, show: "Progress | None"
) -> "IngestionService":
    from marketpipe.access import folder_of
    from marketpipe.cli.wiring import live_settings
    from marketpipe.pipelines.service import IngestionService

    return IngestionService(
        folder_of(read),
        live_settings(read, mock.journal_id, price),
        mock,
        durability=read.journal.durability,
        compression=read.lake.compression,
        progress=show,
    )


def _run(service: "IngestionService") -> "Ingested":
    import asyncio
    import signal

    async def until_done() -> "Ingested":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, service.stop)
        return await service.run()

    return asyncio.run(until_done())


def _print(done: "list[Ingested]", taken: list[str]) -> None:
    """Print what each feed came to, then what the lake holds now, one fact a line."""
    from marketpipe.domain.units import format_ns

    for one, what in zip(done, taken, strict=True):
        facts = one.settings
        session = facts["session"] or ("continuous" if facts["calendar"] == "24/7" else "regular")
        print(f"input      {what}")
        print(
            f"settings   calendar {facts['calendar']} · session {session} · "
            f"rules {str(facts['rules']).split()[0]} · price {facts['price']}"
        )
        print(
            f"messages   {one.appended:,} appended to journal {one.journal_id}, "
            f"which ends at offset {one.next_offset:,}"
        )
        found = ", ".join(f"{entry.code} {entry.count:,}" for entry in one.findings.entries)
        print(f"findings   {found or 'none'}")
        print(f"watermark  {'none' if one.watermark_ns is None else format_ns(one.watermark_ns)}")
    if not done:
        return
    held = done[-1].held
    ticks = " · ".join(f"{kind} {count:,}" for kind, count in held.rows.items())
    bars = " · ".join(f"{timeframe} {count:,}" for timeframe, count in held.bars.items())
    print(f"ticks      {ticks or 'none'}")
    print(f"bars       {bars or 'none'}")
    print(f"revisions  {held.revisions:,}")
    print(f"quarantine {held.quarantined:,}")
    print(f"root       {held.root}")
