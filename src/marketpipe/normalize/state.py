"""The normalizer's state as named arrays, which any store can keep and any test can compare."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import StreamKey
from marketpipe.errors import StateError
from marketpipe.normalize.identity import Scope, SessionIds
from marketpipe.normalize.ruleset import RuleSet

State: TypeAlias = dict[str, npt.NDArray[Any]]
"""``header`` (uint8, JSON in UTF-8) and per session date ``<date>.<column>`` of `SessionIds`."""

_KIND: Final = "marketpipe.normalizer"
_VERSION: Final = 1
_COLUMNS: Final = ("scope", "id_hi", "id_lo", "content", "row")


class SavedState(NamedTuple):
    """What `read_state` found."""

    price_type: str
    dedup: bool
    sealed: tuple[int, ...]
    sessions: tuple[SessionIds, ...]


def write_state(
    *,
    rule_set: RuleSet,
    price_type: str,
    dedup: bool,
    sealed: tuple[int, ...],
    sessions: tuple[SessionIds, ...],
) -> State:
    """Lay the state out; equal states give equal arrays under equal names."""
    header = {
        "kind": _KIND,
        "version": _VERSION,
        "rule_set": rule_set.name,
        "rule_digest": rule_set.digest,
        "price_type": price_type,
        "dedup": dedup,
        "sealed": sealed,
        "sessions": [
            {"date": s.date, "scopes": [[*scope.stream, *scope[1:]] for scope in s.scopes]}
            for s in sessions
        ],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    state: State = {"header": np.frombuffer(text.encode("ascii"), np.uint8).copy()}
    for session in sessions:
        for column in _COLUMNS:
            state[f"{session.date}.{column}"] = getattr(session, column)
    return state


def read_state(state: Mapping[str, npt.NDArray[Any]], rule_set: RuleSet) -> SavedState:
    """Check and read a state.

    Raises
    ------
    StateError
        If it is not a normalizer's, of a later version, or of another rule table.
    """
    try:
        header = json.loads(state["header"].tobytes())
        found = (header["kind"], header["version"])
    except (KeyError, TypeError, ValueError) as problem:
        raise StateError(
            f"saved state has no readable header ({problem!r}); "
            "give what TickNormalizer.save() returned, or replay from a session boundary"
        ) from problem
    if found != (_KIND, _VERSION):
        raise StateError(
            f"saved state was {found[0]!r} version {found[1]!r}; valid is {_KIND!r} version "
            f"{_VERSION}; replay from a session boundary"
        )
    if header["rule_digest"] != rule_set.digest:
        raise StateError(
            f"rule_set was {rule_set.name!r} ({rule_set.digest[:12]}) and the state was saved "
            f"under {header['rule_set']!r} ({header['rule_digest'][:12]}); load that table, or "
            "replay from a session boundary"
        )
    return SavedState(
        header["price_type"],
        header["dedup"],
        tuple(header["sealed"]),
        tuple(_session(state, entry) for entry in header["sessions"]),
    )


def _session(state: Mapping[str, npt.NDArray[Any]], entry: dict[str, Any]) -> SessionIds:
    date = int(entry["date"])
    missing = [c for c in _COLUMNS if f"{date}.{c}" not in state]
    if missing:
        raise StateError(
            f"saved state lacks {', '.join(missing)} of session date {date}; "
            "replay from a session boundary"
        )
    columns = {column: state[f"{date}.{column}"] for column in _COLUMNS}
    scopes = tuple(Scope(StreamKey(*s[:3]), s[3], s[4]) for s in entry["scopes"])
    return SessionIds(date=date, scopes=scopes, **columns)
