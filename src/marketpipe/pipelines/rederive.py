"""A journal derived once more, from its records alone: what live must agree with."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from marketpipe.domain.findings import Findings
from marketpipe.domain.schemas import BARS
from marketpipe.journal import JournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.arrivals import intervals, one_batch
from marketpipe.pipelines.derive import Derivation, DeriveSettings
from marketpipe.pipelines.live import MakeParser
from marketpipe.pipelines.prefetch import Prefetch
from marketpipe.pipelines.rawlog import raw_records, records_from
from marketpipe.pipelines.spoolhistory import SpooledHistory
from marketpipe.sources.parsed import MessageParser, Parsed


@dataclass(frozen=True, slots=True)
class Rederived:
    """What a journal's records give.

    Attributes
    ----------
    history : every revision, schema BARS, in the order they became known
    watermark_ns : of the last clock record; None without one
    through : offset of that record, -1 without one
    findings : what was noticed
    symbols : of all ticks that could be read
    """

    history: pa.Table
    watermark_ns: int | None
    through: int
    findings: Findings
    symbols: frozenset[str]


def rederive(
    settings: DeriveSettings,
    make_parser: MakeParser,
    records: Iterable[pa.RecordBatch],
    at: Path | None = None,
) -> Rederived:
    """Derive records from offset 0 on; nothing but them is read.

    Parameters
    ----------
    records : of schema STORED, by offset, from the journal's first on
    at : folder for what does not stay in memory; None: the system's for temporary files
    """
    bars = [BARS.empty_table()]
    findings = Findings()
    parser = make_parser((), b"")
    with (
        tempfile.TemporaryDirectory(prefix="marketpipe-rederive-", dir=at) as folder,
        closing(Prefetch(map(one_batch, intervals(iter(records))), ahead=1)) as read,
        closing(Prefetch(_parsed(parser, read), ahead=1)) as pieces,
    ):
        derivation = Derivation(settings, parser, SpooledHistory(Path(folder)))
        for piece, parsed in pieces:
            derived = derivation.apply(piece, parsed)
            bars.append(derived.bars)
            findings += derived.findings
        return Rederived(
            pa.concat_tables(bars),
            derivation.watermark_ns,
            derivation.through,
            findings,
            frozenset(stream.symbol for stream in parser.streams),
        )


def _parsed(
    parser: MessageParser, batches: Iterable[pa.RecordBatch]
) -> Iterator[tuple[pa.Table, Parsed]]:
    for batch in batches:
        yield pa.Table.from_batches([batch]), parser.parse(batch)


def of_journal(
    settings: DeriveSettings,
    make_parser: MakeParser,
    reader: JournalReader,
    raw: LakeTable,
    at: Path | None = None,
) -> Rederived:
    """Derive a journal; what it no longer has is read from the raw lake."""
    return rederive(settings, make_parser, records_from(0, reader, raw), at)


def of_raw(
    settings: DeriveSettings, make_parser: MakeParser, raw: LakeTable, at: Path | None = None
) -> Rederived:
    """Derive what the raw lake has of a journal."""
    return rederive(settings, make_parser, raw_records(raw, settings.journal_id, 0), at)
