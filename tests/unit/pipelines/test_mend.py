"""Mending store and lake beside days that were dropped."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from marketpipe.errors import UsageError
from marketpipe.lake import LakeTable, drop_before
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.dropped import refuse_dropped
from marketpipe.pipelines.lakereads import Days
from marketpipe.pipelines.mend import Mended, mend_bars
from marketpipe.store import BarRepository
from rebuildkit import FIRST_DAY, NOW, streamed


def mended(data: Path, bars: LakeTable, days: Days) -> Mended:
    async def mend() -> Mended:
        async with await BarRepository.open(DataFolder(data).store_url) as store:
            return await mend_bars(store, bars, days, None)

    return asyncio.run(mend())


def test_mend_bars_puts_no_dropped_bar_back(tmp_path: Path) -> None:
    data = streamed(tmp_path)
    bars = LakeTable.open(DataFolder(data).lake, "bars")
    rows = bars.count()
    second_day = date.fromordinal(date(1970, 1, 1).toordinal() + FIRST_DAY + 1)
    dropped = drop_before(bars, second_day, ts_now_ns=NOW)
    assert 0 < dropped < rows
    for days in (Days(FIRST_DAY, FIRST_DAY), Days(FIRST_DAY, FIRST_DAY + 1)):
        assert mended(data, bars, days) == Mended(0, 0)
    assert bars.count() == rows - dropped


def test_refuse_dropped_says_what_was_dropped_and_what_can_be_done(tmp_path: Path) -> None:
    bars = LakeTable.open(DataFolder(streamed(tmp_path)).lake, "bars")
    refuse_dropped({"bars": bars}, ["bars"], 0, "do without")
    drop_before(bars, date(2026, 1, 6), ts_now_ns=NOW)
    refuse_dropped({"bars": bars}, ["bars"], FIRST_DAY + 1, "do without")
    said = "table bars: days before 2026-01-06 were dropped of it, and 2026-01-05 .* do without$"
    with pytest.raises(UsageError, match=said):
        refuse_dropped({"bars": bars}, ["bars"], FIRST_DAY, "do without")
