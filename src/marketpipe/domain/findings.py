"""What a stage noticed: counts by code, with the first examples of each.

Findings are values. A stage returns them beside its result; nobody logs or raises them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

EXAMPLES_KEPT: Final = 5
"""Examples kept per code: those with the smallest row numbers."""

FINDING_CODES: Final[Mapping[str, str]] = {
    # Rows that a source could not read (they are in quarantine).
    "bad_field_count": "the line has more or fewer fields than the header",
    "bad_name": "a source or feed is not a valid name",
    "bad_number": "a number cannot be read",
    "bad_quote": "a quoted field is not closed on its line",
    "bad_record": "a record of a binary file that cannot be decoded",
    "bad_side": "a side that is neither buy nor sell",
    "bad_symbol": "the symbol is empty or not valid text",
    "bad_timestamp": "an instant cannot be read",
    "bad_utf8": "the line is not UTF-8",
    "below_resolution": "a price or size has more than nine decimals",
    "line_too_long": "a line of more than 65,536 bytes",
    "missing_value": "a required field is empty or null",
    "naive_timestamp": "an instant has no time zone",
    "out_of_range": "a number above 999,999,999.999999999, an instant before 1970 or after 2260",
    "repeated_header": "the header line again, inside the file",
    # Rows that the normalizer judged.
    "non_positive_price": "a trade's price is zero or negative (in quarantine)",
    "negative_size": "a trade's size is negative (in quarantine)",
    "duplicate": "a trade seen before, with the same content (left out)",
    "refetched": "a trade or quote that came before, and one of both times for a gap (left out)",
    "conflicting_duplicate": "a trade's identity seen before with other content (left out)",
    "one_sided_quote": "a side that the price needs is absent, zero or negative (left out)",
    "crossed_quote": "the bid is above the ask (left out of mid)",
    "locked_quote": "the bid equals the ask (kept)",
    "future_stamp": "a tick stamped more than a day after its receipt (kept; its bar waits)",
    "unknown_condition": "a trade condition that the rule set does not list (kept, sets nothing)",
    "missing_tape": "a condition differs between tapes and the tape is absent (strictest reading)",
    "unparsed_message": "a message that carries no market data, or of an unknown kind (kept raw)",
    # What the bar engine noticed.
    "late": "a tick for a bar that was confirmed already; counted once per timeframe (revises it)",
    "late_after_load": "a tick for a session that a load or rebuild changed (kept; changes no bar)",
    "unmatched_correction": "a cancel or correction whose trade never came (kept; it may come yet)",
    "outside_session": "a tick outside the session (builds no bar)",
    # What the journal's writer noticed when it opened it; kept under the name journal/<id>.
    "journal_cut": "a range of records that was torn or damaged, and was cut from the journal",
    # Rows that do not fit a canonical table.
    "missing_column": "the schema's column is absent",
    "unexpected_column": "a column that the schema does not have",
    "wrong_type": "a column has another type than the schema says",
    "null_value": "a value is null where the schema forbids it",
    "bad_text": "text is not valid UTF-8, or a name is empty or holds control characters",
    "unknown_value": "a word outside the list that the schema allows",
    "negative_value": "a count, price, size, offset or instant is negative",
    "incomplete_ohlc": "some but not all of open, high, low, close are null",
    "price_outside_range": "open or close lies outside low to high",
    "empty_interval": "ts_open is not before ts_close",
}
"""Every code of the stages and the schema validator, and what it means."""


class Example(NamedTuple):
    """One row that a finding is about: its number, the column ("" for all) and what it held."""

    row: int
    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """How often one thing was found, and its examples in row order (at most five)."""

    code: str
    count: int
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """Counts by code, sorted by code; merging is associative and commutative.

    Build with `Findings.of`; join with ``+`` or `Findings.merge`. Two values are equal if and
    only if they hold the same counts and examples, in whatever order they were merged.
    """

    entries: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, code: str, count: int, examples: Iterable[Example] = ()) -> "Findings":
        """Make findings of one code; nothing if ``count`` is 0."""
        if count == 0:
            return cls()
        return cls((Finding(code, count, _first(examples)),))

    @classmethod
    def merge(cls, parts: Iterable["Findings"]) -> "Findings":
        """Add up any number of findings."""
        counts: dict[str, int] = {}
        examples: dict[str, list[Example]] = {}
        for part in parts:
            for entry in part.entries:
                counts[entry.code] = counts.get(entry.code, 0) + entry.count
                examples.setdefault(entry.code, []).extend(entry.examples)
        return cls(tuple(Finding(c, counts[c], _first(examples[c])) for c in sorted(counts)))

    def to_json(self) -> bytes:
        """Write them as JSON; equal findings give equal bytes."""
        entries = [(entry.code, entry.count, entry.examples) for entry in self.entries]
        return json.dumps(entries, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Findings":
        """Read what `to_json` wrote."""
        return cls(
            tuple(
                Finding(code, count, tuple(Example(*e) for e in examples))
                for code, count, examples in json.loads(text)
            )
        )

    @property
    def counts(self) -> dict[str, int]:
        """Counts by code, in the order of the codes."""
        return {entry.code: entry.count for entry in self.entries}

    @property
    def total(self) -> int:
        """How many things were found in all."""
        return sum(entry.count for entry in self.entries)

    def count(self, code: str) -> int:
        """How often ``code`` was found; 0 if never."""
        return self.counts.get(code, 0)

    def examples(self, code: str) -> tuple[Example, ...]:
        """Return the examples of ``code``: those with the smallest row numbers, at most five."""
        return next((e.examples for e in self.entries if e.code == code), ())

    def __add__(self, other: "Findings") -> "Findings":
        return Findings.merge((self, other))

    def __bool__(self) -> bool:
        return bool(self.entries)


def _first(examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple(sorted(examples)[:EXAMPLES_KEPT])
