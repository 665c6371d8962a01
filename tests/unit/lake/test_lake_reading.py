"""Reading ranges of symbols: bounds, types, files ruled out, tables that are not there."""

import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lakerows import DAY, T0, Lakeside, S, row
from marketpipe.domain.buckets import bucket_of
from marketpipe.errors import LakeError, NewerVersionError, TimeframeError, UsageError
from marketpipe.lake.instants import instant_ns
from marketpipe.lake.layout import TABLES
from marketpipe.lake.reading import Lake
from marketpipe.lake.snapshot import LiveTable, Wanted


def test_lake_without_tables_gives_empty_typed_frames(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "nothing")
    for frame, name in (
        (lake.trades("AAPL"), "trades"),
        (lake.quotes("AAPL"), "quotes"),
        (lake.book("AAPL"), "book"),
        (lake.statuses("AAPL"), "statuses"),
        (lake.corrections("AAPL"), "corrections"),
        (lake.vendor_bars("AAPL"), "vendor_bars"),
        (lake.bars("AAPL", "1m"), "bars"),
        (lake.sql("SELECT * FROM raw"), "raw"),
        (lake.sql("SELECT * FROM quarantine"), "quarantine"),
    ):
        expected = pl.from_arrow(TABLES[name].schema.empty_table())
        assert isinstance(expected, pl.DataFrame)
        assert frame.schema == expected.drop("bucket", strict=False).schema
        assert frame.is_empty()
    assert lake.series().is_empty()
    assert not (tmp_path / "nothing").exists()


