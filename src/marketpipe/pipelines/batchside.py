"""The independent side of a journal: its records handed to SQL, and the bars that come back."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.bars import BarEngine
from marketpipe.domain.columns import i64_of
from marketpipe.domain.records import CONTROL, DATA, STORED
from marketpipe.domain.schemas import BARS
from marketpipe.normalize.dates import NEW_YORK
from marketpipe.pipelines.confirm import segments_of
from marketpipe.pipelines.journals import Recorded
from marketpipe.pipelines.rederive import Rederived
from marketpipe.verify.barrows import as_bars
from marketpipe.verify.packed import as_json
from marketpipe.verify.rawmessages import bars_of_messages
from marketpipe.verify.recompute import RECOMPUTED, RULE_SETS, recompute

_READ: Final = pa.schema(
    [
        STORED.field(name)
        for name in ("kind", "offset", "source", "feed", "stream", "symbol", "payload")
    ]
)
_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class Batch:
    """Bars worked out in SQL; where there are none, ``why_not`` says why."""

    bars: pa.Table | None
    why_not: str = ""


def batch_of(
    made: Recorded, again: Rederived, records: Iterable[pa.RecordBatch], at: Path
) -> Batch:
    """Work out the bars of a journal in SQL, as of its last clock record.

    Parameters
    ----------
    made : the journal
    again : the same journal derived again; of it only the span of time is used
    records : of the journal, by offset, from its first on; they are read once, a batch at a time
    at : folder for what does not stay in memory
    """
    settings = made.settings
    if settings.rule_set.name not in RULE_SETS:
        return Batch(None, f"it knows the rules {', '.join(RULE_SETS)} alone")
    through = _through(records, again.through)
    if made.form == "csv":
        return _of_lines(made, again, through, at)
    if settings.price_types != ("trade",):
        return Batch(None, "it reads no quotes of a vendor's messages")
    session, segments = _sessions(made, again)
    of_new_york = settings.rule_set.anchoring == "ny_day" or settings.calendar == NEW_YORK
    return Batch(
        bars_of_messages(
            pa.RecordBatchReader.from_batches(_READ, map(_in_json, through)),
            [str(tf) for tf in settings.timeframes],
            watermark_ns=again.watermark_ns or 0,
            rules=settings.rule_set.name,
            session=session,
            segments=segments,
            id_dates="new_york" if of_new_york else "utc",
        )
    )


def _in_json(records: pa.RecordBatch) -> pa.RecordBatch:
    """Return the columns that SQL reads, messages in msgpack as JSON; what is neither is left out.

    It is in quarantine on the other side: a frame that came broken.
    """
    records = records.select(_READ.names)
    found = [as_json(payload) for payload in records["payload"].to_pylist()]
    payloads = pa.array(found, pa.binary())
    records = records.set_column(_READ.names.index("payload"), _READ.field("payload"), payloads)
    return records.filter(pa.array([_is_json(payload) for payload in found], pa.bool_()))


def _is_json(payload: bytes) -> bool:
    try:
        _json(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _through(records: Iterable[pa.RecordBatch], last: int) -> Iterator[pa.RecordBatch]:
    """Yield what comes up to an offset, without the clock's ticks."""
    wanted = pa.array([DATA, CONTROL])
    for batch in records:
        kept = batch.slice(0, int(np.searchsorted(i64_of(batch["offset"]), last, side="right")))
        yield kept.filter(pc.is_in(kept["kind"], wanted))


def _sessions(made: Recorded, again: Rederived) -> tuple[str, pa.Table | None]:
    """Return the session's name, and its table as rows; None for days without one."""
    settings = made.settings
    engine = BarEngine(
        settings.timeframes,
        calendar=settings.calendar,
        session=settings.session,
        rule_set=settings.rule_set,
        price_type=settings.price_types[0],
        overrides=settings.overrides,
    )
    seen = again.history["ts_open"]
    if len(seen):
        engine.grid.widen(pc.min(seen).as_py(), pc.max(seen).as_py())
    table = engine.grid.table
    own_days = settings.rule_set.anchoring == "ny_day"
    return engine.session, None if table is None or own_days else segments_of(table)


# -- a tick CSV ------------------------------------------------------------------------------------


def _of_lines(
    made: Recorded, again: Rederived, records: Iterator[pa.RecordBatch], at: Path
) -> Batch:
    with tempfile.TemporaryDirectory(prefix="lines-", dir=at) as folder:
        path = Path(folder) / "journal.csv"
        headers = _write_lines(path, records)
        if len(headers) > 1:
            return Batch(None, f"the journal holds files of {len(headers)} different headers")
        if not headers:
            return Batch(BARS.empty_table())
        session, segments = _sessions(made, again)
        tables = [
            _of_price(made, again, path, price, session, segments)
            for price in made.settings.price_types
        ]
        return Batch(pa.concat_tables(tables))


def _write_lines(path: Path, records: Iterator[pa.RecordBatch]) -> set[str]:
    """Write a journal's lines to a file as they came; return the headers that they had."""
    headers: set[str] = set()
    with path.open("wb") as file:
        for batch in records:
            for payload in batch.filter(pc.equal(batch["kind"], CONTROL))["payload"].to_pylist():
                header = json.loads(payload).get("header")
                if header is not None and header not in headers:
                    headers.add(header)
                    file.write(header.encode() + b"\n")
            for line in batch.filter(pc.equal(batch["kind"], DATA))["payload"].to_pylist():
                file.write(line + b"\n")
    return headers


def _of_price(
    made: Recorded,
    again: Rederived,
    path: Path,
    price: str,
    session: str,
    segments: pa.Table | None,
) -> pa.Table:
    settings, watermark_ns = made.settings, again.watermark_ns or 0
    rules = settings.rule_set.name
    is_new_york = settings.calendar == NEW_YORK and price == "trade"
    done = recompute(
        path,
        [str(tf) for tf in settings.timeframes],
        price=price,
        rules=rules,
        segments=segments,
        id_dates="new_york" if is_new_york else None,
        source=made.source,
        feed=made.feed,
    )
    final = done.bars.filter(pc.field("ts_close") <= watermark_ns).cast(RECOMPUTED)
    return as_bars(
        final,
        price=price,
        rules=rules,
        session=session,
        segments=segments,
        known_at=watermark_ns,
    )
