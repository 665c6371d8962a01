"""Old days go only when asked, and raw only when asked twice."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

import lakekit
from marketpipe.errors import BusyError, LakeError
from marketpipe.lake import LakeLayout, LakeTable, drop_before, first_day_kept, lease

APP = "live/raw/alpaca/0"
NOW_NS = lakekit.FIRST_NS + 30 * lakekit.DAY_NS


def five_days(root: Path) -> LakeTable:
    table = LakeTable.open(LakeLayout(root), "raw")
    table.append(lakekit.records(range(50), per_day=10), app_id=APP, through=49)
    return table


def append_only(table: LakeTable) -> str | None:
    return DeltaTable(table.path).metadata().configuration["delta.appendOnly"]


def test_first_day_kept_counts_whole_utc_days() -> None:
    # 2026-01-05 plus 30 days is 2026-02-04; seven whole days before it begin on 2026-01-28.
    assert first_day_kept(7, NOW_NS) == date(2026, 1, 28)
    assert first_day_kept(7, NOW_NS + lakekit.DAY_NS - 1) == date(2026, 1, 28)
    with pytest.raises(LakeError, match="retention days was '0'"):
        first_day_kept(0, NOW_NS)


def test_drop_before_raw_goes_only_when_said(tmp_path: Path) -> None:
    table = five_days(tmp_path)
    with pytest.raises(LakeError, match="table raw is append-only; dropping the days before"):
        drop_before(table, date(2026, 1, 7), ts_now_ns=NOW_NS)
    assert lakekit.stored(table) == list(range(50))
    dropped = drop_before(table, date(2026, 1, 7), ts_now_ns=NOW_NS, also_append_only=True)
    assert dropped == 20
    assert lakekit.stored(table) == list(range(20, 50))
    assert append_only(table) == "true"
    operations = [commit.operation for commit in table.history()]
    assert "drop before 2026-01-07" in operations
    # What was dropped does not come back when a writer starts anew.
    assert table.append(lakekit.records(range(50), per_day=10), app_id=APP, through=49) == 0
    assert table.append(lakekit.records(range(45, 60)), app_id=APP, through=59) == 10


def test_drop_before_nothing_that_old_commits_nothing(tmp_path: Path) -> None:
    table = five_days(tmp_path)
    version = table.history(1)[0].version
    assert drop_before(table, date(2026, 1, 5), ts_now_ns=NOW_NS, also_append_only=True) == 0
    assert table.history(1)[0].version == version


def test_drop_before_bars_need_no_second_word(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "bars")
    days = [date(2026, 1, day) for day in (5, 6, 7)]
    rows = lakekit.rows("bars", *({"session_date": day} for day in days))
    table.append(rows, app_id=APP, through=3, offsets=np.array([1, 2, 3]))
    assert drop_before(table, days[2], ts_now_ns=NOW_NS) == 2
    assert lakekit.stored(table, "session_date") == [days[2]]


def test_lake_table_floor_is_the_latest_day_that_was_dropped_before(tmp_path: Path) -> None:
    table = five_days(tmp_path)
    assert table.floor is None
    seen_elsewhere = LakeTable.open(LakeLayout(tmp_path), "raw", create=False)
    drop_before(table, date(2026, 1, 5), ts_now_ns=NOW_NS, also_append_only=True)
    assert table.floor is None  # there was nothing to take
    for day, floor in ((7, 7), (6, 7), (8, 8)):
        drop_before(table, date(2026, 1, day), ts_now_ns=NOW_NS, also_append_only=True)
        assert table.floor == seen_elsewhere.floor == date(2026, 1, floor)


def test_drop_before_waits_for_no_one(tmp_path: Path) -> None:
    table = five_days(tmp_path)
    with lease(table.path), pytest.raises(BusyError):
        drop_before(table, date(2026, 1, 7), ts_now_ns=NOW_NS, also_append_only=True)
    assert append_only(table) == "true"


def test_lake_table_left_open_to_deletes_is_protected_again(tmp_path: Path) -> None:
    # As a process killed in the middle of a drop leaves it.
    table = five_days(tmp_path)
    DeltaTable(table.path).alter.set_table_properties({"delta.appendOnly": "false"})
    LakeTable.open(LakeLayout(tmp_path), "raw", create=False)
    assert append_only(table) == "false"
    LakeTable.open(LakeLayout(tmp_path), "raw")
    assert append_only(table) == "true"
    assert lakekit.stored(table) == list(range(50))
