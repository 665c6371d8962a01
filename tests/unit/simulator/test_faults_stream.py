"""Faults of the stream: each by what a raw client sees, and what REST still has."""

import asyncio
import json
from collections import Counter
from itertools import pairwise

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from marketpipe.domain.units import NANOS
from marketpipe.simulator import Fault, Schedule, Simulator, parse_faults, serve
from marketpipe.simulator.market import Event
from simkit import (
    HEADERS,
    OPEN_NS,
    WAITING,
    Message,
    client,
    events,
    is_message,
    market,
    run,
    subscriber,
    texts,
    until,
)

CHANNELS = ("trades", "corrections", "cancelErrors", "bars", "updatedBars")
SENT = events(market(), *CHANNELS)
ASKED = ("trades", "bars", "updatedBars")
LAST = texts(market(), *CHANNELS)[-1]
AT_NS = OPEN_NS + 30 * NANOS


def said(sent: list[Event]) -> list[Message]:
    return [json.loads(event.encode("json")) for event in sent]


def planned(text: str) -> Schedule:
    return Schedule(parse_faults(text, OPEN_NS, market().end_ns, seed=3))


async def history(simulator: Simulator, symbol: str) -> list[Message]:
    """Return a symbol's trades as REST has them now."""
    async with httpx.AsyncClient(headers=HEADERS, trust_env=False) as http:
        answer = await http.get(
            f"{simulator.url}/v2/stocks/trades",
            params={"symbols": symbol, "start": "2026-01-05T14:30:00Z", "limit": 10_000},
        )
        return list(answer.json()["trades"].get(symbol, []))


def due_with(late_ns: int, channels: tuple[str, ...], seconds: int) -> list[Message]:
    """Return the messages in the order in which they come if those of a window are held."""
    end_ns = AT_NS + seconds * NANOS

    def due(event: Event) -> tuple[int, bool]:
        held = AT_NS <= event.ts_send_ns < end_ns and event.channel in channels
        return event.ts_send_ns + (late_ns if held else 0), not held

    return said(sorted(SENT, key=due))


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_fault_ends_connections_without_a_handshake_and_rest_has_what_was_missed(kind: str) -> None:
    async def work() -> None:
        async with serve(market(), speed=200, faults=planned(f"{kind}@30"), wire=WAITING) as sim:
            async with subscriber(sim, *ASKED) as one:
                found = await one.rest()
                assert one.socket.close_code == 1006
            before = [event for event in SENT if event.ts_send_ns < AT_NS]
            assert found == said(before)[: len(found)]
            async with subscriber(sim, *ASKED) as again:
                later = await again.until(is_message(LAST))
            assert later == said(SENT)[-len(later) :]
            assert len(found) + len(later) <= len(SENT)
            kept = [one["i"] for one in await history(sim, "AAPL")]
            sent = [m["i"] for m in said(SENT) if m["T"] == "t" and m["S"] == "AAPL"]
            assert set(sent) <= set(kept)

    run(work())


