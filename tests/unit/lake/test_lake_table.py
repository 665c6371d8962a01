"""`LakeTable`: rows are written once, checked before, sorted within files."""

import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import lakekit
from marketpipe.domain.buckets import bucket_of
from marketpipe.domain.schemas import CANONICAL
from marketpipe.errors import FullError, LakeError, StorageError
from marketpipe.lake import TABLES, DiskBudget, Lake, LakeLayout, LakeTable, usage

APP = "live/raw/alpaca/0"


@pytest.fixture
def raw(tmp_path: Path) -> LakeTable:
    return LakeTable.open(LakeLayout(tmp_path), "raw")


@pytest.mark.parametrize("name", list(TABLES))
def test_lake_table_every_kind_takes_its_rows_and_gives_them_back(
    tmp_path: Path, name: str
) -> None:
    layout = LakeLayout(tmp_path)
    table = LakeTable.open(layout, name)
    offsets = np.array([4, 5]) if name == "bars" else None
    two = lakekit.rows(name, {"symbol": "MSFT"}, {"symbol": "AAPL"})
    if name != "bars":
        two = lakekit.rows(name, {"symbol": "MSFT", "offset": 4}, {"symbol": "AAPL", "offset": 5})
    assert table.append(two, app_id="a", through=5, offsets=offsets) == 2
    columns = ", ".join(f'"{column}"' for column in two.column_names)
    found = lakekit.stored(table, columns, "symbol DESC")
    assert found == [tuple(row.values()) for row in two.to_pylist()]
    assert layout.exists(name)
    assert layout.path(name) == tmp_path / TABLES[name].folder


def test_lake_table_partitions_follow_date_and_symbol(raw: LakeTable) -> None:
    night = lakekit.FIRST_NS + lakekit.DAY_NS - 1
    three = lakekit.rows(
        "raw",
        {"symbol": "BTC/USD", "ts_recv": night},
        {"symbol": "BTC/USD", "ts_recv": night + 1, "offset": 1},
        {"symbol": "", "kind": "clock", "ts_recv": night + 1, "offset": 2},
    )
    raw.append(three, app_id=APP, through=2)
    assert lakekit.stored(raw, "received_date, bucket, symbol", '"offset"') == [
        (date(2026, 1, 5), bucket_of("BTC/USD"), "BTC/USD"),
        (date(2026, 1, 6), bucket_of("BTC/USD"), "BTC/USD"),
        (date(2026, 1, 6), 0, ""),
    ]
    assert len(raw.files([("received_date", "=", date(2026, 1, 6))])) == 2
    assert len(raw.files([("received_date", ">", "2026-01-05"), ("bucket", "in", [0])])) == 1
    assert raw.files([("source", "=", "finnhub")]) == []
    assert all(Path(path).is_absolute() for path in raw.files())


def test_lake_table_bucket_count_stays_what_it_was_made_with(tmp_path: Path) -> None:
    LakeTable.open(LakeLayout(tmp_path, buckets=3), "raw")
    again = LakeTable.open(LakeLayout(tmp_path, buckets=16), "raw")
    again.append(lakekit.records(range(50)), app_id=APP, through=49)
    assert again.buckets == 3
    assert set(lakekit.stored(again, "bucket")) == {0, 1, 2}


def test_lake_table_repeats_however_cut_are_written_once(raw: LakeTable) -> None:
    assert raw.append(lakekit.records(range(100)), app_id=APP, through=99) == 100
    assert raw.append(lakekit.records(range(100)), app_id=APP, through=99) == 0
    assert raw.append(lakekit.records(range(30, 60)), app_id=APP, through=59) == 0
    assert raw.append(lakekit.records(range(80, 120)), app_id=APP, through=119) == 20
    assert raw.append(lakekit.records(range(10)), app_id="other", through=9) == 10
    assert raw.version_of(APP) == 119
    assert raw.version_of("nobody") is None
    assert raw.count() == 130
    assert lakekit.stored(raw) == sorted([*range(120), *range(10)])


