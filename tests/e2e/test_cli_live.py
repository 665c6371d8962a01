"""`marketpipe stream` in live mode, `gaps` and `verify`, against a simulated Alpaca."""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from e2e.conftest import Command
from streamkit import SECRET, in_store, listening, simulator, until_bars


@pytest.fixture(scope="module")
def plus() -> Iterator[dict[str, str]]:
    """A simulator whose accounts may do all."""
    with simulator("--generate", "AAPL,MSFT", "--crypto", "BTC/USD") as environ:
        yield environ


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


def test_all_symbols_are_refused_with_the_reason(marketpipe: Command) -> None:
    done = marketpipe("stream", "--symbols", "*")
    assert done.code == 2
    assert "symbols: was '*'; a gap in a feed of all symbols cannot be filled" in done.err
    done = marketpipe("doctor", "--crypto-symbols", "*")
    assert done.code == 1
    assert "broken   feeds: symbols: was '*'; a gap in a feed" in done.out


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


def test_stream_killed_while_it_was_mute_finds_what_it_had_missed_before(
    marketpipe: Command, tmp_path: Path
) -> None:
    with simulator("--generate", "AAPL", "--wait", "--faults", "mute@150+900") as environ:
        patient = {**environ, "MARKETPIPE_ALPACA__SILENCE_SECONDS": "3000"}
        process = listening(tmp_path, patient, "--symbols", "AAPL")
        until_bars(tmp_path, process)
        ends = time.monotonic() + 60
        while httpx.get(environ["MARKETPIPE_ALPACA__CLOCK"]).json()["now"] < "2026-01-05T14:33:20Z":
            assert time.monotonic() < ends
        process.kill()
        process.communicate(timeout=60)
        process = listening(tmp_path, environ, "--symbols", "AAPL")
        until_bars(tmp_path, process, more_than=in_store(tmp_path))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    found = re.search(
        r"1: 2026-01-05T14:(\d\d):(\d\d)\S* to (\S+), stopped", marketpipe("gaps").out
    )
    assert found is not None
    # What was missed began at 14:32:30, and the kill came after 14:33:20.
    assert 140 <= 60 * (int(found[1]) - 30) + int(found[2]) <= 150
    assert found[3] > "2026-01-05T14:33:20Z"
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
    assert done.err.count("error 405") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--symbols", "AAPL,BTC/USD"),
            "symbols: was 'BTC/USD', a pair of crypto; name it with --crypto-symbols BTC/USD",
        ),
        (
            ("--crypto-symbols", "BTC/USD,AAPL,SPY"),
            "was 'AAPL', no pair such as BTC/USD; name stocks with --symbols AAPL,SPY",
        ),
    ],
)
def test_symbols_of_the_wrong_kind_are_input_that_is_refused_with_what_to_write(
    marketpipe: Command, plus: dict[str, str], tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = marketpipe("stream", *words)
    assert (done.code, says in done.err) == (2, True), done.err
    assert not (tmp_path / "data").exists()


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


KEYS = ("ALPACA_API_KEY", "ALPACA_SECRET_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY")


def test_doctor_without_keys_says_what_to_set_and_fails_only_if_they_are_needed(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for words, code, verdict in (((), 0, "absent"), (("--connect",), 1, "broken")):
        done = marketpipe("doctor", *words)
        assert done.code == code
        assert f"{verdict:<8} keys of alpaca: not set\n         live feeds: set ALPACA_" in done.out
        assert "stream wss://stream.data.alpaca.markets/v2/iex, history https://data." in done.out
        assert "stream wss://stream.data.alpaca.markets/v1beta3/crypto/us," in done.out


def test_doctor_connects_and_says_that_both_feeds_can_be_had(
    marketpipe: Command, plus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in plus.items():
        monkeypatch.setenv(name, value)
    words = ("--symbols", "AAPL", "--crypto-symbols", "BTC/USD")
    silent = marketpipe("doctor", *words)
    assert (silent.code, "lets these keys in" in silent.out) == (0, False)
    done = marketpipe("doctor", "--connect", *words)
    assert done.code == 0, done.out
    assert done.out.count("lets these keys in, and grants 1 symbols") == 2
    assert done.out.count("gives the trades that a gap would need") == 2
    assert f"ok       clock {plus['MARKETPIPE_ALPACA__CLOCK']}: 2026-01-05T" in done.out


def test_doctor_with_a_wrong_key_says_so_and_does_not_show_it(
    marketpipe: Command, plus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**plus, "ALPACA_SECRET_KEY": "WRONG-SECRET"}.items():
        monkeypatch.setenv(name, value)
    done = marketpipe("doctor", "--connect", "--symbols", "AAPL")
    assert done.code == 1
    assert "error 402" in done.out
    assert "it refuses the key" in done.out
    assert "WRONG-SECRET" not in done.out + done.err
