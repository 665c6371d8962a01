"""A pipeline as it is configured by default, fed one minute after the other."""

from itertools import pairwise

import numpy as np

from livekit import OPEN_NS, FeedSpec, derive_settings, framed, messages
from marketpipe.domain.columns import i64_of
from marketpipe.domain.units import NANOS
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.housekeeping import FILES_PER_PARTITION
from marketpipe.pipelines.live import FLUSHES_PER_COMPACTION, AtBoundary, LiveSettings
from marketpipe.pipelines.opening import live_pipeline, versions_of
from marketpipe.sources.alpaca import AlpacaParser

KEPT_TO = FILES_PER_PARTITION + FLUSHES_PER_COMPACTION
"""Most files of a partition at any time: as many as a look leaves alone, and one a flush since."""


async def by_minutes(
    folder: DataFolder, spec: FeedSpec, timeframes: str, at_boundary: AtBoundary
) -> int:
    """Take a feed in with a clock record every second, flush every minute; return the records."""
    seconds = range(spec.minutes * 60 + 200)  # what a cancel or correction may come later
    clocks = ((OPEN_NS + second * NANOS, None) for second in seconds)
    feed = framed(sorted([*messages(spec), *clocks], key=lambda event: event[0]), spec.per_frame)
    derive = derive_settings(timeframes)
    settings = LiveSettings(derive=derive, versions=versions_of(derive))
    assert settings.flush_ns == 60 * NANOS
    ends = [OPEN_NS + minute * settings.flush_ns for minute in range(1, spec.minutes)]
    cuts = np.searchsorted(i64_of(feed["ts_recv"]), ends, side="right").tolist()
    async with live_pipeline(folder, settings, AlpacaParser, at_boundary=at_boundary) as pipeline:
        for start, stop in pairwise([0, *cuts, len(feed)]):
            await pipeline.append(feed.slice(start, stop - start).combine_chunks().to_batches()[0])
            await pipeline.catch_up()
        await pipeline.stop()
    return len(feed)
