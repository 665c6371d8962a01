"""Compaction: fewer, sorted files with the same rows, whoever reads and writes meanwhile."""

import json
import multiprocessing
import os
import queue
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import lakekit
from marketpipe.domain.buckets import bucket_of
from marketpipe.errors import BusyError, LakeError
from marketpipe.lake import LakeLayout, LakeTable, compact, lease, vacuum
from marketpipe.lake.compaction import commit_fenced
from marketpipe.lake.rewrite import live_files, rewrite

APP = "live/raw/alpaca/0"
SPAWN = multiprocessing.get_context("spawn")


def filled(root: Path, appends: int, size: int = 40, name: str = "raw") -> LakeTable:
    table = LakeTable.open(LakeLayout(root), name)
    for n in range(appends):
        rows = lakekit.records(range(n * size, n * size + size))
        table.append(rows, app_id=APP, through=n * size + size - 1)
    return table


def partitions(table: LakeTable) -> dict[str, int]:
    folders = [str(Path(path).parent) for path in table.files()]
    return {folder: folders.count(folder) for folder in folders}


def timed_appends(table: LakeTable, first: int, last: int) -> float:
    """Append 40 rows a time; return the quickest append, as others use the machine too."""
    costs = []
    for n in range(first, last):
        rows = lakekit.records(range(n * 40, n * 40 + 40))
        began = time.perf_counter()
        table.append(rows, app_id=APP, through=n * 40 + 39)
        costs.append(time.perf_counter() - began)
    return min(costs)


def test_compact_two_hundred_appends_leave_one_file_a_partition(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    first = timed_appends(table, 0, 40)
    timed_appends(table, 40, 200)
    assert max(partitions(table).values()) == 200
    before = lakekit.stored(table, '"offset", symbol, payload')
    done = compact(table)
    used = {bucket_of(symbol) for symbol in lakekit.SYMBOLS}
    assert (done.files_before, done.files_after, done.rows) == (200 * len(used), len(used), 8_000)
    assert set(partitions(table).values()) == {1}
    assert lakekit.stored(table, '"offset", symbol, payload') == before
    assert table.count() == 8_000
    assert table.history(1)[0].operation == "compact"
    for path in table.files():
        offsets = pq.ParquetFile(path).read(["offset"])["offset"].to_pylist()
        assert offsets == sorted(offsets)
    # Appending is as quick again as in a new table.
    assert timed_appends(table, 200, 240) < 3 * first


def test_compact_again_does_nothing(tmp_path: Path) -> None:
    # An earlier system's second consolidation deleted everything.
    table = filled(tmp_path, 5)
    compact(table)
    version = table.history(1)[0].version
    again = compact(table)
    assert (again.files_before, again.files_after) == (0, 0)
    assert table.history(1)[0].version == version
    assert lakekit.stored(table) == list(range(200))


def test_compact_leaves_large_files_alone_and_fills_up_to_the_target(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path, buckets=1), "raw")
    for n in range(6):
        table.append(lakekit.records([n]), app_id=APP, through=n)
    size = Path(table.files()[0]).stat().st_size
    done = compact(table, target_bytes=int(size * 3.5))
    assert (done.files_before, done.files_after) == (6, 2)
    assert compact(table, target_bytes=size).files_before == 0
    assert lakekit.stored(table) == list(range(6))


def test_compact_canonical_ticks_are_sorted_by_symbol_then_key(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path, buckets=1), "trades")
    keys = [("B", 5), ("A", 9), ("B", 1), ("A", 2), ("C", 3)]
    for n, (symbol, at) in enumerate(keys):
        row = lakekit.rows("trades", {"symbol": symbol, "ts_event": at, "offset": n})
        table.append(row, app_id=APP, through=n)
    compact(table)
    (path,) = table.files()
    found = pq.ParquetFile(path).read(["symbol", "ts_event"]).to_pylist()
    assert [tuple(row.values()) for row in found] == sorted(keys)


