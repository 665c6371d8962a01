"""Which records the raw lake should have and has not."""

from typing import Final, NamedTuple

import duckdb

from marketpipe.errors import LakeError
from marketpipe.lake import LakeTable

# A journal's offsets begin at 0 and are dense; raw may lack the newest, which are not flushed yet.
_HOLES: Final = """
    SELECT journal_id, before + 1, "offset" - 1 FROM (
        SELECT journal_id, "offset",
            lag("offset", 1, -1) OVER (PARTITION BY journal_id ORDER BY "offset") AS before
        FROM read_parquet($files)
        WHERE journal_id IN (
            SELECT journal_id FROM read_parquet($files) GROUP BY journal_id
            HAVING min("offset") > 0
                OR count(*) <> max("offset") + 1
                OR sum("offset"::HUGEINT) * 2 <> max("offset")::HUGEINT * (max("offset") + 1)
        )
    )
    WHERE "offset" <> before + 1
    ORDER BY ALL
"""


class Hole(NamedTuple):
    """Offsets of a journal, both inclusive; ``last`` below ``first`` says that one is doubled."""

    journal_id: str
    first: int
    last: int

    def __str__(self) -> str:
        if self.last < self.first:
            return f"offset {self.last + 1} of journal {self.journal_id} is there twice"
        return f"offsets {self.first} to {self.last} of journal {self.journal_id} are missing"


def raw_holes(raw: LakeTable) -> list[Hole]:
    """Return the stretches of offsets that table ``raw`` lacks or has twice, in order.

    Raises
    ------
    LakeError
        If a file cannot be read.
    """
    files = raw.files()
    if not files:
        return []
    connection = duckdb.connect()
    try:
        return [Hole(*row) for row in connection.execute(_HOLES, {"files": files}).fetchall()]
    except duckdb.Error as problem:
        raise LakeError(f"table raw: cannot be read ({problem})") from problem
    finally:
        connection.close()
