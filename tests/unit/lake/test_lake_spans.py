"""What a table's log knows of the values in its files."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import lakekit
from marketpipe.lake import LakeLayout, LakeTable, compact, spans


@pytest.mark.parametrize("compacted", [False, True])
def test_spans_are_those_of_the_rows(tmp_path: Path, *, compacted: bool) -> None:
    table = LakeTable.open(LakeLayout(tmp_path / "a b=c"), "raw")
    for n in range(3):
        rows = lakekit.records(range(n * 40, n * 40 + 40))
        table.append(rows, app_id="live/raw/alpaca/0", through=n * 40 + 39)
    if compacted:
        compact(table)
    found = spans(table, "offset")
    assert sorted(span.path for span in found) == table.files()
    for span in found:
        offsets = pq.read_table(span.path, columns=["offset"], partitioning=None)["offset"]
        assert (span.least, span.greatest) == (min(offsets.to_pylist()), max(offsets.to_pylist()))


def test_files_that_cannot_hold_a_value_are_left_out(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw")
    table.append(lakekit.records(range(40)), app_id="live/raw/alpaca/0", through=39)
    (journal,) = set(pq.read_table(table.files(), partitioning=None)["journal_id"].to_pylist())
    assert len(spans(table, "offset", journal_id=journal)) == len(table.files())
    assert spans(table, "offset", journal_id=f"{journal}x") == []
    assert [span.least for span in spans(table, "nothing", journal_id=journal)] == [None] * len(
        table.files()
    )