@pytest.mark.parametrize(
    "name", ["book", "quotes", "statuses", "corrections", "bars", "quarantine"]
)
def test_compact_every_kind_keeps_its_values_and_types(tmp_path: Path, name: str) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), name)
    for n in range(3):
        change = {"revision": n} if name == "bars" else {"offset": n}
        table.append(
            lakekit.rows(name, change), app_id=APP, through=n,
            offsets=np.array([n]) if name == "bars" else None,
        )  # fmt: skip
    columns = ", ".join(f'"{column}"' for column in table.spec.schema.names)
    files = table.files()
    before = lakekit.stored(table, columns)
    types = lakekit.query(f"DESCRIBE SELECT * FROM read_parquet({files[0]!r})")
    compact(table)
    assert lakekit.stored(table, columns) == before
    (path,) = table.files()
    assert lakekit.query(f"DESCRIBE SELECT * FROM read_parquet({path!r})") == types


def test_compact_partition_names_that_need_escapes(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    for n in range(2):
        row = lakekit.rows("raw", {"source": "a b/ü%=", "offset": n})
        table.append(row, app_id=APP, through=n)
    assert compact(table).files_before == 2
    assert lakekit.stored(table) == [0, 1]
    DeltaTable(table.path).create_checkpoint()
    row = lakekit.rows("raw", {"source": "a b/ü%=", "offset": 2})
    table.append(row, app_id=APP, through=2)
    assert compact(table).files_before == 2
    assert lakekit.stored(table) == [0, 1, 2]
    table.check()
    assert len(table.files([("source", "=", "a b/ü%=")])) == 1
    assert DeltaTable(table.path).count() == 3


def test_compact_statistics_prune_as_before(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path, buckets=1), "raw")
    long = "L" * 40
    rows = [{"offset": 0, "symbol": "A"}, {"offset": 1, "symbol": "B", "stream": long}]
    for n, row in enumerate(rows):
        table.append(lakekit.rows("raw", row), app_id=APP, through=n)
    compact(table)
    (action,) = DeltaTable(table.path).get_add_actions(flatten=True).to_struct_array().to_pylist()
    assert (action["min.offset"], action["max.offset"]) == (0, 1)
    assert (action["min.symbol"], action["max.symbol"]) == ("A", "B")
    assert action.get("max.stream") is None
    assert (action["null_count.envelope"], action["num_records"]) == (2, 2)


def test_lease_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    table = filled(tmp_path, 2)
    with lease(table.path):
        for work in (compact, vacuum):
            with pytest.raises(BusyError, match=r"raw.lease is held by process '\d+'"):
                work(table)
    assert compact(table).files_before > 0


def test_compact_stale_handles_cannot_double_rows(tmp_path: Path) -> None:
    # Without the fence Delta takes both commits, and every row is there twice.
    table = filled(tmp_path, 3)
    handles = [DeltaTable(table.path) for _ in range(2)]
    for n, handle in enumerate(handles):
        files = live_files(handle)
        group = [file for file in files if file.partition == files[0].partition]
        actions = rewrite(table.path, group, table.spec, "zstd")[1]
        if n == 0:
            commit_fenced(DeltaTable(table.path), table.spec, actions, "compact")
        else:
            with pytest.raises(BusyError, match="another process rearranged it meanwhile"):
                commit_fenced(handle, table.spec, actions, "compact")
    assert lakekit.stored(table) == list(range(120))


