"""The reference pages against the code: options, defaults, codes, rules, earlier names."""

import ast
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

import docskit
from marketpipe.cli.main import app
from marketpipe.domain.findings import FINDING_CODES
from marketpipe.normalize import RuleSet

CLI = docskit.DOCS / "cli.md"
FILES = docskit.DOCS / "files.md"
SOURCE = docskit.ROOT / "src/marketpipe"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
HEAVY = ("numba", "numpy", "pyarrow", "duckdb", "pandas", "polars", "exchange_calendars")


@pytest.mark.parametrize("command", COMMANDS)
def test_docs_options_are_those_of_the_command(command: str) -> None:
    """Every option and its default stands in the command's table, and no other does."""
    tables = docskit.tables(docskit.section(CLI, f"marketpipe {command}"))
    shown = {
        frozenset(name.strip("`") for name in names.split(", ")): default.strip("`")
        for table in tables
        for names, default, _ in table[1:]
        if names.startswith("`-")
    }
    options = [p for p in COMMANDS[command].params if p.opts[0].startswith("-")]
    assert set(shown) == {frozenset(p.opts) for p in options if p.name != "help"}
    for option in options:
        said = shown.get(frozenset(option.opts))
        assert said is None or said in _defaults(option), f"{command} {option.opts}: {said}"


def _defaults(option: Any) -> set[str]:
    """Return the words that say an option's default."""
    if option.required:
        return {"required"}
    if option.default is None:
        return {"", "all", "the newest"}
    if option.default is False:
        return {"off"}
    return {str(getattr(option.default, "value", option.default))}


def test_docs_commands_are_those_of_the_program() -> None:
    heads = {head for head in docskit.prose(CLI).splitlines() if head.startswith("## marketpipe")}
    assert heads == {f"## marketpipe {name}" for name in COMMANDS}
    readme = docskit.section(docskit.ROOT / "README.md", "Command line")
    assert {f"marketpipe {name}" for name in COMMANDS} <= docskit.codes(readme)


def test_docs_command_helps_have_an_example_that_parses() -> None:
    for name, command in COMMANDS.items():
        _, _, example = (command.help or "").partition("Example: ")
        words = shlex.split(example)
        assert words[: 1 + (name != "")] == ["marketpipe", name], name
        command.make_context(name, words[2:], resilient_parsing=False)


def _literals() -> Iterator[str]:
    """Yield the codes that the source writes: findings, faults, bad rows, tables of reasons."""
    for path in SOURCE.rglob("*.py"):
        if "verify" in path.parts:  # its words are those of the independent side
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                place = {"of": 0, "fault": 1, "BadRow": 1, "bad_row": 1, "_add": 2}.get(called)
                if called == "of" and "Findings" not in ast.unparse(node.func):
                    continue
                if place is not None and len(node.args) > place:
                    yield from _texts(node.args[place])
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "REASONS":
                assert node.value is not None
                yield from _texts(node.value)


def _texts(node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def test_docs_quarantine_and_finding_codes_are_those_of_the_code() -> None:
    text = docskit.section(FILES, "Quarantine and findings")
    tables = docskit.tables(text)
    listed = {row[0].strip("`") for table in tables for row in table[1:]}
    of_tables = docskit.codes(text[text.index("`SchemaValidator`") :]) - {"SchemaValidator"}
    written = set(_literals()) - {"", "ok"}
    assert {"missing_value", "late", "bad_quote", "line_too_long"} <= written
    assert written | set(FINDING_CODES) == listed | of_tables


def test_docs_rule_tables_are_those_of_the_program() -> None:
    page = docskit.DOCS / "rules.md"
    for name in RuleSet.names():
        rules = tomllib.loads((SOURCE / f"normalize/rules/{name}.toml").read_text("utf-8"))
        settings, *tables = docskit.tables(docskit.section(page, name))
        assert len(settings) == 6
        for key, value in settings[1:]:
            assert rules[key.strip("`")] == value.strip("`"), f"{name}: {key}"
        if rules["conditions"]:
            conditions, effects = tables
            assert conditions[1:] == [_condition(row) for row in rules["conditions"]]
            assert effects[1:] == [_effect(*item) for item in rules["effects"].items()]
        (primaries,) = docskit.tables(docskit.section(page, "Auctions"))
        venues = rules["auctions"].pop("primary_venues")
        assert {tape: row.split() for tape, row in primaries[1:]} == venues
        named = docskit.codes(docskit.section(page, "Auctions"))
        assert set(rules["auctions"].values()) <= named


def _condition(row: dict[str, Any]) -> list[str]:
    scopes = (f"`{row[scope]}`" if scope in row else "not listed" for scope in ("minute", "day"))
    code = f"`{row['code']}`" if row["code"] else "none"
    return [code, " ".join(row.get("tapes", ["all"])), *scopes]


def _effect(name: str, entry: dict[str, Any]) -> list[str]:
    words = {"first_only": "only as the first priced trade of the bar"}
    flags = ("yes" if entry[key] else "no" for key in ("high_low", "volume", "vwap"))
    return [f"`{name}`", words.get(entry["last"], entry["last"]), *flags]


# Every name that the systems united here were known by.
EARLIER = {
    *("IngestionService", "MockConnector", "load_from_csv", "replay_ticks", "inject_tick"),
    *("FinnhubConnector", "AlpacaConnector", "YFinanceConnector", "BaseConnector"),
    *("TickNormalizer", "CanonicalTick", "BarEngine", "on_bar", "BarRepository", "BarCache"),
    *("TieredBarStore", "CanonicalExporter", "BarComparator", "SchemaValidator", "OHLCVBar"),
    *("SymbolBarsAggregate", "domain events", "StockConsumer", "CryptoConsumer"),
    *("RedisPublisher", "ControlSubscriber", "services.ingestion.main", "run_mock.py"),
    *("parity_compare.py", "compute_hash", "port 8000", "port 5100"),
}


def test_docs_every_earlier_name_is_mapped_once() -> None:
    page = docskit.DOCS / "from-earlier-designs.md"
    here, later = docskit.tables(docskit.prose(page))
    mapped = [row[0].strip("`").partition(" (")[0] for row in (*here[1:], *later[1:])]
    assert sorted(mapped) == sorted(EARLIER)
    source = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    for name, *_ in later[1:]:
        assert f"class {name.strip('`')}" not in source, f"{name} is here now: move it up"
    for _, ours, _ in here[1:]:
        for code in docskit.codes(ours):
            words = code.split()
            assert ":" in code or (words[0] == "marketpipe" and words[1] in COMMANDS), code


def test_docs_earlier_on_bar_and_mock_names_work_together(tmp_path: Any) -> None:
    """The map's promise in one run: ticks of a file, replayed one by one, with callbacks."""
    from marketpipe.bars import BarEngine
    from marketpipe.sources.mock import MockConnector

    path = tmp_path / "t.csv"
    path.write_text("symbol,ts_ms,price,size\nA,1767623400000,2,1\nA,1767623460000,3,1\n")
    mock, engine, seen = MockConnector(), BarEngine(["1m"]), []
    engine.on_bar(lambda event: seen.append(event.kind))
    assert mock.load_from_csv(path) == 2
    mock.inject_tick("A", 1_767_623_401_000_000_000, 4_000_000_000, 0)
    assert mock.replay_ticks(lambda t: engine.apply_trade(*t[:4])) == 3
    assert seen == ["forming", "forming", "confirmed", "forming"]


def test_docs_help_needs_nothing_heavy() -> None:
    """What makes ``--help`` fast: the libraries are imported by the commands that need them."""
    code = f"import marketpipe.cli.main, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
