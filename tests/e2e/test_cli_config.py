"""Configuration and the common flags, as every command takes them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from e2e.conftest import Command
from feedkit import ticks
from marketpipe.cli.main import app

MOCK = ("stream", "--mode", "mock")


def test_config_file_shapes_a_run(marketpipe: Command, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        'data_dir = "kept"\n[stream]\nmode = "mock"\ntimeframes = ["1m"]\ngrace_ms = 0\n'
        '[lake]\nbuckets = 1\ncompression = "snappy"\n'
    )
    done = marketpipe("stream", "--csv", ticks(tmp_path / "t.csv"), "--config", "m.toml")
    assert done.code == 0, done.err
    # without grace the clock's last tick closes the last minute
    assert done.line("bars") == "1m 20"
    assert {path.parent.name for path in Path("kept/lake/bars").rglob("*.parquet")} == {"bucket=0"}
    assert all(".snappy." in path.name for path in Path("kept/lake/raw").rglob("*.parquet"))


def test_config_flags_are_taken_after_every_command(marketpipe: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("lake:\n  compresion: zstd\n")
    for words in (("doctor",), ("sql", "SELECT 1"), ("lake", "usage"), ("db", "upgrade")):
        done = marketpipe(*words, "--config", "bad.yaml")
        assert done.code == 2
        assert "'lake.compresion', set in 'bad.yaml', is no setting" in done.err


def test_config_keys_env_in_the_working_folder_is_read(marketpipe: Command, tmp_path: Path) -> None:
    (tmp_path / "keys.env").write_text("INGESTION_MODE=mock\nALPACA_API_KEY=not-ours\n")
    assert marketpipe("stream", "--csv", ticks(tmp_path / "t.csv", 60)).code == 0


def test_log_is_text_or_json_on_standard_error(marketpipe: Command, tmp_path: Path) -> None:
    path = ticks(tmp_path / "t.csv", 60)
    quiet = marketpipe(*MOCK, "--csv", path)
    assert quiet.err == ""
    text = marketpipe(*MOCK, "--csv", path, "--log-level", "info")
    assert "marketpipe.stream: journal mock-file: going on at offset" in text.err
    lines = marketpipe(*MOCK, "--csv", path, "--log-level", "info", "--log-format", "json").err
    facts = [json.loads(line) for line in lines.splitlines()]
    assert facts[0]["level"] == "info"
    assert facts[0]["logger"] == "marketpipe.stream"
    failed = marketpipe("sql", "DELETE FROM bars", "--log-format", "json")
    assert failed.code == 2
    assert json.loads(failed.err)["level"] == "error"


def test_help_is_quick_and_groups_commands() -> None:
    best = 9.0
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "marketpipe", "--help"], capture_output=True, check=True
        )
        best = min(best, time.perf_counter() - begun)
    assert best < 0.5
    for panel in ("Build bars", "Read", "Check", "Look after what is kept"):
        assert panel in done.stdout.decode()


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_and_the_common_flags(
    marketpipe: Command, command: str
) -> None:
    done = marketpipe(command, "--help")
    assert done.code == 0
    assert "Example:" in done.out
    assert all(
        f"--{flag}" in done.out for flag in ("config", "data-dir", "log-level", "log-format")
    )
