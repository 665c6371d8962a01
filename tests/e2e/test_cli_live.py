"""`marketpipe stream` in live mode, `gaps` and `verify`, against a simulated Alpaca."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from e2e.conftest import Command

SECRET = "SECRET"
SESSION = ("--start", "2026-01-05T14:30:00Z", "--seconds", "3600", "--speed", "60", "--port", "0")


@contextmanager
def simulator(*words: str) -> Iterator[dict[str, str]]:
    """Run `marketpipe simulate alpaca`; give environment variables that lead to it."""
    command = [sys.executable, "-m", "marketpipe", "simulate", "alpaca", *SESSION, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = {}
    try:
        for line in process.stdout or ():
            name, _, value = line.strip().partition(" ")
            if name == "ready":
                break
            found[name] = value.strip().split(" ")[0]
        yield {
            "ALPACA_API_KEY": "KEY",
            "ALPACA_SECRET_KEY": SECRET,
            "MARKETPIPE_ALPACA__STREAM_URL": found["rest"].replace("http", "ws", 1),
            "MARKETPIPE_ALPACA__REST_URL": found["rest"],
            "MARKETPIPE_ALPACA__CLOCK": found["clock"],
        }
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def plus() -> Iterator[dict[str, str]]:
    """A simulator whose accounts may do all."""
    with simulator("--generate", "AAPL,MSFT", "--crypto", "BTC/USD") as environ:
        yield environ


def listening(folder: Path, environ: Mapping[str, str], *words: str) -> "subprocess.Popen[str]":
    """Start a stream in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "marketpipe", "stream", "--timeframes", "1m", *words],
        env={**os.environ, **environ},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_bars(
    folder: Path, process: "subprocess.Popen[str]", feeds: int = 1, more_than: int = 0
) -> None:
    """Wait until so many feeds have bars in the store, and more than so many."""
    store = str(folder / "data" / "marketpipe.db")
    words = [sys.executable, "-c", _WAIT, store, str(feeds), str(more_than)]
    subprocess.run(words, check=True, timeout=90)
    assert process.poll() is None


def in_store(folder: Path) -> int:
    """Return how many bars the store has."""
    with closing(sqlite3.connect(folder / "data" / "marketpipe.db")) as store:
        return int(store.execute("SELECT count(*) FROM bars").fetchone()[0])


_WAIT = """
import sqlite3, sys, time
path, feeds, more_than = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
while True:
    try:
        found, bars = sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(
            "SELECT count(DISTINCT feed), count(*) FROM series JOIN bars ON series.id = series_id"
        ).fetchone()
        if found >= feeds and bars > more_than:
            break
    except sqlite3.OperationalError:
        pass
    time.sleep(0.1)
"""


def test_stream_live_without_keys_says_what_to_set(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALPACA_API_KEY", "APCA_API_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    done = marketpipe("stream", "--mode", "live")
    assert done.code == 2
    assert "ALPACA_API_KEY" in done.err
    assert "keys.env" in done.err
    assert "make demo" in done.err


def test_stream_live_of_a_file_is_refused(marketpipe: Command) -> None:
    done = marketpipe("stream", "--csv", "ticks.csv")
    assert (done.code, "--mode mock" in done.err) == (2, True)


def test_stream_live_of_another_source_is_refused(marketpipe: Command) -> None:
    done = marketpipe("stream", "--source", "nobody")
    assert (done.code, "alpaca" in done.err) == (2, True)


def test_stream_live_stops_cleanly_at_a_signal_and_agrees_with_a_replay(
    marketpipe: Command, plus: dict[str, str], tmp_path: Path
) -> None:
    process = listening(tmp_path, plus, "--symbols", "AAPL", "--crypto-symbols", "BTC/USD")
    until_bars(tmp_path, process, feeds=2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "alpaca-iex" in out
    assert "alpaca-crypto-us" in out
    proved = marketpipe("verify")
    assert proved.code == 0, proved.out
    assert {"alpaca-iex", "alpaca-crypto-us"} <= set(proved.out.split())
    assert "gaps       none" in marketpipe("gaps").out
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert SECRET not in out + err


def test_stream_live_again_fills_the_time_between(
    marketpipe: Command, plus: dict[str, str], tmp_path: Path
) -> None:
    bars = 0
    for _ in range(2):
        process = listening(tmp_path, plus, "--symbols", "AAPL")
        until_bars(tmp_path, process, more_than=bars)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        bars = in_store(tmp_path)
    found = marketpipe("gaps")
    assert "stopped" in found.out
    assert marketpipe("verify").code == 0


def test_stream_live_with_a_wrong_key_says_so_and_does_not_show_it(
    marketpipe: Command, plus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**plus, "ALPACA_SECRET_KEY": "WRONG-SECRET"}.items():
        monkeypatch.setenv(name, value)
    done = marketpipe("stream", "--symbols", "AAPL")
    assert done.code == 3
    assert "402" in done.err
    assert "WRONG-SECRET" not in done.out + done.err


def test_stream_live_of_a_plan_without_the_feed_does_not_stop_the_other(tmp_path: Path) -> None:
    words = ("--generate", "AAPL", "--crypto", "BTC/USD", "--plan", "basic")
    with simulator(*words) as environ:
        process = listening(
            tmp_path, environ, "--feed", "sip", "--symbols", "AAPL", "--crypto-symbols", "BTC/USD"
        )
        until_bars(tmp_path, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "409" in err
    assert "iex" in err


def test_stream_live_of_too_many_symbols_says_how_many_there_may_be(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ",".join(f"S{n:02}" for n in range(40))
    with simulator("--generate", names, "--plan", "basic") as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        done = marketpipe("stream", "--symbols", names)
    assert done.code == 3
    assert "405" in done.err


def test_stream_live_behind_a_proxy_that_answers_with_a_page_says_so(tmp_path: Path) -> None:
    with simulator("--generate", "AAPL", "--faults", "html@0+3600") as environ:
        assert "proxy" in said_before_it_is_stopped(tmp_path, environ, "502")


def said_before_it_is_stopped(folder: Path, environ: Mapping[str, str], word: str) -> str:
    """Stream until a word comes up on standard error, then stop; return what was said."""
    process = listening(folder, environ, "--symbols", "AAPL")
    said = ""
    for line in process.stderr or ():
        said += line
        if word in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    return said


def test_stream_live_without_a_network_keeps_trying_and_stops_when_told(tmp_path: Path) -> None:
    environ = {
        "ALPACA_API_KEY": "KEY",
        "ALPACA_SECRET_KEY": SECRET,
        "MARKETPIPE_ALPACA__STREAM_URL": "ws://127.0.0.1:1",
        "MARKETPIPE_ALPACA__REST_URL": "http://127.0.0.1:1",
    }
    assert "nothing listens" in said_before_it_is_stopped(tmp_path, environ, "127.0.0.1:1")
