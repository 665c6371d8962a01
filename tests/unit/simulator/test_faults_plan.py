"""Faults as words, as storms, and over HTTP."""

import json
import re

import httpx
import pytest

import docskit
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.simulator import FAULTS, Fault, Schedule, Wire, parse_faults, serve, storm
from simkit import OPEN_NS, market, run, subscriber

END_NS = OPEN_NS + 3_600 * NANOS


def test_faults_are_read_from_words() -> None:
    text = "drop@60, mute@90.5+30,slow@1+2=3,malformed#500,rename@5=FB:META,cancel=4"
    text += ",mute@6+7=quotes"
    assert parse_faults(text, OPEN_NS, END_NS) == [
        Fault(kind="drop", at_ns=OPEN_NS + 60 * NANOS),
        Fault(kind="mute", at_ns=OPEN_NS + 90_500_000_000, seconds=30.0),
        Fault(kind="slow", at_ns=OPEN_NS + NANOS, seconds=2.0, amount=3.0),
        Fault(kind="malformed", after=500),
        Fault(kind="rename", at_ns=OPEN_NS + 5 * NANOS, names=("FB", "META")),
        Fault(kind="cancel", at_ns=OPEN_NS, amount=4.0),
        Fault(kind="mute", at_ns=OPEN_NS + 6 * NANOS, seconds=7.0, channel="quotes"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crash@1", "was 'crash'"),
        ("drop@", "was 'drop@'"),
        ("drop@1.2.3", "'1.2.3' in 'drop@1.2.3' is no number"),
        ("slow=x", "'x' in 'slow=x' is no number"),
        ("rename@5", "OLD:NEW"),
        ("mute@5=ticks", "channel was 'ticks'; a mute, and nothing else, names one of trades"),
        ("drop@5=A:B", "'A:B' in 'drop@5=A:B' is no number"),
    ],
)
def test_faults_that_cannot_be_read_are_refused_with_what_is_valid(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        parse_faults(text, OPEN_NS, END_NS)


def test_storm_is_the_same_for_one_seed_and_within_the_session() -> None:
    first = storm(5, 50, OPEN_NS, END_NS)
    assert first == storm(5, 50, OPEN_NS, END_NS) == parse_faults("storm=50", OPEN_NS, END_NS, 5)
    assert first != storm(6, 50, OPEN_NS, END_NS)
    times = [fault.at_ns or 0 for fault in first]
    assert times == sorted(times)
    assert all(OPEN_NS <= at < END_NS for at in times)
    assert {fault.kind for fault in first} <= {k for k, facts in FAULTS.items() if facts.in_storms}
    assert len({fault.kind for fault in first}) > 8
    (only,) = {fault.kind for fault in storm(5, 9, OPEN_NS, END_NS, ["drop"])}
    assert only == "drop"


def test_schedule_windows_begin_inclusive_and_end_exclusive() -> None:
    schedule = Schedule([Fault(kind="too_many", at_ns=OPEN_NS, seconds=2.0)])
    held = [schedule.window("too_many", OPEN_NS + at) for at in (-1, 0, 2 * NANOS - 1, 2 * NANOS)]
    assert [window is not None for window in held] == [False, True, True, False]
    assert schedule.window("html", OPEN_NS) is None


def test_faults_are_added_and_listed_over_http() -> None:
    async def work() -> None:
        async with serve(market(), speed=5) as simulator:
            address = f"{simulator.url}/faults"
            async with subscriber(simulator, "trades") as one, httpx.AsyncClient() as http:
                assert (await http.get(address)).json() == {"faults": []}
                added = await http.post(address, params={"add": "drop,clock_skew@5+9=3"})
                assert [fault["kind"] for fault in added.json()["faults"]] == ["drop", "clock_skew"]
                await one.rest()
                assert one.socket.close_code == 1006
                drop, skew = (await http.get(address)).json()["faults"]
                assert (drop["begun"], skew["seconds"], skew["amount"]) == (1, 9.0, 3.0)
                refused = await http.post(address, params={"add": "crash"})
                assert (refused.status_code, "was 'crash'" in refused.text) == (400, True)
                other = await http.post(f"{simulator.url}/v2/stocks/trades")
                assert other.status_code == 405

    run(work())


def test_clock_is_published_and_a_skew_sets_it_back_for_a_while() -> None:
    async def work() -> None:
        async with serve(market(), speed=10) as simulator, httpx.AsyncClient() as http:

            async def behind() -> float:
                before = simulator.clock.now_ns()
                said = json.loads((await http.get(simulator.clock_url)).content)
                assert said["speed"] == 10.0
                return (before - int(said["now_ns"])) / NANOS

            assert await behind() <= 0
            simulator.inject("clock_skew@0+5=1000")
            assert 0 < await behind() <= 1000
            await simulator.clock.sleep_until(simulator.clock.now_ns() + 6 * NANOS)
            assert await behind() <= 0

    run(work())


def test_clock_that_waits_stands_until_the_first_subscription() -> None:
    async def work() -> None:
        wire = Wire(waits=True, lead_seconds=0.5)
        async with serve(market(), speed=10, wire=wire) as simulator, httpx.AsyncClient() as http:
            said = (await http.get(simulator.clock_url)).json()
            assert (said["now_ns"], said["speed"]) == (OPEN_NS - 5 * NANOS, 0.0)
            async with subscriber(simulator, "trades"):
                said = (await http.get(simulator.clock_url)).json()
                assert said["speed"] == 10.0
                assert said["now_ns"] > OPEN_NS - 5 * NANOS

    run(work())


def test_docs_table_of_faults_is_that_of_the_program() -> None:
    page = docskit.DOCS / "how-to" / "simulate.md"
    (table,) = docskit.tables(docskit.section(page, "Faults"))
    assert table[1:] == [
        [f"`{kind}`", _number(facts.seconds), _number(facts.amount), facts.means]
        for kind, facts in FAULTS.items()
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
