"""Bars of all timeframes as the simulator answers them, snapshots, and feeds without anything."""

from typing import Any

import pytest

from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.simulator.generate import generate
from simkit import OPEN_NS, market, over, rows, run

START = "2026-01-05T14:30:00Z"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"timeframe": "60Min"}, "invalid timeframe: 60Min"),
        ({"timeframe": "1m"}, "invalid timeframe: 1m"),
        ({"adjustment": "nonsense"}, "invalid adjustment: nonsense"),
        ({"adjustment": "split,"}, "invalid adjustment: "),
        ({"asof": "garbage"}, "invalid asof: garbage"),
        ({"asof": "2026-01-05T00:00:00Z"}, "invalid asof"),
        ({"asof": "2026-13-05"}, "invalid asof"),
    ],
)
def test_rest_bars_with_malformed_parameters_are_answered_400(
    given: dict[str, str], says: str
) -> None:
    async def work() -> None:
        async with over(market()) as (_, get):
            answer = await get("/v2/stocks/bars", **{"symbols": "AAPL", "start": START} | given)
            assert (answer.status_code, says in answer.json()["message"]) == (400, True)
            unknown = await get("/v2/stocks/auctions", symbols="AAPL")
            assert (unknown.status_code, unknown.json()) == (
                404,
                {"message": "endpoint not found."},
            )

    run(work())


@pytest.mark.parametrize(
    "given", [{"adjustment": "split,dividend"}, {"asof": "2026-01-05"}, {"asof": "-"}]
)
def test_rest_bars_are_the_same_however_adjusted_and_named(given: dict[str, str]) -> None:
    async def work() -> None:
        async with over(market()) as (_, get):
            asked = {"symbols": "AAPL", "start": START, **given}
            found = (await get("/v2/stocks/bars", **asked)).json()["bars"]["AAPL"]
            assert found == rows(market(), "bars", "AAPL")

    run(work())


def test_rest_pages_of_longer_bars_concatenate_to_minutes_rolled_up() -> None:
    async def work() -> None:
        of = market("stocks", 720, 1.0)
        async with over(of) as (_, get):
            asked = {"symbols": "AAPL", "start": START, "timeframe": "5Min", "limit": "1"}
            found: list[Any] = []
            token: str | None = ""
            while token is not None:
                body = (await get("/v2/stocks/bars", **asked, page_token=token)).json()
                found += body["bars"].get("AAPL", [])
                token = body["next_page_token"]
            minutes = rows(of, "bars", "AAPL")
            assert [bar["t"][14:16] for bar in found] == ["30", "35", "40"]
            assert [bar["o"] for bar in found] == [minutes[k]["o"] for k in (0, 5, 10)]
            assert sum(bar["n"] for bar in found) == sum(bar["n"] for bar in minutes)

    run(work())


def test_rest_snapshots_are_the_latest_of_each_the_day_so_far_and_the_day_before() -> None:
    async def work() -> None:
        one, crypto = market("stocks", 150, 4.0), market("crypto")
        two_days = generate(
            ("AAPL", "MSFT"), "stocks", OPEN_NS, OPEN_NS + DAY_NS + 180 * NANOS, 7,
            trades_per_second=0.02, quotes_per_second=0.02,
        )  # fmt: skip
        async with over(one, crypto) as (_, get):
            body = (await get("/v2/stocks/snapshots", symbols="AAPL,NONE")).json()
            parts = {"latestTrade": "trades", "latestQuote": "quotes", "minuteBar": "bars"}
            wanted = {name: rows(one, what, "AAPL")[-1] for name, what in parts.items()}
            assert body == {"AAPL": wanted | {"dailyBar": rows(one, "days", "AAPL")[-1]}}
            path = "/v1beta3/crypto/us/snapshots"
            body = (await get(path, symbols="BTC/USD")).json()
            assert set(body["snapshots"]["BTC/USD"]) == {*wanted, "dailyBar"}
        async with over(two_days) as (_, get):
            found = (await get("/v2/stocks/snapshots", symbols="MSFT")).json()["MSFT"]
            before, so_far = rows(two_days, "days", "MSFT")
            assert (found["prevDailyBar"], found["dailyBar"]) == (before, so_far)
            assert [before["t"], so_far["t"]] == ["2026-01-05T05:00:00Z", "2026-01-06T05:00:00Z"]

    run(work())


@pytest.mark.parametrize("feed", ["boats", "overnight", "otc"])
def test_rest_feeds_in_which_there_is_nothing_are_empty(feed: str) -> None:
    async def work() -> None:
        async with over(market()) as (_, get):
            asked = {"symbols": "AAPL", "start": START, "feed": feed}
            bars = await get("/v2/stocks/bars", **asked)
            assert bars.json() == {"bars": {}, "next_page_token": None}
            assert (await get("/v2/stocks/trades/latest", **asked)).json() == {"trades": {}}
            assert (await get("/v2/stocks/snapshots", **asked)).json() == {}

    run(work())
