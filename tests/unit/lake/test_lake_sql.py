"""The SQL sandbox: what it answers, what it refuses, what it withstands."""

import time
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lakerows import T0, Lakeside
from marketpipe.errors import LakeError, UsageError
from marketpipe.lake._sandbox_child import Refused, check, connect
from marketpipe.lake.reading import Lake
from marketpipe.lake.sandbox import SqlLimits

SMALL = SqlLimits(seconds=20.0, memory_bytes=256 << 20, rows=1000, result_bytes=4 << 20)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    side = Lakeside(tmp_path / "lake")
    side.put("trades", *({"ts_event": T0 + n, "price": Decimal(n + 1)} for n in range(100)))
    side.put("bars", {"timeframe": "1m"}, {"timeframe": "1h"})
    return Lake(tmp_path / "lake", limits=SMALL)


def test_sql_columns_of_one_name_are_told_apart(lake: Lake) -> None:
    found = lake.sql("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a")
    assert found.to_dicts() == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]


def files_of(lake_folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(lake_folder.rglob("*")) if p.is_file()}


def test_sql_sums_decimals_exactly(lake: Lake) -> None:
    found = lake.sql("SELECT sum(price) AS total, count(*) AS n FROM trades")
    assert found.row(0) == (Decimal(5050), 100)


@pytest.mark.parametrize(
    "query",
    [
        "FROM trades",
        "WITH t AS (SELECT * FROM trades) SELECT * FROM t",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
        "SELECT * FROM main.trades t ASOF JOIN bars b ON t.ts_event >= b.ts_open",
        "SELECT * FROM range(5)",
        "SELECT unnest([1, 2])",
        "SELECT * FROM bars PIVOT (count(*) FOR timeframe IN ('1m', '1h'))",
        "DESCRIBE trades",
        "SHOW TABLES",
        "SUMMARIZE bars",
        "VALUES (1), (2)",
        "SELECT 1 UNION SELECT 2",
        "(SELECT 1) -- with a comment;",
        "SELECT 'copy x to y; DROP TABLE trades' AS words;",
        "SELECT * FROM Trades, (SELECT max(price) AS m FROM TRADES) WHERE price = m",
    ],
)
def test_sql_that_reads_is_answered(lake: Lake, query: str) -> None:
    assert lake.sql(query).height > 0


@pytest.fixture(scope="module")
def sandbox() -> duckdb.DuckDBPyConnection:
    return connect({"memory_bytes": 1 << 28, "threads": 1, "files": [], "views": VIEWS})


VIEWS = {"trades": "SELECT 1 AS price", "bars": "SELECT '1m' AS timeframe"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("WITH x AS (COPY (SELECT 1) TO '{f}') SELECT * FROM x", "was COPY"),
        ("SELECT (WITH x AS (COPY trades TO '{f}') SELECT 1)", "was COPY"),
        ("WITH x AS (INSERT INTO trades FROM trades RETURNING *) FROM x", "was INSERT"),
        ("WITH x AS (DELETE FROM trades RETURNING *) FROM x", "was DELETE"),
        ("WITH x AS (UPDATE trades SET price = 1 RETURNING *) FROM x", "was UPDATE"),
        ("CREATE TABLE t (a INT)", "was CREATE"),
        ("DROP VIEW trades", "was DROP"),
        ("ATTACH '{f}'", "was ATTACH"),
        ("INSTALL httpfs", "was LOAD"),
        ("SET memory_limit = '100GB'", "was SET"),
        ("RESET memory_limit", "was SET|was VARIABLE_SET|was RESET"),
        ("PRAGMA version", "was PRAGMA"),
        ("CALL pragma_version()", "was CALL"),
        ("EXPLAIN SELECT 1", "was EXPLAIN"),
        ("PIVOT bars ON timeframe", "PIVOT without its values"),
        ("FROM query('COPY (SELECT 1) TO ''{f}''')", r"query\(\)"),
        ("FROM query('WITH x AS (COPY (SELECT 1) TO ''{f}'') FROM x')", r"query\(\)"),
        ("FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))", "json_execute"),
        ("FROM '{f}'", "valid are bars, trades"),
        ("FROM read_parquet('/lake/**/*.parquet')", r"read_parquet\(\)"),
        ("FROM read_text('/etc/passwd')", r"read_text\(\)"),
        ("FROM glob('/*')", r"glob\(\)"),
        ("FROM '/etc/passwd'", "reads '/etc/passwd'"),
        ("FROM 'https://example.org/x.csv'", "reads 'https"),
        ("DESCRIBE '{f}'", "valid are bars, trades"),
        ("FROM duckdb_views()", r"duckdb_views\(\)"),
        ("FROM duckdb_views", "reads 'duckdb_views'"),
        ("FROM sqlite_master", "reads 'sqlite_master'"),
        ("FROM information_schema.views", "reads 'information_schema.views'"),
        ('WITH "{f}" AS (SELECT 1) FROM "{f}"', "valid are letters"),
        ("WITH duckdb_views AS (SELECT 1) FROM duckdb_views", "valid are letters"),
        ("SELECT current_setting('allowed_paths')", "current_setting"),
    ],
)
def test_check_refuses_what_does_not_only_read_views(
    sandbox: duckdb.DuckDBPyConnection, query: str, words: str
) -> None:
    with pytest.raises((Refused, duckdb.ParserException), match=words):
        check(sandbox, query.replace("{f}", "/lake/a.parquet"), set(VIEWS), {})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("COPY (SELECT 1) TO '{f}'", "was COPY"),
        ("SELECT * FROM (WITH x AS (COPY trades TO '{f}' (use_tmp_file false)) FROM x)", "COPY"),
        ("FROM read_parquet('{f}')", r"read_parquet\(\)"),
        ("SELECT * FROM nothing", "reads 'nothing'; valid are bars, book, corrections"),
        ("SELECT * FROM findings", r"not in the lake; open the data folder with marketpipe\.open"),
        ("SELECT nothing FROM trades", 'column "nothing"'),
        ("SELECT ? + 1", "parameter"),
        ("SELECT INTERVAL 1 DAY AS d", "cast it"),
        ("SELECT 1 AS a, " + "1 + " * 50_000 + "1", "valid are 100,000"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "the query"),
        ("SELECT 1/0 + 'x'", "Conversion|onvert"),
        ("SELECT " + "1 + " * 20_000 + "1", "the query"),
    ],
)
def test_sql_that_cannot_be_answered_is_refused_and_changes_no_file(
    lake: Lake, tmp_path: Path, query: str, words: str
) -> None:
    before = files_of(tmp_path)
    file = next(iter(path for path in before if path.endswith(".parquet")))
    with pytest.raises(UsageError, match=words) as caught:
        lake.sql(query.replace("{f}", file))
    assert str(caught.value).startswith("sql: ")
    assert "read_parquet([" not in str(caught.value)
    assert files_of(tmp_path) == before


