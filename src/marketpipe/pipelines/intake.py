"""What a feed needs to run, and what the service asks of it: the face that all feeds share."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa

from marketpipe.journal import Journal
from marketpipe.lake import LakeTable
from marketpipe.pipelines.live import MakeParser
from marketpipe.store import Database

Append: TypeAlias = Callable[[pa.RecordBatch], Awaitable[None]]
"""Takes records for a journal; they are durable on return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What a feed is given.

    Attributes
    ----------
    journal, raw : what came before; only read
    database : the store, for what a feed keeps of itself
    settings : what shapes bars, by the names that users know
    append : takes records of the journal, one batch at a time; they are durable on return
    stopped : set when the feed is to end
    """

    journal: Journal
    raw: LakeTable
    database: Database
    settings: dict[str, str | int]
    append: Append
    stopped: asyncio.Event


class Feed(Protocol):
    """Something whose messages a service takes in."""

    @property
    def journal_id(self) -> str:
        """Name of its journal."""

    @property
    def make_parser(self) -> MakeParser:
        """What makes the parser of its records."""

    @property
    def lead(self) -> int:
        """How many batches may wait to be derived before `Intake.append` holds back; 0: any."""

    def total_bytes(self) -> int | None:
        """Return the size of all there is; None where nobody knows."""

    def absent(self) -> tuple[str, ...]:
        """Return the wanted symbols that it surely does not have; it may have to be read for it.

        Raises
        ------
        UsageError, InputError
            If it has none of them, or cannot be opened.
        """

    async def run(self, intake: Intake) -> bool:
        """Take everything in until it ends or is stopped; return whether it came to its end.

        Raises
        ------
        UsageError, InputError, VendorError
            If it does not fit the journal, or cannot go on.
        """
