"""Alpaca's own SDK against the simulator: it must get exactly what the market has.

The SDK runs in a process of its own (`tests/sdkchild.py`). What it should get is what the market
says it sends, read here from JSON; the SDK reads msgpack of the stream, and REST.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from marketpipe.simulator import Plan, Schedule, Simulator, parse_faults, serve
from marketpipe.simulator.market import Market
from marketpipe.simulator.rollup import Timeframe, rolled
from simkit import OPEN_NS, WAITING, market, run, texts, until

CHILD = Path(__file__).parents[1] / "sdkchild.py"
STOCKS = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
CRYPTO = (*STOCKS, "orderbooks")
ALSO = ("corrections", "cancelErrors")
CHANNEL = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "c": "corrections",
    "x": "cancelErrors",
    "o": "orderbooks",
}
# what a model of the SDK calls a field, by our channel; the rest of the message it drops
NAMES: dict[str, dict[str, str]] = {
    "trades": {"p": "price", "s": "size", "i": "id", "x": "exchange", "c": "conditions"},
    "quotes": {"bp": "bid_price", "bs": "bid_size", "ap": "ask_price", "as": "ask_size"},
    "bars": {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"},
    "corrections": {"oi": "original_id", "ci": "corrected_id", "cp": "corrected_price"},
    "cancelErrors": {"i": "id", "p": "price", "a": "action"},
    "orderbooks": {},
}
NAMES["updatedBars"] = NAMES["dailyBars"] = NAMES["bars"]
Line: TypeAlias = list[Any]


def to_micros(instant: str) -> str:
    """Cut RFC 3339 as the SDK does, and write it as Python does."""
    whole, _, fraction = instant.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"


def facts(channel: str, message: dict[str, Any], symbol: str = "") -> str:
    """Return what the SDK can tell of a message, as one text."""
    found = {name: message.get(key) for key, name in NAMES[channel].items()}
    if channel == "orderbooks":
        levels = {"bids": message["b"], "asks": message["a"]}
        found = {side: [[x["p"], x["s"]] for x in levels[side]] for side in levels}
    return _text(channel, message.get("S", symbol), to_micros(message["t"]), found)


def told(channel: str, given: dict[str, Any]) -> str:
    """Return the same of what a handler of the SDK was given."""
    found = {name: given[name] for name in NAMES[channel].values()}
    if channel == "orderbooks":
        found = {side: [[x["price"], x["size"]] for x in given[side]] for side in ("bids", "asks")}
    return _text(channel, given["symbol"], given["timestamp"], found)


def _text(channel: str, symbol: str, at: str, found: dict[str, Any]) -> str:
    """Write facts; the SDK makes floats of what it knows as numbers, but for ids."""
    plain = {
        name: value if "id" in name.split("_") else _plain(value) for name, value in found.items()
    }
    return str((channel, symbol, at, sorted(plain.items())))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return float(value) if isinstance(value, int) else value


def expected(of: Market, *channels: str) -> list[str]:
    return [facts(CHANNEL[m["T"]], m) for m in texts(of, *channels)]


class Sdk:
    """A running SDK: what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[str] = []
        self.found: list[str] = []

    async def line(self) -> Line | None:
        assert self._process.stdout is not None
        text = await self._process.stdout.readline()
        return json.loads(text) if text else None

    async def until(self, done: Callable[["Sdk"], bool]) -> None:
        """Read what it says until that is enough."""
        while not done(self):
            said = await self.line()
            assert said is not None, "the SDK's process ended"
            if said[0] == "log":
                self.log.append(said[1])
            else:
                self.found.append(told(said[0], said[1]))

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        while await self.line() is not None:
            pass
        assert await self._process.wait() == 0


