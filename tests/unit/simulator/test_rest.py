"""History as the simulator answers it: pages, limits, rights, errors."""

from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from marketpipe.domain.units import NANOS, format_ns
from marketpipe.simulator import Plan, clock, serve
from marketpipe.simulator.plans import DELAY_NS
from simkit import HEADERS, OPEN_NS, client, market, over, rows, run

START = "2026-01-05T14:30:00Z"


@pytest.mark.parametrize("kind", ["trades", "quotes", "bars"])
@pytest.mark.parametrize("limit", [7, 250, 10_000])
def test_rest_pages_concatenate_to_the_whole_history(kind: str, limit: int) -> None:
    """Ordered by symbol, then time; the limit counts over all symbols; the last token is null."""

    async def work() -> None:
        async with over(market()) as (_, get):
            found: dict[str, list[Any]] = {}
            token: str | None = ""
            sizes, names = [], []
            while token is not None:
                page = {"page_token": token} if token else {}
                answer = await get(
                    f"/v2/stocks/{kind}",
                    symbols="MSFT,NONE,AAPL",
                    start=START,
                    limit=limit,
                    timeframe="1Min",
                    **page,
                )
                assert answer.status_code == 200
                body = answer.json()
                assert list(body) == [kind, "next_page_token"]
                sizes.append(sum(map(len, body[kind].values())))
                for symbol, part in body[kind].items():
                    names.append(symbol)
                    found.setdefault(symbol, []).extend(part)
                token = body["next_page_token"]
            assert found == {name: rows(market(), kind, name) for name in ("AAPL", "MSFT")}
            assert names == sorted(names)
            assert set(sizes[:-1]) <= {limit}
            assert 0 < sizes[-1] <= limit

    run(work())


def test_rest_range_is_inclusive_at_both_ends_and_can_be_reversed() -> None:
    async def work() -> None:
        some = market().trades("AAPL", 0, market().end_ns, market().end_ns - 1)[10:20]
        ends = {"start_ns": some[0].ts_event_ns, "end_ns": some[-1].ts_event_ns}
        expected = rows(market(), "trades", "AAPL", **ends)
        assert len(expected) >= 10
        async with over(market()) as (_, get):
            times = {"start": expected[0]["t"], "end": expected[-1]["t"], "symbols": "AAPL"}
            up = (await get("/v2/stocks/trades", **times)).json()["trades"]["AAPL"]
            assert up == expected
            down: list[Any] = []
            token: str | None = ""
            while token is not None:
                page = {"page_token": token} if token else {}
                answer = await get("/v2/stocks/trades", **times, sort="desc", limit=4, **page)
                down += answer.json()["trades"]["AAPL"]
                token = answer.json()["next_page_token"]
            assert down == expected[::-1]
            day = await get(
                "/v2/stocks/trades", symbols="AAPL", start="2026-01-05", end=times["end"]
            )
            assert day.json()["trades"]["AAPL"][-1] == expected[-1]
            zoned = times | {
                "start": times["start"].replace("14:30", "09:30").replace("Z", "-05:00")
            }
            assert (await get("/v2/stocks/trades", **zoned)).json()["trades"]["AAPL"] == expected
            nothing = await get("/v2/stocks/trades", symbols="NONE", start=START)
            assert nothing.content == b'{"trades":{},"next_page_token":null}'

    run(work())


def test_rest_limit_is_1000_where_none_is_given() -> None:
    async def work() -> None:
        big = market("stocks", 300, 40.0)
        async with over(big) as (_, get):
            body = (await get("/v2/stocks/quotes", symbols="AAPL", start=START)).json()
            assert len(body["quotes"]["AAPL"]) == 1000
            assert body["next_page_token"]

    run(work())


