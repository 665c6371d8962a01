"""How a rule table is written in TOML, and what makes one malformed."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, Literal, NamedTuple, NoReturn, cast

from marketpipe.errors import RuleSetError

LAST_WORDS: Final = ("no", "first_only", "yes")
"""Whether a trade may set open and close; the index is its rank, 0 the strictest."""


class Effect(NamedTuple):
    """What a trade may set; ``last`` is an index into `LAST_WORDS`."""

    last: int
    high_low: bool
    volume: bool
    vwap: bool

    def strictest(self, other: "Effect") -> "Effect":
        """Join two effects: the stricter of each component."""
        return Effect(
            min(self.last, other.last),
            self.high_low and other.high_low,
            self.volume and other.volume,
            self.vwap and other.vwap,
        )


NO_LIMIT: Final = Effect(len(LAST_WORDS) - 1, high_low=True, volume=True, vwap=True)


def strictest(effects: Iterable[Effect]) -> Effect:
    """Join any number of effects."""
    return reduce(Effect.strictest, effects, NO_LIMIT)


class Rule(NamedTuple):
    """One row of the table; no ``tapes``: all of them, known or not. None: not listed."""

    tapes: tuple[str, ...]
    minute: Effect | None
    day: Effect | None

    def holds_on(self, tape: str) -> bool:
        """Whether the row speaks about ``tape``."""
        return not self.tapes or tape in self.tapes


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """A checked table."""

    name: str
    version: int
    source: str
    anchoring: Literal["session", "ny_day"]
    rollup: Literal["ticks", "bars"]
    base_timeframes: tuple[str, ...]
    min_timeframe: str
    emission: Literal["any", "all_non_zero"]
    unknown: Effect
    tapes: tuple[str, ...]
    rules: Mapping[str, tuple[Rule, ...]]
    auctions: Mapping[str, str]
    primary_venues: Mapping[str, tuple[str, ...]]
    digest: str


_KEYS: Final[dict[str, type]] = {
    "name": str,
    "version": int,
    "source": str,
    "anchoring": str,
    "rollup": str,
    "base_timeframes": list,
    "min_timeframe": str,
    "emission": str,
    "unknown_condition": str,
    "tapes": list,
    "conditions": list,
    "effects": dict,
    "auctions": dict,
}
_EFFECT_KEYS: Final[dict[str, type]] = {
    "last": str,
    "high_low": bool,
    "volume": bool,
    "vwap": bool,
}
_AUCTION_KEYS: Final[dict[str, type]] = {
    "official_open": str,
    "official_close": str,
    "closing_auction": str,
    "primary_venues": dict,
}
_CONDITION_KEYS: Final[dict[str, type]] = {"code": str, "tapes": list, "minute": str, "day": str}
_TYPE_NAMES: Final = {
    str: "text",
    int: "an integer",
    list: "a list",
    dict: "a table",
    bool: "true or false",
}


def parse(text: str, origin: str) -> RuleTable:
    """Read and check a table; ``origin`` names it in errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RuleSetError(f"{origin}: not TOML: {problem}; mend the file") from problem
    _check_keys(raw, _KEYS, origin, required=_KEYS)
    effects = {
        name: _effect(entry, f"{origin}: effects.{name}") for name, entry in raw["effects"].items()
    }
    if raw["version"] < 1:
        _fail(f"{origin}: version", raw["version"], "an integer from 1 up")
    if not raw["name"]:
        _fail(f"{origin}: name", "", "a name that is not empty")
    auctions = dict(raw["auctions"])
    _check_keys(auctions, _AUCTION_KEYS, f"{origin}: auctions", required=_AUCTION_KEYS)
    primaries = auctions.pop("primary_venues")
    tapes = _texts(raw["tapes"], f"{origin}: tapes")
    return RuleTable(
        name=raw["name"],
        version=raw["version"],
        source=raw["source"],
        anchoring=cast(Any, _word(raw, "anchoring", ("session", "ny_day"), origin)),
        rollup=cast(Any, _word(raw, "rollup", ("ticks", "bars"), origin)),
        base_timeframes=_base_timeframes(raw, origin),
        min_timeframe=raw["min_timeframe"],
        emission=cast(Any, _word(raw, "emission", ("any", "all_non_zero"), origin)),
        unknown=effects[_word(raw, "unknown_condition", effects, origin)],
        tapes=tapes,
        rules=_rules(raw["conditions"], effects, tapes, origin),
        auctions=auctions,
        primary_venues={
            tape: _texts(venues, f"{origin}: auctions.primary_venues.{tape}")
            for tape, venues in primaries.items()
        },
        digest=hashlib.sha256(_canonical(raw)).hexdigest(),
    )


