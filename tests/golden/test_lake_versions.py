"""Lakes of every past schema version, kept as files, are read and written by this version."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import lakekit
from marketpipe.domain import schemas
from marketpipe.lake import TABLES, LakeLayout, LakeTable, compact

KEPT = Path(__file__).parent / "lake"
VERSIONS = sorted(path.name for path in KEPT.iterdir() if path.is_dir())
CASES = [
    (version, name)
    for version in VERSIONS
    for name in json.loads((KEPT / version / "expected.json").read_text())
]


def test_lake_versions_every_version_up_to_today_is_kept() -> None:
    newest = max(spec.version for spec in TABLES.values())
    assert [f"v{n}" for n in range(1, newest + 1)] == VERSIONS
    for name, spec in TABLES.items():
        assert (f"v{spec.version}", name) in CASES
        assert schemas.schema_version(spec.rows) == spec.version


@pytest.mark.parametrize(("version", "name"), CASES)
def test_lake_versions_kept_table_is_read_written_and_compacted(
    tmp_path: Path, version: str, name: str
) -> None:
    shutil.copytree(KEPT / version, tmp_path, dirs_exist_ok=True)
    expected = json.loads((KEPT / version / "expected.json").read_text())[name]
    layout = LakeLayout(tmp_path)
    assert rows_of(LakeTable.open(layout, name, create=False), list(expected[0])) == expected
    table = LakeTable.open(layout, name)
    assert table.version_of("golden") == 1
    new = lakekit.rows(name, {"symbol": "AAPL", "feed": "new"})
    assert table.append(new, app_id="test", through=0, offsets=np.arange(1)) == 1
    assert table.append(new, app_id="golden", through=1, offsets=np.arange(1)) == 0
    compact(table)
    table.check()
    found = [row for row in rows_of(table, list(expected[0])) if row["feed"] != "new"]
    assert found == expected
    assert table.count() == 3


def rows_of(table: LakeTable, columns: list[str]) -> list[dict[str, str | None]]:
    found = lakekit.stored(table, ", ".join(f'"{column}"' for column in columns), "symbol, feed")
    key = "revision" if table.spec.name == "bars" else "offset"
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    return lakekit.texts(sorted(rows, key=lambda row: row[key]))
