"""`marketpipe simulate`: it says where it is, serves, and stops cleanly."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from e2e.conftest import Command
from simkit import HEADERS, Client, run

GENERATED = ("--generate", "AAPL,MSFT", "--start", "2026-01-05T14:30:00Z")


@contextmanager
def simulating(*words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, list[str]]]]:
    """Run the command until the context ends; give it, and what it said up to ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "marketpipe", "simulate", "alpaca", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        said: dict[str, list[str]] = {}
        for line in process.stdout:
            name, _, rest = line.rstrip("\n").partition(" ")
            said.setdefault(name, []).append(rest.strip())
            if name == "ready":
                break
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_what_it_says_and_stops_on_a_signal(number: signal.Signals) -> None:
    async def look(said: dict[str, list[str]]) -> None:
        (rest,), (clock,) = said["rest"], said["clock"]
        (iex,) = [address for address in said["stream"] if address.endswith("/v2/iex")]
        async with httpx.AsyncClient(headers=HEADERS) as http:
            now = (await http.get(clock)).json()
            assert now["now_ns"] >= 1_767_623_400 * 10**9
            assert now["speed"] == 20.0
            faults = (await http.get(f"{rest}/faults")).json()["faults"]
            assert [fault["kind"] for fault in faults] == ["clock_skew", "drop"]
            latest = await http.get(f"{rest}/v2/stocks/trades/latest", params={"symbols": "AAPL"})
            assert latest.status_code == 200
        async with connect(iex) as stream:
            one = Client(stream)
            await one.log_in()
            await one.ask(action="subscribe", trades=["AAPL"])
            assert (await one.frame())[0]["S"] == "AAPL"

    faults = ("--faults", "clock_skew@3000,drop@3600")
    with simulating(*GENERATED, "--crypto", "BTC/USD", "--speed", "20", *faults) as (process, said):
        assert said["session"] == ["2026-01-05T14:30:00Z to 2026-01-05T21:00:00Z, at speed 20"]
        assert (said["stocks"], said["crypto"]) == (["AAPL, MSFT"], ["BTC/USD"])
        assert said["keys"] == ["KEY and, as its secret, SECRET"]
        assert len(said["stream"]) == 5
        run(look(said))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_simulate_of_a_recording_sends_its_messages(tmp_path: Path) -> None:
    trade = {"T": "t", "S": "XYZ", "i": 7, "x": "V", "p": 12.5, "s": 10, "c": ["@"], "z": "C"}
    start_ns = 1_767_623_400 * 10**9
    lines = [
        f"{start_ns + second * 10**9} "
        + json.dumps([trade | {"i": second, "t": f"2026-01-05T14:30:{second:02}Z"}])
        for second in range(1, 40)
    ]
    path = tmp_path / "frames.txt"
    path.write_text("\n".join(lines) + "\n")

    async def look(said: dict[str, list[str]]) -> None:
        (iex,) = [address for address in said["stream"] if address.endswith("/v2/iex")]
        async with connect(iex) as stream:
            one = Client(stream)
            await one.log_in()
            await one.ask(action="subscribe", trades=["XYZ"])
            found = await one.until(lambda message: message["i"] == 39)
            assert [message["i"] for message in found] == list(range(1, 40))

    with simulating("--from", str(path), "--speed", "40", "--wait") as (process, said):
        assert "These" not in said  # it does not call a recording generated
        asyncio.run(asyncio.wait_for(look(said), 60))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either --from FILE, or --generate AAPL,MSFT"),
        (("--generate", "AAPL", "--from", "x"), "give either --from FILE, or --generate"),
        (("--from", "nowhere.txt"), "nowhere.txt: cannot be opened"),
        (("--from", "x", "--start", "2026-01-05"), "a recording starts when it did"),
        (("--generate", "AAPL", "--start", "soon"), "--start: was 'soon'"),
        (("--generate", "AAPL", "--speed", "0"), "speed: was '0.0'"),
        (("--generate", "AAPL,aa"), "symbols of stocks: was 'aa'; valid is a stock in capitals"),
        (("--generate", "BTC/USD"), "symbols of stocks: was 'BTC/USD'"),
        (("--crypto", "AAPL"), "symbols of crypto: was 'AAPL'; valid is a pair in capitals"),
        (("--generate", "AAPL", "--faults", "crash@1"), "the kinds are drop, cut"),
    ],
)
def test_simulate_bad_input_exits_2_and_says_what_is_valid(
    marketpipe: Command, words: tuple[str, ...], says: str
) -> None:
    done = marketpipe("simulate", "alpaca", *words)
    assert done.code == 2
    assert says in done.err


def test_simulate_on_a_port_that_is_taken_exits_2(marketpipe: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = marketpipe("simulate", "alpaca", *GENERATED, "--port", port)
    assert done.code == 2
    assert f"port: {port} of 127.0.0.1 cannot be listened on" in done.err