def test_lake_table_two_handles_of_one_writer_write_once(tmp_path: Path, raw: LakeTable) -> None:
    # The second handle has not seen the first's commit, as after a take-over.
    second = LakeTable.open(LakeLayout(tmp_path), "raw")
    raw.append(lakekit.records(range(10)), app_id=APP, through=9)
    assert second.append(lakekit.records(range(5, 20)), app_id=APP, through=19) == 10
    assert raw.append(lakekit.records(range(20)), app_id=APP, through=19) == 0
    assert lakekit.stored(raw) == list(range(20))


def test_lake_table_bars_repeats_are_cut_by_their_offsets(tmp_path: Path) -> None:
    bars = LakeTable.open(LakeLayout(tmp_path), "bars")
    three = lakekit.rows("bars", *({"revision": n} for n in range(3)))
    assert bars.append(three, app_id="b", through=20, offsets=np.array([10, 20, 20])) == 3
    assert bars.append(three, app_id="b", through=30, offsets=np.array([20, 20, 30])) == 1
    with pytest.raises(LakeError, match="offsets was 'none' for 3 rows"):
        bars.append(three, app_id="b", through=40)
    with pytest.raises(LakeError, match="offsets was '1 values' for 3 rows"):
        bars.append(three, app_id="b", through=40, offsets=np.array([35]))


def test_lake_table_empty_rows_commit_only_to_mark(raw: LakeTable) -> None:
    nothing = lakekit.records(())
    assert raw.append(nothing, app_id=APP, through=5) == 0
    assert raw.version_of(APP) is None
    assert raw.append(nothing, app_id=APP, through=5, mark=True) == 0
    assert raw.version_of(APP) == 5
    assert raw.append(lakekit.records(range(4, 8)), app_id=APP, through=7) == 2
    assert lakekit.stored(raw) == [6, 7]


def test_lake_table_offset_above_through_is_refused(raw: LakeTable) -> None:
    with pytest.raises(LakeError, match="through was '8', below the offset 9"):
        raw.append(lakekit.records(range(10)), app_id=APP, through=8)
    assert raw.count() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["feed"]), "column feed was there 0 times"),
        (lambda t: t.append_column("mood", pa.array(["calm"])), "column mood was given"),
        (lambda t: t.select(t.column_names[::-1]), "columns were in the order envelope"),
        (
            lambda t: t.set_column(1, "offset", pa.array([0.5])),
            r"column offset was 'double'; valid is int64",
        ),
        (
            lambda t: t.set_column(4, "feed", pa.array(["sip"], pa.large_string())),
            "column feed was 'large_string'; valid is string",
        ),
        (
            lambda t: t.set_column(6, "symbol", pa.nulls(1, pa.string())),
            "column symbol has 1 nulls",
        ),
        (lambda t: t.set_column(3, "source", pa.array([""])), "column source was '' in a row"),
    ],
)
def test_lake_table_rows_that_do_not_fit_are_refused_by_column(
    raw: LakeTable, change: Any, message: str
) -> None:
    one = lakekit.records([0])
    assert one.column_names.index("source") == 3
    with pytest.raises(LakeError, match=message):
        raw.append(change(one), app_id=APP, through=0)
    assert raw.version_of(APP) is None


def test_lake_table_files_are_sorted_in_row_groups_of_65536(tmp_path: Path) -> None:
    table = LakeTable.open(LakeLayout(tmp_path, buckets=1), "trades")
    count = 140_000
    order = np.random.default_rng(3).permutation(count)
    one = lakekit.rows("trades", {}).slice(0, 1)
    many = one.take(pa.array(np.zeros(count, np.int64)))
    for name, values in (("offset", order), ("ts_event", lakekit.FIRST_NS + order % 50_000)):
        many = many.set_column(many.schema.get_field_index(name), name, pa.array(values))
    names = pa.array(np.array(lakekit.SYMBOLS)[order % 7])
    many = many.set_column(2, "symbol", names).cast(CANONICAL["trades"])
    table.append(many, app_id=APP, through=count)
    (path,) = table.files()
    file = pq.ParquetFile(path)
    keys = [tuple(row.values()) for row in file.read(["symbol", "ts_event"]).to_pylist()]
    assert keys == sorted(keys)
    assert [file.metadata.row_group(n).num_rows for n in range(3)] == [65_536, 65_536, 8_928]