def test_rest_shows_what_was_known_then_and_pages_stay_with_that() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=100) as simulator,
            httpx.AsyncClient(base_url=simulator.url, headers=HEADERS) as http,
        ):
            await simulator.clock.sleep_until(OPEN_NS + 70 * NANOS)
            asked = {"symbols": "AAPL", "start": START, "limit": "10"}
            first = (await http.get("/v2/stocks/trades", params=asked)).json()
            known_ns = simulator.clock.now_ns()
            found, token = first["trades"]["AAPL"], first["next_page_token"]
            await simulator.ended()
            while token:
                page = {**asked, "page_token": token}
                body = (await http.get("/v2/stocks/trades", params=page)).json()
                found += body["trades"]["AAPL"]
                token = body["next_page_token"]
            earliest = market().trades("AAPL", 0, known_ns, OPEN_NS + 70 * NANOS)
            latest = market().trades("AAPL", 0, known_ns, known_ns)
            assert len(earliest) <= len(found) <= len(latest)
            assert len(found) < len(rows(market(), "trades", "AAPL"))

    run(work())


def test_rest_latest_is_the_last_of_each() -> None:
    async def work() -> None:
        crypto = market("crypto")
        async with over(market(), crypto) as (_, get):
            for kind in ("trades", "quotes", "bars"):
                body = (await get(f"/v2/stocks/{kind}/latest", symbols="AAPL,NONE")).json()
                assert body == {kind: {"AAPL": rows(market(), kind, "AAPL")[-1]}}
                path = f"/v1beta3/crypto/us/latest/{kind}"
                body = (await get(path, symbols="BTC/USD")).json()
                assert body == {kind: {"BTC/USD": rows(crypto, kind, "BTC/USD")[-1]}}
            path = "/v1beta3/crypto/us/latest/orderbooks"
            book = (await get(path, symbols="BTC/USD")).json()["orderbooks"]["BTC/USD"]
            assert list(book) == ["t", "b", "a"]
            assert book["b"]

    run(work())


def test_rest_keys_are_needed_for_stocks_and_wrong_ones_are_wrong_everywhere() -> None:
    async def work() -> None:
        async with over(market(), market("crypto")) as (_, get):
            stocks = {"symbols": "AAPL", "start": START}
            crypto = {"symbols": "BTC/USD", "start": START}
            wrong = {"APCA-API-SECRET-KEY": "WRONG"}
            bearer = {"Authorization": "Bearer SECRET", "APCA-API-SECRET-KEY": "WRONG"}
            for path, given in (
                ("/v2/stocks/trades", stocks),
                ("/v1beta3/crypto/us/trades", crypto),
            ):
                assert (await get(path, **given)).status_code == 200
                refused = await get(path, **given, headers=wrong)
                assert (refused.status_code, refused.json()) == (403, {"message": "forbidden."})
                assert (await get(path, **given, headers=bearer)).status_code == 200
            async with httpx.AsyncClient() as bare:
                base = str(refused.url.copy_with(path="/", query=None)).rstrip("/")
                codes = [
                    (await bare.get(base + path, params=given)).status_code
                    for path, given in (
                        ("/v2/stocks/trades", stocks),
                        ("/v1beta3/crypto/us/trades", crypto),
                    )
                ]
                assert codes == [403, 200]

    run(work())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"symbols": ""}, "symbols is required"),
        ({"limit": "0"}, "invalid limit"),
        ({"limit": "10001"}, "invalid limit"),
        ({"limit": "many"}, "invalid limit"),
        ({"start": "yesterday"}, "invalid start: yesterday"),
        ({"end": "2026-13-05T00:00:00Z"}, "invalid end"),
        ({"end": "2026-01-01"}, "end should not be before start"),
        ({"feed": "nyse"}, "invalid feed: nyse"),
        ({"sort": "up"}, "invalid sort"),
        ({"page_token": "x"}, "invalid page_token"),
        ({"page_token": "WyJaIiwwLDBd"}, "invalid page_token"),
    ],
)
def test_rest_malformed_parameters_are_answered_400(given: dict[str, str], says: str) -> None:
    async def work() -> None:
        async with over(market()) as (_, get):
            answer = await get("/v2/stocks/trades", **{"symbols": "AAPL", "start": START} | given)
            assert answer.status_code == 400
            assert says in answer.json()["message"]

    run(work())


