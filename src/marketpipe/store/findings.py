"""What pipelines noticed, kept by code with counts and examples."""

import json

import sqlalchemy as sa

from marketpipe.domain.cancelling import finished
from marketpipe.domain.findings import Example, Finding, Findings
from marketpipe.store.database import Database
from marketpipe.store.schema import findings


class FindingsStore:
    """The findings of each pipeline as a whole.

    Totals are saved, not increments, so that a repeat after a crash counts nothing twice.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @finished
    async def save(self, pipeline: str, total: Findings) -> None:
        """Replace what is stored for a pipeline.

        Raises
        ------
        StoreError, BusyError, FullError
            If the database fails; what was stored stays.
        """
        rows = [
            {
                "pipeline": pipeline,
                "code": entry.code,
                "count": entry.count,
                "examples": json.dumps([list(example) for example in entry.examples]),
            }
            for entry in total.entries
        ]
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(findings).where(findings.c.pipeline == pipeline))
            if rows:
                await connection.execute(sa.insert(findings), rows)

    @finished
    async def load(self, pipeline: str) -> Findings:
        """Return what is stored for a pipeline, in the order of the codes; empty if nothing."""
        return (await self.every()).get(pipeline, Findings())

    @finished
    async def every(self) -> dict[str, Findings]:
        """Return what is stored, by pipeline, those and their codes in order."""
        names = (findings.c.pipeline, findings.c.code, findings.c.count, findings.c.examples)
        async with self._database.reading() as connection:
            rows = (await connection.execute(sa.select(*names))).all()
        entries: dict[str, list[Finding]] = {}
        for pipeline, code, count, examples in sorted(tuple(row) for row in rows):
            shown = tuple(Example(*each) for each in json.loads(examples))
            entries.setdefault(pipeline, []).append(Finding(code, count, shown))
        return {pipeline: Findings(tuple(found)) for pipeline, found in entries.items()}
