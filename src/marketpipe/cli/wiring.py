"""The configuration as values that the pipelines take."""

from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import NANOS
from marketpipe.lake import LakeTable
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.live import LiveSettings
from marketpipe.pipelines.opening import versions_of
from marketpipe.settings import Settings


def folder_of(settings: Settings) -> DataFolder:
    """Return where the configuration keeps everything."""
    url = settings.database_url
    return DataFolder(
        settings.data_dir,
        None if url is None else url.get_secret_value(),
        settings.lake.buckets,
        settings.lake.disk_budget_bytes,
    )


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


def live_settings(settings: Settings, journal_id: str, price: str) -> LiveSettings:
    """Return how a live pipeline of one journal builds and writes.

    Raises
    ------
    UsageError
        If a timeframe or the rule set cannot be read.
    """
    wanted = settings.stream
    derive = DeriveSettings(
        journal_id=journal_id,
        timeframes=parse_many(wanted.timeframes),
        calendar=wanted.calendar,
        session=wanted.session,
        rule_set=RuleSet.load(wanted.rules),
        price_types=(price,),
        grace_ns=wanted.grace_ms * 1_000_000,
    )
    return LiveSettings(
        derive=derive,
        versions=versions_of(derive),
        flush_ns=int(settings.lake.flush_seconds * NANOS),
    )
