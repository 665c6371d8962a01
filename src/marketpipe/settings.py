"""The configuration: read once at the edge, frozen, and passed down as plain values.

Of several places that set one value, the first wins: words of the command line, environment
variables, ``keys.env`` in the working folder, the file named by ``--config``, the default.
"""

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from marketpipe.errors import UsageError

KEYS_FILE: Final = "keys.env"
PREFIX: Final = "MARKETPIPE_"
NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "MARKETPIPE_DATA_DIR": ("data_dir",),
    "DATABASE_URL": ("database_url",),
    "INGESTION_MODE": ("stream", "mode"),
    "SYMBOLS": ("stream", "symbols"),
    "CRYPTO_SYMBOLS": ("stream", "crypto_symbols"),
    "APCA_API_KEY_ID": ("alpaca", "key"),
    "APCA_API_SECRET_KEY": ("alpaca", "secret"),
    "ALPACA_API_KEY": ("alpaca", "key"),
    "ALPACA_SECRET_KEY": ("alpaca", "secret"),
}
"""Environment variables with names of their own; the rest is ``MARKETPIPE_<SECTION>__<KEY>``."""

_SEPARATOR: Final = "__"
_SECRETS: Final = (["database_url"], ["alpaca", "key"], ["alpaca", "secret"])


def _items(value: object) -> object:
    """Split a text at its commas."""
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


Words: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_items)]
"""A list, or in the environment a text with commas."""
FeedName: TypeAlias = Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SeriesSettings(_Section):
    """``series``: which series a read takes that names none."""

    priority: Annotated[tuple[FeedName, ...], BeforeValidator(_items)] = ()
    """``source/feed``, the preferred first."""


class JournalSettings(_Section):
    """``journal``: how messages are made durable."""

    durability: Literal["process", "power"] = "process"
    """``process`` survives a kill, ``power`` a loss of power too."""


class LakeSettings(_Section):
    """``lake``: how its files are written, and how much may be kept."""

    compression: Literal["zstd", "snappy", "lz4"] = "zstd"
    buckets: int = Field(default=16, ge=1, le=4096)
    """Instrument buckets of new tables."""
    flush_seconds: float = Field(default=60.0, gt=0)
    """Time of receipt between two appends to the lake."""
    disk_budget_bytes: int | None = Field(default=None, gt=0)
    """Most that the lake may take on disk; none: no limit."""
    retention_days: int | None = Field(default=None, ge=1)
    """Days that ``marketpipe lake drop`` keeps; none: it must be told."""


class StoreSettings(_Section):
    """``store``: how much the serving database keeps."""

    retention_days: int | None = Field(default=None, ge=1)
    """Days that ``marketpipe db prune`` keeps; none: it must be told."""


class StreamSettings(_Section):
    """``stream``: what ``marketpipe stream`` takes in and builds."""

    mode: Literal["live", "mock"] = "live"
    symbols: Words | None = None
    crypto_symbols: Words | None = None
    timeframes: Words = ("1m", "5m", "15m", "1h", "1d")
    calendar: str = "24/7"
    session: Literal["continuous", "regular", "extended"] | None = None
    """None: continuous for 24/7, else regular."""
    rules: str = "plain"
    grace_ms: int = Field(default=1000, ge=0)
    """How long after its end a bar waits for late messages."""


class AlpacaSettings(_Section):
    """``alpaca``: how to get at Alpaca's market data."""

    key: SecretStr | None = None
    secret: SecretStr | None = None
    """Of Alpaca's dashboard."""
    feed: Literal["iex", "sip", "delayed_sip", "test"] = "iex"
    """Of stocks; ``sip`` needs a plan that includes it."""
    location: str = "us"
    """Of crypto."""
    channels: Words | None = None
    """Of stocks and crypto; none: all that there are."""
    encoding: Literal["msgpack", "json"] = "msgpack"
    stream_url: str = "wss://stream.data.alpaca.markets"
    rest_url: str = "https://data.alpaca.markets"
    clock: str | None = None
    """Address of the clock to go by, as a simulator publishes it; none: the system's."""
    silence_seconds: float = Field(default=30.0, gt=0)
    """Silence that is never suspicious."""


