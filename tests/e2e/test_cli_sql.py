"""`marketpipe sql`."""

import asyncio
import io
import json
from pathlib import Path

import polars as pl
import pytest

import marketpipe as mp
from e2e.conftest import Command
from feedkit import recording, ticks

MOCK = ("stream", "--mode", "mock", "--timeframes", "1m")


@pytest.fixture
def streamed(marketpipe: Command, tmp_path: Path) -> Command:
    """A lake with one corrected minute."""
    assert marketpipe(*MOCK, "--frames", recording(tmp_path / "f.txt"), "--feed", "iex").code == 0
    return marketpipe


def test_sql_answers_in_each_format(streamed: Command) -> None:
    query = "SELECT symbol, price, ts_event FROM trades WHERE trade_id = '4'"
    table = streamed("sql", query)
    assert table.out.splitlines()[0].split() == ["|", "symbol", "|", "price", "|", "ts_event", "|"]
    csv = streamed("sql", query, "--format", "csv")
    assert csv.out == "symbol,price,ts_event\nAAPL,190.500000000,1767623459000000000\n"
    rows = json.loads(streamed("sql", query, "--format", "json").out)
    assert rows[0]["symbol"] == "AAPL"
    assert rows[0]["ts_event"] == 1767623459000000000
    done = streamed("sql", query, "--format", "parquet", "--output", "a.parquet")
    assert done.line("wrote") == "1 rows to a.parquet"
    assert pl.read_parquet("a.parquet").row(0)[0] == "AAPL"


def test_sql_as_of_sees_what_was_known(streamed: Command) -> None:
    query = "SELECT open, revision FROM bars"
    before = streamed("sql", query, "--format", "csv", "--as-of", "2026-01-05T14:31:15Z")
    after = streamed("sql", query, "--format", "csv")
    assert before.out.split()[1] == "190.000000000,0"
    assert after.out.split()[1] == "191.500000000,1"
    strict = streamed("sql", query, "--format", "csv", "--knowledge", "strict")
    assert strict.out == after.out


def test_sql_payloads_are_hex_in_text(streamed: Command) -> None:
    done = streamed("sql", "SELECT raw FROM quarantine", "--format", "csv")
    assert json.loads(bytes.fromhex(done.out.split()[1]))["p"] == "none"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("DELETE FROM bars",), "read-only"),
        (("SELECT * FROM nothing",), "valid are bars, book, corrections, findings"),
        (("SELECT 1", "--as-of", "noon"), "as_of: was 'noon'"),
        (("SELECT 1", "--output", "no/folder.csv"), "does not exist"),
        (("SELECT [1] AS a", "--format", "csv"), "cast it"),
    ],
)
def test_sql_that_cannot_be_answered_exits_two(
    streamed: Command, words: tuple[str, ...], named: str
) -> None:
    done = streamed("sql", *words)
    assert done.code == 2
    assert named in done.err


def test_sql_findings_are_those_that_the_feed_printed(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 60)
    with path.open("a") as file:
        file.write("AAPL,1767623460000000000,oops,1,x\n")
    done = marketpipe(*MOCK, "--csv", path)
    assert done.line("findings") == "bad_number 1"
    rows = json.loads(marketpipe("sql", "SELECT * FROM findings", "--format", "json").out)
    (row,) = rows
    (example,) = json.loads(row.pop("examples"))
    assert row == {
        "pipeline": "live/mock-file",
        "code": "bad_number",
        "meaning": "a number cannot be read",
        "count": 1,
    }
    assert (example["field"], "oops" in example["detail"]) == ("price", True)
    # what is counted in a row's place is its offset in the journal
    query = f"""SELECT payload::VARCHAR AS line FROM raw WHERE "offset" = {example["row"]}"""
    assert "oops" in marketpipe("sql", query, "--format", "csv").out

    async def within_a_loop() -> int:
        return int(mp.open("data").sql("SELECT sum(count) FROM findings").item())

    assert asyncio.run(within_a_loop()) == 1
    for query in ('SELECT sum(count) AS n FROM "FINDINGS" AS f', "FROM main.findings LIMIT 0"):
        assert marketpipe("sql", query, "--format", "csv").code == 0


def test_sql_findings_of_an_earlier_time_are_refused_with_the_reason(streamed: Command) -> None:
    done = streamed("sql", "SELECT * FROM findings", "--as-of", "2026-01-05T14:31:15Z")
    assert done.code == 2
    assert "reads 'findings', which are totals without times" in done.err
    own = "WITH findings AS (SELECT 1 AS n) SELECT n FROM findings"
    done = streamed("sql", own, "--as-of", "2026-01-05T14:31:15Z", "--format", "csv")
    assert done.out == "n\n1\n"


def test_sql_findings_where_there_is_nothing_are_none_and_nothing_is_made(
    marketpipe: Command, tmp_path: Path
) -> None:
    done = marketpipe("sql", "SELECT * FROM findings", "--format", "csv")
    assert done.out == "pipeline,code,meaning,count,examples\n"
    assert list(tmp_path.iterdir()) == []


def test_sql_without_a_lake_has_empty_tables(marketpipe: Command) -> None:
    done = marketpipe("sql", "SELECT count(*) AS n FROM trades", "--format", "csv")
    assert pl.read_csv(io.StringIO(done.out)).item() == 0


def test_sql_many_rows_are_all_shown(marketpipe: Command, tmp_path: Path) -> None:
    marketpipe(*MOCK, "--csv", ticks(tmp_path / "t.csv", 60))
    done = marketpipe("sql", "SELECT trade_id FROM trades")
    assert len(done.out.splitlines()) == 2 + 120
