"""Rule sets: which trades may set which parts of a bar, as data.

A rule set is a versioned table (`rules/<name>.toml`, or a file of the user's). Its name is part
of the name of every series built with it, so two readings of a tape never mix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from marketpipe.domain.ticks import (
    CLOSING_AUCTION,
    DAY_SHIFT,
    FIRST_ONLY,
    HIGH_LOW,
    LAST,
    OFFICIAL_CLOSE,
    OFFICIAL_OPEN,
    VOLUME,
    VWAP,
)
from marketpipe.errors import RuleSetError
from marketpipe.normalize import _ruletable as table

Anchoring: TypeAlias = Literal["session", "ny_day"]
Rollup: TypeAlias = Literal["ticks", "bars"]
Emission: TypeAlias = Literal["any", "all_non_zero"]

_LAST_BITS: Final = (0, FIRST_ONLY, LAST)
_AUCTION_BITS: Final = {
    "official_open": OFFICIAL_OPEN,
    "official_close": OFFICIAL_CLOSE,
    "closing_auction": CLOSING_AUCTION,
}


class Verdict(NamedTuple):
    """What a rule set says about one trade.

    ``flags`` are the bits of `domain.ticks`; ``unknown`` the condition codes that the table
    does not list (for this tape); ``missing_tape`` those whose rule depends on the absent tape.
    """

    flags: int
    unknown: tuple[str, ...] = ()
    missing_tape: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """One version of the rules by which trades build bars.

    Attributes
    ----------
    name, version, source : what it is called, its integer version, and where it was published
    anchoring : ``session`` (bars are cut at the session's own edges) or ``ny_day`` (clock
        minutes and hours, New York calendar days)
    rollup : ``ticks`` (every timeframe is built from ticks) or ``bars`` (only
        ``base_timeframes`` are; every other one is rolled up from their emitted bars)
    base_timeframes : see ``rollup``; empty under ``ticks``
    min_timeframe : the shortest timeframe for which the rules are defined
    emission : ``any``, or ``all_non_zero``: a bar exists only if open, high, low, close and
        volume are all non-zero
    reports_unknown : whether a condition that is not listed is a finding
    digest : SHA-256, in hex, of the table's canonical content (comments and layout left out)
    """

    name: str
    version: int
    source: str
    anchoring: Anchoring
    rollup: Rollup
    base_timeframes: tuple[str, ...]
    min_timeframe: str
    emission: Emission
    reports_unknown: bool
    digest: str
    _unknown: table.Effect = field(repr=False)
    _rules: Mapping[str, tuple[table.Rule, ...]] = field(repr=False)
    _auctions: Mapping[str, str] = field(repr=False)
    _primaries: Mapping[str, tuple[str, ...]] = field(repr=False)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "RuleSet":
        """Read a rule set by name (`names`) or from a TOML file.

        Raises
        ------
        RuleSetError
            If there is none of that name, the file cannot be read, or the table is malformed.
        """
        if str(name_or_path) in cls.names():
            folder = resources.files("marketpipe.normalize") / "rules"
            text = (folder / f"{name_or_path}.toml").read_text("utf-8")
            return cls.parse(text, origin=f"{name_or_path}.toml")
        path = Path(name_or_path)
        if path.suffix != ".toml":
            raise RuleSetError(
                f"rule set was {str(name_or_path)!r}; valid are {', '.join(cls.names())}, "
                "or the path of a .toml file"
            )
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise RuleSetError(
                f"rule set was {str(path)!r}, which cannot be read: {problem}; "
                f"give a TOML file in UTF-8, or one of {', '.join(cls.names())}"
            ) from problem
        return cls.parse(text, origin=str(path))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the rule sets that come with MarketPipe, sorted."""
        folder = resources.files("marketpipe.normalize") / "rules"
        found = (Path(entry.name) for entry in folder.iterdir())
        return tuple(sorted(path.stem for path in found if path.suffix == ".toml"))

    @classmethod
    def parse(cls, text: str, *, origin: str = "<text>") -> "RuleSet":
        """Read a rule set from TOML text; ``origin`` names it in errors.

        Raises
        ------
        RuleSetError
            If the table is malformed; the message says where, and what would be valid.
        """
        parsed = table.parse(text, origin)
        return cls(
            name=parsed.name,
            version=parsed.version,
            source=parsed.source,
            anchoring=parsed.anchoring,
            rollup=parsed.rollup,
            base_timeframes=parsed.base_timeframes,
            min_timeframe=parsed.min_timeframe,
            emission=parsed.emission,
            reports_unknown=bool(parsed.rules),
            digest=parsed.digest,
            _unknown=parsed.unknown,
            _rules=parsed.rules,
            _auctions=parsed.auctions,
            _primaries=parsed.primary_venues,
        )

    def flags_for(self, conditions: str, tape: str = "", venue: str = "") -> int:
        """Bits of `domain.ticks` for a trade; see `judge`."""
        return self.judge(conditions, tape, venue).flags

    def judge(self, conditions: str, tape: str = "", venue: str = "") -> Verdict:
        """Say what a trade may set.

        Parameters
        ----------
        conditions : codes separated by spaces; "" is a regular sale
        tape : the tape's letter; "" if unknown. A condition whose rules differ between tapes
            then takes the strictest of them.
        venue : the venue's code; "" if unknown
        """
        codes = conditions.split()
        readings = [self._read(code, tape) for code in codes or [""]]
        minute, day = table.NO_LIMIT, table.NO_LIMIT
        for reading in readings:
            minute, day = minute.strictest(reading.minute), day.strictest(reading.day)
        flags = _bits(minute) | _bits(day) << DAY_SHIFT
        if codes and self._is_primary(tape, venue):
            for auction, code in self._auctions.items():
                flags |= _AUCTION_BITS[auction] if code in codes else 0
        return Verdict(
            flags,
            tuple(r.code for r in readings if r.unknown and self.reports_unknown),
            tuple(r.code for r in readings if r.missing_tape),
        )

    def _read(self, code: str, tape: str) -> "_Reading":
        rules = [r for r in self._rules.get(code, ()) if not tape or r.holds_on(tape)]
        minutes = [r.minute for r in rules if r.minute is not None]
        days = [r.day for r in rules if r.day is not None]
        return _Reading(
            code,
            table.strictest(minutes) if minutes else self._unknown,
            table.strictest(days) if days else self._unknown,
            unknown=not minutes or not days,
            missing_tape=len(set(minutes)) > 1 or len(set(days)) > 1,
        )

    def _is_primary(self, tape: str, venue: str) -> bool:
        """Whether what is known of tape and venue agrees with some row of the primary venues."""
        return any(
            tape in ("", of_tape) and (not venue or venue in venues)
            for of_tape, venues in self._primaries.items()
        )


class _Reading(NamedTuple):
    code: str
    minute: table.Effect
    day: table.Effect
    unknown: bool
    missing_tape: bool


def _bits(effect: table.Effect) -> int:
    return (
        _LAST_BITS[effect.last]
        | (HIGH_LOW if effect.high_low else 0)
        | (VOLUME if effect.volume else 0)
        | (VWAP if effect.vwap else 0)
    )