@pytest.mark.parametrize(
    ("word", "codec"), [("zstd", "ZSTD"), ("snappy", "SNAPPY"), ("lz4", "LZ4")]
)
def test_lake_table_compression_is_that_asked_for(tmp_path: Path, word: Any, codec: str) -> None:
    table = LakeTable.open(LakeLayout(tmp_path), "raw", compression=word)
    table.append(lakekit.records([0]), app_id=APP, through=0)
    (path,) = table.files()
    assert pq.read_metadata(path).row_group(0).column(0).compression == codec


def test_lake_table_unknown_words_are_refused_with_the_valid_ones(tmp_path: Path) -> None:
    layout = LakeLayout(tmp_path)
    with pytest.raises(LakeError, match="table was 'tades'; valid are raw, trades"):
        LakeTable.open(layout, "tades")
    with pytest.raises(LakeError, match="compression was 'gzip'; valid are zstd, snappy, lz4"):
        LakeTable.open(layout, "raw", compression="gzip")  # type: ignore[arg-type]
    with pytest.raises(LakeError, match="buckets was '0'"):
        LakeLayout(tmp_path, buckets=0)
    table = LakeTable.open(layout, "raw")
    with pytest.raises(LakeError, match="predicate column was 'symbol'; valid are source, rec"):
        table.files([("symbol", "=", "AAPL")])


def test_lake_table_reader_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="table raw was not found at"):
        LakeTable.open(LakeLayout(tmp_path), "raw", create=False)
    assert list(tmp_path.iterdir()) == []


def test_lake_table_that_marketpipe_did_not_make_is_refused(tmp_path: Path) -> None:
    DeltaTable.create(tmp_path / "raw", pa.schema([("x", pa.int64())]))
    with pytest.raises(LakeError, match=r"no property marketpipe.schema_version"):
        LakeTable.open(LakeLayout(tmp_path), "raw")


def test_lake_table_raw_refuses_deletes(raw: LakeTable) -> None:
    raw.append(lakekit.records([0]), app_id=APP, through=0)
    with pytest.raises(Exception, match="append-only"):
        DeltaTable(raw.path).delete()
    assert raw.count() == 1


def test_lake_table_missing_file_is_named_with_the_way_back(raw: LakeTable, tmp_path: Path) -> None:
    trades = LakeTable.open(LakeLayout(tmp_path), "trades")
    for table, way in ((raw, "from a copy"), (trades, "rebuild it from raw")):
        table.append(lakekit.rows(table.spec.name, {}), app_id=APP, through=0)
        table.check()
        (path,) = table.files()
        Path(path).unlink()
        with pytest.raises(LakeError, match=f"1 of its files are missing, first '{path}'.*{way}"):
            table.check()


def test_lake_table_history_names_what_was_done(raw: LakeTable) -> None:
    raw.append(lakekit.records([0]), app_id=APP, through=0)
    newest, oldest = raw.history()
    assert (newest.version, newest.operation) == (1, "WRITE")
    assert (oldest.version, oldest.operation) == (0, "CREATE TABLE")
    assert newest.ts_ns > lakekit.FIRST_NS - 365 * lakekit.DAY_NS


