"""Up to when all had come, as the journal of a run that was killed or stopped tells it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from marketpipe.journal import SqliteJournal
from marketpipe.pipelines.lastgood import last_good_ns
from marketpipe.sources.alpaca.protocol import newest_in
from marketpipe.sources.framing import Encoding
from marketpipe.sources.records import RecordBuilder

SECOND = 1_000_000_000
T0 = 1_767_623_400 * SECOND

Step: TypeAlias = tuple[str, int, int]
"""What is recorded, at which second; and the second that is in it, if one is."""

UP: list[Step] = [("up", 0, 0), ("clock", 1, 0)]


def run(journal: SqliteJournal, number: int, steps: list[Step], encoding: Encoding) -> None:
    """Append what a connection records, each by itself."""
    for kind, at, told in steps:
        builder = RecordBuilder(
            source="alpaca",
            feed="iex",
            stream="rest/trades" if kind == "fetched" else "v2/iex",
            conn_id=0 if kind == "fetched" else number,
            conn_started_ns=T0 + (at if kind == "fetched" else steps[0][1]) * SECOND,
        )
        at_ns = T0 + at * SECOND
        facts: dict[str, Any] = {"event": kind}
        if kind == "clock":
            builder.add_clock(at_ns)
        elif kind == "refused":
            builder.add_frame(b'[{"T":"error","code":500,"msg":"internal error"}]', at_ns, "json")
        elif kind in {"trade", "quote", "fetched"}:
            happened = datetime.fromtimestamp(T0 // SECOND + told, UTC)
            message = {"T": kind[0].replace("f", "t"), "S": "A", "t": happened}
            encode = msgspec.json.encode if encoding == "json" else msgspec.msgpack.encode
            builder.add_frame(encode([message]), at_ns, encoding)
        elif kind == "ended":
            good = {"good_until_ns": T0 + told * SECOND if told else None}
            builder.add_control({"event": "disconnected", **good}, at_ns)
        else:
            builder.add_control(facts, at_ns)
        journal.append(builder.take())


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("runs", "good"),
    [
        # Killed while messages came: the newest tells, and no more than was received.
        ([[*UP, ("trade", 5, 4), ("clock", 6, 0)]], 4),
        ([[*UP, ("trade", 5, 900), ("clock", 6, 0)]], 5),
        # Killed while the connection was mute: the ticks went on.
        ([[*UP, ("trade", 5, 4), *(("clock", at, 0) for at in range(6, 90))]], 4),
        # What the vendor says of the connection is no message of the market.
        ([[*UP, ("trade", 5, 4), ("clock", 6, 0), ("refused", 80, 0), ("clock", 81, 0)]], 4),
        # Killed while it was read again after a stall: what came is old.
        ([[*UP, ("trade", 5, 4), ("clock", 400, 0), ("trade", 401, 9)]], 9),
        # What comes late tells less than what came before, and what was fetched tells nothing.
        ([[*UP, ("quote", 50, 49), ("trade", 60, 3), ("clock", 61, 0)]], 49),
        ([[*UP, ("trade", 5, 4), ("clock", 6, 0), ("fetched", 80, 79), ("clock", 81, 0)]], 4),
        # Nothing came at all.
        ([[*UP, ("clock", 2, 0)]], 0),
        # It was ended, and not made again before the kill.
        ([[*UP, ("trade", 5, 4), ("ended", 30, 4), ("error", 200, 0)]], 4),
        ([[*UP, ("trade", 5, 4), ("ended", 30, 0)]], 4),
        # A connection without a tick had not told of the gap before it.
        ([[*UP, ("trade", 5, 4)], [("up", 100, 0), ("trade", 101, 101)]], 4),
        ([[*UP, ("ended", 5, 4)], [("up", 100, 0), ("ended", 101, 100)]], 4),
        ([[*UP, ("trade", 5, 4)], [("up", 100, 0), ("clock", 101, 0), ("trade", 103, 102)]], 102),
        ([[*UP, ("trade", 5, 4)], [("up", 100, 0), ("clock", 101, 0)]], 100),
    ],
)
def test_last_good_is_what_a_lost_connection_would_have_told(
    tmp_path: Path, runs: list[list[Step]], good: int, encoding: Encoding
) -> None:
    with SqliteJournal(tmp_path, "alpaca-iex") as journal:
        for number, steps in enumerate(runs):
            run(journal, number, steps, encoding)
        found = last_good_ns(journal, newest_in)
        assert found is not None
        assert (found - T0) / SECOND == good


def test_last_good_of_a_delayed_feed_counts_its_delay(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca-delayed_sip") as journal:
        run(journal, 1, [*UP, ("trade", 905, 4), ("clock", 960, 0)], "json")
        assert last_good_ns(journal, newest_in, delay_ns=900 * SECOND) == T0 + 904 * SECOND


def test_last_good_of_a_connection_older_than_the_journals_files(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca-iex", segment_bytes=1) as journal:
        run(journal, 1, [*UP, ("trade", 5, 4), ("clock", 50, 0), ("clock", 51, 0)], "json")
        journal.retain(3)
        assert last_good_ns(journal, newest_in) == T0 + 50 * SECOND


def test_last_good_of_a_journal_without_a_tick_is_its_last_receipt(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path, "alpaca-iex") as journal:
        assert last_good_ns(journal, newest_in) is None
        run(journal, 1, [("up", 3, 0)], "json")
        assert last_good_ns(journal, newest_in) == T0 + 3 * SECOND
