"""What `marketpipe doctor` says of a live feed, before and after asking the vendor."""

import asyncio
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from random import Random  # noqa: TID251  # spreads retries

import pytest
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import simkit
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.feedcheck import asked, clock_check, feed_check, keys_check
from marketpipe.pipelines.folderstate import Check, folder_checks, gap_check
from marketpipe.simulator import Fault, Schedule, serve
from marketpipe.simulator.plans import Plan
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.clocks import SystemClock
from marketpipe.store import Database, GapEntry, GapState, GapStore
from vendorkit import SECOND, T0, HandClock, Vendor

CLOSED = "127.0.0.1:9"
SECRET = "5tr1ct1y-pr1v4te"


def stream(address: str, path: str = "v2/iex", *, secret: str = SECRET) -> AlpacaStream:
    """Return how to get at a stream of a server that has history too."""
    return AlpacaStream(
        path=path,
        key=SecretStr("KEY"),
        secret=SecretStr(secret),
        url=f"ws://{address}",
        rest_url=f"http://{address}",
    )


async def answers(of: AlpacaStream, symbols: tuple[str, ...], *, at_ns: int = T0) -> list[Check]:
    """Ask the servers of a stream, and see that no answer shows the secret."""
    clock = HandClock(at_ns)
    found = [check async for check in asked(of, symbols, clock, Random(1), skew=True)]
    shown = "".join(check.found + check.remedy for check in found)
    assert of.secret.get_secret_value() not in shown
    return found


@pytest.mark.parametrize(
    ("path", "plan", "secret", "faults", "stream_says", "history_says"),
    [
        ("v2/iex", Plan(), SECRET, [], ("ok", "2 symbols"), ("ok", "10,000 requests a minute")),
        ("v2/sip", Plan(), SECRET, [], ("ok", "lets these keys in"), ("ok", "gives the trades")),
        ("v2/iex", Plan.basic(), SECRET, [], ("ok", ""), ("ok", "200 requests a minute")),
        ("v2/iex", Plan(), "WRONG-IT-IS", [], ("broken", "402"), ("broken", "refuses the key")),
        ("v2/sip", Plan.basic(), SECRET, [], ("broken", "409"), ("broken", "Algo Trader Plus")),
        ("v2/delayed_sip", Plan.basic(), SECRET, [], ("ok", ""), ("ok", "gives the trades")),
        ("v2/iex", Plan(max_symbols=1), SECRET, [], ("broken", "405"), ("ok", "")),
        ("v2/iex", Plan(), SECRET, ["contention"], ("note", "406"), ("ok", "")),
        ("v2/iex", Plan(), SECRET, ["too_many"], ("ok", ""), ("note", "429")),
        ("v2/iex", Plan(), SECRET, ["refuse_rest"], ("ok", ""), ("broken", "the plan does not")),
        ("v2/iex", Plan(), SECRET, ["html"], ("broken", "proxy"), ("broken", "cannot answer now")),
    ],
)
def test_asked_vendor_says_what_is_in_the_way(
    path: str,
    plan: Plan,
    secret: str,
    faults: list[str],
    stream_says: tuple[str, str],
    history_says: tuple[str, str],
) -> None:
    of = simkit.market()

    async def work() -> None:
        holding = [Fault(kind=kind, at_ns=of.start_ns, seconds=600) for kind in faults]
        async with serve(
            of, plan=plan, keys={"KEY": SECRET}, faults=Schedule(holding)
        ) as simulator:
            wanted = stream(f"127.0.0.1:{simulator.port}", path, secret=secret)
            first, second, *_ = await answers(wanted, of.symbols, at_ns=simulator.clock.now_ns())
        for check, (verdict, words) in ((first, stream_says), (second, history_says)):
            assert (check.verdict, words in check.found) == (verdict, True), check
        assert first.what == f"stream ws://127.0.0.1:{simulator.port}/{path}"

    simkit.run(work())


