"""Tables of earlier schema versions are brought forward; of later ones refused."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field

import lakekit
from marketpipe.domain.schemas import TRADES
from marketpipe.errors import LakeError, NewerVersionError
from marketpipe.lake import LakeLayout, LakeTable, TableSpec, compact

APP = "live/trades/alpaca/0"


def later(layout: LakeLayout, *added: pa.Field, version: int = 2) -> TableSpec:
    metadata = {**TRADES.metadata, b"marketpipe.version": str(version).encode()}
    return layout.spec("trades").with_rows(pa.schema([*TRADES, *added], metadata=metadata))


GRADE = pa.field("grade", pa.string())


@pytest.fixture
def layout(tmp_path: Path) -> LakeLayout:
    layout = LakeLayout(tmp_path)
    table = LakeTable.open(layout, "trades")
    table.append(lakekit.rows("trades", {"offset": 0}), app_id=APP, through=0)
    return layout


def test_evolve_new_column_is_null_in_what_was_there(layout: LakeLayout) -> None:
    spec = later(layout, GRADE)
    table = LakeTable.open(layout, "trades", spec=spec)
    assert table.version_of(APP) == 0
    row = lakekit.rows("trades", {"offset": 1}).append_column(GRADE, pa.array(["A"]))
    table.append(row, app_id=APP, through=1)
    assert lakekit.stored(table, '"offset", grade') == [(0, None), (1, "A")]
    compact(table)
    assert len(table.files()) == 1
    assert lakekit.stored(table, '"offset", grade') == [(0, None), (1, "A")]
    again = LakeTable.open(layout, "trades", spec=spec)
    assert again.history(1) == table.history(1)


def test_evolve_reader_of_an_older_table_changes_nothing(layout: LakeLayout) -> None:
    table = LakeTable.open(layout, "trades", spec=later(layout, GRADE), create=False)
    assert lakekit.stored(table) == [0]
    assert [commit.operation for commit in table.history()] == ["WRITE", "CREATE TABLE"]


def test_evolve_goes_on_where_a_killed_process_stopped(layout: LakeLayout) -> None:
    # Killed between its two commits: the column is there, the version is not.
    DeltaTable(layout.path("trades")).alter.add_columns([Field.from_arrow(GRADE)])
    table = LakeTable.open(layout, "trades", spec=later(layout, GRADE))
    assert table.history(1)[0].operation == "SET TBLPROPERTIES"
    assert lakekit.stored(table) == [0]


@pytest.mark.parametrize("create", [True, False])
def test_evolve_newer_table_is_refused(layout: LakeLayout, create: bool) -> None:
    LakeTable.open(layout, "trades", spec=later(layout, GRADE))
    with pytest.raises(NewerVersionError, match=r"schema version '2'; this version.* up to 1"):
        LakeTable.open(layout, "trades", create=create)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.field("grade", pa.string(), nullable=False), "column grade may not be null"),
        (pa.field("price", pa.float64()), r"column price was 'decimal128\(18, 9\)'"),
    ],
)
def test_evolve_what_cannot_come_forward_is_refused(
    layout: LakeLayout, column: pa.Field, message: str
) -> None:
    spec = later(layout, column)
    if column.name in TRADES.names:
        place = TRADES.get_field_index(column.name)
        spec = spec.with_rows(TRADES.set(place, column))
    with pytest.raises(LakeError, match=message):
        LakeTable.open(layout, "trades", spec=spec)
    assert LakeTable.open(layout, "trades").count() == 1


def test_evolve_column_gone_from_the_schema_is_refused(layout: LakeLayout) -> None:
    spec = layout.spec("trades").with_rows(TRADES.remove(TRADES.get_field_index("tape")))
    with pytest.raises(LakeError, match="column tape was 'string', which version 1"):
        LakeTable.open(layout, "trades", spec=spec)
