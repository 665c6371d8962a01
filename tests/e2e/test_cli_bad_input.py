"""Whatever the input, the command line ends in a clear message or a counted quarantine."""

import csv
import gzip
from pathlib import Path

import pytest

from e2e.conftest import Command

HEAD = "symbol,timestamp,price,size\n"
GOOD = "AAPL,2026-01-05T14:30:00Z,190.5,10\n"


def write(path: Path, text: str | bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("symbol,timestamp,price\n", ["size"]),
        ("symbol,price,size\n", ["timestamp"]),
        ("symbol,timestamp,price,size,colour\n", ["colour"]),
        ("symbol,symbol,timestamp,price,size\n", ["symbol", "more than once"]),
        ("symbol,timestamp,ts_ns,price,size\n", ["ts_ns", "timestamp"]),
        ("symbol,timestamp,price,size,bid,ask\n", ["bid", "price"]),
    ],
)
def test_replay_bad_header_exits_two_and_names_the_column(
    marketpipe: Command, tmp_path: Path, text: str, words: list[str]
) -> None:
    done = marketpipe("replay", "--csv", write(tmp_path / "t.csv", text))
    assert done.code == 2
    assert done.out == ""
    for word in words:
        assert word in done.err


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("AAPL,2026-01-05T14:30:00,190.5,10", "naive_timestamp"),
        ("AAPL,yesterday,190.5,10", "bad_timestamp"),
        ("AAPL,2026-01-05T14:30:00Z,0,10", "non_positive_price"),
        ("AAPL,2026-01-05T14:30:00Z,-1,10", "non_positive_price"),
        ("AAPL,2026-01-05T14:30:00Z,1,-10", "negative_size"),
        ("AAPL,2026-01-05T14:30:00Z,NaN,10", "bad_number"),
        ("AAPL,2026-01-05T14:30:00Z,inf,10", "bad_number"),
        ("AAPL,2026-01-05T14:30:00Z,1.0000000001,10", "below_resolution"),
        ("AAPL,2026-01-05T14:30:00Z,1000000000,10", "out_of_range"),
        ("AAPL,1969-12-31T23:59:59Z,190.5,10", "out_of_range"),
        ("AAPL,2300-01-01T00:00:00Z,190.5,10", "out_of_range"),
        ("AAPL,2262-04-11T23:47:16.854775807Z,190.5,10", "out_of_range"),
        ("AAPL,2261-01-01T00:00:00Z,190.5,10", "out_of_range"),
        ("../../x,2026-01-05T14:30:00Z,190.5,10", "bad_symbol"),
        ("AAPL,2026-01-05T14:30:00Z,190.5", "bad_field_count"),
        ("AAPL,2026-01-05T14:30:00Z,190.5,10,7", "bad_field_count"),
        ("AAPL,2026-01-05T14:30:00Z,,10", "missing_value"),
        (HEAD.strip(), "repeated_header"),
        ('AAPL,"2026-01-05T14:30:00Z,190.5,10', "bad_quote"),
        ("A" * 10**7, "line_too_long"),
    ],
)
def test_replay_bad_row_is_quarantined_with_its_line(
    marketpipe: Command, tmp_path: Path, row: str, reason: str
) -> None:
    path = write(tmp_path / "t.csv", f"{HEAD}{GOOD}{row}\n{GOOD}")
    aside = tmp_path / "aside.csv"
    done = marketpipe("replay", "--csv", path, "--timeframes", "1m", "--quarantine", aside)
    assert done.code == 0
    assert done.line("ticks").startswith("2 of 3 rows")
    assert done.line("bars") == "1m 1"
    assert done.line("findings") == f"{reason} 1 (rows 3)"
    with aside.open(newline="") as file:
        (kept,) = csv.DictReader(file)
    assert (kept["row"], kept["reason"]) == ("3", reason)
    assert kept["raw"]


def test_replay_price_with_exponent_is_never_rounded(marketpipe: Command, tmp_path: Path) -> None:
    done = marketpipe(
        "replay", "--csv", write(tmp_path / "t.csv", f"{HEAD}AAPL,2026-01-05T14:30:00Z,1e300,1\n")
    )
    assert done.code == 0
    assert done.line("ticks").startswith("0 of 1 rows")
    assert "no tick was admitted" in done.err


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_replay_line_ends_and_byte_order_mark_change_nothing(
    marketpipe: Command, tmp_path: Path, newline: str, mark: str
) -> None:
    text = mark + (HEAD + GOOD).replace("\n", newline)
    done = marketpipe("replay", "--csv", write(tmp_path / "t.csv", text))
    plain = marketpipe("replay", "--csv", write(tmp_path / "u.csv", HEAD + GOOD))
    assert done.code == plain.code == 0
    assert done.line("root") == plain.line("root")