def test_asked_where_nothing_listens_says_so_of_both_at_once() -> None:
    checks = asyncio.run(answers(stream(CLOSED), ("AAPL",)))
    assert [(check.verdict, check.what) for check in checks] == [
        ("broken", f"stream ws://{CLOSED}/v2/iex"),
        ("broken", f"history http://{CLOSED} of iex"),
    ]
    assert "nothing listens there" in checks[0].found
    assert "Check the network" in checks[1].found


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"<html><title>Log in</title></html>", "text/html", ("'Log in'", "a web page or a proxy")),
        (b'{"message":"not here"}', "application/json", ("opened no WebSocket", "refuses what")),
    ],
)
def test_asked_something_else_than_the_vendor_says_so(
    body: bytes, kind: str, words: tuple[str, str]
) -> None:
    def answer(_: ServerConnection, __: Request) -> Response:
        head = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
        return Response(HTTPStatus.NOT_FOUND, "X", Headers(head), body)

    async def work() -> None:
        async with Vendor("json", answer) as vendor:
            checks = await answers(stream(vendor.url.removeprefix("ws://")), ("AAPL",))
        assert [check.verdict for check in checks] == ["broken", "broken"]
        assert [word in check.found for word, check in zip(words, checks, strict=True)] == [
            True,
            True,
        ]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("ahead_s", "verdict", "words"),
    [
        (0, "ok", "agrees"),
        (2.9, "ok", "agrees"),  # the header is cut to the second: it may be 1.9 s
        (4.5, "broken", "is 4 s ahead of"),
        (-1.9, "ok", "agrees"),
        (-90, "broken", "is 90 s behind"),
    ],
)
def test_skewed_clock_is_named_with_its_side(ahead_s: float, verdict: str, words: str) -> None:
    body = json.dumps({"trades": {}, "next_page_token": None}).encode()
    head = {
        "Content-Length": str(len(body)),
        "Date": format_datetime(datetime.fromtimestamp(T0 // SECOND, UTC), usegmt=True),
        "Connection": "close",
    }

    def answer(_: ServerConnection, request: Request) -> Response | None:
        is_stream = "Upgrade" in request.headers
        return None if is_stream else Response(200, "OK", Headers(head), body)

    async def work() -> None:
        async with Vendor("msgpack", answer) as vendor:
            at_ns = T0 + round(ahead_s * SECOND)
            address = vendor.url.removeprefix("ws://")
            asking = asyncio.create_task(answers(stream(address), ("AAPL",), at_ns=at_ns))
            peer = await vendor.accepted()
            await peer.error(402)
            *_, last = await asking
        assert (last.what, last.verdict, words in last.found) == ("time", verdict, True), last

    asyncio.run(work())


def test_asked_vendor_that_grants_less_names_what_is_lacking() -> None:
    async def work() -> None:
        async with Vendor() as vendor:
            wanted = stream(vendor.url.removeprefix("ws://"))
            asking = asyncio.create_task(answers(wanted, ("AAPL", "NOSUCH")))
            peer = await vendor.accepted()
            await peer.welcome()
            await peer.heard()
            await peer.send({"T": "success", "msg": "authenticated"})
            said = await peer.heard()
            del said["action"]
            await peer.echo(**{name: ["AAPL"] for name in said})
            first, *_ = await asking
        assert first.verdict == "note"
        assert "trades NOSUCH" in first.found

    asyncio.run(work())


def test_clock_to_follow_is_asked() -> None:
    async def work() -> None:
        async with serve(simkit.market(), speed=3.0) as simulator:
            good = await clock_check(simulator.clock_url)
            bad = await clock_check(simulator.url + "/nothing")
        assert (good.verdict, "at speed 3" in good.found) == ("ok", True)
        assert (bad.verdict, "a clock answers" in bad.found) == ("broken", True)

    simkit.run(work())


@pytest.mark.parametrize(
    ("key", "secret", "needed", "verdict", "words"),
    [
        (None, None, False, "absent", "not set"),
        (None, None, True, "broken", "not set"),
        ("K3Y-ONLY", None, False, "broken", "ALPACA_SECRET_KEY is not set"),
        (None, "S3CR3T", False, "broken", "ALPACA_API_KEY is not set"),
        ("K3Y-ONLY", "S3 CR3T", False, "broken", "has blanks"),
        ("K3Y-ONLY", "", False, "broken", "is empty"),
        ("K3Y-ONLY", "S3CR3T", True, "ok", "key and secret are set"),
    ],
)
def test_keys_are_told_and_not_shown(
    key: str | None, secret: str | None, needed: bool, verdict: str, words: str
) -> None:
    given = [None if one is None else SecretStr(one) for one in (key, secret)]
    check = keys_check(*given, needed=needed)
    shown = check.found + check.remedy
    assert (check.verdict, words in check.found) == (verdict, True), check
    assert verdict == "ok" or "keys.env" in shown
    assert not [part for part in ("K3Y", "S3CR3T", "CR3T") if part in shown]


@pytest.mark.parametrize(
    ("path", "url", "rest_url", "verdict", "words"),
    [
        ("v2/sip", "wss://s.example", "https://d.example", "ok", "in Algo Trader Plus only"),
        ("v2/iex", "wss://s.example/", "https://d.example", "ok", "stream wss://s.example/v2/iex,"),
        ("v1beta3/crypto/us", "wss://s.example", "https://d.example", "ok", "crypto, in every"),
        ("v1beta3/crypto/nowhere", "wss://s", "https://d", "broken", "path was"),
        ("v2/iex", "https://s.example", "https://d.example", "broken", "must be like wss://"),
        ("v2/iex", "wss://s.example", "d.example", "broken", "data API is none"),
    ],
)
def test_feed_is_described_without_asking(
    path: str, url: str, rest_url: str, verdict: str, words: str
) -> None:
    check = feed_check(path, ("AAPL", "MSFT"), url, rest_url)
    assert (check.verdict, words in check.found) == (verdict, True), check
    assert verdict == "broken" or "AAPL, MSFT" in check.found


def entry(
    number: int, start: int, state: GapState, reason: str = "disconnected", exact: int = 4
) -> GapEntry:
    """Return an entry of a ledger; of four bars so many are exact."""
    return GapEntry(
        journal_id="alpaca-iex",
        number=number,
        source="alpaca",
        feed="iex",
        start_ns=T0 + start * SECOND,
        end_ns=T0 + (start + 1) * SECOND,
        reason=reason,
        symbols=("AAPL",),
        state=state,
        bars_compared=4,
        bars_exact=exact,
    )


def test_gaps_that_are_not_repaired_are_counted_and_the_oldest_named() -> None:
    fine = [entry(1, 50, "repaired"), entry(2, 0, "open", "day", 0)]
    assert gap_check(fine) == Check("gaps", "ok", "2 in the ledger, none that is not repaired")
    odd = [entry(3, 70, "open"), entry(4, 60, "refused"), entry(5, 80, "repaired", exact=3)]
    check = gap_check([*fine, *odd])
    assert check.verdict == "note"
    assert check.found == (
        "1 open, 1 refused, 1 whose bars differ; the oldest is alpaca-iex 4, "
        "2026-01-05T14:31:00Z to 2026-01-05T14:31:01Z, disconnected"
    )
    assert "marketpipe gaps" in check.remedy


def test_gaps_of_a_data_folder_are_read_without_changing_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    async def fill() -> None:
        async with await Database.open(folder.store_url) as database:
            await GapStore(database).save(entry(7, 0, "refused"))

    asyncio.run(fill())
    before = (tmp_path / "marketpipe.db").read_bytes()
    found = {check.what: check for check in folder_checks(folder)}
    assert found["store"].verdict == "ok"
    assert found["gaps"].found.startswith("1 refused; the oldest is alpaca-iex 7, 2026-01-05T14:30")
    assert (tmp_path / "marketpipe.db").read_bytes() == before


def test_asked_with_the_system_clock_agrees_with_a_server_on_this_machine() -> None:
    of = simkit.market()

    async def work() -> None:
        async with serve(of, keys={"KEY": SECRET}) as simulator:
            wanted = stream(f"127.0.0.1:{simulator.port}")
            *_, last = [
                check
                async for check in asked(wanted, of.symbols, SystemClock(), Random(1), skew=True)
            ]
        assert (last.what, last.verdict) == ("time", "ok")

    simkit.run(work())