def test_lake_table_disk_full_is_told_and_writing_goes_on_after(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        _fill(small)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def _append_each(table: LakeTable, batches: list[pa.Table]) -> None:
    for batch in batches:
        table.append(batch, app_id=APP, through=batch["offset"][-1].as_py())


def _fill(small: Path) -> None:
    table = LakeTable.open(LakeLayout(small, buckets=1), "raw")
    ballast = small / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    noise = np.random.default_rng(1)
    batches = [
        lakekit.rows("raw", {"offset": n, "payload": noise.bytes(100_000)}) for n in range(50)
    ]
    with pytest.raises(FullError, match="the disk is full; nothing of it was committed"):
        _append_each(table, batches)
    written = table.count()
    assert 0 < written < 49
    assert table.version_of(APP) == written - 1
    ballast.unlink()
    rest = lakekit.records(range(written + 2))
    assert table.append(rest, app_id=APP, through=written + 1) == 2
    assert lakekit.stored(table) == list(range(written + 2))


def test_disk_budget_refuses_before_it_is_exceeded(tmp_path: Path) -> None:
    layout = LakeLayout(tmp_path, buckets=1)
    batch = lakekit.records(range(1_000))
    limit = 4 * batch.nbytes
    table = LakeTable.open(layout, "raw", budget=DiskBudget(layout, limit))
    batches = [lakekit.records(range(n, n + 1_000)) for n in range(0, 100_000, 1_000)]
    with pytest.raises(FullError, match=f"disk_budget_bytes was '{limit}', the lake uses"):
        _append_each(table, batches)
    on_disk = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert usage(layout) == {"raw": on_disk}
    assert limit - 2 * batch.nbytes < on_disk <= limit
    # Packed files are smaller than rows in memory: more than four batches went in.
    assert table.count() > 4_000
    assert lakekit.stored(table) == list(range(table.count()))
    assert issubclass(FullError, StorageError)
    with pytest.raises(LakeError, match="disk_budget_bytes was '0'"):
        DiskBudget(layout, 0)


def test_disk_budget_takes_an_append_in_pieces_as_long_as_they_fit(tmp_path: Path) -> None:
    rows = lakekit.records(range(20_000))
    piece = rows.nbytes // 50
    layout = LakeLayout(tmp_path / "room", buckets=1)
    budget = DiskBudget(layout, rows.nbytes // 2, piece_bytes=piece)
    table = LakeTable.open(layout, "raw", budget=budget)
    # in memory it is twice the budget, in files far less
    assert table.append(rows, app_id=APP, through=30_000) == 20_000
    assert table.version_of(APP) == 30_000
    assert lakekit.stored(table) == list(range(20_000))
    assert usage(layout)["raw"] <= rows.nbytes // 2
    assert table.append(rows, app_id=APP, through=30_000) == 0

    layout = LakeLayout(tmp_path / "none", buckets=1)
    noise = np.random.default_rng(1)
    hard = pa.concat_tables(
        [lakekit.rows("raw", {"offset": n, "payload": noise.bytes(50_000)}) for n in range(64)]
    )
    budget = DiskBudget(layout, hard.nbytes // 2, piece_bytes=200_000)
    table = LakeTable.open(layout, "raw", budget=budget)
    with pytest.raises(FullError, match="nothing of them was written"):
        table.append(hard, app_id=APP, through=63)
    written = table.count()
    assert 16 <= written < 32
    assert table.version_of(APP) == written - 1
    assert usage(layout)["raw"] <= hard.nbytes // 2
    roomy = LakeTable.open(layout, "raw", budget=DiskBudget(layout, 2 * hard.nbytes))
    assert roomy.append(hard, app_id=APP, through=63) == 64 - written
    assert lakekit.stored(roomy) == list(range(64))


def test_disk_budget_cuts_between_offsets_alone(tmp_path: Path) -> None:
    budget = DiskBudget(LakeLayout(tmp_path), 100, piece_bytes=10)
    for offsets, cut in (([5], None), ([5, 5], None), ([1, 2, 2], 1), ([4, 1, 3, 2], 3)):
        assert budget.cut(101, np.array(offsets, np.int64)) == cut
    assert budget.cut(10, np.array([1, 2], np.int64)) is None
    assert budget.cut(100, np.array([1, 2], np.int64)) is None


@pytest.mark.parametrize("name", ["a b", "a#b", "50% é", "a?b", "a%b"])
def test_lake_table_folder_of_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    table = LakeTable.open(LakeLayout(tmp_path / name), "raw")
    table.append(lakekit.rows("raw", {"source": "a b/ü%="}), app_id=APP, through=0)
    assert [Path(path).is_file() for path in table.files()] == [True]
    table.check()
    assert Lake(tmp_path / name).sql("SELECT count(*) AS n FROM raw")["n"].to_list() == [1]


@pytest.mark.parametrize("name", ["a[b", "a]b", "a%20b"])
def test_lake_layout_folder_that_delta_cannot_keep_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="choose another"):
        LakeLayout(tmp_path / name)
