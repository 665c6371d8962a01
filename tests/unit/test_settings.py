"""The configuration: where it comes from, what wins, what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from marketpipe.errors import UsageError
from marketpipe.settings import Settings, read_settings


def read(tmp_path: Path, text: str = "", name: str = "m.toml", **rest: object) -> Settings:
    path = tmp_path / name
    path.write_text(text)
    options = {"environ": {}, "folder": tmp_path, **rest}
    return read_settings(path, **options)  # type: ignore[arg-type]


def test_settings_defaults_are_those_of_the_reference(tmp_path: Path) -> None:
    settings = read_settings(environ={}, folder=tmp_path)
    assert settings == Settings()
    assert settings.data_dir == Path("data")
    assert settings.stream.timeframes == ("1m", "5m", "15m", "1h", "1d")
    assert settings.lake.buckets == 16
    with pytest.raises(ValueError, match="frozen"):
        settings.lake.buckets = 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.toml", '[series]\npriority = ["alpaca/sip"]\n[lake]\ncompression = "lz4"\n'),
        ("m.yaml", "series:\n  priority: [alpaca/sip]\nlake:\n  compression: lz4\n"),
        ("m.yml", "series: {priority: alpaca/sip}\nlake: {compression: lz4}\n"),
    ],
)
def test_settings_files_are_read(tmp_path: Path, name: str, text: str) -> None:
    settings = read(tmp_path, text, name)
    assert settings.series.priority == ("alpaca/sip",)
    assert settings.lake.compression == "lz4"


def test_settings_command_line_wins_over_environment_over_keys_over_file(tmp_path: Path) -> None:
    (tmp_path / "keys.env").write_text(
        "MARKETPIPE_LAKE__BUCKETS=3\nMARKETPIPE_LAKE__FLUSH_SECONDS=3\nOTHER=x\n"
        "MARKETPIPE_JOURNAL__DURABILITY=power\n"
    )
    settings = read(
        tmp_path,
        "[lake]\nbuckets = 2\nflush_seconds = 2\nretention_days = 2\n"
        "[journal]\ndurability = 'process'\n",
        environ={"MARKETPIPE_LAKE__BUCKETS": "4", "MARKETPIPE_LAKE__FLUSH_SECONDS": "4"},
        given={"lake": {"buckets": 5}},
    )
    assert settings.lake.buckets == 5
    assert settings.lake.flush_seconds == 4
    assert settings.journal.durability == "power"
    assert settings.lake.retention_days == 2


def test_settings_environment_names_of_the_reference(tmp_path: Path) -> None:
    environ = {
        "INGESTION_MODE": "mock",
        "SYMBOLS": "AAPL, SPY",
        "CRYPTO_SYMBOLS": "BTC/USD",
        "DATABASE_URL": "postgresql://u:hunter2@h/n",
        "MARKETPIPE_DATA_DIR": "elsewhere",
        "MARKETPIPE_SERIES__PRIORITY": "alpaca/sip,alpaca/iex",
        "MARKETPIPE_TEST_DATA": "/no/setting",
        "HOME": "/root",
    }
    settings = read_settings(environ=environ, folder=tmp_path)
    assert settings.stream.mode == "mock"
    assert settings.stream.symbols == ("AAPL", "SPY")
    assert settings.stream.crypto_symbols == ("BTC/USD",)
    assert settings.data_dir == Path("elsewhere")
    assert settings.series.priority == ("alpaca/sip", "alpaca/iex")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:hunter2@h/n"
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lake]\ncompresion = 'zstd'\n", ("'lake.compresion', set in '", "compression")),
        ("[laek]\nx = 1\n", ("'laek'", "lake")),
        ("[lake]\nbuckets = 0\n", ("lake.buckets", "was '0'", "; set in '", "m.toml'")),
        ("[stream]\nmode = 'fast'\n", ("stream.mode", "was 'fast'", "; set in '")),
        ("[series]\npriority = ['alpaca']\n", ("series.priority.0", "alpaca")),
        ("lake = 3\n", ("settings: lake", "was '3'")),
        ("x = [", ("not valid TOML",)),
    ],
)
def test_settings_that_are_not_valid_name_their_path(
    tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert all(word in str(caught.value) for word in told), caught.value


@pytest.mark.parametrize(
    ("config", "keys", "environ", "given", "where"),
    [
        ("[alpaca]\nsecret = 3\n", "", {}, {}, "set in '"),
        ("[alpaca]\nsecret = 3\n", "", {"APCA_API_SECRET_KEY": ""}, {}, "set in '"),
        ("[lake]\nbuckets = 0", "MARKETPIPE_LAKE__BUCKETS=x", {}, {},
         "set by MARKETPIPE_LAKE__BUCKETS in keys.env"),
        ("", "INGESTION_MODE=x", {"MARKETPIPE_STREAM__MODE": "y"}, {},
         "set by environment variable MARKETPIPE_STREAM__MODE"),
        ("", "", {"MARKETPIPE_STREAM__MODE": "y", "INGESTION_MODE": "x"}, {},
         "set by environment variable INGESTION_MODE"),
        ("[lake]\nbuckets = 0", "", {"MARKETPIPE_LAKE__BUCKETS": "0"}, {"lake": {"buckets": 0}},
         "given on the command line"),
        ("lake = 3", "", {"MARKETPIPE_LAKE": "x"}, {}, "set in '"),
        ("[lake]\nbuckets = 1", "", {"MARKETPIPE_LAKE__BUCKETS__X": "1"}, {},
         "set by environment variable MARKETPIPE_LAKE__BUCKETS__X"),
    ],
)  # fmt: skip
def test_settings_that_are_not_valid_name_the_place_that_set_them(
    tmp_path: Path,
    config: str,
    keys: str,
    environ: dict[str, str],
    given: dict[str, object],
    where: str,
) -> None:
    (tmp_path / "keys.env").write_text(keys)
    with pytest.raises(UsageError) as caught:
        read(tmp_path, config, environ=environ, given=given)
    assert str(caught.value).split("; ")[-1].startswith(where), caught.value


def test_settings_unknown_variable_is_refused_and_a_secret_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'lake\.bucket', set by .*__BUCKET, is no"):
        read_settings(environ={"MARKETPIPE_LAKE__BUCKET": "1"}, folder=tmp_path)
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "[database_url]\npassword = 'hunter2'\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.yaml", "a: [", "not valid YAML"),
        ("m.yaml", "- a", "holds no keys"),
        ("m.json", "{}", "valid are files named"),
    ],
)
def test_settings_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        read(tmp_path, text, name)
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.toml", environ={}, folder=tmp_path)


def test_package_opens_a_folder_or_settings_and_imports_nothing_before(tmp_path: Path) -> None:
    import marketpipe as mp

    given = Settings.model_validate({"data_dir": tmp_path})
    for where in (tmp_path, str(tmp_path), given):
        lake = mp.open(where)
        assert isinstance(lake, mp.Lake)
        assert lake.series().is_empty()
    assert mp.Settings is Settings
    with pytest.raises(AttributeError, match="nothing_here"):
        mp.nothing_here  # noqa: B018
    code = "import marketpipe, sys; print([m for m in ('pydantic', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
