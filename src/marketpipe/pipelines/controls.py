"""Control records of a journal, wherever they are kept: the journal itself, or the raw lake."""

import json
from contextlib import closing
from typing import Any

import duckdb

from marketpipe.domain.records import CONTROL
from marketpipe.errors import LakeError
from marketpipe.journal import Journal, JournalReader
from marketpipe.lake import LakeTable
from marketpipe.pipelines.gapledger import EVENTS
from marketpipe.store import GapEntry, GapState

_STATES: dict[str, GapState] = {event: state for state, event in EVENTS.items()}


def last_control(reader: JournalReader, raw: LakeTable) -> tuple[int, int, bytes] | None:
    """Return offset, connection and payload of the last control record, wherever it is kept."""
    offset = reader.last(CONTROL)
    if offset is not None:
        record = next(reader.read(offset, 1))
        return offset, int(record["conn_id"][0].as_py()), record["payload"][0].as_py()
    if reader.next_offset == 0:
        return None
    found = _query(raw, 'ORDER BY "offset" DESC LIMIT 1', reader.journal_id)
    return (int(found[0][0]), int(found[0][1]), bytes(found[0][4])) if found else None


def noted_gaps(journal: Journal, raw: LakeTable, since_ns: int = 0) -> list[GapEntry]:
    """Return the gap ledger as the control records of a journal have it, by number.

    Records of the raw lake that were received before ``since_ns`` are not looked at.
    """
    found: dict[int, GapEntry] = {}
    for source, feed, payload in _controls(journal, raw, since_ns):
        facts = json.loads(payload)
        if facts.get("event") in _STATES:
            found[facts["number"]] = GapEntry(
                journal_id=journal.journal_id,
                number=facts["number"],
                source=source,
                feed=feed,
                start_ns=facts["start_ns"],
                end_ns=facts["end_ns"],
                reason=facts["reason"],
                symbols=tuple(facts["symbols"]),
                state=_STATES[facts["event"]],
                trades=facts["trades"],
                bars_compared=facts["bars_compared"],
                bars_exact=facts["bars_exact"],
                detail=facts["detail"],
            )
    return [found[number] for number in sorted(found)]


def _controls(journal: Journal, raw: LakeTable, since_ns: int) -> list[tuple[str, str, bytes]]:
    """Return source, feed and payload of control records, by offset."""
    rows = _query(raw, f"AND ts_recv >= {since_ns:d}", journal.journal_id)
    found = {row[0]: (row[2], row[3], bytes(row[4])) for row in rows}
    with closing(journal.reader()) as reader:
        for batch in reader.backwards(CONTROL):
            rows = batch.select(["offset", "source", "feed", "payload"]).to_pylist()
            found |= {row["offset"]: (row["source"], row["feed"], row["payload"]) for row in rows}
    return [found[offset] for offset in sorted(found)]


def _query(raw: LakeTable, more: str, journal_id: str) -> list[tuple[Any, ...]]:
    """Return offset, connection, source, feed and payload of control records of the raw lake."""
    files = raw.files()
    if not files:
        return []
    try:
        with duckdb.connect() as connection:
            return connection.execute(
                f"""SELECT "offset", conn_id, source, feed, payload FROM read_parquet($files,
                    hive_partitioning = true, hive_types = {{'source': VARCHAR}})
                WHERE kind = $kind AND journal_id = $journal {more}""",  # noqa: S608
                {"files": files, "kind": CONTROL, "journal": journal_id},
            ).fetchall()
    except duckdb.Error as problem:
        raise LakeError(
            f"table raw: cannot be read ({problem}); `marketpipe lake files raw` lists its files"
        ) from problem
