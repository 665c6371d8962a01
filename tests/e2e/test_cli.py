"""The commands, end to end, on small files."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.conftest import Command

HEAD = "symbol,ts_ns,price,size,trade_id\n"
OPEN = 1_767_623_400_000_000_000


def ticks(path: Path, n: int = 600, step_s: int = 1, shift: int = 0) -> Path:
    """Write trades of two symbols, one a second each."""
    rows = [
        f"{s},{OPEN + k * step_s * 10**9},{100 + (k * 7 + shift) % 23}.{k % 100:02d},"
        f"{k % 5 + 1},{k + 1}\n"
        for k in range(n)
        for s in ("AAPL", "BTC/USD")
    ]
    path.write_text(HEAD + "".join(rows))
    return path


def test_replay_writes_bars_that_parity_accepts_and_digests_agree(
    marketpipe: Command, tmp_path: Path
) -> None:
    path = ticks(tmp_path / "t.csv")
    first = marketpipe("replay", "--csv", path, "--timeframes", "1m,5m", "-o", "a.csv", "--confirm")
    assert first.code == 0
    assert "agrees" in first.line("confirmed")
    second = marketpipe(
        "replay", "--csv", path, "--timeframes", "5m,1m", "-o", "b.csv", "--workers", 2
    )
    assert first.line("root") == second.line("root")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert first.line("output").split()[1] == second.line("output").split()[1]
    assert marketpipe("parity", "--reference", "a.csv", "--csv", "b.csv").code == 0


def test_parity_differing_bars_exit_one_and_name_the_cell(
    marketpipe: Command, tmp_path: Path
) -> None:
    marketpipe("replay", "--csv", ticks(tmp_path / "t.csv"), "--timeframes", "1m", "-o", "a.csv")
    marketpipe(
        "replay", "--csv", ticks(tmp_path / "u.csv", shift=1), "--timeframes", "1m", "-o", "b.csv"
    )
    done = marketpipe("parity", "--reference", "a.csv", "--csv", "b.csv", "--tolerance", "1e-6")
    assert done.code == 1
    assert "AAPL 1m 2026-01-05T14:30:00Z open" in done.out
    assert marketpipe("parity", "--reference", "a.csv", "--csv", "none.csv").code == 2


def test_replay_stored_is_exported_as_of_a_time(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv")
    marketpipe("replay", "--csv", path, "--timeframes", "1m", "--store", "-o", "first.csv")
    with path.open("a") as file:  # a trade that the first file lacked
        file.write(f"AAPL,{OPEN + 1},500,1,99999\n")
    done = marketpipe("replay", "--csv", path, "--timeframes", "1m", "--store", "-o", "all.csv")
    assert done.line("stored") == (
        "1 new trades, 0 restated, 1,200 known before; 0 bars, 1 revisions of bars kept before"
    )

    def exported(*words: object) -> list[str]:
        wanted = ("export", "bars", "--symbols", "AAPL", "--output", "out.csv", *words)
        assert marketpipe(*wanted).code == 0
        return Path("out.csv").read_text().splitlines()

    def aapl(file: str) -> list[str]:
        lines = Path(file).read_text().splitlines()
        return [line for line in lines if not line.startswith("BTC")]

    assert exported() == aapl("all.csv")
    assert exported()[1].split(",")[5] == "500"
    # before the second load the market could know what the first file said, and we nothing
    assert exported("--as-of", "2026-01-06") == aapl("first.csv")
    assert len(exported("--as-of", "2026-01-05T14:35:01Z")) == 1 + 5
    assert exported("--as-of", "2026-01-06", "--knowledge", "strict")[1:] == []
    first = [x for x in exported("--history") if "T14:30:00Z,2026" in x]
    assert [x.split(",")[11:14] for x in first] == [
        ["0", "confirmed", "first"],
        ["1", "confirmed", "backfill"],
    ]


def test_export_hive_layout_escapes_symbols(marketpipe: Command, tmp_path: Path) -> None:
    marketpipe("replay", "--csv", ticks(tmp_path / "t.csv"), "--timeframes", "1m", "--store")
    done = marketpipe(
        "export", "bars", "--layout", "hive", "--format", "parquet", "--output", "hive"
    )
    assert done.code == 0
    assert sorted(str(p.relative_to("hive")) for p in Path("hive").rglob("*.parquet")) == [
        "symbol=AAPL/year=2026/month=01/day=05.parquet",
        "symbol=BTC%2FUSD/year=2026/month=01/day=05.parquet",
    ]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("bars", "--output", "x.csv"), "--store"),
        (("quotes", "--output", "x.csv"), "--store"),
    ],
)
def test_export_of_what_is_not_there_exits_two(
    marketpipe: Command, words: tuple[str, ...], named: str
) -> None:
    done = marketpipe("export", *words)
    assert done.code == 2
    assert named in done.err


def test_export_bad_instant_or_symbol_exits_two(marketpipe: Command, tmp_path: Path) -> None:
    marketpipe("replay", "--csv", ticks(tmp_path / "t.csv"), "--timeframes", "1m", "--store")
    for flag, value in (
        ("--as-of", "2026-01-05T14:35:00"),
        ("--as-of", "noon"),
        ("--symbols", "X"),
    ):
        done = marketpipe("export", "bars", flag, value, "--output", "x.csv")
        assert done.code == 2
        assert value in done.err


def test_replay_reads_standard_input(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", n=100)
    command = [sys.executable, "-m", "marketpipe", "replay", "--csv", "-", "--timeframes", "1m"]
    done = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True)
    assert b"bars       1m 4" in done.stdout


def test_replay_output_into_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", n=100)
    command = f"'{sys.executable}' -m marketpipe replay --csv '{path}' | head -c 5"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.stdout == b"input"


def test_demo_takes_a_live_feed_through_a_lost_connection_and_proves_its_bars(
    marketpipe: Command,
) -> None:
    done = marketpipe("demo", "--seconds", "10")
    assert done.code == 0, done.err
    assert "GENERATED" in done.out
    assert "disconnected: repaired" in done.out
    sides = [line.split()[0] for line in done.out.splitlines() if " root sha256:" in line]
    assert [side for side in sides if side != "history"] == ["live", "store", "replay", "batch"] * 2
    certified = marketpipe("verify", "--against-vendor", "--data-dir", "data/demo")
    assert "alpaca/iex AAPL@1m 2026-01-05" in certified.out


def test_doctor_on_a_working_machine_exits_zero(marketpipe: Command, tmp_path: Path) -> None:
    done = marketpipe("doctor")
    assert done.code == 0
    assert "broken" not in done.out
    file = tmp_path / "file"
    file.write_text("")
    done = marketpipe("doctor", "--data-dir", file)
    assert done.code == 1
    assert "choose another with --data-dir" in done.out


def test_progress_is_not_shown_where_nobody_looks(marketpipe: Command, tmp_path: Path) -> None:
    done = marketpipe("replay", "--csv", ticks(tmp_path / "t.csv", n=10))
    assert done.err == ""
    assert isinstance(io.StringIO(done.out).read(), str)


def test_replay_confirm_of_columns_that_the_other_side_cannot_read_is_refused_first(
    marketpipe: Command, tmp_path: Path
) -> None:
    table = pa.table(
        {"symbol": ["A"], "ts_event": [OPEN], "price_nanos": [10**9], "size_nanos": [10**9]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    done = marketpipe("replay", "--parquet", "t.parquet", "--confirm", "--output", "bars.csv")
    assert done.code == 2
    assert "price_nanos" in done.err
    assert not Path("bars.csv").exists()
    assert marketpipe("replay", "--parquet", "t.parquet", "--timeframes", "1m").code == 0
