"""The configuration as values that the pipelines take."""

from marketpipe.access import folder_of
from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.opening import versions_of
from marketpipe.settings import Settings


def table_of(settings: Settings, name: str) -> LakeTable:
    """Open a table of the lake that is there.

    Raises
    ------
    LakeError
        If there is no table of that name, or nothing was written to it yet.
    """
    return LakeTable.open(
        folder_of(settings).lake, name, create=False, compression=settings.lake.compression
    )


def live_settings(
    settings: Settings,
    journal_id: str,
    price: str,
    *,
    is_crypto: bool = False,
    delay_ns: int = 0,
) -> LiveSettings:
    """Return how a live pipeline of one journal builds and writes.

    Crypto trades at all times, whatever calendar and rules the configuration has for stocks.

    Raises
    ------
    UsageError
        If a timeframe or the rule set cannot be read.
    """
    wanted = settings.stream
    derive = DeriveSettings(
        journal_id=journal_id,
        timeframes=parse_many(wanted.timeframes),
        calendar="24/7" if is_crypto else wanted.calendar,
        session=None if is_crypto else wanted.session,
        rule_set=RuleSet.load("plain" if is_crypto else wanted.rules),
        price_types=(price,),
        delay_ns=delay_ns,
        grace_ns=wanted.grace_ms * 1_000_000,
    )
    return LiveSettings(
        derive=derive,
        versions=versions_of(derive),
        flush_ns=int(settings.lake.flush_seconds * NANOS),
    )
