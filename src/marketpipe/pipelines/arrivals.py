"""Facts about journal records that a derivation adds to what their parser found."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64, BadRow, Batch, StreamKey, TradeBatch
from marketpipe.domain.columns import i64_of, nanos_of
from marketpipe.domain.findings import Example, Findings
from marketpipe.domain.records import CLOCK, CONTROL, HISTORY, STORED
from marketpipe.domain.schemas import REPLACED
from marketpipe.errors import StateError
from marketpipe.normalize import Content, Correction, Normalized, Scope
from marketpipe.normalize.canonical import Knowledge, canonical_ticks, complete
from marketpipe.normalize.identity import SessionDates
from marketpipe.pipelines.fetched import Fetched
from marketpipe.sources.parsed import Parsed
from marketpipe.sources.records import arrival_of

CORRECTION = "correction"


class Cut(NamedTuple):
    """Where ticks stop being fed because something else happens.

    ``kind`` is ``clock`` or ``control`` (``row`` is that of the records) or ``correction`` (of
    the messages).
    """

    offset: int
    kind: str
    row: int


class Tick(NamedTuple):
    """When a tick of the clock was, and up to when all was read by then (ns since the epoch)."""

    at_ns: int
    through_ns: int

    @classmethod
    def of(cls, records: pa.Table, row: int) -> Self:
        """Read a clock record."""
        at_ns, told = int(records["ts_recv"][row].as_py()), records["payload"][row].as_py()
        return cls(at_ns, min(int(told), at_ns) if told else at_ns)


def one_batch(records: pa.Table) -> pa.RecordBatch:
    """Return a table as one record batch."""
    batches = records.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=STORED)


def cuts_of(records: pa.Table, messages: list[Correction]) -> list[Cut]:
    """Return clock and control records and corrections in the order of their offsets."""
    rows = np.flatnonzero(np.asarray(pc.is_in(records["kind"], pa.array([CLOCK, CONTROL]))))
    kinds = records["kind"].take(pa.array(rows)).to_pylist()
    offsets = i64_of(records["offset"])[rows].tolist()
    cuts = [Cut(o, k, r) for o, k, r in zip(offsets, kinds, rows.tolist(), strict=True)]
    cuts += [Cut(m.offset, CORRECTION, i) for i, m in enumerate(messages)]
    return sorted(cuts)


def check_follows(records: pa.Table, through: int) -> None:
    """Refuse records that do not follow on an offset (-1: any), or end without a clock record.

    Raises
    ------
    StateError
        Which says what was expected.
    """
    if not len(records) or records["kind"][-1].as_py() != CLOCK:
        raise StateError("records: must end with a clock record; read up to the next one")
    first = int(records["offset"][0].as_py())
    if through >= 0 and first != through + 1:
        raise StateError(
            f"records: the first offset was {first}, expected {through + 1}; the records must "
            "follow on what was applied before"
        )


class Arrivals:
    """When and where the records of some intervals arrived.

    Parameters
    ----------
    records : of schema STORED, by offset
    fetched : takes note of those that came to fill a gap
    """

    def __init__(self, records: pa.RecordBatch, fetched: Fetched) -> None:
        self._offsets = i64_of(records["offset"])
        self._received = i64_of(records["ts_recv"])
        self._journal_id = records["journal_id"][0].as_py() if len(records) else ""
        self._keys = arrival_of(records)
        fills = np.asarray(pc.starts_with(records["stream"], HISTORY))
        self._fills = fills if fills.any() else None
        fetched.note(self._offsets, self._fills)
        self.fetched = fetched or None

    def filling(self, offsets: I64) -> npt.NDArray[np.bool_] | None:
        """Return which of some records came to fill a gap; None where none of all did."""
        return None if self._fills is None else self._fills[self._rows(offsets)]

    def ticks(
        self, batch: Batch, done: Normalized | None, dates: SessionDates, parsed: Parsed
    ) -> dict[str, pa.Table]:
        """Return canonical trades or quotes; quotes whole where no bars are made of them."""
        received = self._received[self._rows(batch.row)]
        filling = self.filling(batch.row)
        table = canonical_ticks(
            batch,
            done.admitted if done is not None and isinstance(batch, TradeBatch) else None,
            journal_id=self._journal_id,
            dates=dates,
            knowledge=Knowledge(
                recorded_at=received,
                known_at=received,
                backfilled=np.zeros(len(batch), np.bool_) if filling is None else filling,
            ),
        )
        if isinstance(batch, TradeBatch):
            return {"trades": table}
        return {"quotes": with_details(table, parsed.quote_details)}

    def complete(self, kind: str, table: pa.Table, dates: SessionDates) -> pa.Table:
        """Return a parser's table of another kind with the columns that it lacks."""
        rows = self._rows(i64_of(table["offset"]))
        received = self._received[rows]
        started, conn, seq = (column[rows] for column in self._keys)
        return complete(
            kind,
            table,
            dates=dates,
            recorded_at=received,
            known_at=received,
            keys=(started, conn, seq),
        )

    def _rows(self, offsets: I64) -> I64:
        return np.searchsorted(self._offsets, offsets).astype(np.int64)