def test_rest_recent_sip_needs_the_plan() -> None:
    """Within 15 minutes the SIP is refused; without an end, the answer ends there."""
    refusal = {
        "code": 42210000,
        "message": "subscription does not permit querying recent SIP data",
    }

    async def work() -> None:
        long = market("stocks", 3_600, 0.5)
        async with (
            serve(long, speed=400, plan=Plan.basic()) as simulator,
            httpx.AsyncClient(base_url=simulator.url, headers=HEADERS) as http,
        ):
            await simulator.clock.sleep_until(OPEN_NS + DELAY_NS + 60 * NANOS)
            path, asked = "/v2/stocks/trades", {"symbols": "AAPL", "start": START}
            for feed in ({}, {"feed": "sip"}):
                end = {"end": format_ns(simulator.clock.now_ns())}
                recent = await http.get(path, params=asked | feed | end)
                assert (recent.status_code, recent.json()) == (403, refusal)
                older = await http.get(path, params=asked | feed)
                last = older.json()["trades"]["AAPL"][-1]["t"]
                assert last < format_ns(simulator.clock.now_ns() - DELAY_NS)
            latest = await http.get(f"{path}/latest", params={"symbols": "AAPL", "feed": "sip"})
            assert (latest.status_code, latest.json()) == (403, refusal)
            hour = asked | {"timeframe": "1Hour", "start": "2026-01-05T14:00:00Z"}
            shown = [
                (await http.get("/v2/stocks/bars", params=hour | feed)).json()["bars"]["AAPL"]
                for feed in ({}, {"feed": "iex"})
            ]
            assert 0 < shown[0][0]["n"] < shown[1][0]["n"] / 4
            iex = await http.get(path, params=asked | {"feed": "iex"} | end)
            assert iex.json()["trades"]["AAPL"][-1]["t"] > last

    run(work())


def test_rest_limits_of_requests_are_told_and_then_answered_429() -> None:
    async def work() -> None:
        async with over(market(), plan=Plan(requests_per_minute=3)) as (_, get):
            answers = [await get("/v2/stocks/bars", symbols="AAPL", start=START) for _ in range(7)]
            codes = [answer.status_code for answer in answers]
            # a minute of real time may begin between two of them: then the count begins anew
            assert codes.count(429) >= 1
            refused = answers[codes.index(429)]
            assert refused.json() == {"message": "too many requests."}
            assert refused.headers["X-RateLimit-Limit"] == "3"
            assert refused.headers["X-RateLimit-Remaining"] == "0"
            assert int(refused.headers["X-RateLimit-Reset"]) % 60 == 0
            assert answers[0].headers["X-RateLimit-Remaining"] == "2"

    run(work())


def test_rest_faults_refuse_for_a_while() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=20) as simulator,
            httpx.AsyncClient(base_url=simulator.url, headers=HEADERS) as http,
        ):
            await simulator.clock.sleep_until(OPEN_NS + 3 * NANOS)
            asked = {"symbols": "AAPL,MSFT", "start": START, "limit": "2"}

            async def ask(**more: str) -> httpx.Response:
                return await http.get("/v2/stocks/trades", params=asked | more)

            simulator.inject("too_many+20")
            answer = await ask()
            assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (429, "0")
            # seconds since the epoch, of real time: it is over by then
            left = int(answer.headers["X-RateLimit-Reset"]) - clock.unix_seconds()
            assert 0 < left <= 3
            await simulator.clock.sleep_until(simulator.clock.now_ns() + 20 * NANOS)
            assert (await ask()).status_code == 200

            simulator.inject("refuse_rest+20")
            answer = await ask()
            assert (answer.status_code, answer.json()["code"]) == (403, 42210000)
            await simulator.clock.sleep_until(simulator.clock.now_ns() + 20 * NANOS)

            simulator.inject("page_loop+20")
            first = (await ask()).json()
            second = (await ask(page_token=first["next_page_token"])).json()
            assert second["next_page_token"] == first["next_page_token"]
            assert (await ask(page_token=first["next_page_token"])).json() == second
            await simulator.clock.sleep_until(simulator.clock.now_ns() + 20 * NANOS)
            again = (await ask(page_token=first["next_page_token"])).json()
            assert again["trades"] == second["trades"]
            assert again["next_page_token"] != second["next_page_token"]

            simulator.inject("html+20")
            answer = await ask()
            assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")
            assert answer.text.startswith("<html>")
            with pytest.raises(InvalidStatus, match="502"):
                async with client(simulator):
                    pass

    run(work())
