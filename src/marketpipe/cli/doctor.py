"""`marketpipe doctor`."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from marketpipe.cli.common import settings

if TYPE_CHECKING:
    from marketpipe.pipelines.folderstate import Check
    from marketpipe.settings import Settings


def doctor(
    ctx: typer.Context,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask the vendor as well: keys, plan, time.")
    ] = False,
    feed: Annotated[str | None, typer.Option(help="Name of the feed; default: iex.")] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Of stocks, as `stream` would be given them.")
    ] = None,
    crypto_symbols: Annotated[
        str | None, typer.Option(help="The same for crypto pairs, such as BTC/USD.")
    ] = None,
) -> None:
    """Say what is installed, kept and missing, and how to mend it; exit 1 if something is broken.

    Example: marketpipe doctor --connect
    """
    import asyncio

    from marketpipe.access import folder_of
    from marketpipe.pipelines.doctor import checks

    read = settings(
        ctx,
        stream={"symbols": symbols, "crypto_symbols": crypto_symbols},
        alpaca={"feed": feed},
    )
    broken = False
    for check in checks(folder_of(read)):
        broken |= _print(check)
    broken |= asyncio.run(_print_feeds(read, connect=connect))
    if broken:
        raise typer.Exit(1)


def _print(check: "Check") -> bool:
    """Print a check; say whether something is broken."""
    print(f"{check.verdict:<8} {check.what}: {check.found}")
    if check.remedy:
        print(f"         {check.remedy}")
    return check.verdict == "broken"


async def _print_feeds(read: "Settings", *, connect: bool) -> bool:
    return any([_print(check) async for check in _of_feeds(read, connect=connect)])


async def _of_feeds(read: "Settings", *, connect: bool) -> AsyncIterator["Check"]:
    from marketpipe.cli.live import wanted_streams
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.feedcheck import feed_check, keys_check
    from marketpipe.pipelines.folderstate import Check

    alpaca = read.alpaca
    keys = keys_check(alpaca.key, alpaca.secret, needed=connect)
    yield keys
    try:
        wanted = wanted_streams(read.stream, alpaca)
    except UsageError as problem:
        yield Check("feeds", "broken", str(problem))
        return
    reachable = {}
    for path, names in wanted.items():
        if names:
            check = feed_check(path, names, alpaca.stream_url, alpaca.rest_url)
            yield check
            if check.verdict == "ok":
                reachable[path] = names
    if connect and keys.verdict == "ok":
        async for check in _asked(read, reachable):
            yield check


async def _asked(read: "Settings", wanted: dict[str, tuple[str, ...]]) -> AsyncIterator["Check"]:
    import os
    from random import Random  # noqa: TID251  # spreads retries; nothing is built of it

    from marketpipe.cli.live import clock_of, stream_of
    from marketpipe.errors import UsageError
    from marketpipe.pipelines.feedcheck import asked, clock_check
    from marketpipe.pipelines.folderstate import Check

    alpaca = read.alpaca
    if alpaca.clock is not None:
        check = await clock_check(alpaca.clock)
        yield check
        if check.verdict != "ok":
            return
    random = Random(os.urandom(16))  # noqa: S311  # only jitter
    async with clock_of(alpaca) as clock:
        for number, (path, names) in enumerate(wanted.items()):
            try:
                stream = stream_of(alpaca, path)
            except UsageError as problem:
                yield Check(f"feed {path}", "broken", str(problem))
                continue
            skew = alpaca.clock is None and number == 0
            async for check in asked(stream, names, clock, random, skew=skew):
                yield check