def test_sql_with_too_many_rows_is_refused(lake: Lake) -> None:
    assert lake.sql("FROM range(1000)").height == 1000
    with pytest.raises(UsageError, match="more than 1,000 rows; add LIMIT"):
        lake.sql("FROM range(1001)")


def test_sql_with_too_large_an_answer_is_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="more than 4 MiB"):
        lake.sql("SELECT repeat('a', 50000) FROM range(200)")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT length(repeat('a', 3000000000))",
        "SELECT count(DISTINCT md5(a.range::VARCHAR)) FROM range(30000000) a",
        "SELECT length(list_aggregate(range(400000000), 'string_agg', ','))",
    ],
)
def test_sql_that_needs_too_much_memory_is_refused(lake: Lake, query: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        lake.sql(query)


def test_sql_without_memory_to_start_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path, limits=SqlLimits(memory_bytes=1 << 20))
    with pytest.raises(UsageError, match="memory"):
        lake.sql("SELECT count(DISTINCT range) FROM range(1000000)")


def test_sql_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    lake = Lake(tmp_path, limits=SqlLimits(seconds=0.5))
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"took longer than 0\.5 s"):
        lake.sql(
            "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE a.range % 7 = b.range"
        )
    assert time.monotonic() - began < 10


def test_sql_sees_no_environment(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_SECRET_KEY", "hush")
    with pytest.raises(UsageError, match=r"getenv|environ"):
        lake.sql("SELECT getenv('ALPACA_SECRET_KEY')")
    with pytest.raises(UsageError, match="read_text"):
        lake.sql("SELECT content FROM read_text('/proc/self/environ')")


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{d}/other.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{d}/other.csv') FROM x",
        "FROM read_text('{d}/secret.txt')",
        "FROM read_text('/etc/passwd')",
        "FROM glob('{d}/*')",
        "ATTACH '{d}/other.db'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FROM 'https://example.org/x.csv'",
        "FROM secret",
    ],
)
def test_settings_of_the_sandbox_hold_without_the_check(tmp_path: Path, query: str) -> None:
    (tmp_path / "secret.txt").write_text("hush")
    secret = pa.table({"a": ["hush"]})  # DuckDB would find it by its name
    con = connect({"memory_bytes": 1 << 28, "threads": 1, "files": [], "views": {"v": "SELECT 1"}})
    assert con.execute("FROM v").fetchall() == [(1,)]
    with pytest.raises(duckdb.Error):
        con.execute(query.replace("{d}", str(tmp_path)))
    assert secret.num_rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


@pytest.mark.parametrize("damage", ["cut", "empty", "footer", "page"])
@pytest.mark.parametrize("query", ["SELECT * FROM trades", "SELECT sum(price) FROM trades"])
def test_sql_over_a_damaged_file_is_a_fault_of_the_lake(
    lake: Lake, tmp_path: Path, damage: str, query: str
) -> None:
    path = next((tmp_path / "lake" / "canonical" / "trades").rglob("*.parquet"))
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    pages = len(whole) - 8 - footer
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "footer": whole[:pages] + b"\xff" * footer + whole[-8:],
            "page": whole[:4] + b"\xff" * (pages - 4) + whole[pages:],
        }[damage]
    )
    with pytest.raises(LakeError, match="sql: a file of the lake cannot be read") as caught:
        lake.sql(query)
    if damage in ("cut", "empty"):
        assert str(path) in str(caught.value)
    assert "read_parquet([" not in str(caught.value)