def test_trades_range_includes_start_and_excludes_end(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", *({"ts_event": T0 + k, "trade_id": f"{k}"} for k in range(4)))
    found = Lake(tmp_path).trades("AAPL", T0 + 1, T0 + 3)
    assert found["trade_id"].to_list() == ["1", "2"]
    assert Lake(tmp_path).trades("AAPL", T0 + 2, T0 + 2).is_empty()


def test_trades_values_come_back_exactly(tmp_path: Path) -> None:
    given = row(
        ts_event=T0 + 1, price=Decimal("999999999.999999999"), size=Decimal("0.000000001"),
        trade_id="7", conditions="@ I", side="buy", flags=2, key_mid=86, key_minor=7, offset=9,
    )  # fmt: skip
    Lakeside(tmp_path).put("trades", given)
    found = Lake(tmp_path).trades("AAPL").row(0, named=True)
    assert found == {name: given[name] for name in TABLES["trades"].rows.names}


def test_frames_of_the_lake_go_to_pandas_and_arrow(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", {"price": Decimal("189.37")})
    found = Lake(tmp_path).trades("AAPL")
    assert found.to_arrow()["price"].to_pylist() == [Decimal("189.370000000")]
    assert found.to_pandas()["price"].tolist() == [Decimal("189.370000000")]


def test_rows_are_sorted_by_symbol_and_order_key_across_files(tmp_path: Path) -> None:
    side = Lakeside(tmp_path)
    side.put("trades", {"symbol": "MSFT", "trade_id": "m"}, {"key_minor": 3, "trade_id": "c"})
    side.put("trades", {"key_minor": 1, "trade_id": "b"}, {"ts_event": T0 - 1, "trade_id": "a"})
    found = Lake(tmp_path).trades(["MSFT", "AAPL", "MSFT"])
    assert found["trade_id"].to_list() == ["a", "b", "c", "m"]


def test_book_levels_follow_their_message(tmp_path: Path) -> None:
    levels = [{"level": n, "offset": o, "side": "bid"} for o in (5, 4) for n in (2, 0, 1)]
    Lakeside(tmp_path).put("book", *levels)
    found = Lake(tmp_path).book("AAPL")
    assert found.select("offset", "level").rows() == [(o, n) for o in (4, 5) for n in (0, 1, 2)]


def test_vendor_bars_are_placed_by_their_open(tmp_path: Path) -> None:
    bar = {"kind": "bar", "ts_open": T0, "ts_event": T0 + 60 * S}
    Lakeside(tmp_path).put("vendor_bars", bar)
    assert Lake(tmp_path).vendor_bars("AAPL", T0, T0 + 1).height == 1
    assert Lake(tmp_path).vendor_bars("AAPL", T0 + 1).is_empty()


def test_bars_timeframe_is_read_in_any_spelling(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("bars", {"timeframe": "1h"}, {"timeframe": "1m"})
    assert Lake(tmp_path).bars("AAPL", "60m")["timeframe"].to_list() == ["1h"]
    with pytest.raises(TimeframeError, match="was '1x'"):
        Lake(tmp_path).bars("AAPL", "1x")


def test_symbol_with_quotes_of_sql_reaches_no_query(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", {})
    with pytest.raises(UsageError, match="symbols"):
        Lake(tmp_path).trades("A' OR 'a'='a")
    assert Lake(tmp_path).trades("BTC/USD").is_empty()


def test_symbols_with_slash_and_dot_are_read(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", *({"symbol": s} for s in ("BTC/USD", "BRK.B", "^GSPC")))
    found = Lake(tmp_path).trades(["^GSPC", "BTC/USD", "BRK.B"])
    assert found["symbol"].to_list() == ["BRK.B", "BTC/USD", "^GSPC"]


def test_source_with_characters_that_folders_escape_is_read(tmp_path: Path) -> None:
    names = ["BTC/USD", "a:b", "p=q", "x^y"]
    Lakeside(tmp_path).put("raw", *({"source": name, "payload": b"\x00"} for name in names))
    found = Lake(tmp_path).sql("SELECT source, payload FROM raw ORDER BY source")
    assert found.rows() == [(name, b"\x00") for name in names]


@pytest.mark.parametrize(
    ("symbols", "words"), [([], "were none"), ("", "was ''"), (["AAPL", 5], "was 5")]
)
def test_symbols_that_cannot_be_are_refused(tmp_path: Path, symbols: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Lake(tmp_path).trades(symbols)


NEW_YORK = timezone(timedelta(hours=-5))


@pytest.mark.parametrize(
    ("value", "ts_ns"),
    [
        (5, 5),
        ("2026-01-05", T0 - 52_200 * S),
        (DAY, T0 - 52_200 * S),
        ("2026-01-05T14:30:00Z", T0),
        ("2026-01-05T14:30Z", T0),
        ("2026-01-05 14:30:00z", T0),
        ("2026-01-05T09:30:00.000000001-05:00", T0 + 1),
        ("1969-12-31T23:59:59.5Z", -S // 2),
        (datetime(2026, 1, 5, 9, 30, 0, 1, tzinfo=NEW_YORK), T0 + 1000),
        (pd.Timestamp("2026-01-05T14:30:00.000000007Z"), T0 + 7),
    ],
)
def test_instant_is_read_exactly(value: Any, ts_ns: int) -> None:
    assert instant_ns(value, "start") == ts_ns


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2026, 1, 5), "start: was '2026-01-05 00:00:00', a datetime without a zone"),  # noqa: DTZ001
        ("2026-01-05T14:30:00", "names no zone"),
        ("2026-13-05", "no such time"),
        ("2026-01-05T24:30Z", "no such time"),
        ("2026-01-05T10:00:60Z", "no such time"),
        ("yesterday", "valid are a date"),
        ("２026-01-05", "valid are a date"),
        (True, "valid are a date"),
        (1.5, "valid are a date"),
        (None, "valid are a date"),
        ("2300-01-01", "outside of the years"),
        (1 << 63, "outside of the years"),
    ],
)
def test_instant_that_cannot_be_is_refused(value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        instant_ns(value, "start")


def test_range_that_ends_before_it_starts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="before start '2026-01-06'"):
        Lake(tmp_path).trades("AAPL", "2026-01-06", "2026-01-05")


def test_new_rows_are_seen_by_an_open_lake(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    assert lake.trades("AAPL").is_empty()
    for n in range(1, 25):  # more commits than a handle is kept for
        side.put("trades", {"ts_event": T0 + n})
        assert lake.trades("AAPL").height == n


def test_files_that_cannot_hold_rows_are_not_read(tmp_path: Path) -> None:
    side = Lakeside(tmp_path)
    other = next(s for s in map(str, range(99)) if bucket_of(s) == bucket_of("AAPL"))
    days = [DAY, date(2026, 1, 6), date(2026, 1, 7)]
    for n, day in enumerate(days):
        for symbol in ("AAPL", "MSFT", other):
            at = T0 + n * 86_400 * S
            side.put("trades", {"symbol": symbol, "session_date": day, "ts_event": at})
    table = LiveTable(TABLES["trades"], tmp_path / "canonical" / "trades")
    assert len(table.files().paths) == 9
    wanted = Wanted(symbols=("AAPL",), column="ts_event", start=T0 + S, end=T0 + 2 * 86_400 * S)
    files = table.files(wanted)
    assert len(files.paths) == 1
    assert table.dates(files) == {"2026-01-06"}
    assert len(table.files(Wanted(dates={"2026-01-07"})).paths) == 3


def test_session_date_other_than_the_utc_date_hides_nothing(tmp_path: Path) -> None:
    holiday = {"session_date": date(2026, 1, 20), "ts_event": T0}
    Lakeside(tmp_path).put("trades", holiday)
    assert Lake(tmp_path).trades("AAPL", "2026-01-05", "2026-01-06").height == 1


def test_files_without_a_later_column_read_it_as_null(tmp_path: Path) -> None:
    spec, side = TABLES["quotes"], Lakeside(tmp_path)
    earlier = spec.with_rows(
        pa.schema([f for f in spec.rows if f.name != "tape"], metadata=spec.rows.metadata)
    )
    side.put("quotes", {"bid": Decimal(1), "ts_event": T0}, spec=earlier)
    assert Lake(tmp_path).quotes("AAPL")["tape"].to_list() == [None]
    side.put("quotes", {"bid": Decimal(2), "ts_event": T0 + 1, "tape": "C"})
    found = Lake(tmp_path).quotes("AAPL")
    assert found.select("bid", "tape").rows() == [(Decimal(1), None), (Decimal(2), "C")]
    assert Lake(tmp_path).sql("SELECT tape FROM quotes ORDER BY bid").rows() == [(None,), ("C",)]


def test_table_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    spec = TABLES["quotes"]
    metadata = {b"marketpipe.schema": b"quotes", b"marketpipe.version": b"99"}
    newer = spec.with_rows(spec.rows.with_metadata(metadata))
    Lakeside(tmp_path).put("quotes", {}, spec=newer)
    with pytest.raises(NewerVersionError, match="99"):
        Lake(tmp_path).quotes("AAPL")


def test_missing_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", {})
    lake = Lake(tmp_path)
    (lost,) = (tmp_path / "canonical" / "trades").rglob("*.parquet")
    lost.unlink()
    with pytest.raises(LakeError, match=lost.name):
        lake.trades("AAPL")
    with pytest.raises(LakeError, match="cannot be read"):
        lake.sql("SELECT * FROM trades")


def test_table_made_again_is_read_after_one_error(tmp_path: Path) -> None:
    side, lake = Lakeside(tmp_path), Lake(tmp_path)
    for n in range(3):
        side.put("trades", {"ts_event": T0 + n})
    assert lake.trades("AAPL").height == 3
    (tmp_path / "canonical").rename(tmp_path / "gone")
    side.put("trades", {"ts_event": T0, "trade_id": "new"})
    with pytest.raises(LakeError):
        lake.trades("AAPL")
    assert lake.trades("AAPL")["trade_id"].to_list() == ["new"]


def test_folder_that_is_no_table_of_ours_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "bars" / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("{not json")
    with pytest.raises(LakeError, match="bars"):
        Lake(tmp_path).bars("AAPL", "1m")


def test_threads_read_one_lake_at_once(tmp_path: Path) -> None:
    Lakeside(tmp_path).put("trades", *({"ts_event": T0 + n} for n in range(1000)))
    lake, heights = Lake(tmp_path), np.zeros(8, np.int64)

    def read(n: int) -> None:
        heights[n] = sum(lake.trades("AAPL", T0 + n).height for _ in range(5))

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heights.tolist() == [5 * (1000 - n) for n in range(8)]


def test_lake_is_the_same_wherever_it_is_asked_from(tmp_path: Path) -> None:
    Lakeside(tmp_path / "it's a = lake").put("trades", {})
    assert Lake(str(tmp_path / "it's a = lake")).trades("AAPL").height == 1
    assert Lake(tmp_path / "it's a = lake").sql("FROM trades").height == 1
    assert datetime.fromtimestamp(T0 // S, UTC).isoformat() == "2026-01-05T14:30:00+00:00"
