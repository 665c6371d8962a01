"""The canonical export, byte for byte."""

import hashlib
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marketpipe.domain.schemas import BARS
from marketpipe.errors import InputError, SeriesError, TimeframeError
from marketpipe.verify import CanonicalExporter

MakeBars = Callable[..., pa.Table]
MINUTE = 60_000_000_000
OPEN_NS = 1_767_623_400_000_000_000
HEADER = "symbol,timeframe,ts_open,ts_close,open,high,low,close,volume,notional,trade_count\n"
FIRST = (
    "AAPL,1m,2026-01-05T14:30:00Z,2026-01-05T14:31:00Z,189.37,190,189.000000001,189.5,1200,"
    "227244.000000000000000001,12\n"
)


def text_of(exporter: CanonicalExporter) -> str:
    file = io.BytesIO()
    exporter.write(file)
    return file.getvalue().decode()


def test_export_one_bar_writes_the_documented_line(make_bars: MakeBars) -> None:
    assert text_of(CanonicalExporter(make_bars({}))) == HEADER + FIRST


def test_export_no_bars_writes_the_header_alone(make_bars: MakeBars) -> None:
    assert text_of(CanonicalExporter(make_bars())) == HEADER


def test_export_path_and_hash_give_the_digest_of_the_file(
    make_bars: MakeBars, tmp_path: Path
) -> None:
    exporter = CanonicalExporter(make_bars({}))
    path = tmp_path / "bars.csv"
    digest = exporter.write(path)
    assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert digest == exporter.compute_hash()
    assert [p.name for p in tmp_path.iterdir()] == ["bars.csv"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", "0"),
        ("0.000000001", "0.000000001"),
        ("-0.5", "-0.5"),
        ("100", "100"),
        ("100.100000000", "100.1"),
        ("999999999.999999999", "999999999.999999999"),
    ],
)
def test_export_prices_are_exact_without_exponent_or_zeros(
    make_bars: MakeBars, value: str, expected: str
) -> None:
    text = text_of(CanonicalExporter(make_bars({"open": Decimal(value)})))
    assert text.splitlines()[1].split(",")[4] == expected


def test_export_sums_of_38_digits_are_written_whole(make_bars: MakeBars) -> None:
    volume, notional = Decimal("9" * 29 + "." + "9" * 9), Decimal("9" * 20 + "." + "9" * 18)
    text = text_of(CanonicalExporter(make_bars({"volume": volume, "notional": notional})))
    assert text.splitlines()[1].split(",")[8:10] == [str(volume), str(notional)]


@pytest.mark.parametrize(
    ("ts_open", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (OPEN_NS + 1, "2026-01-05T14:30:00.000000001Z"),
        (OPEN_NS + 120_000_000, "2026-01-05T14:30:00.12Z"),
        (9_223_372_036_000_000_000, "2262-04-11T23:47:16Z"),
    ],
)
def test_export_instants_have_fractions_only_when_not_zero(
    make_bars: MakeBars, ts_open: int, expected: str
) -> None:
    bars = make_bars({"ts_open": ts_open, "ts_close": ts_open + 1})
    assert text_of(CanonicalExporter(bars)).splitlines()[1].split(",")[2] == expected


def test_export_quote_bars_leave_volume_and_notional_empty(make_bars: MakeBars) -> None:
    bars = make_bars({"price_type": "bid", "volume": Decimal(0), "notional": Decimal(0)})
    assert text_of(CanonicalExporter(bars)).splitlines()[1].split(",")[8:] == ["", "", "12"]


def test_export_latest_revision_wins_and_history_keeps_all(make_bars: MakeBars) -> None:
    bars = make_bars(
        {"revision": 1, "cause": "late", "close": Decimal("189.6"), "known_at": OPEN_NS + MINUTE},
        {"revision": 0},
    )
    assert text_of(CanonicalExporter(bars)).count("\n") == 2
    assert ",189.6,1200," in text_of(CanonicalExporter(bars))
    lines = text_of(CanonicalExporter(bars, history=True)).splitlines()
    assert lines[0] == HEADER.strip() + ",revision,status,cause,known_at"
    assert lines[1].endswith(",12,0,confirmed,first,2026-01-05T14:31:00Z")
    assert lines[2].endswith(",12,1,confirmed,late,2026-01-05T14:31:00Z")


def test_export_bar_emptied_by_its_last_revision_is_left_out_but_in_history(
    make_bars: MakeBars,
) -> None:
    void = dict.fromkeys(("open", "high", "low", "close", "vwap"))
    bars = make_bars({}, {"revision": 1, "coverage": "void", "cause": "cancel", **void})
    assert text_of(CanonicalExporter(bars)) == HEADER
    lines = text_of(CanonicalExporter(bars, history=True)).splitlines()
    assert lines[2].split(",")[4:8] == ["", "", "", ""]
    assert ",1,void,cancel," in lines[2]


def test_export_forming_and_quiet_bars_are_left_out(make_bars: MakeBars) -> None:
    empty = dict.fromkeys(("open", "high", "low", "close", "vwap"))
    bars = make_bars(
        {"state": "forming"},
        {"ts_open": OPEN_NS + MINUTE, "coverage": "quiet", **empty},
    )
    assert text_of(CanonicalExporter(bars)) == HEADER
    assert text_of(CanonicalExporter(bars, history=True)).count("\n") == 1


def test_export_forming_revision_leaves_the_confirmed_one(make_bars: MakeBars) -> None:
    bars = make_bars({}, {"revision": 1, "state": "forming", "close": Decimal(1)})
    assert text_of(CanonicalExporter(bars)) == HEADER + FIRST


