"""Processes that write at once, and that are killed: nothing is lost, nothing is twice."""

import multiprocessing
import signal
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import lakekit
from marketpipe.lake import LakeLayout, LakeTable, compact, drop_before

SPAWN = multiprocessing.get_context("spawn")
KILLS = 10
SEED = 20260105


def start(root: Path, app_id: str, first: int, last: int, seed: int) -> Any:
    started = SPAWN.Event()
    process = SPAWN.Process(
        target=lakekit.append_all, args=(str(root), app_id, first, last, seed, started)
    )
    process.start()
    assert started.wait(60)
    return process


def kill(process: Any) -> None:
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_append_killed_ten_times_and_restarted_has_every_row_once(tmp_path: Path) -> None:
    chance = np.random.default_rng(SEED)
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    reached = 0
    for seed in range(KILLS):
        process = start(tmp_path, "app", 0, 1_000_000, seed)
        while table.count() == reached and process.is_alive():
            process.join(0.01)
        process.join(float(chance.uniform(0, 0.15)))
        kill(process)
        seen = lakekit.stored(table)
        assert seen == list(range(len(seen)))
        assert table.version_of("app") == len(seen) - 1
        assert len(seen) > reached
        reached = len(seen)
    process = start(tmp_path, "app", 0, reached + 500, KILLS)
    process.join(120)
    assert process.exitcode == 0
    compact(table)
    assert lakekit.stored(table) == list(range(reached + 500))
    assert table.count() == reached + 500


def compactions(table: LakeTable) -> int:
    return sum(commit.operation == "compact" for commit in table.history())


def test_compact_killed_while_rows_come_keeps_every_row_once(tmp_path: Path) -> None:
    chance = np.random.default_rng(SEED)
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    end = 0
    for kills in range(KILLS // 2):
        started, results = SPAWN.Event(), SPAWN.Queue()
        process = SPAWN.Process(
            target=lakekit.compact_until_done, args=(str(tmp_path), started, results, 1_000_000)
        )
        process.start()
        assert started.wait(60)
        more = int(chance.integers(1, 6))
        while more and process.is_alive():
            end += 40
            table.append(lakekit.records(range(end - 40, end)), app_id="app", through=end - 1)
            more -= compactions(table) > kills
        process.join(float(chance.uniform(0, 0.05)))
        kill(process)
        assert lakekit.stored(table) == list(range(end))
    compact(table)
    table.check()
    assert compactions(table) >= KILLS // 2
    assert lakekit.stored(table) == list(range(end))
    assert table.count() == end


def test_drop_before_beside_an_appender_takes_nothing_of_its_rows(tmp_path: Path) -> None:
    # Offsets from a million on are of the second day, see lakekit.records.
    first = 1_000_000
    writer = start(tmp_path, "app", first, first + 4_000, SEED)
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    for n in range(5):
        old = lakekit.records(range(n * 10, n * 10 + 10))
        assert table.append(old, app_id="old", through=n * 10 + 9) == 10
        dropped = drop_before(
            table, date(2026, 1, 6), ts_now_ns=lakekit.FIRST_NS, also_append_only=True
        )
        assert dropped == 10
    writer.join(120)
    assert writer.exitcode == 0
    assert lakekit.stored(table) == list(range(first, first + 4_000))


def test_append_two_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    writers = [start(tmp_path, f"app{n}", n * 3_000, n * 3_000 + 3_000, n) for n in range(2)]
    for process in writers:
        process.join(120)
        assert process.exitcode == 0
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    assert lakekit.stored(table) == list(range(6_000))
    assert [table.version_of(f"app{n}") for n in range(2)] == [2_999, 5_999]


def test_append_two_processes_as_one_writer_double_nothing(tmp_path: Path) -> None:
    writers = [start(tmp_path, "app", 0, 3_000, seed) for seed in range(2)]
    for process in writers:
        process.join(120)
        assert process.exitcode == 0
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    assert lakekit.stored(table) == list(range(3_000))


def test_open_by_several_processes_at_once_makes_one_table(tmp_path: Path) -> None:
    gate = SPAWN.Event()
    results: Any = SPAWN.Queue()
    work = [
        SPAWN.Process(target=lakekit.open_and_count, args=(str(tmp_path), gate, results))
        for _ in range(4)
    ]
    for process in work:
        process.start()
    gate.set()
    counts = [results.get(timeout=60) for _ in work]
    for process in work:
        process.join(60)
        assert process.exitcode == 0
    assert counts == [0, 0, 0, 0]
    assert [c.operation for c in LakeTable.open(LakeLayout(tmp_path), "raw").history()] == [
        "CREATE TABLE"
    ]
