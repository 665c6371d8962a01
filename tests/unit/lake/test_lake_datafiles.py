"""The files of a table: where they lie, and that nothing is left of one that failed."""

import errno
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakekit
from marketpipe.errors import FullError
from marketpipe.lake import LakeLayout, LakeTable, compact, vacuum

ODD = ("a b/c", "é%20", "x=y:z", "%2F", ".", "plain")


def of_source(source: str) -> pa.Table:
    rows = lakekit.records(range(20))
    at = rows.schema.get_field_index("source")
    return rows.set_column(at, rows.schema.field("source"), pa.array([source] * len(rows)))


def by_source(table: LakeTable) -> dict[str, int]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT source, count(*) FROM read_parquet($files, hive_partitioning = true, "
            "hive_types = {'source': VARCHAR}) GROUP BY ALL",
            {"files": table.files()},
        )
        return dict(found.fetchall())


def test_partitions_of_any_name_are_read_as_they_were_written(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    for turn in range(2):
        for source in ODD:
            table.append(of_source(source), app_id=f"{turn}/{source}", through=19)
    assert by_source(table) == dict.fromkeys(ODD, 40)
    table.check()
    before = set(table.files())
    compact(table)
    table.check()
    assert by_source(table) == dict.fromkeys(ODD, 40)
    assert len(table.files()) == len(before) // 2
    assert {Path(name).parent for name in table.files()} == {Path(name).parent for name in before}
    assert vacuum(table, horizon_hours=1) == 0


def test_an_append_for_which_the_disk_has_no_room_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    write, begun = pq.write_table, []

    def full(rows: pa.Table, where: str, **how: Any) -> None:
        write(rows, where, **how)
        begun.append(where)
        if len(begun) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(FullError, match="the disk is full"):
        table.append(lakekit.records(range(40)), app_id="one", through=39)
    assert len(begun) == 3
    assert [path for path in begun if Path(path).exists()] == []
    assert table.version_of("one") is None
    monkeypatch.undo()
    assert table.append(lakekit.records(range(40)), app_id="one", through=39) == 40
    assert table.count() == 40
