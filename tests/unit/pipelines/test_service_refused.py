"""A service whose store or lake refuses for a while: what is sent is kept, and derived after."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

import crashkit
import livekit
from marketpipe.domain.units import NANOS
from marketpipe.errors import (
    BusyError,
    FullError,
    JournalError,
    NondeterminismError,
)
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.intake import Intake
from marketpipe.pipelines.live import AtBoundary, MakeParser, nowhere
from marketpipe.pipelines.service import IngestionService
from marketpipe.sources.alpaca import AlpacaParser
from vendorkit import reached

FEED = livekit.records(crashkit.SMALL).combine_chunks().to_batches()[0]
PIECE = 50
STOPS = "so the feed is stopped"
DEGRADED = "no bars until this is mended"
MENDED = "derives again"

Play = Callable[["Pieces", Intake], Awaitable[None]]


@dataclass
class Pieces:
    """A feed that is sent as a test says, by default to its end."""

    play: Play | None = None
    lead: int = 0
    journal_id: str = "alpaca"
    make_parser: MakeParser = AlpacaParser
    sent: list[int] = field(default_factory=list)

    def total_bytes(self) -> int | None:
        return None

    def absent(self) -> tuple[str, ...]:
        return ()

    async def run(self, intake: Intake) -> bool:
        if self.play is not None:
            await self.play(self, intake)
        await self.send(intake, len(FEED))
        return True

    async def send(self, intake: Intake, until: int) -> None:
        """Send what comes before a record, unless told to stop."""
        while (at := intake.journal.next_offset) < until and not intake.stopped.is_set():
            await intake.append(FEED.slice(at, min(PIECE, until - at)))
            self.sent.append(at)


@dataclass
class Refusing:
    """A boundary at which something refuses, while it is switched on, and counts."""

    where: str
    error: Exception
    on: bool = True
    derived: int = 0
    refused: int = 0

    def __call__(self, name: str) -> None:
        self.derived += name == "store:before"
        if self.on and name == self.where:
            self.refused += 1
            raise self.error


def run(folder: Path, feed: Pieces, at_boundary: AtBoundary = nowhere) -> None:
    often = replace(crashkit.settings(), flush_ns=20 * NANOS)
    service = IngestionService(DataFolder(folder), often, feed, at_boundary=at_boundary)
    asyncio.run(service.run())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> crashkit.Kept:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, Pieces())
    return crashkit.kept(folder)


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return caplog.text.count(words)


def test_live_feed_while_the_store_is_locked_is_kept_and_derived_after(
    tmp_path: Path, undisturbed: crashkit.Kept, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(feed: Pieces, intake: Intake) -> None:
        await feed.send(intake, 400)
        with closing(
            sqlite3.connect(
                tmp_path / "marketpipe.db", isolation_level=None, check_same_thread=False
            )
        ) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await feed.send(intake, 600)
            await reached(lambda: said(caplog, DEGRADED) > 0)
            await feed.send(intake, 800)
            assert intake.journal.next_offset == 800
            assert not said(caplog, MENDED)
        await reached(lambda: said(caplog, MENDED) > 0)

    run(tmp_path, Pieces(play))
    assert "is locked by another process" in caplog.text
    assert crashkit.differences(crashkit.kept(tmp_path), undisturbed) == []


@pytest.mark.parametrize("before", [0, 500], ids=["no checkpoint yet", "from a checkpoint"])
@pytest.mark.parametrize("boundary", ["store:after", "trades:after", "checkpoint:before"])
def test_live_feed_refused_for_a_while_keeps_everything_once(
    tmp_path: Path,
    undisturbed: crashkit.Kept,
    caplog: pytest.LogCaptureFixture,
    boundary: str,
    before: int,
) -> None:
    refusing = Refusing(boundary, FullError("no room"), on=False)

    def went_on(derived: int) -> bool:
        return refusing.derived > derived or said(caplog, DEGRADED) > 0

    async def play(feed: Pieces, intake: Intake) -> None:
        while not said(caplog, DEGRADED):
            at, derived = intake.journal.next_offset, refusing.derived
            assert at < len(FEED) - 2 * PIECE
            refusing.on = at >= before
            await feed.send(intake, at + PIECE)
            await reached(partial(went_on, derived))
        assert not intake.stopped.is_set()
        await feed.send(intake, len(FEED) - PIECE)
        if boundary == "trades:after":
            # a flush is refused in the background: that it began does not mean that it works again
            refused = refusing.refused
            await reached(lambda: refusing.refused > refused)
        refusing.on = False
        await reached(lambda: said(caplog, MENDED) > 0)

    run(tmp_path, Pieces(play), refusing)
    assert (said(caplog, DEGRADED), said(caplog, MENDED)) == (1, 1)
    assert crashkit.differences(crashkit.kept(tmp_path), undisturbed) == []


def test_live_feed_stopped_while_refused_says_why_and_the_next_run_derives_the_rest(
    tmp_path: Path, undisturbed: crashkit.Kept, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(feed: Pieces, intake: Intake) -> None:
        await feed.send(intake, len(FEED))
        await reached(lambda: said(caplog, DEGRADED) > 0)
        intake.stopped.set()

    with pytest.raises(FullError, match="no room"):
        run(tmp_path, Pieces(play), Refusing("store:before", FullError("no room")))
    again = Pieces()
    run(tmp_path, again)
    assert again.sent == []
    assert crashkit.differences(crashkit.kept(tmp_path), undisturbed) == []


def test_feed_that_waits_is_stopped_when_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Pieces(lead=1)
    with pytest.raises(BusyError, match="taken"):
        run(tmp_path, feed, Refusing("store:before", BusyError("taken")))
    assert len(feed.sent) < len(FEED) // PIECE
    assert (said(caplog, STOPS), said(caplog, DEGRADED)) == (1, 0)


@pytest.mark.parametrize(
    "error", [NondeterminismError("other content"), ValueError("a fault of ours")]
)
def test_live_feed_is_stopped_by_what_waiting_cannot_mend(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(feed: Pieces, intake: Intake) -> None:
        await feed.send(intake, 200)
        await intake.stopped.wait()

    with pytest.raises(type(error), match=str(error)):
        run(tmp_path, Pieces(play), Refusing("store:before", error))
    assert (said(caplog, STOPS), said(caplog, DEGRADED)) == (1, 0)


def test_live_feed_ends_when_its_journal_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no room"):
        run(tmp_path, Pieces(), Refusing("journal:before", JournalError("no room")))
