"""`marketpipe stream`: a file as a feed, to its end, stopped, failed and taken up again."""

import asyncio
import gzip
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from e2e.conftest import Command
from feedkit import (
    HEAD,
    OPEN,
    live_settings,
    mock_feed,
    part_of,
    recording,
    service,
    ticks,
    whole_of,
)
from marketpipe.domain.units import NANOS
from marketpipe.errors import FullError
from marketpipe.journal import SqliteJournal, SqliteJournalReader
from marketpipe.pipelines.mockfeed import Place
from marketpipe.pipelines.service import settings_facts

MOCK = ("stream", "--mode", "mock")
DAY = 86_400 * NANOS


def test_stream_bars_are_those_of_a_replay_up_to_the_watermark(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv")
    done = marketpipe(*MOCK, "--csv", path, "--timeframes", "1m,5m")
    assert done.code == 0
    assert done.line("messages").startswith("1,200 appended to journal mock-file")
    assert done.line("ticks") == "trades 1,200"
    # the last trade is of 14:39:59; the clock ends a second later, and bars wait a second
    assert done.line("watermark") == "2026-01-05T14:39:59Z"
    assert done.line("bars") == "1m 18 · 5m 2"
    assert marketpipe("export", "bars", "-o", "live.csv").code == 0
    marketpipe("replay", "--csv", path, "--timeframes", "1m,5m", "-o", "replay.csv")
    head, *rows = Path("replay.csv").read_text().splitlines()
    closed = [row for row in rows if row.split(",")[3] <= "2026-01-05T14:39:59Z"]
    assert Path("live.csv").read_text().splitlines() == [head, *closed]


def test_stream_same_file_again_appends_nothing(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv")
    first = marketpipe(*MOCK, "--csv", path)
    again = marketpipe(*MOCK, "--csv", path)
    assert again.code == 0
    assert again.line("messages").startswith("0 appended")
    for name in ("ticks", "bars", "revisions", "findings", "watermark", "root"):
        assert again.line(name) == first.line(name)


def test_stream_stopped_goes_on_where_it_was_and_ends_with_the_same_root(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 3_000, per_second=5)
    whole = whole_of(tmp_path / "whole", path)
    runs = [part_of(tmp_path / "parts", path)]
    while not runs[-1].complete:
        runs.append(part_of(tmp_path / "parts", path))
    assert len(runs) > 3
    assert sum(run.appended for run in runs) == whole.appended == 30_000
    assert runs[-1].held == whole.held


def test_stream_sigterm_stops_cleanly_and_the_next_run_finishes(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 12_000, per_second=10)
    command = [sys.executable, "-m", "marketpipe", *MOCK, "--csv", path.name]
    child = subprocess.Popen(
        [*command, "--data-dir", "parts"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob("parts/journal/mock-file/*.db-wal")):
        assert time.monotonic() < until
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert b"stopped before the end" in err
    assert b"root       sha256:" in out
    finished = marketpipe(*MOCK, "--csv", path.name, "--data-dir", "parts")
    whole = marketpipe(*MOCK, "--csv", path.name, "--data-dir", "whole")
    assert finished.line("root") == whole.line("root")
    assert finished.line("ticks") == whole.line("ticks") == "trades 240,000"


def test_stream_next_day_follows_as_a_further_connection(
    marketpipe: Command, tmp_path: Path
) -> None:
    first = ticks(tmp_path / "a.csv", 120)
    second = ticks(tmp_path / "b.csv", 120, start_ns=OPEN + DAY)
    marketpipe(*MOCK, "--csv", first, "--timeframes", "1m")
    done = marketpipe(*MOCK, "--csv", second, "--timeframes", "1m")
    assert done.code == 0
    assert done.line("ticks") == "trades 480"
    assert done.line("findings") == "none"
    # the first day's last minute closes when the clock of the second day ticks
    assert done.line("bars") == "1m 6"
    told = marketpipe(
        "sql",
        "SELECT DISTINCT conn_id FROM raw WHERE kind = 'data' ORDER BY 1",
        *("--format", "csv"),
    )
    assert told.out.split() == ["conn_id", "0", "1"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--csv", "a.csv", "--timeframes", "5m"), "timeframes: was '5m'"),
        (("--csv", "a.csv", "--timeframes", "1m", "--rules", "alpaca-v1"), "rules: was"),
        (("--csv", "earlier.csv", "--timeframes", "1m"), "before the journal's end"),
        (("--csv", "none.csv"), "none.csv"),
        (("--csv", "-"), "standard input"),
        (("--csv", "a.csv", "--frames", "b"), "both given"),
        ((), "neither given"),
        (("--frames", "a.csv", "--source", "nobody"), "alpaca"),
        (("--frames", "a.csv", "--symbols", "AAPL"), "symbols: was 'AAPL'"),
        (("--csv", "a.csv", "--timeframes", "1x"), "timeframe: was '1x'"),
    ],
)
def test_stream_that_does_not_fit_exits_two(
    marketpipe: Command, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "a.csv", 120), "--timeframes", "1m")
    ticks(tmp_path / "earlier.csv", 60)
    done = marketpipe(*MOCK, *words)
    assert done.code == 2
    assert named in done.err


def test_stream_stopped_within_one_file_refuses_another(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 3_000, per_second=5)
    assert not part_of(tmp_path / "data", path).complete
    later = ticks(tmp_path / "later.csv", 60, start_ns=OPEN + DAY)
    done = marketpipe(*MOCK, "--csv", later, "--timeframes", "1m,5m")
    assert done.code == 2
    assert "stopped within another file" in done.err
    assert marketpipe(*MOCK, "--csv", path, "--timeframes", "1m,5m").code == 0
    assert marketpipe(*MOCK, "--csv", later, "--timeframes", "1m,5m").code == 0


def test_stream_mode_comes_from_the_environment(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGESTION_MODE", "mock")
    assert marketpipe("stream", "--csv", ticks(tmp_path / "t.csv", 60)).code == 0


def test_stream_symbols_choose_lines(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv")
    done = marketpipe(*MOCK, "--csv", path, "--symbols", "MSFT", "--crypto-symbols", "BTC/USD")
    assert done.line("ticks") == "trades 600"


def test_stream_symbols_that_the_file_lacks_are_named(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 60)
    none = marketpipe(*MOCK, "--csv", path, "--symbols", "NOPE,BTCUSD")
    assert none.code == 2
    assert "t.csv holds no row of that name; valid are BTC/USD, AAPL" in none.err
    assert not Path("data/journal").exists()  # so that the right symbols can be taken in after it
    some = marketpipe(*MOCK, "--csv", path, "--symbols", "NOPE,AAPL")
    assert (some.code, some.line("ticks")) == (0, "trades 60")
    assert some.err == f"marketpipe: {path} holds no row of NOPE\n"


@pytest.mark.parametrize("form", ["csv", "frames"])
def test_stream_without_any_time_has_no_watermark(
    marketpipe: Command, tmp_path: Path, form: str
) -> None:
    bad, head = tmp_path / "bad", HEAD if form == "csv" else ""
    bad.write_text(head + "AAPL,oops,1,1,1\n")
    done = marketpipe(*MOCK, f"--{form}", bad)
    assert (done.code, done.line("watermark"), done.line("quarantine")) == (0, "none", "1")
    assert "nothing was confirmed yet" in marketpipe("verify").out
    if form == "csv":  # the feed goes on with what has times, and again with what has none
        assert marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60)).code == 0
        bad.write_text(f"{HEAD}BTC/USD,oops,1,1,1\n")
        done = marketpipe(*MOCK, "--csv", bad)
        assert (done.line("watermark"), done.line("quarantine")) == ("2026-01-05T14:30:59Z", "2")


def test_stream_stray_line_moves_no_clock_and_is_told(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 180)
    clean = marketpipe(*MOCK, "--csv", path, "--data-dir", "clean")
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(100, "AAPL,4102444800000000000,9.99,1,stray\n")  # 2100-01-01
    path.write_text("".join(lines))
    done = marketpipe(*MOCK, "--csv", path)
    assert done.line("findings") == "future_stamp 1"
    assert done.line("ticks") == "trades 361"
    for name in ("bars", "revisions", "watermark", "root"):
        assert done.line(name) == clean.line(name)
    assert marketpipe(*MOCK, "--csv", ticks(tmp_path / "n.csv", 60, start_ns=OPEN + DAY)).code == 0
    assert marketpipe("verify").code == 0


def test_stream_frames_correct_bars_and_quarantine_what_is_bad(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = recording(tmp_path / "frames.txt")
    done = marketpipe(*MOCK, "--frames", path, "--feed", "iex", "--timeframes", "1m")
    assert done.code == 0, done.err
    assert done.line("messages").startswith("8 appended to journal mock-alpaca")
    assert done.line("ticks") == "trades 3 · corrections 1"
    assert done.line("quarantine") == "1"
    assert done.line("revisions") == "2"
    marketpipe("export", "bars", "--history", "-o", "bars.csv")
    _, first, second = (row.split(",") for row in Path("bars.csv").read_text().splitlines())
    # open, high, low, close, volume; then trade 1 at 190 becomes 9 at 191.5
    assert first[4:9] == ["190", "190.5", "190", "190.5", "30"]
    assert second[4:9] == ["191.5", "191.5", "190.25", "190.5", "30"]
    assert [first[13], second[13]] == ["first", "correction"]


def test_stream_damaged_file_keeps_what_came_before(marketpipe: Command, tmp_path: Path) -> None:
    plain = ticks(tmp_path / "t.csv", 3_000, per_second=5).read_bytes()
    packed = tmp_path / "t.csv.gz"
    whole = gzip.compress(plain)
    packed.write_bytes(whole[: len(whole) * 3 // 4])
    done = marketpipe(*MOCK, "--csv", packed)
    assert done.code == 2
    assert "ends early" in done.err
    rows = marketpipe("sql", "SELECT count(*) AS n FROM trades", "--format", "csv")
    assert int(rows.out.split()[1]) > 10_000


def test_stream_lake_that_fails_loses_nothing(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 3_000, per_second=5)
    whole = whole_of(tmp_path / "whole", path)
    passed: list[str] = []

    def full(name: str) -> None:
        passed.append(name)
        if name == "trades:before" and passed.count(name) == 2:
            raise FullError("the disk is full")

    failing = service(tmp_path / "parts", path, at_boundary=full)
    with pytest.raises(FullError, match="the disk is full"):
        asyncio.run(failing.run())
    rest = whole_of(tmp_path / "parts", path)
    assert rest.held == whole.held


def test_stream_store_that_cannot_be_opened_exits_three(
    marketpipe: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.db").write_bytes(b"this is no database at all" * 100)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    done = marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    assert done.code == 3
    assert "it is no SQLite database" in done.err


def test_stream_with_another_writer_exits_three(marketpipe: Command, tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "data/journal/mock-file", "mock-file"):
        done = marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    assert done.code == 3
    assert f"process {os.getpid()}" in done.err


def test_stream_goes_on_when_the_start_of_the_file_is_in_the_raw_lake_alone(
    tmp_path: Path,
) -> None:
    path = ticks(tmp_path / "t.csv", 3_000, per_second=5)
    whole = whole_of(tmp_path / "whole", path)
    feed = mock_feed(path)
    folder = tmp_path / "parts/journal/mock-file"
    with SqliteJournal(folder, "mock-file", segment_bytes=1) as journal:
        facts = feed.facts(settings_facts(live_settings().derive))
        for batch in islice(feed.records(Place(0, 0), facts, None), 3):
            journal.append(batch)
    part_of(tmp_path / "parts", path)
    with closing(SqliteJournalReader(folder, "mock-file")) as reader:
        assert reader.last("control") is None
    assert whole_of(tmp_path / "parts", path).held == whole.held