@asynccontextmanager
async def sdk(**given: Any) -> AsyncIterator[Sdk]:
    """Run the SDK; its process ends with the context."""
    keys = {"key": "KEY", "secret": "SECRET", "kind": "stocks"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        json.dumps(keys | given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        yield Sdk(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def streaming(simulator: Simulator, path: str = "v2/iex", **given: Any) -> Any:
    asked = {"channels": STOCKS, "symbols": ["*"]} | given
    return sdk(mode="stream", url=f"{simulator.ws_url}/{path}", **asked)


def planned(text: str) -> Schedule:
    return Schedule(parse_faults(text, OPEN_NS, market().end_ns))


def test_sdk_stock_stream_gets_exactly_what_the_market_sends() -> None:
    wanted = expected(market(), *STOCKS, *ALSO)
    kinds = {text.split("'")[1] for text in wanted}
    assert kinds == {*STOCKS, *ALSO}

    async def work() -> None:
        async with (
            serve(market(), speed=60, wire=WAITING) as simulator,
            streaming(simulator) as one,
        ):
            await one.until(lambda sdk: len(sdk.found) == len(wanted))
            await one.stop()
            assert one.found == wanted
            assert not any("error" in line for line in one.log)

    run(work())


def test_sdk_crypto_stream_gets_exactly_what_the_market_sends() -> None:
    crypto = market("crypto")
    wanted = expected(crypto, *CRYPTO)

    async def work() -> None:
        path = "v1beta3/crypto/us"
        async with (
            serve(crypto, speed=60, wire=WAITING) as simulator,
            streaming(
                simulator, path, kind="crypto", channels=CRYPTO, symbols=["BTC/USD", "ETH/USD"]
            ) as one,
        ):
            await one.until(lambda sdk: len(sdk.found) >= len(wanted))
            await one.stop()
            assert one.found == wanted

    run(work())


@pytest.mark.parametrize(
    ("faults", "logs"),
    [
        ("drop@30", "restarting connection"),
        ("cut@30", "restarting connection"),
        ("contention@30+40", "connection limit exceeded"),
        ("slow_client@30", "slow client (407)"),
        ("malformed@30", "error during websocket communication"),
        ("unknown_type@30", "subscribed to"),
        ("html@30+20,drop@30", "HTTP 502"),
        ("auth_failure@30+20", "auth failed"),
    ],
)
def test_sdk_stock_stream_mends_itself_after(faults: str, logs: str) -> None:
    """It misses what was sent meanwhile, doubles nothing, and gets the rest."""
    wanted = expected(market(), "trades", "bars", *ALSO)

    async def work() -> None:
        async with (
            serve(market(), speed=40, faults=planned(faults), wire=WAITING) as simulator,
            streaming(simulator, channels=("trades", "bars")) as one,
        ):
            await one.until(lambda sdk: wanted[-1] in sdk.found[-1:])
            await one.stop()
            assert not Counter(one.found) - Counter(wanted)
            assert one.found[:40] == wanted[:40]
            assert one.found[-5:] == wanted[-5:]
            assert any(logs in line for line in one.log), one.log
            dropped = "unknown" not in faults
            assert (len(one.found) < len(wanted)) == dropped

    run(work())


def test_sdk_stock_stream_with_a_wrong_key_says_so_and_gets_nothing() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=40) as simulator,
            streaming(simulator, secret="WRONG") as one,
        ):
            # the vendor's answer, and the SDK's own way: it tries again and again
            await one.until(lambda sdk: sum("auth failed" in line for line in sdk.log) >= 2)
            await one.stop()
            assert one.found == []
            assert simulator.sent("v2/iex") == 0

    run(work())


def test_sdk_stock_stream_without_the_plan_stops() -> None:
    async def work() -> None:
        async with (
            serve(market(), plan=Plan.basic()) as simulator,
            streaming(simulator, "v2/sip") as one,
        ):
            await one.until(lambda sdk: any("insufficient subscription" in x for x in sdk.log))
            await one.stop()

    run(work())


async def ask(simulator: Simulator, what: str, **given: Any) -> Line:
    asked = {"symbols": ["AAPL", "MSFT"], "params": {"start": "2026-01-05T14:30:00Z"}} | given
    async with sdk(mode="history", url=simulator.url, what=what, **asked) as one:
        said = await one.line()
        await one.stop()
        assert said is not None
        return said


def known(of: Market, what: str, symbol: str) -> list[str]:
    rows = getattr(of, what)(symbol, 0, of.end_ns, of.end_ns - 1)
    return [facts(what, json.loads(row.json), symbol) for row in rows]


@pytest.mark.parametrize("what", ["trades", "quotes", "bars"])
@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_sdk_history_gets_exactly_what_the_market_has(kind: Any, what: str) -> None:
    """More than a page of it; crypto without keys."""
    of = market(kind, 300, 40.0)

    async def work() -> None:
        async with serve(of, speed=100_000) as simulator:
            await simulator.ended()
            key = {} if kind == "stocks" else {"key": ""}
            word, found = await ask(simulator, what, kind=kind, symbols=list(of.symbols), **key)
            assert word == "data"
            wanted = {symbol: known(of, what, symbol) for symbol in of.symbols}
            assert {s: [told(what, row) for row in rows] for s, rows in found.items()} == wanted
            assert what == "bars" or sum(map(len, wanted.values())) > 10_000

    run(work())


@pytest.mark.parametrize("name", ["5Min", "1Hour", "1Day", "1Week", "1Month"])
@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_sdk_history_gets_bars_of_other_timeframes(kind: Any, name: str) -> None:
    of = market(kind, 720, 1.0)
    timeframe = Timeframe.read(name)
    assert timeframe is not None
    views = (of.bars, of.days, kind, timeframe)

    async def work() -> None:
        async with serve(of, speed=100_000) as simulator:
            await simulator.ended()
            given = {"symbols": list(of.symbols), "params": {"start": "2025-12-01T00:00:00Z"}}
            word, found = await ask(simulator, "bars", kind=kind, timeframe=name, **given)
            assert word == "data"
            for symbol in of.symbols:
                rows = rolled(*views, symbol, 0, of.end_ns, of.end_ns - 1)
                wanted = [facts("bars", json.loads(row.json), symbol) for row in rows]
                assert [told("bars", row) for row in found[symbol]] == wanted
                assert len(wanted) == (3 if name == "5Min" else 1)

    run(work())


@pytest.mark.parametrize("kind", ["stocks", "crypto"])
def test_sdk_history_gets_snapshots(kind: Any) -> None:
    of = market(kind)

    async def work() -> None:
        async with serve(of, speed=100_000) as simulator:
            await simulator.ended()
            given = {"symbols": list(of.symbols), "params": {}}
            word, found = await ask(simulator, "snapshot", kind=kind, **given)
            assert word == "data"
            for symbol in of.symbols:
                parts = [known(of, what, symbol)[-1] for what in ("trades", "quotes", "bars")]
                end_ns = of.end_ns
                day = of.days(symbol, 0, end_ns, end_ns - 1)[-1]
                parts.append(facts("bars", json.loads(day.json), symbol))
                kinds = ("trades", "quotes", "bars", "bars")
                assert [told(*pair) for pair in zip(kinds, found[symbol], strict=True)] == parts

    run(work())


def test_sdk_history_latest_and_order_book() -> None:
    crypto = market("crypto")

    async def work() -> None:
        async with serve(market(), crypto, speed=100_000) as simulator:
            await simulator.ended()
            _, found = await ask(simulator, "latest", params={})
            for symbol, rows in found.items():
                assert [told("trades", row) for row in rows] == known(market(), "trades", symbol)[
                    -1:
                ]
            given = {"symbols": ["BTC/USD"], "params": {}}
            _, book = await ask(simulator, "orderbook", kind="crypto", **given)
            assert book["BTC/USD"][0]["bids"]

    run(work())


def test_sdk_history_errors_reach_the_user() -> None:
    async def work() -> None:
        async with serve(market(), plan=Plan.basic()) as simulator:
            wrong = await ask(simulator, "trades", secret="WRONG")
            assert (wrong[0], "forbidden" in wrong[1]) == ("error", True)
            end = {"params": {"start": "2026-01-05T14:30:00Z", "end": "2026-01-05T14:31:00Z"}}
            recent = await ask(simulator, "trades", **end)
            assert recent[0] == "error"
            assert "42210000" in recent[1]
            assert "subscription does not permit querying recent SIP data" in recent[1]

    run(work())


def test_sdk_history_waits_through_429() -> None:
    """The clock stands, and with it the storm, until the SDK has been refused."""

    async def work() -> None:
        async with serve(market(), speed=100_000, wire=WAITING) as simulator:
            simulator.inject("too_many+5")
            asking = asyncio.create_task(ask(simulator, "trades"))
            await until(lambda: simulator.answered[429] > 0)
            simulator.clock.start()
            await simulator.ended()
            word, found = await asking
            assert word == "data"
            wanted = known(market(), "trades", "AAPL")
            assert [told("trades", row) for row in found["AAPL"]] == wanted

    run(work())
