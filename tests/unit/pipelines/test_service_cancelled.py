"""An append that is cancelled is over before the next one begins."""

import asyncio
from pathlib import Path

import crashkit
import livekit
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.intake import Intake
from marketpipe.pipelines.live import MakeParser
from marketpipe.pipelines.service import IngestionService
from marketpipe.sources.alpaca import AlpacaParser

BATCH = livekit.records(crashkit.SMALL).combine_chunks().to_batches()[0].slice(0, 50)


class Cancelling:
    """A feed whose only append is cancelled as soon as it has begun."""

    journal_id = "alpaca"
    make_parser: MakeParser = AlpacaParser
    lead = 0

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.boundaries: list[str] = []
        self.at_end: list[str] = []

    def total_bytes(self) -> int | None:
        return None

    def absent(self) -> tuple[str, ...]:
        return ()

    def at_boundary(self, name: str) -> None:
        self.boundaries.append(name)
        if name == "journal:before":
            self.begun.set()

    async def run(self, intake: Intake) -> bool:
        appending = asyncio.ensure_future(intake.append(BATCH))
        await self.begun.wait()
        appending.cancel()
        await asyncio.wait([appending])
        assert appending.cancelled()
        self.at_end = [name for name in self.boundaries if name.startswith("journal")]
        return True


def test_append_that_is_cancelled_is_written_and_counted(tmp_path: Path) -> None:
    feed = Cancelling()
    service = IngestionService(
        DataFolder(tmp_path / "d"), crashkit.settings(), feed, at_boundary=feed.at_boundary
    )
    done = asyncio.run(service.run())
    assert feed.at_end == ["journal:before", "journal:after"]
    data = [row for row in BATCH["kind"].to_pylist() if row == "data"]
    assert (done.next_offset, done.appended) == (len(BATCH), len(data))
