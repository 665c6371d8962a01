"""`marketpipe export` from the lake."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import marketpipe as mp
from e2e.conftest import Command
from feedkit import OPEN, recording, ticks
from marketpipe.domain.schemas import BARS, CANONICAL
from marketpipe.domain.units import DAY_NS

MOCK = ("stream", "--mode", "mock", "--timeframes", "1m,5m")
FORMATS = pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """Ten minutes of two symbols, a trade a second each."""
    assert marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv")).code == 0
    return marketpipe


def table(path: str | Path) -> pa.Table:
    if str(path).endswith(".arrow"):
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    return pl.read_parquet(path, use_pyarrow=True).to_arrow()


@FORMATS
def test_export_bars_in_each_format_and_layout(streamed: Command, form: str) -> None:
    words = ("export", "bars", "--symbols", "AAPL", "--timeframes", "5m", "--format", form)
    done = streamed(*words, "--output", f"bars.{form}")
    assert done.code == 0, done.err
    assert done.line("exported") == f"1 bars to bars.{form}"
    if form == "csv":
        assert done.line("digest").startswith("sha256:")
        assert len(Path("bars.csv").read_text().splitlines()) == 2
    elif form == "arrow":
        assert table("bars.arrow").schema.equals(BARS)
    assert streamed(*words, "--layout", "hive", "-o", "hive").code == 0
    assert Path(f"hive/symbol=AAPL/year=2026/month=01/day=05.{form}").exists()


@FORMATS
def test_export_trades_in_each_format_and_layout(streamed: Command, form: str) -> None:
    words = ("export", "trades", "--format", form)
    done = streamed(*words, "--output", f"trades.{form}")
    assert done.line("exported") == f"1,200 trades to trades.{form}"
    if form == "csv":
        head, first, *_ = Path("trades.csv").read_text().splitlines()
        row = dict(zip(head.split(","), first.split(","), strict=True))
        assert list(row) == CANONICAL["trades"].names
        assert (row["symbol"], row["price"], row["size"]) == ("AAPL", "100", "1")
        assert row["ts_event"] == row["recorded_at"] == "2026-01-05T14:30:00Z"
    elif form == "arrow":
        assert table("trades.arrow").schema.equals(CANONICAL["trades"])
    streamed(*words, "--layout", "hive", "-o", "hive")
    assert sorted(path.parts[1] for path in Path("hive").rglob(f"*.{form}")) == [
        "symbol=AAPL",
        "symbol=BTC%2FUSD",
    ]


def test_export_range_is_inclusive_exclusive(streamed: Command) -> None:
    streamed(
        *("export", "bars", "--symbols", "AAPL", "--timeframes", "1m", "--output", "b.csv"),
        *("--start", "2026-01-05T14:31Z", "--end", "2026-01-05T14:33Z"),
    )
    rows = Path("b.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2][11:16] for row in rows] == ["14:31", "14:32"]


def test_export_as_of_and_history_show_a_correction(marketpipe: Command, tmp_path: Path) -> None:
    marketpipe(*MOCK, "--frames", recording(tmp_path / "f.txt"), "--feed", "iex")
    as_of = ("--as-of", "2026-01-05T14:31:15Z")
    one = ("export", "bars", "--timeframes", "1m")
    marketpipe(*one, *as_of, "-o", "then.csv")
    marketpipe(*one, "-o", "now.csv")
    marketpipe(*one, "--history", "-o", "history.csv")
    opens = {n: _column(n, 4) for n in ("then.csv", "now.csv", "history.csv")}
    assert opens == {
        "then.csv": ["190"],
        "now.csv": ["191.5"],
        "history.csv": ["190", "191.5"],
    }
    done = marketpipe("export", "corrections", "-o", "c.csv")
    assert done.line("exported") == "1 corrections to c.csv"
    head = Path("trades.csv")
    marketpipe("export", "trades", *as_of, "-o", head)
    assert "191.5" not in head.read_text()
    marketpipe("export", "trades", "-o", head)
    assert "191.5" in head.read_text()


def test_export_of_several_series_needs_a_name_a_priority_or_all(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv", 120)
    later = ticks(tmp_path / "u.csv", 120, start_ns=OPEN + 1)
    marketpipe(*MOCK, "--csv", path, "--source", "one")
    marketpipe(*MOCK, "--csv", later, "--source", "two")
    one = ("export", "bars", "--timeframes", "1m", "-o", "b.csv")
    refused = marketpipe(*one)
    assert refused.code == 2
    assert "more than one series fits" in refused.err
    assert marketpipe(*one, "--source", "two").line("exported") == "2 bars to b.csv"
    done = marketpipe(*one, "--all-series")
    assert done.line("exported") == "4 bars to b.csv"
    assert _column("b.csv", 0) == ["one", "one", "two", "two"]
    Path("m.toml").write_text('[series]\npriority = ["one/"]\n')
    assert marketpipe(*one, "--config", "m.toml").line("exported") == "2 bars to b.csv"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("bars", "--symbols", "X"), "AAPL, BTC/USD"),
        (("bars", "--start", "noon"), "start: was 'noon'"),
        (("bars", "--as-of", "2026-01-05T14:35:00"), "names no zone"),
        (("bars", "--timeframes", "1x"), "timeframe: was '1x'"),
        (("bars", "--price", "best"), "price: was 'best'"),
        (("quotes",), "holds no quotes"),
        (("trades", "--history"), "--history"),
        (("trades", "--rules", "plain"), "--rules"),
    ],
)
def test_export_that_cannot_be_answered_exits_two(
    streamed: Command, words: tuple[str, ...], named: str
) -> None:
    done = streamed("export", *words, "--output", "x.csv")
    assert done.code == 2
    assert named in done.err
    assert not Path("x.csv").exists()


def test_export_into_a_folder_that_is_not_there_exits_two(streamed: Command) -> None:
    done = streamed("export", "bars", "--output", "no/x.csv")
    assert done.code == 2
    assert "create it first" in done.err


def test_export_of_an_empty_lake_says_how_to_fill_it(marketpipe: Command) -> None:
    done = marketpipe("export", "bars", "--output", "x.csv")
    assert done.code == 2
    assert "marketpipe stream" in done.err


def _column(path: str, number: int) -> list[str]:
    return [row.split(",")[number] for row in Path(path).read_text().splitlines()[1:]]


@pytest.mark.parametrize("calendar", ["XNYS", "24/7"])
def test_export_history_of_a_session_long_over_says_confirmed(
    marketpipe: Command, tmp_path: Path, calendar: str
) -> None:
    for day, name in enumerate(("a.csv", "b.csv")):
        path = ticks(tmp_path / name, 120, start_ns=OPEN + day * DAY_NS)
        assert marketpipe(*MOCK, "--calendar", calendar, "--csv", path).code == 0
    words = ("export", "bars", "--symbols", "AAPL", "--timeframes", "1m", "--history")
    assert marketpipe(*words, "--output", "h.csv").code == 0
    assert pl.read_csv("h.csv")["status"].unique().to_list() == ["confirmed"]
    lake = mp.open("data")
    for as_of in (None, OPEN + DAY_NS, "2030-01-01"):
        assert lake.bars("AAPL", "1m", as_of=as_of)["state"].unique().to_list() == ["confirmed"]
    done = marketpipe("sql", "SELECT DISTINCT state FROM bars")
    assert "confirmed" in done.out
    assert "settled" not in done.out
