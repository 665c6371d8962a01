"""Independent recomputation, on files small enough to work out by hand."""

import gzip
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from marketpipe.errors import InputError, RuleSetError, TimeframeError, UsageError
from marketpipe.verify import Recomputed, recompute

Run = Callable[..., Recomputed]
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
T0 = 1_767_623_400 * SECOND
"""2026-01-05T14:30:00Z, a Monday: 09:30 in New York."""
FIELDS = ("open", "high", "low", "close", "volume", "notional", "vwap", "trade_count")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Recompute bars of a CSV given as lines."""

    def recomputed(lines: list[str], *timeframes: str, **options: Any) -> Recomputed:
        path = tmp_path / "ticks.csv"
        path.write_text("\n".join(lines))
        return recompute(path, timeframes or ("1m",), **options)

    return recomputed


def values(found: Recomputed, row: int = 0) -> tuple[Any, ...]:
    bar = found.bars.to_pylist()[row]
    return tuple(bar[name] for name in FIELDS)


def numbers(*texts: str, count: int) -> tuple[Any, ...]:
    return (*(Decimal(text) for text in texts), count)


def test_recompute_minute_of_three_trades_is_as_by_hand(run: Run) -> None:
    found = run(
        [
            "symbol,ts_ns,price,size",
            f"AAPL,{T0 + 2},10.5,3",
            f"AAPL,{T0 + 1},10,1",
            f"AAPL,{T0 + MINUTE - 1},9.5,2",
            f"AAPL,{T0 + MINUTE},11,7",
        ]
    )
    # 10*1 + 10.5*3 + 9.5*2 = 60.5; 60.5 / 6 = 10.08333…
    assert values(found) == numbers(
        "10", "10.5", "9.5", "9.5", "6", "60.5", "10.083333333", count=3
    )
    assert values(found, 1)[3:5] == (Decimal(11), Decimal(7))
    bar = found.bars.to_pylist()[0]
    assert (bar["symbol"], bar["timeframe"]) == ("AAPL", "1m")
    assert (bar["ts_open"], bar["ts_close"]) == (T0, T0 + MINUTE)
    assert found.excluded == {}


def test_recompute_equal_times_without_ids_follow_the_file(run: Run) -> None:
    lines = ["symbol,ts_ns,price,size", *(f"AAPL,{T0},{p},1" for p in (3, 1, 2))]
    assert values(run(lines))[:4] == tuple(map(Decimal, (3, 3, 1, 2)))


def test_recompute_equal_times_with_ids_follow_venue_and_number(run: Run) -> None:
    rows = [("ZZ", 1, 5), ("Q", 10, 4), ("Q", 9, 3), ("A", 11, 2), ("A", "", 1), ("Z", "x7", 0.5)]
    lines = [f"AAPL,{T0},{price},1,{venue},{number}" for venue, number, price in rows]
    found = run(["symbol,ts_ns,price,size,venue,trade_id", *lines])
    # without a number: rows 5 and 6; then A 11, Q 9, Q 10, and the longer name ZZ last
    assert values(found)[0] == Decimal(1)
    assert values(found)[3] == Decimal(5)
    found = run(["symbol,ts_ns,price,size,venue,trade_id", *lines[:4]])
    assert (values(found)[0], values(found)[3]) == (Decimal(2), Decimal(5))


def test_recompute_ids_order_by_number_and_repeats_count_once(run: Run) -> None:
    found = run(
        [
            "symbol,ts_ns,price,size,trade_id",
            f"AAPL,{T0},2,1,100",
            f"AAPL,{T0},1,1,99",
            f"AAPL,{T0},7,9,99",
            f"MSFT,{T0},1,1,99",
            f"AAPL,{T0 + DAY},1,1,99",
        ]
    )
    assert values(found)[:5] == tuple(map(Decimal, (1, 2, 1, 2, 2)))
    assert len(found.bars) == 3
    assert found.excluded == {"duplicate": 1}


def test_recompute_same_id_on_another_venue_or_tape_is_another_trade(run: Run) -> None:
    lines = ["symbol,ts_ns,price,size,trade_id,venue,tape"]
    lines += [f"AAPL,{T0},1,1,5,{venue},{tape}" for venue in "QN" for tape in "AC"] * 2
    found = run(lines)
    assert values(found)[7] == 4
    assert found.excluded == {"duplicate": 4}


MIDNIGHT = 20_459 * DAY
"""2026-01-06T00:00:00Z, 19:00 of the day before in New York."""


def repeated_id(*hours: int) -> list[str]:
    """List trades with one id, so many hours from midnight in UTC."""
    lines = [f"A,{MIDNIGHT + h * 60 * MINUTE},1,1,7" for h in hours]
    return ["symbol,ts_ns,price,size,trade_id", *lines]


@pytest.mark.parametrize(("id_dates", "kept"), [("utc", [-1, 3]), ("new_york", [-1, 6])])
def test_recompute_an_id_counts_once_per_date_as_asked(
    run: Run, id_dates: str, kept: list[int]
) -> None:
    found = run(repeated_id(-1, 3, 6), "1h", id_dates=id_dates)
    opens = [(t - MIDNIGHT) // (60 * MINUTE) for t in found.bars["ts_open"].to_pylist()]
    assert opens == kept
    assert found.excluded == {"duplicate": 1}


def test_recompute_an_id_before_the_session_counts_for_the_session(run: Run) -> None:
    day = {"seg_open": [MIDNIGHT], "seg_close": [MIDNIGHT + DAY], "session_date": [20_459]}
    edges = {"session_open": [MIDNIGHT], "session_close": [MIDNIGHT + DAY]}
    segments = pa.table({**day, **edges, "auction_end": [MIDNIGHT + DAY]})
    found = run(repeated_id(-1, 3, 25), "1h", segments=segments)
    assert found.excluded == {"duplicate": 1}
    assert len(found.bars) == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("AAPL,0,1.0000000001,1", "below_resolution"),
        ("AAPL,0,1,1e-10", "below_resolution"),
        ("AAPL,0,1,1e-99999999999", "below_resolution"),
        ("AAPL,0,1000000000,1", "out_of_range"),
        ("AAPL,0,1e300,1", "out_of_range"),
        ("AAPL,0,abc,1", "bad_number"),
        ("AAPL,0,NaN,1", "bad_number"),
        ("AAPL,0, 1,1", "bad_number"),
        ("AAPL,0,1_0,1", "bad_number"),
        ("AAPL,0,,1", "missing_value"),
        ("AAPL,,1,1", "missing_value"),
        ("AAPL,0,0,1", "non_positive_price"),
        ("AAPL,0,-1,1", "non_positive_price"),
        ("AAPL,0,1,-1", "negative_size"),
        ("AAPL,-1,1,1", "bad_timestamp"),
        ("AAPL,1.5,1,1", "bad_timestamp"),
        ("AAPL,9223372036854775808,1,1", "bad_timestamp"),
        ("../x,0,1,1", "bad_symbol"),
        (",0,1,1", "bad_symbol"),
        ("A B,0,1,1", "bad_symbol"),
        (f"{'A' * 33},0,1,1", "bad_symbol"),
        ("AAPL,0,1", "bad_field_count"),
        ("AAPL,0,1,1,1", "bad_field_count"),
    ],
)
def test_recompute_row_that_is_no_trade_is_excluded_and_counted(
    run: Run, row: str, reason: str
) -> None:
    found = run(["symbol,ts_ns,price,size", row, "OK,0,1,1"])
    assert found.excluded == {reason: 1}
    assert found.bars["symbol"].to_pylist() == ["OK"]


@pytest.mark.parametrize(
    "price", ["1.5", "+1.5", "1.500000000000", "15e-1", ".15E1", "0001.5", "150e-02"]
)
def test_recompute_numbers_are_read_by_value(run: Run, price: str) -> None:
    assert values(run(["symbol,ts_ns,price,size", f"A,0,{price},1"]))[0] == Decimal("1.5")


def test_recompute_undecodable_row_is_excluded_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    path.write_bytes(b"symbol,ts_ns,price,size\nA,0,1,1\n\xff,0,1,1\nA,1,2,1\n")
    found = recompute(path, ["1m"])
    assert found.excluded == {"bad_utf8": 1}
    assert values(found)[3] == Decimal(2)


def test_recompute_quotes_windows_lines_and_blank_lines_are_read(run: Run) -> None:
    found = run(['\ufeff"symbol",ts_ns,price,size\r', '"A","0","1","2"\r', "\r", "", 'A,1,"1",3\r'])
    assert values(found)[4] == Decimal(5)
    assert found.excluded == {}


@pytest.mark.parametrize(
    ("column", "text", "ns"),
    [
        ("ts_ms", "1767623400001", T0 + 1_000_000),
        ("ts_us", "1767623400000001", T0 + 1_000),
        ("timestamp", "2026-01-05T14:30:00Z", T0),
        ("timestamp", "2026-01-05t14:30:00.123456789z", T0 + 123_456_789),
        ("timestamp", "2026-01-05 09:30:00.5-05:00", T0 + 500_000_000),
        ("timestamp", "2026-01-05T20:00:00.000000001+05:30", T0 + 1),
    ],
)
def test_recompute_times_are_exact_to_the_nanosecond(
    run: Run, column: str, text: str, ns: int
) -> None:
    # the trade at the very nanosecond before is in an earlier place
    found = run([f"symbol,{column},price,size", f"A,{text},1,1"], "1s")
    assert found.bars["ts_open"].to_pylist() == [ns // SECOND * SECOND]


def test_recompute_fractions_decide_the_order(run: Run) -> None:
    stamps = ("00.000000002", "00.000000001", "00", "00.1", "00.09")
    lines = [f"A,2026-01-05T14:30:{s}Z,{i + 1},1" for i, s in enumerate(stamps)]
    found = run(["symbol,timestamp,price,size", *lines])
    assert (values(found)[0], values(found)[3]) == (Decimal(3), Decimal(4))


@pytest.mark.parametrize(
    "text", ["2026-01-05T14:30:00", "2026-02-30T00:00:00Z", "2026-01-05T24:00:00Z", "noon",
             "2026-01-05T14:30:60Z", "2026-01-05T14:30:00.1234567890Z", "1969-12-31T23:59:59Z",
             "2263-01-01T00:00:00Z"]
)  # fmt: skip
def test_recompute_bad_timestamps_are_excluded(run: Run, text: str) -> None:
    found = run(["symbol,timestamp,price,size", f"A,{text},1,1"])
    assert found.excluded == {"bad_timestamp": 1}
    assert len(found.bars) == 0


def test_recompute_vwap_rounds_half_to_even(run: Run) -> None:
    lines = ["symbol,ts_ns,price,size"]
    # (1 + 1.000000001) / 2 = 1.0000000005 → even …000; (1.000000001 + 1.000000002) / 2 → …002
    for minute, prices in enumerate((("1", "1.000000001"), ("1.000000001", "1.000000002"))):
        lines += [f"A,{T0 + minute * MINUTE},{price},1" for price in prices]
    assert run(lines).bars["vwap"].to_pylist() == [Decimal("1"), Decimal("1.000000002")]


def test_recompute_size_zero_sets_prices_and_no_volume(run: Run) -> None:
    found = run(["symbol,ts_ns,price,size", f"A,{T0},5,0", f"A,{T0 + 1},4,2"])
    assert values(found) == numbers("5", "5", "4", "4", "2", "8", "4", count=2)
    found = run(["symbol,ts_ns,price,size", f"A,{T0},5,0"])
    assert values(found) == (*map(Decimal, (5, 5, 5, 5, 0, 0)), None, 1)


@pytest.mark.parametrize(
    ("timeframe", "ts_open", "spelled"),
    [
        ("15m", T0, "15m"),
        ("1h", T0 - 30 * MINUTE, "1h"),
        ("60m", T0 - 30 * MINUTE, "1h"),
        ("1d", 20_458 * DAY, "1d"),
        ("3d", 20_457 * DAY, "3d"),  # 20457 = 3 * 6819
        ("1w", 20_458 * DAY, "1w"),  # that Monday
        ("7d", 20_458 * DAY, "1w"),
    ],
)
def test_recompute_continuous_edges_count_from_the_epoch(
    run: Run, timeframe: str, ts_open: int, spelled: str
) -> None:
    bar = run(["symbol,ts_ns,price,size", f"A,{T0},1,1"], timeframe).bars.to_pylist()[0]
    assert (bar["ts_open"], bar["timeframe"]) == (ts_open, spelled)
    assert ts_open <= T0 < bar["ts_close"]


def test_recompute_quotes_by_side_and_mid(run: Run) -> None:
    lines = [
        "symbol,ts_ns,bid,ask",
        f"E,{T0},1.1,1.100000001",
        f"E,{T0 + 1},1.3,1.2",
        f"E,{T0 + 2},,1.4",
        f"E,{T0 + 3},1.0,0",
        f"E,{T0 + 4},1.000000001,1.000000002",
        f"E,{T0 + 5},x,1",
    ]
    bid, ask, mid = (run(lines, price=price) for price in ("bid", "ask", "mid"))
    none = (None, None, None)
    assert values(bid) == (*map(Decimal, ("1.1", "1.3", "1", "1.000000001")), *none, 4)
    assert bid.excluded == {"bad_number": 1, "one_sided_quote": 1}
    assert values(ask)[:4] == tuple(
        map(Decimal, ("1.100000001", "1.4", "1.000000002", "1.000000002"))
    )
    # 1.1000000005 → 1.100000000 and 1.0000000015 → 1.000000002, halves to even
    assert values(mid)[:4] == tuple(map(Decimal, ("1.1", "1.1", "1.000000002", "1.000000002")))
    assert mid.excluded == {"bad_number": 1, "one_sided_quote": 2, "crossed_quote": 1}


SEGMENTS = pa.table(
    {
        "seg_open": [T0, T0 + 20 * MINUTE, T0 + DAY],
        "seg_close": [T0 + 10 * MINUTE, T0 + 33 * MINUTE, T0 + DAY + 30 * MINUTE],
        "session_date": [date(2026, 1, 5), date(2026, 1, 5), date(2026, 1, 6)],
        "session_open": [T0, T0, T0 + DAY],
        "session_close": [T0 + 33 * MINUTE, T0 + 33 * MINUTE, T0 + DAY + 30 * MINUTE],
        "auction_end": [T0 + 43 * MINUTE, T0 + 43 * MINUTE, T0 + DAY + 40 * MINUTE],
    }
)


def test_recompute_segments_anchor_and_cut_bars(run: Run) -> None:
    minutes = (-1, 0, 9, 10, 15, 19, 20, 32, 33, 1440)
    lines = ["symbol,ts_ns,price,size", *(f"A,{T0 + m * MINUTE},{m + 2},1" for m in minutes)]
    found = run(lines, "7m", "1d", "1w", segments=SEGMENTS).bars.to_pylist()
    edges = [
        (b["timeframe"], (b["ts_open"] - T0) // MINUTE, (b["ts_close"] - T0) // MINUTE)
        for b in found
    ]
    assert edges == [
        *(("7m", *edge) for edge in ((0, 7), (7, 10), (20, 27), (27, 33), (1440, 1447))),
        ("1d", 0, 33),
        ("1d", 1440, 1470),
        ("1w", 0, 1470),
    ]
    assert [b["trade_count"] for b in found[5:]] == [4, 1, 5]


def test_recompute_closing_auction_joins_the_day_alone(run: Run) -> None:
    close = T0 + 33 * MINUTE
    rows = [
        (T0, "", "", "", 1),
        (close, "6", "Q", "C", 2),  # the primary's closing print
        (close, "6", "N", "C", 3),  # another venue's
        (close, "", "Q", "C", 4),  # no closing print
        (close + 10 * MINUTE, "6", "Q", "C", 5),  # too late
        (T0 + 15 * MINUTE, "6", "Q", "C", 6),  # in the lunch break
    ]
    lines = [f"A,{ts},{p},1,{cond},{venue},{tape}" for ts, cond, venue, tape, p in rows]
    header = "symbol,ts_ns,price,size,conditions,venue,tape"
    found = run([header, *lines], "1m", "1d", segments=SEGMENTS).bars.to_pylist()
    assert [(b["timeframe"], b["close"], b["trade_count"]) for b in found] == [
        ("1m", Decimal(1), 1),
        ("1d", Decimal(2), 2),
    ]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_recompute_packed_files_are_read(tmp_path: Path, suffix: str) -> None:
    text = b"symbol,ts_ns,price,size\nA,0,1,2\n"
    path = tmp_path / f"ticks.csv{suffix}"
    packed = gzip.compress(text) if suffix == ".gz" else zstandard.compress(text)
    path.write_bytes(packed)
    assert values(recompute(path, ["1m"]))[4] == Decimal(2)


def test_recompute_parquet_columns_of_many_types_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ticks.parquet"
    table = pa.table(
        {
            "symbol": ["A", "A", "A"],
            "timestamp": pa.array([T0 + 1, T0, T0 + 2], pa.timestamp("ns", "UTC")),
            "price": pa.array([Decimal("1.000000001"), Decimal("2"), None], pa.decimal128(18, 9)),
            "size": pa.array([1, 2, 3]),
            "conditions": [["@", "I"], None, None],
        }
    )
    pq.write_table(table, path)
    found = recompute(path, ["1m"])
    assert values(found)[:5] == tuple(map(Decimal, ("2", "2", "1.000000001", "1.000000001", "3")))
    assert found.excluded == {"missing_value": 1}


def test_recompute_source_feed_and_symbols_are_as_asked(run: Run) -> None:
    lines = ["symbol,feed,ts_ns,price,size", "A,iex,0,1,1", "A,,0,1,1", "B,,0,x,1"]
    found = run(lines, source="csv", feed="file", symbols=["A"])
    assert [(b["source"], b["feed"]) for b in found.bars.to_pylist()] == [
        ("csv", "file"),
        ("csv", "iex"),
    ]
    assert found.excluded == {}


def test_recompute_unusable_words_are_errors(run: Run) -> None:
    lines = ["symbol,ts_ns,price,size", "A,0,1,1"]
    with pytest.raises(TimeframeError, match="was '0m'"):
        run(lines, "0m")
    with pytest.raises(TimeframeError, match="none below 1m"):
        run(lines, "30s", rules="alpaca-v1")
    with pytest.raises(UsageError, match="price was 'last'"):
        run(lines, price="last")
    with pytest.raises(RuleSetError, match="rules was 'mine'"):
        run(lines, rules="mine")
    with pytest.raises(UsageError, match="id_dates was 'segments'"):
        run(lines, id_dates="segments")
    with pytest.raises(UsageError, match="id_dates was 'gmt'"):
        run(lines, id_dates="gmt")
    with pytest.raises(UsageError, match="brings its own"):
        run(lines, rules="alpaca-v1", segments=SEGMENTS)
    with pytest.raises(InputError, match="segments lack auction_end"):
        run(lines, segments=SEGMENTS.drop_columns(["auction_end"]))