def test_replay_truncated_gzip_says_so_and_exits_two(marketpipe: Command, tmp_path: Path) -> None:
    packed = gzip.compress((HEAD + GOOD * 50_000).encode())
    done = marketpipe("replay", "--csv", write(tmp_path / "t.csv.gz", packed[: len(packed) // 2]))
    assert done.code == 2
    assert "t.csv.gz" in done.err
    assert "rows" in done.err


def test_replay_unsorted_rows_give_the_root_of_sorted_ones(
    marketpipe: Command, tmp_path: Path
) -> None:
    rows = [
        f"AAPL,2026-01-05T14:{30 + k % 7}:{k % 60:02d}.{k:03d}Z,{190 + k % 13},1\n"
        for k in range(400)
    ]
    mixed = rows[::3] + rows[1::3] + rows[2::3]
    first = marketpipe("replay", "--csv", write(tmp_path / "a.csv", HEAD + "".join(rows)))
    second = marketpipe("replay", "--csv", write(tmp_path / "b.csv", HEAD + "".join(mixed)))
    assert first.line("root") == second.line("root")
    assert "late" in second.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--csv"),
        (("--csv", "a", "--parquet", "b"), "exactly one"),
        (("--csv", "t.csv", "--calendar", "XNYC"), "XNYS"),
        (("--csv", "t.csv", "--calendar", "XNYS", "--session", "night"), "extended"),
        (("--csv", "t.csv", "--calendar", "XTKS", "--session", "extended"), "extended"),
        (("--csv", "t.csv", "--timeframes", "1M"), "1m"),
        (("--csv", "t.csv", "--timeframes", ""), "1m"),
        (("--csv", "t.csv", "--rules", "alpaca"), "alpaca-v1"),
        (("--csv", "t.csv", "--rules", "alpaca-v1", "--timeframes", "1s"), "1m"),
        (("--csv", "t.csv", "--rules", "alpaca-v1", "--session", "regular"), "session"),
        (("--csv", "t.csv", "--price", "last"), "mid"),
        (("--csv", "t.csv", "--price", "bid"), "--price trade"),
        (("--csv", "t.csv", "--output", "bars.txt"), ".csv"),
        (("--csv", "t.csv", "--output", "no/such/bars.csv"), "create it"),
        (("--csv", "t.csv", "--symbols", "../../x"), "../../x"),
        (("--csv", "t.csv", "--symbols", ""), "symbols"),
        (("--csv", "t.csv", "--output", "t.csv"), "--csv"),
        (("--csv", "t.csv", "--quarantine", "t.csv"), "--csv"),
        (("--csv", "t.csv", "-o", "b.csv", "--quarantine", "b.csv"), "--output"),
        (("--csv", "t.csv", "--output", "/proc/b.csv"), "b.csv"),
        (("--csv", "t.csv", "--overrides", "none.toml"), "none.toml"),
        (
            (
                "--csv",
                "none.csv",
            ),
            "none.csv",
        ),
        (
            (
                "--parquet",
                "t.csv",
            ),
            "t.csv",
        ),
        (("--csv", "t.csv", "--timeframes", "1m", "--no-such-flag"), "no-such-flag"),
    ],
)
def test_replay_wrong_words_exit_two_and_say_what_is_valid(
    marketpipe: Command, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    write(tmp_path / "t.csv", HEAD + GOOD)
    done = marketpipe("replay", *words)
    assert done.code == 2
    assert named in done.err


def test_replay_stored_where_nothing_can_be_kept_exits_three(
    marketpipe: Command, tmp_path: Path
) -> None:
    write(tmp_path / "t.csv", HEAD + GOOD)
    done = marketpipe("replay", "--csv", "t.csv", "--store", "--data-dir", "t.csv")
    assert done.code == 3
    assert "data-dir: 't.csv' cannot be used" in done.err


def test_replay_symbols_not_in_the_file_are_named(marketpipe: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", HEAD + GOOD)
    done = marketpipe("replay", "--csv", path, "--symbols", "AAPL,MSFT")
    assert done.code == 0
    assert "no rows of MSFT" in done.err