def with_details(quotes: pa.Table, details: pa.Table | None) -> pa.Table:
    """Put venues, conditions and tape of quotes into their canonical table."""
    if details is None:
        return quotes
    for name in details.column_names:
        at = quotes.column_names.index(name)
        column = details[name].cast(pa.string())
        quotes = quotes.set_column(at, quotes.field(name), column)
    return quotes


def usable_corrections(corrections: pa.Table) -> tuple[pa.Table, list[BadRow]]:
    """Take out corrections to a price that is not positive, or a negative size."""
    price, size = nanos_of(corrections["new_price"]), nanos_of(corrections["new_size"])
    given = np.asarray(pc.equal(corrections["kind"], CORRECTION))
    refused = []
    for reason, field, broken in (
        ("non_positive_price", "new_price", given & (price <= 0)),
        ("negative_size", "new_size", given & (price > 0) & (size < 0)),
    ):
        offsets = i64_of(corrections["offset"])[broken].tolist()
        refused += [BadRow(offset, reason, field, b"", 0) for offset in offsets]
    if not refused:
        return corrections, []
    return corrections.filter(pa.array(~(given & ((price <= 0) | (size < 0))))), refused


def unmatched(messages: list[Correction]) -> Findings:
    """Count cancels and corrections without a trade."""
    examples = [
        Example(m.offset, "trade_id", f"{m.kind} of {m.trade_id} of {m.scope.stream.symbol}")
        for m in messages
    ]
    return Findings.of("unmatched_correction", len(messages), examples)


def correction_messages(corrections: pa.Table) -> list[Correction]:
    """Turn canonical corrections into values, in the order of the table."""
    dates = np.asarray(corrections["session_date"].cast(pa.int32()).combine_chunks())
    nanos = {name: nanos_of(corrections[name]) for name in ("new_price", "new_size")}
    rows = corrections.drop_columns(["session_date"]).to_pylist()
    return [_message(row, int(dates[i]), nanos, i) for i, row in enumerate(rows)]


def _message(row: dict[str, Any], date: int, nanos: dict[str, I64], at: int) -> Correction:
    is_correction = row["kind"] == "correction"
    content = Content(
        int(nanos["new_price"][at]), int(nanos["new_size"][at]), row["new_conditions"] or ""
    )
    return Correction(
        kind=row["kind"],
        scope=Scope(
            StreamKey(row["source"], row["feed"], row["symbol"]), row["venue"], row["tape"] or ""
        ),
        date=date,
        trade_id=row["trade_id"],
        new_trade_id=row["new_trade_id"] if is_correction else None,
        content=content if is_correction else None,
        ts_event=row["ts_event"],
        offset=row["offset"],
        known_at=row["known_at"],
        is_replaced=row["action"] == REPLACED,
    )


def resolved(
    corrections: pa.Table, messages: list[Correction], happened: list[int | None]
) -> pa.Table:
    """Write into canonical corrections what was found out: dates and times of their trades."""
    dates = pa.array([m.date for m in messages], pa.int32()).cast(pa.date32())
    times = pa.array(happened, pa.int64())
    for name, column in (("session_date", dates), ("trade_ts_event", times)):
        at = corrections.column_names.index(name)
        corrections = corrections.set_column(at, corrections.field(name), column)
    return corrections


def intervals(records: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut batches of records at their last clock record; what follows it waits for the next."""
    waiting: list[pa.RecordBatch] = []
    for batch in records:
        clocks = np.flatnonzero(np.asarray(pc.equal(batch["kind"], CLOCK)))
        if not len(clocks):
            waiting.append(batch)
            continue
        cut = int(clocks[-1]) + 1
        yield pa.Table.from_batches([*waiting, batch.slice(0, cut)], STORED)
        waiting = [batch.slice(cut)] if cut < len(batch) else []
