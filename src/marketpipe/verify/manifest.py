"""The run manifest: everything that a set of bars follows from, and what it came to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from marketpipe.errors import InputError

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInput:
    """One file or stream that was read.

    Attributes
    ----------
    name : as the user gave it, without its folder where that does not matter
    size_bytes : None if not known
    digest : ``sha256:…`` of the bytes as stored; None if not known
    """

    name: str
    size_bytes: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunManifest:
    """What was run on what, and the roots. Two runs with equal causes have equal roots.

    Attributes
    ----------
    configuration : settings that shape the bars, JSON values only, no floats
    rule_tables : digest by rule set name
    calendar, calendar_version : the session calendar
    code_version : version of the program
    inputs : in the order in which they were read
    counts : rows read, bars written, findings by code
    root : `DigestTree.root` of the bars; history_root : the same with history, None if not built
    """

    configuration: Mapping[str, Any]
    rule_tables: Mapping[str, str]
    calendar: str
    calendar_version: str
    code_version: str
    inputs: tuple[RunInput, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    root: str
    history_root: str | None = None

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces, ASCII, no floats, a final newline.

        Raises
        ------
        InputError
            If the configuration holds something that is no JSON value, or a float.
        """
        content = {"version": VERSION, **asdict(self)}
        _refuse_floats(content, "manifest")
        try:
            text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        except TypeError as error:
            raise InputError(f"manifest: {error}; use text, integers, lists and tables") from error
        return text + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunManifest":
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If it is no JSON, of a later version, or has unknown or missing keys.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"manifest: not JSON: {error}") from error
        if not isinstance(content, dict) or content.pop("version", None) != VERSION:
            raise InputError(f"manifest: expected a JSON object with version {VERSION}")
        known = {f.name for f in fields(cls)}
        unknown = sorted(content.keys() - known)
        missing = sorted(known - content.keys())
        if unknown or missing:
            raise InputError(f"manifest: unknown keys {unknown}, missing keys {missing}")
        try:
            inputs = tuple(RunInput(**entry) for entry in content.pop("inputs"))
        except TypeError as error:
            raise InputError(f"manifest: inputs: {error}") from error
        return cls(inputs=inputs, **content)


def _refuse_floats(value: object, where: str) -> None:
    if isinstance(value, float):
        raise InputError(f"{where} was the float {value!r}; write it as text, it is then exact")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_floats(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            _refuse_floats(inner, f"{where}[{at}]")