def _canonical(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode("ascii")


def _effect(entry: object, where: str) -> Effect:
    if not isinstance(entry, dict):
        _fail(where, entry, "a table")
    _check_keys(entry, _EFFECT_KEYS, where, required=_EFFECT_KEYS)
    if entry["vwap"] and not entry["volume"]:
        _fail(f"{where}: vwap", True, "false, because volume is false: vwap needs volume")
    last = LAST_WORDS.index(_word(entry, "last", LAST_WORDS, where))
    return Effect(last, entry["high_low"], entry["volume"], entry["vwap"])


def _rules(
    entries: list[object], effects: Mapping[str, Effect], tapes: tuple[str, ...], origin: str
) -> dict[str, tuple[Rule, ...]]:
    rules: dict[str, tuple[Rule, ...]] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{origin}: conditions, row {number}"
        if not isinstance(entry, dict):
            _fail(where, entry, "a table")
        _check_keys(entry, _CONDITION_KEYS, where, required=("code",))
        code = entry["code"]
        if code.split() != ([code] if code else []):
            _fail(f"{where}: code", code, "a code without spaces, or the empty text")
        scopes = [entry.get(scope) for scope in ("minute", "day")]
        if scopes == [None, None]:
            _fail(where, entry, "a row with minute or day or both")
        for scope in ("minute", "day"):
            _word({scope: entry.get(scope, next(iter(effects)))}, scope, effects, where)
        rule = Rule(
            _texts(entry.get("tapes", []), f"{where}: tapes"),
            *(None if scope is None else effects[scope] for scope in scopes),
        )
        for tape in rule.tapes:
            _word({"tapes": tape}, "tapes", tapes, where)
        for other in rules.get(code, ()):
            if not rule.tapes or not other.tapes or set(rule.tapes) & set(other.tapes):
                _fail(f"{where}: code", code, "one row for a code on a tape")
        rules[code] = (*rules.get(code, ()), rule)
    return rules


def _base_timeframes(raw: dict[str, Any], origin: str) -> tuple[str, ...]:
    found = _texts(raw["base_timeframes"], f"{origin}: base_timeframes")
    if bool(found) != (raw["rollup"] == "bars"):
        _fail(
            f"{origin}: base_timeframes",
            list(found),
            "timeframes under rollup = 'bars', and an empty list under rollup = 'ticks'",
        )
    return found


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        _fail(where, value, "a list of texts that are not empty")
    return tuple(value)


def _word(entry: Mapping[str, Any], key: str, valid: Iterable[str], where: str) -> str:
    word = str(entry[key])
    if word not in tuple(valid):
        _fail(f"{where}: {key}", word, f"one of {', '.join(valid)}")
    return word


def _check_keys(
    entry: Mapping[str, Any], known: Mapping[str, type], where: str, required: Iterable[str]
) -> None:
    for key in entry:
        if key not in known:
            raise RuleSetError(
                f"{where}: unknown key {key!r}; valid are {', '.join(known)}; remove or rename it"
            )
    for key in required:
        if key not in entry:
            raise RuleSetError(f"{where}: {key} is missing; add it")
    for key, value in entry.items():
        if type(value) is not known[key]:
            _fail(f"{where}: {key}", value, _TYPE_NAMES[known[key]])


def _fail(where: str, was: object, valid: str) -> NoReturn:
    raise RuleSetError(f"{where} was {was!r}; valid is {valid}; mend the table")
