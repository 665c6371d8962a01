"""What a journal says of itself: how its records are parsed, and which bars are built of them."""

import json
from dataclasses import dataclass
from typing import Any

from marketpipe.domain.timeframe import parse_many
from marketpipe.errors import UsageError
from marketpipe.journal import SqliteJournalReader
from marketpipe.lake import LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.controls import last_control
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.live import MakeParser
from marketpipe.pipelines.ownership import BATCH_JOURNALS
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.csvfile import CsvParser

MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """A journal of a feed.

    Attributes
    ----------
    form : ``csv`` (lines of a tick CSV) or ``frames`` (a vendor's messages)
    source, feed : of rows that name none
    settings : the bars that were built of it
    make_parser : of its records
    """

    form: str
    source: str
    feed: str
    settings: DeriveSettings
    make_parser: MakeParser


def feeds(folder: DataFolder) -> list[str]:
    """Return the journals of feeds in a folder; those of loads and rebuilds are none."""
    return [name for name in folder.journals() if name not in BATCH_JOURNALS]


def recorded(folder: DataFolder, journal_id: str) -> Recorded:
    """Read how a journal was made from its last control record.

    Raises
    ------
    UsageError
        If it is not there, or does not say so.
    """
    known = feeds(folder)
    if journal_id not in known:
        raise UsageError(
            f"journal: was {journal_id!r}; feeds in this data folder are "
            f"{', '.join(known) or 'none'}"
        )
    raw = LakeTable.open(folder.lake, "raw")
    reader = SqliteJournalReader(folder.journal(journal_id), journal_id)
    try:
        last = last_control(reader, raw)
    finally:
        reader.close()
    facts: dict[str, Any] = {} if last is None else json.loads(last[2])
    if "settings" not in facts or "input" not in facts:
        raise UsageError(
            f"journal {journal_id}: does not say which bars are built of it; it was not made by "
            "`marketpipe stream`"
        )
    form = facts["input"]["form"]
    return Recorded(
        form,
        facts["input"]["source"],
        facts["input"]["feed"],
        settings_of(journal_id, facts["settings"]),
        CsvParser if form == "csv" else AlpacaParser,
    )


def settings_of(journal_id: str, facts: dict[str, Any]) -> DeriveSettings:
    """Return the settings that a control record states.

    Raises
    ------
    RuleSetError, UsageError
        If the rule table is another one by now.
    """
    name, _, digest = facts["rules"].partition(" ")
    rules = RuleSet.load(name)
    if rules.digest != digest:
        raise UsageError(
            f"journal {journal_id}: was made with rule table {name} {digest[:12]}, which is "
            f"{rules.digest[:12]} now; use the version of MarketPipe that made it"
        )
    return DeriveSettings(
        journal_id=journal_id,
        timeframes=parse_many(facts["timeframes"]),
        calendar=facts["calendar"],
        session=facts["session"] or None,
        rule_set=rules,
        price_types=tuple(facts["price"].split(",")),
        grace_ns=facts["grace_ms"] * MILLISECOND_NS,
        delay_ns=facts["delay_ms"] * MILLISECOND_NS,
    )