def test_export_rows_stand_by_symbol_duration_and_time(make_bars: MakeBars) -> None:
    bars = make_bars(
        {"timeframe": "1d"},
        {"timeframe": "1h"},
        {"timeframe": "15m"},
        {"timeframe": "2m", "ts_open": OPEN_NS + MINUTE},
        {"timeframe": "2m"},
        {"symbol": "AA"},
        {"symbol": "BRK.B"},
    )
    rows = [line.split(",")[:3] for line in text_of(CanonicalExporter(bars)).splitlines()[1:]]
    assert [(symbol, timeframe) for symbol, timeframe, _ in rows] == [
        ("AA", "1m"),
        *(("AAPL", timeframe) for timeframe in ("2m", "2m", "15m", "1h", "1d")),
        ("BRK.B", "1m"),
    ]
    assert rows[1][2] < rows[2][2]


def test_export_fields_with_commas_or_quotes_are_quoted(make_bars: MakeBars) -> None:
    text = text_of(CanonicalExporter(make_bars({"symbol": 'A"B,C'})))
    assert text.splitlines()[1].startswith('"A""B,C",1m,')


def test_export_of_two_series_lists_the_choices(make_bars: MakeBars) -> None:
    bars = make_bars({"feed": "iex"}, {"feed": "sip"})
    with pytest.raises(SeriesError, match=r"feed=iex.*feed=sip"):
        CanonicalExporter(bars)
    lines = text_of(CanonicalExporter(bars, all_series=True)).splitlines()
    assert lines[0] == "source,feed,price_type,rule_set," + HEADER.strip()
    assert [line.split(",")[1] for line in lines[1:]] == ["iex", "sip"]


@pytest.mark.parametrize("all_series", [False, True])
def test_export_of_two_sessions_of_one_series_is_refused(
    make_bars: MakeBars, all_series: bool
) -> None:
    bars = make_bars({"session": "regular"}, {"session": "extended"})
    with pytest.raises(SeriesError, match="session=extended"):
        CanonicalExporter(bars, all_series=all_series)


def test_export_doubled_revision_is_refused(make_bars: MakeBars) -> None:
    with pytest.raises(InputError, match="revision 0 more than once"):
        CanonicalExporter(make_bars({}, {"close": Decimal(189)}))


def test_export_settled_row_replaces_the_confirmed_one(make_bars: MakeBars) -> None:
    bars = make_bars({"state": "settled"}, {"state": "confirmed"})
    assert text_of(CanonicalExporter(bars)) == HEADER + FIRST


def test_export_table_of_another_shape_is_refused(make_bars: MakeBars) -> None:
    with pytest.raises(InputError, match="lacks session, vwap"):
        CanonicalExporter(make_bars({}).drop_columns(["session", "vwap"]))
    broken = make_bars({}).set_column(0, "source", pa.array([3.5]))
    with pytest.raises(InputError, match="does not fit"):
        CanonicalExporter(broken.set_column(10, "open", pa.array(["x"])))
    with pytest.raises(InputError, match="state"):
        CanonicalExporter(make_bars({"state": "done"}))
    with pytest.raises(TimeframeError, match="was '1x'"):
        CanonicalExporter(make_bars({"timeframe": "1x"}))


def test_export_of_many_slices_keeps_every_row_in_order(make_bars: MakeBars) -> None:
    one = make_bars({})
    count = 150_000
    ts_open = pa.array(range(OPEN_NS, OPEN_NS + count * MINUTE, MINUTE))
    bars = one.take(pa.array([0] * count)).set_column(8, BARS.field("ts_open"), ts_open)
    lines = text_of(CanonicalExporter(bars)).splitlines()
    assert len(lines) == count + 1
    assert lines[1:] == sorted(lines[1:])


def test_export_failed_write_leaves_the_old_file(make_bars: MakeBars, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("old")
    exporter = CanonicalExporter(make_bars({}))
    (tmp_path / ".bars.csv.partial").mkdir()
    with pytest.raises(OSError, match="partial"):
        exporter.write(path)
    assert path.read_text() == "old"


def test_export_parquet_and_arrow_keep_schema_and_rows(make_bars: MakeBars, tmp_path: Path) -> None:
    exporter = CanonicalExporter(make_bars({"revision": 1, "cause": "late"}, {}))
    exporter.to_parquet(tmp_path / "bars.parquet")
    exporter.to_arrow(tmp_path / "bars.arrow")
    parquet = pq.read_table(tmp_path / "bars.parquet")
    with pa.ipc.open_file(tmp_path / "bars.arrow") as reader:
        arrow = reader.read_all()
    assert parquet.equals(arrow)
    assert arrow.schema.equals(BARS, check_metadata=True)
    assert arrow["revision"].to_pylist() == [1]


@pytest.mark.parametrize("file_format", ["csv", "parquet", "arrow"])
def test_export_hive_names_folders_by_encoded_symbol_and_date(
    make_bars: MakeBars, tmp_path: Path, file_format: str
) -> None:
    bars = make_bars(
        {"symbol": "BTC/USD"}, {"symbol": "AAPL", "timeframe": "5m"}, {"symbol": "AAPL"}
    )
    paths = CanonicalExporter(bars).to_hive(tmp_path, file_format)  # type: ignore[arg-type]
    assert [str(p.relative_to(tmp_path)) for p in paths] == [
        f"symbol=AAPL/year=2026/month=01/day=05.{file_format}",
        f"symbol=BTC%2FUSD/year=2026/month=01/day=05.{file_format}",
    ]
    if file_format == "csv":
        assert paths[0].read_text().count("\n") == 3
        assert paths[0].read_text().startswith(HEADER + FIRST)