def test_compact_two_processes_with_appender_and_reader_keep_every_row_once(
    tmp_path: Path,
) -> None:
    table = filled(tmp_path, 5)
    results: Any = SPAWN.Queue()
    started = [SPAWN.Event() for _ in range(3)]
    work = [
        SPAWN.Process(
            target=lakekit.compact_until_done, args=(str(tmp_path), started[n], results, 8)
        )
        for n in range(2)
    ] + [
        SPAWN.Process(
            target=lakekit.append_all, args=(str(tmp_path), "second", 200, 6_000, 1, started[2])
        )
    ]
    for process in work:
        process.start()
    for event in started:
        assert event.wait(60)
    reads = 0
    while any(process.is_alive() for process in work) or not reads:
        seen = lakekit.stored(table)
        assert len(seen) == len(set(seen))
        assert seen == list(range(len(seen)))
        reads += 1
    for process in work:
        process.join(60)
        assert process.exitcode == 0
    compacted = []
    for _ in range(16):
        try:
            compacted.append(results.get(timeout=10))
        except queue.Empty:
            break
    assert len(compacted) == 16
    assert len({pid for pid, files in compacted if files}) >= 1
    assert lakekit.stored(table) == list(range(6_000))
    assert table.count() == 6_000


def test_compact_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    table = filled(tmp_path, 2)
    victim = Path(table.files()[0])
    victim.unlink()
    with pytest.raises(LakeError, match=f"compacting table raw failed.*{victim.name}"):
        compact(table)


def test_compact_damaged_file_changes_nothing(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path, buckets=1), "raw")
    for n in range(2):
        table.append(lakekit.records([n]), app_id=APP, through=n)
    # The place of one file is taken by another of more rows.
    donor = LakeTable.open(LakeLayout(tmp_path / "other", buckets=1), "raw")
    donor.append(lakekit.records(range(5)), app_id=APP, through=4)
    Path(table.files()[0]).write_bytes(Path(donor.files()[0]).read_bytes())
    files = table.files()
    with pytest.raises(LakeError, match=r"2 rows should be in the 2 files.*6 were read and 6 writ"):
        compact(table)
    assert table.files() == files
    assert sorted(str(path) for path in table.path.rglob("*.parquet")) == files


def test_vacuum_keeps_what_a_reader_may_hold(tmp_path: Path) -> None:
    table = filled(tmp_path, 4)
    held = table.files()
    compact(table)
    assert vacuum(table) == 0
    assert vacuum(table, horizon_hours=1) == 0
    found = lakekit.query(f"SELECT count(*) FROM read_parquet({held!r})")
    assert found == [(160,)]


@pytest.mark.parametrize("hours", [0, -1, 25])
def test_vacuum_horizon_outside_its_range_is_refused(tmp_path: Path, hours: int) -> None:
    table = filled(tmp_path, 1)
    with pytest.raises(LakeError, match=f"horizon_hours was '{hours}'; valid is 1 to 24"):
        vacuum(table, horizon_hours=hours)


def test_vacuum_deletes_what_was_taken_out_before_the_horizon(tmp_path: Path) -> None:
    table = filled(tmp_path, 4)
    held = table.files()
    compact(table)
    _move_removals_back(table.path, hours=3)
    assert vacuum(table, horizon_hours=4) == 0
    assert vacuum(table, horizon_hours=2) == len(held)
    assert not any(Path(path).exists() for path in held)
    assert lakekit.stored(table) == list(range(160))
    table.check()


def test_vacuum_deletes_files_never_committed_once_they_are_old(tmp_path: Path) -> None:
    # As a process killed between writing and committing leaves them.
    table = filled(tmp_path, 1)
    folder = Path(table.files()[0]).parent
    new, old = folder / "part-new.zstd.parquet", folder / "part-old.zstd.parquet"
    for path in (new, old):
        shutil.copy(table.files()[0], path)
    three_hours_ago = new.stat().st_mtime - 3 * 3_600
    os.utime(old, (three_hours_ago, three_hours_ago))
    assert lakekit.stored(table) == list(range(40))
    assert vacuum(table, horizon_hours=2) == 1
    assert new.exists()
    assert not old.exists()


def _move_removals_back(path: Path, hours: int) -> None:
    """Make the log say that its files were taken out earlier than they were."""
    for entry in (path / "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in entry.read_text().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] -= hours * 3_600_000
        entry.write_text("\n".join(map(json.dumps, lines)))