def test_fault_mute_silences_open_connections_for_good() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=100_000, faults=planned("mute@30"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            reading = asyncio.create_task(one.rest())
            await until(lambda: sim.clock.now_ns() > market().end_ns)
            await (await one.socket.ping())  # it lives
            await one.socket.close()
            assert await reading == said([e for e in SENT if e.ts_send_ns < AT_NS])

    run(work())


@pytest.mark.parametrize("channel", ["trades", "bars"])
def test_fault_mute_of_a_channel_leaves_the_others(channel: str) -> None:
    async def work() -> None:
        faults = planned(f"mute@30={channel}")
        async with (
            serve(market(), speed=100_000, faults=faults, wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            reading = asyncio.create_task(one.rest())
            await until(lambda: sim.clock.now_ns() > market().end_ns)
            await (await one.socket.ping())
            await one.socket.close()
            left = [e for e in SENT if e.ts_send_ns < AT_NS or e.channel != channel]
            assert len(left) < len(SENT)
            assert await reading == said(left)

    run(work())


@pytest.mark.parametrize("speed", [200, 100_000])
def test_fault_mute_with_a_length_loses_exactly_what_was_due(speed: float) -> None:
    async def work() -> None:
        faults = planned("mute@30+20")
        async with (
            serve(market(), speed=speed, faults=faults, wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = await one.until(is_message(LAST))
            lost = range(AT_NS, AT_NS + 20 * NANOS)
            assert found == said([e for e in SENT if e.ts_send_ns not in lost])

    run(work())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slow@30+10=5", due_with(5 * NANOS, CHANNELS, 10)),
        ("late@30+10=20", due_with(20 * NANOS, ("trades",), 10)),
        (
            "duplicate@30+10",
            said(
                [
                    event
                    for event in SENT
                    for _ in range(1 + (AT_NS <= event.ts_send_ns < AT_NS + 10 * NANOS))
                ]
            ),
        ),
    ],
    ids=["slow", "late", "duplicate"],
)
def test_fault_of_a_window_changes_the_order(text: str, expected: list[Message]) -> None:
    assert expected != said(SENT)

    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned(text), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = [m for m in await one.until(is_message(LAST)) if m["T"] != "subscription"]
            assert found == expected[: len(found)]
            assert len(found) >= len(SENT) - 1

    run(work())


def test_fault_reorder_shuffles_within_seconds() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned("reorder@30+40=2"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = await one.until(is_message(LAST))
            expected = said(SENT)
            assert found != expected
            assert Counter(map(str, found)) == Counter(map(str, expected))
            place = {str(m): at for at, m in enumerate(found)}
            for before, after in pairwise(SENT):
                if (before.ts_send_ns - AT_NS) // (2 * NANOS) + 1 < (after.ts_send_ns - AT_NS) // (
                    2 * NANOS
                ):
                    first, second = said([before, after])
                    assert place[str(first)] < place[str(second)]

    run(work())


def test_fault_malformed_spoils_a_frame_and_nothing_else() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned("malformed@30=2"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found, spoiled = [], []
            while LAST not in found:
                data = await one.socket.recv()
                try:
                    found += json.loads(data)
                except json.JSONDecodeError:
                    spoiled.append(str(data))
            assert len(spoiled) == 2
            missed = [m for m in said(SENT) if m not in found]
            assert 2 <= len(missed) <= 2 * 10
            assert spoiled[0].startswith('[{"T":"')
            assert len(found) + len(missed) == len(SENT)

    run(work())


def test_fault_unknown_type_is_put_in_between() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned("unknown_type@30=2"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = await one.until(is_message(LAST))
            assert [m["T"] for m in found].count("zz") == 2
            assert [m for m in found if m["T"] != "zz"] == said(SENT)

    run(work())


@pytest.mark.parametrize(
    ("kind", "code", "msg"),
    [("contention", 406, "connection limit exceeded"), ("auth_failure", 402, "auth failed")],
)
def test_fault_of_logging_in_lasts_and_then_is_over(kind: str, code: int, msg: str) -> None:
    async def work() -> None:
        async with serve(market(), speed=20, faults=planned(f"{kind}@5+20"), wire=WAITING) as sim:
            async with subscriber(sim, *ASKED) as one:
                await one.rest()
            async with client(sim) as again:
                await again.one()
                refused = await again.ask(action="auth", key="KEY", secret="SECRET")
                assert refused == {"T": "error", "code": code, "msg": msg}
            await sim.clock.sleep_until(OPEN_NS + 25 * NANOS)
            async with client(sim) as after:
                await after.log_in()

    run(work())


def test_fault_slow_client_by_count_comes_after_exactly_so_many() -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned("slow_client#50"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = await one.rest()
            assert found == [
                *said(SENT[:50]),
                {"T": "error", "code": 407, "msg": "slow client"},
            ]
            assert one.socket.close_code == 1000

    run(work())


@pytest.mark.parametrize(("kind", "tag"), [("cancel", "x"), ("correction", "c")])
def test_fault_takes_back_the_last_trade_and_rest_shows_it(kind: str, tag: str) -> None:
    async def work() -> None:
        async with (
            serve(market(), speed=200, faults=planned(f"{kind}@30"), wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            found = await one.until(is_message(LAST))
            expected = said(SENT)
            (said_so,) = [m for m in found if m not in expected]
            before = [e for e in SENT if e.channel == "trades" and e.ts_send_ns < AT_NS]
            (trade,) = said(before[-1:])
            number = said_so["i" if tag == "x" else "oi"]
            assert (said_so["T"], said_so["S"], number) == (tag, trade["S"], trade["i"])
            rows = {row["i"]: row for row in await history(sim, trade["S"])}
            if tag == "x":
                assert (said_so["a"], said_so["p"]) == ("C", trade["p"])
                assert rows[trade["i"]]["u"] == "canceled"
            else:
                new = rows[said_so["ci"]]
                assert rows[trade["i"]]["u"] == "incorrect"
                assert (new["u"], new["t"], new["p"]) == ("corrected", trade["t"], said_so["cp"])
                assert said_so["cp"] == pytest.approx(trade["p"] + 0.01)

    run(work())


def test_fault_rename_gives_a_symbol_another_name_from_then_on() -> None:
    async def work() -> None:
        faults = planned("rename@30=AAPL:APLE")
        async with (
            serve(market(), speed=200, faults=faults, wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
        ):
            expected = said(SENT)
            for event, message in zip(SENT, expected, strict=True):
                if event.ts_send_ns >= AT_NS and message["S"] == "AAPL":
                    message["S"] = "APLE"
            found = await one.until(is_message(expected[-1]))
            assert found == expected
            old, new = await history(sim, "AAPL"), await history(sim, "APLE")
            assert old[-1]["t"] < "2026-01-05T14:30:30" <= new[0]["t"]
            assert len(old) + len(new) >= sum(m["T"] == "t" and m["S"] != "MSFT" for m in found)

    run(work())


def test_fault_of_one_path_leaves_the_others_alone() -> None:
    async def work() -> None:
        faults = Schedule([Fault(kind="drop", at_ns=AT_NS, path="v2/sip")])
        async with (
            serve(market(), speed=200, faults=faults, wire=WAITING) as sim,
            subscriber(sim, *ASKED) as one,
            subscriber(sim, "bars", path="v2/sip") as two,
        ):
            with pytest.raises(ConnectionClosed):
                await two.until(is_message(LAST))
            found = await one.until(is_message(LAST))
            assert found == said(SENT)[-len(found) :]

    run(work())
