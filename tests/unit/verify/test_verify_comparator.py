"""Comparing two files of bars."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from marketpipe.errors import HeaderError, InputError, UsageError
from marketpipe.verify import BarComparator, CanonicalExporter, Comparison

HEADER = "symbol,timeframe,ts_open,ts_close,open,high,low,close,volume,notional,trade_count"
ROW = "AAPL,1m,2026-01-05T14:30:00Z,2026-01-05T14:31:00Z,1.5,2,1,1.75,100,160.5,3"
NEXT = "AAPL,1m,2026-01-05T14:31:00Z,2026-01-05T14:32:00Z,1.5,2,1,1.75,100,160.5,3"
TRADINGVIEW = "time,open,high,low,close,Volume"
SECONDS = 1_767_623_400

Compare = Callable[..., Comparison]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    def run(
        reference: list[str],
        candidate: list[str],
        *,
        tolerance: str = "1e-6",
        volume_tolerance: str = "0",
        **options: object,
    ) -> Comparison:
        for name, lines in (("ref.csv", reference), ("cand.csv", candidate)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        comparator = BarComparator(tolerance, volume_tolerance)
        return comparator.compare(
            tmp_path / "ref.csv",
            tmp_path / "cand.csv",
            **options,  # type: ignore[arg-type]
        )

    return run


def test_compare_equal_files_matches_every_bar(compare: Compare) -> None:
    found = compare([HEADER, ROW, NEXT], [HEADER, NEXT, ROW])
    assert found.ok
    assert (found.matched_count, found.differing, found.missing, found.extra) == (2, (), (), ())
    assert "2 bars match" in found.lines()[0]


def test_compare_numbers_by_value_not_by_spelling(compare: Compare) -> None:
    spelled = ROW.replace("1.5,2,1,1.75,100", "+1.500,2e0,01,175E-2,1e2")
    assert compare([HEADER, spelled], [HEADER, ROW], tolerance="0").ok


def test_compare_times_by_instant_not_by_spelling(compare: Compare) -> None:
    spelled = ROW.replace("2026-01-05T14:30:00Z", "2026-01-05 09:30:00.000-05:00")
    assert compare([HEADER, spelled], [HEADER, ROW]).ok


@pytest.mark.parametrize(
    ("close", "matches"),
    [("1.750001", True), ("1.749999", True), ("1.7500011", False), ("1.7499989", False)],
)
def test_compare_prices_within_tolerance_inclusive(
    compare: Compare, close: str, matches: bool
) -> None:
    assert compare([HEADER, ROW], [HEADER, ROW.replace("1.75", close)]).ok is matches


def test_compare_volume_has_a_tolerance_of_its_own(compare: Compare) -> None:
    other = [HEADER, ROW.replace(",100,", ",100.5,")]
    assert not compare([HEADER, ROW], other, tolerance="9").ok
    assert compare([HEADER, ROW], other, volume_tolerance="0.5").ok


def test_compare_differing_cells_carry_both_values_and_delta(compare: Compare) -> None:
    other = ROW.replace("1.75", "1.8").replace(",3", ",4").replace("14:31:00", "14:35:00")
    found = compare([HEADER, ROW], [HEADER, other])
    assert not found.ok
    assert (found.matched_count, found.differing_count, found.differing_cell_count) == (0, 1, 3)
    cells = {cell.field: (cell.reference, cell.candidate, cell.delta) for cell in found.differing}
    assert cells == {
        "ts_close": (
            Decimal(SECONDS + 60) * 10**9,
            Decimal(SECONDS + 300) * 10**9,
            Decimal(240 * 10**9),
        ),
        "close": (Decimal("1.75"), Decimal("1.8"), Decimal("0.05")),
        "trade_count": (Decimal(3), Decimal(4), Decimal(1)),
    }
    line = "AAPL 1m 2026-01-05T14:30:00Z close: reference 1.75, candidate 1.8, 0.05"
    assert any(line in text for text in found.lines())


def test_compare_delta_of_large_numbers_is_exact(compare: Compare) -> None:
    low, high = "99999999999999999.000000000000000001", "99999999999999999.000000000000000003"
    found = compare([HEADER, ROW.replace("160.5", low)], [HEADER, ROW.replace("160.5", high)])
    assert found.differing[0].delta == Decimal("2E-18")


def test_compare_missing_and_extra_bars_are_named(compare: Compare) -> None:
    found = compare([HEADER, ROW], [HEADER, NEXT])
    assert not found.ok
    assert [str(bar) for bar in found.missing] == ["AAPL 1m 2026-01-05T14:30:00Z"]
    assert [str(bar) for bar in found.extra] == ["AAPL 1m 2026-01-05T14:31:00Z"]


def test_compare_lists_the_first_and_counts_all(compare: Compare) -> None:
    def rows(symbol: str) -> list[str]:
        return [ROW.replace("AAPL", f"{symbol}{i}") for i in range(9)]

    found = compare([HEADER, *rows("A")], [HEADER, *rows("B")], listed=2)
    assert (found.missing_count, len(found.missing), found.extra_count) == (9, 2, 9)
    assert "… and 7 more missing bars" in found.lines()


def test_compare_empty_volume_against_a_number_differs(compare: Compare) -> None:
    quote = ROW.replace(",100,160.5,", ",,,")
    assert compare([HEADER, quote], [HEADER, quote]).ok
    found = compare([HEADER, quote], [HEADER, ROW])
    assert [(c.field, c.reference, c.delta) for c in found.differing] == [
        ("volume", None, None),
        ("notional", None, None),
    ]
    assert "reference (none), candidate 100, (none)" in found.lines()[1]


@pytest.mark.parametrize("time", [str(SECONDS), "2026-01-05T14:30:00Z"])
@pytest.mark.parametrize("header", [TRADINGVIEW, TRADINGVIEW.lower(), f"{TRADINGVIEW},RSI"])
def test_compare_tradingview_takes_symbol_and_timeframe_of_the_other(
    compare: Compare, header: str, time: str
) -> None:
    extra = ",n/a" if header.endswith("RSI") else ""
    found = compare([header, f"{time},1.5,2,1,1.75,100{extra}"], [HEADER, ROW])
    assert found.ok
    assert found.fields == ("open", "high", "low", "close", "volume")


def test_compare_reference_with_prices_alone_compares_prices(compare: Compare) -> None:
    found = compare(["time,open,high,low,close", f"{SECONDS},1.5,2,1,1.75"], [HEADER, ROW])
    assert found.ok
    assert found.fields == ("open", "high", "low", "close")


def test_compare_tradingview_with_two_symbols_asks_which(compare: Compare) -> None:
    reference = [TRADINGVIEW, f"{SECONDS},1.5,2,1,1.75,100"]
    candidate = [HEADER, ROW, ROW.replace("AAPL", "MSFT")]
    with pytest.raises(InputError, match=r"holds 2: AAPL, MSFT; name the symbol"):
        compare(reference, candidate)
    found = compare(reference, candidate, symbol="AAPL", timeframe="1m")
    assert (found.matched_count, found.extra_count) == (1, 1)


def test_compare_two_tradingview_files_by_time(compare: Compare) -> None:
    lines = [TRADINGVIEW, f"{SECONDS},1.5,2,1,1.75,100"]
    assert compare(lines, lines).ok


def test_compare_all_series_files_by_series(compare: Compare) -> None:
    header = f"source,feed,price_type,rule_set,{HEADER}"
    rows = [f"alpaca,{feed},trade,plain,{ROW}" for feed in ("iex", "sip")]
    assert compare([header, *rows], [header, *rows]).ok
    assert compare([HEADER, ROW], [header, rows[0]]).ok
    with pytest.raises(InputError, match="several of column feed"):
        compare([HEADER, ROW], [header, *rows])


def test_compare_history_files_by_revision(compare: Compare) -> None:
    header = f"{HEADER},revision,status,cause,known_at"
    rows = [f"{ROW},{n},confirmed,late,2026-01-05T14:31:00Z" for n in range(2)]
    assert compare([header, *rows], [header, *rows]).ok
    with pytest.raises(InputError, match="several of column revision"):
        compare([header, *rows], [HEADER, ROW])


def test_compare_own_export_with_itself_matches(
    make_bars: Callable[..., pa.Table], tmp_path: Path
) -> None:
    path = tmp_path / "bars.csv"
    CanonicalExporter(make_bars({}, {"symbol": "BTC/USD"})).write(path)
    assert BarComparator().compare(path, path).matched_count == 2


@pytest.mark.parametrize("side", ["reference", "candidate"])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        ([HEADER], "holds a header and no bars"),
        (["time,open,close", "1,2,3"], "lacks high, low"),
        (["a,b", "1,2"], "lacks ts_open, open, high, low, close"),
        ([HEADER + ",open", ROW + ",1"], "column open is there twice"),
        ([HEADER, ROW, ROW], "lines 2 and 3 are the same bar, AAPL 1m 2026-01-05T14:30:00Z"),
        ([HEADER, NEXT, ROW.replace("1.75", "1e300")], r"line 3, column close: was '1e300'"),
        ([HEADER, ROW.replace("1.75", "NaN")], r"line 2, column close: was 'NaN'"),
        ([HEADER, ROW.replace("1.75", "inf")], r"column close: was 'inf'"),
        ([HEADER, ROW.replace("1.75", "")], r"column close: was ''"),
        ([HEADER, ROW.replace("1.75", "1_000")], r"column close: was '1_000'"),
        ([HEADER, ROW.replace("1.75", "1.0000000000000000001")], "at most 18 decimals"),
        ([HEADER, ROW.replace(",100,", ",x,")], r"line 2, column volume: was 'x'"),
        ([HEADER, ROW.replace("14:30:00Z", "14:30:00")], "column ts_open: was '2026-01-05T14:30"),
        ([HEADER, ROW.replace("14:30:00Z", "24:00:00Z")], "column ts_open"),
        ([HEADER, ROW + ",7"], "Line: 2"),
        ([HEADER, ROW.removesuffix(",3")], "Line: 2"),
    ],
)
def test_compare_bad_file_is_an_error_that_says_where(
    compare: Compare, lines: list[str], message: str, side: str
) -> None:
    pair = {"reference": [HEADER, ROW], "candidate": [HEADER, ROW], side: lines}
    with pytest.raises(InputError, match=message):
        compare(pair["reference"], pair["candidate"])


def test_compare_tradingview_error_names_the_column_of_the_file(compare: Compare) -> None:
    with pytest.raises(InputError, match="line 2, column Volume: was 'many'"):
        compare([TRADINGVIEW, f"{SECONDS},1,1,1,1,many"], [HEADER, ROW])
    with pytest.raises(InputError, match="column time: was 'noon'"):
        compare([TRADINGVIEW, "noon,1,1,1,1,1"], [HEADER, ROW])


def test_compare_missing_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        BarComparator().compare(tmp_path / "none.csv", tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not CSV"):
        BarComparator().compare(tmp_path / "bytes.csv", tmp_path / "bytes.csv")


def test_compare_header_errors_are_header_errors(compare: Compare) -> None:
    with pytest.raises(HeaderError):
        compare(["time,open", "1,1"], [HEADER, ROW])


@pytest.mark.parametrize("value", ["-1", "x", "NaN", "1e9", "Infinity"])
def test_comparator_tolerance_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="tolerance was"):
        BarComparator(value)
    with pytest.raises(UsageError, match="volume_tolerance was"):
        BarComparator(volume_tolerance=value)
