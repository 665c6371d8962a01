"""Flushing beside deriving: deriving goes on, an error shows, and nothing is lost or doubled."""

import asyncio
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import crashkit
import livekit
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.live import AtBoundary, LiveSettings, nowhere
from marketpipe.pipelines.opening import live_pipeline
from marketpipe.sources.alpaca import AlpacaParser

FEED = livekit.records(livekit.FeedSpec(trades=600, minutes=3))
CUTS = (0, 200, 400, len(FEED))


def settings() -> LiveSettings:
    return replace(crashkit.settings(), flush_rows=100)


async def run(folder: Path, at_boundary: AtBoundary = nowhere) -> list[str]:
    """Feed in piece by piece, going on after errors; return their words."""
    told = []
    async with live_pipeline(
        DataFolder(folder), settings(), AlpacaParser, at_boundary=at_boundary
    ) as pipeline:
        for start, stop in pairwise(CUTS):
            piece = FEED.slice(start, stop - start).combine_chunks().to_batches()[0]
            await pipeline.append(piece)
            try:
                await pipeline.catch_up()
            except OSError as error:
                told.append(str(error))
        for _ in range(2):
            try:
                await pipeline.stop()
            except OSError as error:
                told.append(str(error))
    return told


@pytest.mark.parametrize("boundary", ["raw:before", "trades:before", "trades:after", "bars:after"])
def test_flush_failing_once_tells_and_loses_and_doubles_nothing(
    tmp_path: Path, boundary: str
) -> None:
    failed: list[str] = []

    def fail_once(name: str) -> None:
        if name == boundary and not failed:
            failed.append(name)
            raise OSError("no room")

    told = asyncio.run(run(tmp_path / "failing", fail_once))
    asyncio.run(run(tmp_path / "plain"))
    assert told == ["no room"]
    found, wanted = (crashkit.kept(tmp_path / name) for name in ("failing", "plain"))
    assert crashkit.differences(found, wanted) == []


def test_flush_under_way_deriving_goes_on_and_the_lake_catches_up(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == "raw:before" and not began.is_set():
            began.set()
            assert go_on.wait(60)

    async def derive_meanwhile() -> tuple[int, int]:
        async with live_pipeline(
            DataFolder(tmp_path), settings(), AlpacaParser, at_boundary=hold
        ) as pipeline:
            batches = FEED.combine_chunks().to_batches()[0]
            await pipeline.append(batches.slice(0, 300))
            await pipeline.catch_up()
            assert await asyncio.to_thread(began.wait, 60)
            held = pipeline.through
            await pipeline.append(batches.slice(300, 50))
            following = asyncio.create_task(pipeline.catch_up())
            while pipeline.through == held:
                await asyncio.sleep(0.01)
            reached = pipeline.through
            go_on.set()
            await following
            await pipeline.stop()
            return held, reached

    held, reached = asyncio.run(derive_meanwhile())
    assert held < reached
    assert len(crashkit.rows_of(tmp_path, "raw")) == reached + 1