class LogSettings(_Section):
    """``log``: what is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "warning"
    format: Literal["text", "json"] = "text"


class Settings(_Section):
    """All settings; make one with `read_settings`, or with keywords.

    Attributes
    ----------
    data_dir : folder of everything that is kept
    database_url : of the serving database; None: ``marketpipe.db`` in the data folder
    """

    data_dir: Path = Path("data")
    database_url: SecretStr | None = None
    series: SeriesSettings = SeriesSettings()
    journal: JournalSettings = JournalSettings()
    lake: LakeSettings = LakeSettings()
    store: StoreSettings = StoreSettings()
    stream: StreamSettings = StreamSettings()
    alpaca: AlpacaSettings = AlpacaSettings()
    log: LogSettings = LogSettings()


def read_settings(
    config: Path | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read the configuration from everywhere it can be.

    Parameters
    ----------
    config : TOML or YAML file
    given : what the command line said, nested as the settings are; it wins
    environ : environment variables; None: those of the process
    folder : where ``keys.env`` is looked for; None: the working folder

    Raises
    ------
    UsageError
        If the file cannot be read, a key is unknown, or a value is not valid. The message names
        the path of the key and where it was set, and never shows a secret.
    """
    keys = (folder or Path()) / KEYS_FILE
    found = {k: v for k, v in dotenv_values(keys, interpolate=False).items() if v is not None}
    variables = os.environ if environ is None else environ
    layers = (
        _Layer({} if config is None else _of_file(config), lambda _: f"set in '{config}'"),
        _Layer(_of_environ(found), lambda path: f"set by {_variable(path, found)} in {KEYS_FILE}"),
        _Layer(
            _of_environ(variables),
            lambda path: f"set by environment variable {_variable(path, variables)}",
        ),
        _Layer(given or {}, lambda _: "given on the command line"),
    )
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _over(merged, layer.values)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_told(error, merged, layers)) from None


class _Layer(NamedTuple):
    """One of the places that values come from; ``words`` says where a value of a path is."""

    values: Mapping[str, Any]
    words: Callable[[list[str]], str]

    def holds(self, path: list[str]) -> bool:
        value: Any = self.values
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return False
            value = value[key]
        return True


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        held = out.get(key)
        if isinstance(value, Mapping) and isinstance(held, Mapping):
            out[key] = _over(held, value)
        else:
            out[key] = value
    return out


def _of_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what environment variables set; of one value set twice, the plain name wins."""
    out: dict[str, Any] = {}
    for path, name in _variables(environ):
        out = _over(out, _nested(path, environ[name]))
    return out


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield the path and the name of each variable that sets something; the last one wins."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and _SEPARATOR in name:
            yield name.removeprefix(PREFIX).lower().split(_SEPARATOR), name
    for name, where in NAMED.items():
        if environ.get(name):
            yield list(where), name


def _nested(path: list[str], value: str) -> dict[str, Any]:
    *outer, last = path
    nested: dict[str, Any] = {last: value}
    for key in reversed(outer):
        nested = {key: nested}
    return nested


def _of_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config: '{path}' cannot be read: {error}; name a file of text") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        found = _of_yaml(path, text)
    elif path.suffix.lower() == ".toml":
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"config: '{path}' is not valid TOML: {error}") from None
    else:
        raise UsageError(f"config: was '{path}'; valid are files named .toml, .yaml or .yml")
    if not isinstance(found, dict):
        raise UsageError(f"config: '{path}' holds no keys; expected lines such as data_dir: data")
    return found


def _of_yaml(path: Path, text: str) -> Any:
    if find_spec("yaml") is None:
        raise UsageError(
            f"config: '{path}' is YAML, for which a package is not installed; install it with "
            "pip install pyyaml, or write the file as TOML"
        )
    yaml = import_module("yaml")
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise UsageError(f"config: '{path}' is not valid YAML: {told}") from None


def _told(error: ValidationError, merged: Mapping[str, Any], layers: Sequence[_Layer]) -> str:
    """Say what is wrong with the first value that is, and where it was set."""
    first = error.errors(include_input=False, include_url=False)[0]
    keys = [part for part in first["loc"] if isinstance(part, str)]
    path = ".".join(str(part) for part in first["loc"])
    where = next(layer.words(keys) for layer in reversed(layers) if layer.holds(keys))
    if first["type"] == "extra_forbidden":
        section = _section(keys[:-1])
        valid = ", ".join(section.model_fields)
        return f"settings: '{path}', {where}, is no setting; valid are {valid}"
    value: Any = merged
    for key in keys:
        value = value[key] if isinstance(value, Mapping) and key in value else value
    was = "" if keys in _SECRETS else f"was '{value}'; "
    return f"settings: {path}: {was}{first['msg']}; {where}"


def _section(keys: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = Settings
    for key in keys:
        kind = section.model_fields[key].annotation
        section = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else section
    return section


def _variable(path: list[str], environ: Mapping[str, str]) -> str:
    """Return the variable that has the last word on a path, or on what is below it."""
    return [name for where, name in _variables(environ) if where[: len(path)] == path][-1]
