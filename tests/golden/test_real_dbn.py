"""Bars of Databento's sample trades against its own sample bars, digit for digit."""

from pathlib import Path

import pytest
import zstandard

import barkit
from marketpipe.domain.timeframe import parse_many
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.replay import Replay, ReplaySettings
from marketpipe.pipelines.spool import SessionSpool
from marketpipe.sources.dbn import DbnSource

dbn = pytest.importorskip("databento_dbn", reason="the extra 'dbn' is not installed")


def published(path: Path) -> dict[int, tuple[int, ...]]:
    """Read the vendor's bars with its own decoder."""
    decoder = dbn.DBNDecoder()
    with path.open("rb") as packed:
        decoder.write(zstandard.ZstdDecompressor().stream_reader(packed).read())
    return {
        r.ts_event: (r.open, r.high, r.low, r.close, r.volume * 10**9)
        for r in decoder.decode()
        if isinstance(r, dbn.OHLCVMsg)
    }


@pytest.mark.data
def test_equs_mini_seconds_by_receipt_time_equal_the_vendors(
    market_data: Path, tmp_path: Path
) -> None:
    """The sample's four trades of QQQ, odd lots too, fill two seconds of ``ohlcv-1s``."""
    folder = market_data / "databento/EQUS.MINI"
    with DbnSource(folder / "test_data.trades.dbn.zst", time="recv") as source:
        run = Replay(
            source,
            ReplaySettings(timeframes=parse_many("1s,1m"), rule_set=RuleSet.load("plain")),
            SessionSpool(tmp_path),
        )
        run.run()
    assert (run.ticks, run.findings.counts) == (4, {})
    seconds = published(folder / "test_data.ohlcv-1s.dbn.zst")
    ours = content(run, "1s")
    assert len(ours) == 2
    assert ours == dict(list(seconds.items())[:2])
    # of the minutes only the first is whole: the sample ends within the second
    first, second = content(run, "1m").items()
    minutes = list(published(folder / "test_data.ohlcv-1m.dbn.zst").items())
    assert first == minutes[0]
    assert second[1][:2] == minutes[1][1][:2]


def content(run: Replay, timeframe: str) -> dict[int, tuple[int | None, ...]]:
    return {
        b.ts_open: (b.open, b.high, b.low, b.close, b.volume)
        for b in barkit.bars(run.bars(), timeframe)
    }
