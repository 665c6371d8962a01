"""`marketpipe explain` of a bar of which retention took what was behind it."""

from pathlib import Path

import pytest

from e2e.conftest import Command
from feedkit import OPEN, ticks
from marketpipe.domain.units import NANOS

DAY = 86_400 * NANOS
BAR = ("explain", "AAPL", "1m", "2026-01-05T14:30:30Z")
NEXT = ("explain", "AAPL", "1m", "2026-01-06T14:30:30Z")


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """Two days, one trade every 10 seconds, one of them refused."""
    for day, name in enumerate(("a.csv", "b.csv")):
        path = ticks(tmp_path / name, 120, start_ns=OPEN + day * DAY)
        rows = [row for n, row in enumerate(path.read_text().splitlines()) if n % 20 < 3]
        path.write_text("\n".join([*rows, f"AAPL,{OPEN + day * DAY + 1},-1,1,7"]) + "\n")
        words = ("stream", "--mode", "mock", "--timeframes", "1m", "--csv", path)
        assert marketpipe(*words).code == 0
    return marketpipe


def marks(out: str) -> list[str]:
    """Return the marks of the evidence."""
    return [line[0] for line in out.splitlines() if line[:2] in ("+ ", "- ", "? ")]


def drop(streamed: Command, table: str) -> None:
    words = ("--also-raw",) if table == "raw" else ()
    assert streamed("lake", "drop", table, "--before", "2026-01-06", *words).code == 0


def test_explain_of_dropped_trades_says_so_and_shows_the_messages(streamed: Command) -> None:
    before, next_before = streamed(*BAR), streamed(*NEXT)
    assert "dropped" not in before.out
    drop(streamed, "trades")
    done = streamed(*BAR)
    assert done.code == 0, done.err
    assert done.line("dropped") == (
        "trades of days before 2026-01-06: what each trade set is not known any more; the "
        "revisions stand as they were made"
    )
    assert done.line("revision") == before.line("revision")
    assert marks(before.out).count("+") == marks(done.out).count("?") > 0
    assert marks(done.out).count("-") == 1  # the refused one is in quarantine still
    assert "? 2026-01-05T14:30:00Z trade 100 × 1 id 17676234000000000 [] received; what it set" in (
        done.out
    )
    assert "mock-file:1 AAPL," in done.out
    assert streamed(*NEXT).out == next_before.out


def test_explain_without_messages_either_says_that_too(streamed: Command) -> None:
    for table in ("trades", "raw"):
        drop(streamed, table)
    done = streamed(*BAR)
    assert done.code == 0, done.err
    assert marks(done.out) == []
    assert (
        "dropped    raw of days before 2026-01-06: the bytes of its messages are gone" in done.out
    )
    assert streamed(*NEXT).code == 0


def test_explain_of_a_dropped_bar_says_until_when_there_are_none(streamed: Command) -> None:
    drop(streamed, "bars")
    done = streamed(*BAR)
    assert done.code == 2
    assert "bars of days before 2026-01-06 were dropped of the lake" in done.err
