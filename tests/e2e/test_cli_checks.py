"""`marketpipe rebuild`, `verify` and `explain`, as a user meets them."""

import os
from pathlib import Path

from e2e.conftest import Command
from feedkit import OPEN
from marketpipe.journal import SqliteJournal
from marketpipe.pipelines.datafolder import DataFolder
from rebuildkit import streamed, tamper

RANGE = ("--start", "2026-01-05", "--end", "2026-01-06")


def test_verify_of_good_data_prints_one_root_four_times(
    marketpipe: Command, tmp_path: Path
) -> None:
    streamed(tmp_path)
    done = marketpipe("verify", "--symbols", "AAPL", "--date", "2026-01-05")
    assert done.code == 0
    roots = [line.split()[-1] for line in done.out.splitlines() if " bars  root " in line]
    assert len(roots) == 4
    assert len(set(roots)) == 1
    assert done.line("watermark") == "2026-01-06T14:31:59Z"


def test_verify_of_tampered_bars_exits_one_and_names_the_first(
    marketpipe: Command, tmp_path: Path
) -> None:
    tamper(streamed(tmp_path))
    done = marketpipe("verify")
    assert done.code == 1
    assert f"AAPL file  trade plain continuous 1m 2026-01-05 ts_open {OPEN}" in done.out


def test_rebuild_shows_then_writes_and_then_all_is_well(
    marketpipe: Command, tmp_path: Path
) -> None:
    tamper(streamed(tmp_path))
    for origin in ("raw", "canonical"):
        shown = marketpipe("rebuild", "--from", origin, "--symbols", "AAPL", *RANGE)
        assert shown.code == 1
        assert shown.line("bars") == "2 agree, 1 changed, 0 not kept, 0 without a trade"
        assert "AAPL@1m 2026-01-05T14:30:00Z high: kept 999.000000000, now 122.59" in shown.out
    written = marketpipe("rebuild", *RANGE, "--write")
    assert (written.code, written.line("written")) == (0, "1 revisions with cause rebuild")
    again = marketpipe("rebuild", *RANGE)
    assert (again.code, again.line("bars").split(",")[0]) == (0, "6 agree")
    told = marketpipe("explain", "AAPL", "1m", "2026-01-05T14:30:10Z")
    assert told.code == 0
    assert [line.split()[:3] for line in told.out.splitlines() if "known" in line] == [
        ["revision", "0", "first,"],
        ["revision", "1", "late,"],
        ["revision", "2", "rebuild,"],
    ]
    # the journal cannot give a session that a rebuild has changed: it says so
    assert "left out   3 bars of 1 sessions" in marketpipe("verify").out


def test_rebuild_and_verify_of_two_feeds_keep_to_their_own_series(
    marketpipe: Command, tmp_path: Path
) -> None:
    streamed(tmp_path)  # source file: 1m, 5m
    mock = ("stream", "--mode", "mock", "--csv", tmp_path / "0.csv", "--source", "other")
    assert marketpipe(*mock, "--timeframes", "1m,1h").code == 0
    for origin in ("raw", "canonical"):
        done = marketpipe("rebuild", "--from", origin, *RANGE)
        assert done.code == 0, done.out
        assert [x for x in done.out.splitlines() if x.startswith("bars ")] == [
            f"bars       {n} agree, 0 changed, 0 not kept, 0 without a trade" for n in (6, 2)
        ]
    only = marketpipe("verify", "--journal", "mock-other")
    assert only.code == 0
    assert [line.split()[1] for line in only.out.splitlines() if " bars  root " in line] == [
        "2"
    ] * 4
    assert marketpipe("verify").out.count("journal  ") == 2


def test_checks_of_wrong_words_exit_two_and_say_what_is_valid(
    marketpipe: Command, tmp_path: Path
) -> None:
    wrong: tuple[tuple[tuple[str, ...], str], ...] = (
        (("verify",), "holds no feed"),
        (("rebuild", *RANGE), "holds no feed"),
        (("gaps",), "'data' holds no feed"),
        (("gaps", "--data-dir", "nowhere", "--open"), "'nowhere' holds no feed"),
        (("explain", "AAPL", "1m", "2026-01-05T14:30:10Z"), "no 1m bar of AAPL"),
    )
    for words, named in wrong:
        done = marketpipe(*words)
        assert (done.code, named in done.err) == (2, True), done.err
    assert not (tmp_path / "nowhere").exists()
    streamed(tmp_path)
    assert marketpipe("gaps").out == "gaps       none\n"
    wrong = (
        (("gaps", "--journal", "none"), "are mock-file"),
        (("verify", "--date", "monday"), "date: was 'monday'"),
        (("verify", "--journal", "none"), "are mock-file"),
        (("verify", "--symbols", "AAPL,NOPE"), "has no NOPE; valid are AAPL, BTC/USD"),
        (("verify", "--symbols", "BTCUSD"), "has no BTCUSD; valid are BTC/USD, AAPL"),
        (("verify", "--symbols", ","), "symbols: was ',', no symbol; valid are AAPL, BTC/USD"),
        (("verify", "--date", "2030-01-01"), "bars are kept of 2026-01-05 to 2026-01-06"),
        (("rebuild", *RANGE, "--symbols", "AAPL,NOPE"), "has no NOPE; valid are AAPL, BTC/USD"),
        (("rebuild", *RANGE, "--symbols", ","), "symbols: was ',', no symbol"),
        (("rebuild", "--start", "2030-01-01", "--end", "2030-01-03"), "no bar to compare of raw,"),
        (("rebuild", "--start", "x", "--end", "2026-01-06"), "start: was 'x'"),
        (("rebuild", "--start", "2026-01-06", "--end", "2026-01-06"), "end: was '2026-01-06'"),
        (("explain", "AAPL", "1m", "2026-01-05T14:30:10"), "ts"),
        (("explain", "AAPL", "1x", "2026-01-05T14:30:10Z"), "1x"),
        (("explain", "AAPL", "1m", "2026-01-05T14:40:10Z"), "no 1m bar of AAPL"),
    )
    for words, named in wrong:
        done = marketpipe(*words)
        assert (done.code, named in done.err) == (2, True), done.err


def test_checks_beside_a_running_feed_exit_three_and_name_it(
    marketpipe: Command, tmp_path: Path
) -> None:
    folder = DataFolder(streamed(tmp_path))
    for words in (("verify",), ("rebuild", *RANGE), ("rebuild", *RANGE, "--write")):
        with SqliteJournal(folder.journal("mock-file"), "mock-file"):
            done = marketpipe(*words)
        assert done.code == 3
        assert f"journal mock-file: its feed is running, process {os.getpid()}; stop" in done.err
        assert ("restore" in done.err) == ("--write" not in words)
        assert marketpipe(*words).code == 0


def test_explain_prints_evidence_with_its_bytes(marketpipe: Command, tmp_path: Path) -> None:
    streamed(tmp_path)
    done = marketpipe("explain", "AAPL", "1m", "2026-01-05T14:30:10Z")
    assert done.line("bar") == "AAPL@1m 2026-01-05T14:30:00Z to 2026-01-05T14:31:00Z"
    assert done.line("series").startswith("file/ · trade · rules plain")
    lines = done.out.splitlines()
    assert len([line for line in lines if line.startswith("+ ")]) == 60
    assert lines[3].startswith("+ 2026-01-05T14:30:00Z trade 100 × 1 id")
    assert (
        lines[4].split(":", 1)[1].split(" ", 1)[1]
        == ((tmp_path / "0.csv").read_text().splitlines()[1])
    )
