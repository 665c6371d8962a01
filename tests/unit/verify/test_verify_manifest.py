"""The run manifest and its canonical JSON."""

import json

import pytest

from marketpipe.errors import InputError
from marketpipe.verify import RunInput, RunManifest

MANIFEST = RunManifest(
    configuration={"symbols": ["AAPL"], "grace": "1s"},
    rule_tables={"plain": "sha256:aa"},
    calendar="XNYS",
    calendar_version="exchange_calendars 4.13",
    code_version="0.1.0",
    inputs=(RunInput(name="ticks.csv", size_bytes=12, digest="sha256:bb"), RunInput(name="-")),
    counts={"rows": 3},
    root="sha256:cc",
)


def test_manifest_json_is_canonical_and_read_back() -> None:
    text = MANIFEST.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"
    assert json.loads(text)["version"] == 1
    assert RunManifest.from_json(text) == MANIFEST
    assert RunManifest.from_json(text.encode()).to_json() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "version 1"),
        ('{"version":2}', "version 1"),
        ('{"version":1,"rot":"x"}', r"unknown keys \['rot'\], missing keys \['calendar'"),
        (MANIFEST.to_json().replace('"size_bytes"', '"bytes"'), "inputs"),
    ],
)
def test_manifest_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunManifest.from_json(text)


@pytest.mark.parametrize("value", [1.5, [{"a": float("nan")}], object()])
def test_manifest_with_inexact_configuration_is_refused(value: object) -> None:
    manifest = RunManifest(
        configuration={"x": value},
        rule_tables={},
        calendar="24/7",
        calendar_version="",
        code_version="",
        root="",
    )
    with pytest.raises(InputError, match="manifest"):
        manifest.to_json()
