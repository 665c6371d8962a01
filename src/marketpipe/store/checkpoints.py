"""Checkpoints of pipelines: up to where a journal was worked through, and the state there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from marketpipe.domain.cancelling import finished
from marketpipe.errors import StoreError
from marketpipe.store.database import Database
from marketpipe.store.schema import checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a pipeline knew after one record of a journal.

    Attributes
    ----------
    pipeline, journal_id : whose checkpoint, and of which journal
    offset : of the last record worked through (inclusive), a clock record's
    versions : of the code, the rule table, the calendar and the like, by name
    state : the stages' saved state; the store does not look inside
    saved_at_ns : when it was saved, ns since the epoch, UTC
    """

    pipeline: str
    journal_id: str
    offset: int
    versions: Mapping[str, str]
    state: bytes = field(repr=False)
    saved_at_ns: int


class CheckpointStore:
    """One checkpoint per pipeline and journal, replaced as a whole; it never steps back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @finished
    async def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of this pipeline and journal.

        Raises
        ------
        StoreError
            If the stored one is of a higher offset, or the database fails; that one stays.
        BusyError, FullError
            If the database is locked, or its disk full; the stored one stays.
        """
        mine = _mine(checkpoint.pipeline, checkpoint.journal_id)
        async with self._database.writing() as connection:
            stored = (
                await connection.execute(sa.select(checkpoints.c.offset).where(mine))
            ).scalar()
            if stored is not None and stored > checkpoint.offset:
                raise StoreError(
                    f"store: checkpoint of {checkpoint.pipeline} on {checkpoint.journal_id}: "
                    f"offset was '{checkpoint.offset}', and {stored} is stored; valid is "
                    f"{stored} or higher. Discard the stored one to start again from before"
                )
            await connection.execute(sa.delete(checkpoints).where(mine))
            await connection.execute(sa.insert(checkpoints).values(_row(checkpoint)))

    @finished
    async def load(self, pipeline: str, journal_id: str) -> Checkpoint | None:
        """Return the checkpoint of a pipeline and journal; None if there is none."""
        statement = sa.select(checkpoints).where(_mine(pipeline, journal_id))
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        return Checkpoint(
            pipeline=pipeline,
            journal_id=journal_id,
            offset=row["offset"],
            versions=json.loads(row["versions"]),
            state=row["blob"],
            saved_at_ns=row["saved_at_ns"],
        )

    @finished
    async def discard(self, pipeline: str, journal_id: str) -> None:
        """Remove a checkpoint, so that the pipeline may start again from before it."""
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(checkpoints).where(_mine(pipeline, journal_id)))


def _mine(pipeline: str, journal_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(checkpoints.c.pipeline == pipeline, checkpoints.c.journal_id == journal_id)


def _row(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "pipeline": checkpoint.pipeline,
        "journal_id": checkpoint.journal_id,
        "offset": checkpoint.offset,
        "versions": json.dumps(dict(checkpoint.versions), sort_keys=True),
        "blob": checkpoint.state,
        "saved_at_ns": checkpoint.saved_at_ns,
    }
