"""Messages of one type as columns, with the faults of each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import I8, I64, BadRow, bad_row
from marketpipe.domain.schemas import PRICE
from marketpipe.domain.units import NULL_I64
from marketpipe.sources.alpaca import values
from marketpipe.sources.numbers.reasons import MISSING_VALUE, OK, REASONS
from marketpipe.sources.records import int64s

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Group:
    """Messages of one type, in journal order, and what was found wrong with them.

    Attributes
    ----------
    records : their rows of STORED
    messages : as decoded
    packed : which of them are msgpack; None if none is
    good : rows without a fault so far
    bad : the first fault of each other row
    """

    records: pa.RecordBatch
    messages: list[Any]
    packed: values.Packed
    good: Mask = field(init=False)
    bad: list[BadRow] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.good = np.ones(len(self.messages), np.bool_)

    def feeds(self) -> dict[tuple[str, str], list[int]]:
        """Return the rows of each (source, feed)."""
        sources, feeds = (
            self.records.column(name).dictionary_encode() for name in ("source", "feed")
        )
        if len(sources.dictionary) == len(feeds.dictionary) == 1:
            return {(sources[0].as_py(), feeds[0].as_py()): list(range(len(self.messages)))}
        rows: dict[tuple[str, str], list[int]] = {}
        for k, pair in enumerate(zip(sources.to_pylist(), feeds.to_pylist(), strict=True)):
            rows.setdefault(pair, []).append(k)
        return rows

    def of(self, name: str) -> list[Any]:
        """Return one attribute of every message."""
        return list(map(attrgetter(name), self.messages))

    def instants(self, name: str, wire: str) -> I64:
        """Read instants; a row without a readable one is bad."""
        column, reasons = values.instants(self.of(name), self.packed)
        self._refuse(reasons, wire)
        return column

    def decimals(self, name: str, wire: str, *, optional: bool = False) -> I64:
        """Read nanos; what is absent is bad, or if ``optional`` NULL_I64."""
        column, reasons = values.decimals(self.of(name), self.packed)
        if optional:
            absent = reasons == MISSING_VALUE
            if absent.any():
                column[absent] = NULL_I64
                reasons[absent] = OK
        self._refuse(reasons, wire)
        return column

    def conditions(self, name: str, wire: str) -> list[str]:
        """Read lists of condition codes as text; "" where there are none."""
        read = [values.condition_text(bytes(raw)) for raw in self.of(name)]
        self.refuse_where(np.array([text is None for text in read], np.bool_), "bad_text", wire)
        return [text or "" for text in read]

    def refuse_where(self, hit: Mask, reason: str, wire: str) -> None:
        """Mark rows as bad, unless they are already; ``wire`` is the vendor's key."""
        if not hit.any():
            return
        for k in np.flatnonzero(hit & self.good).tolist():
            self.bad.append(self.fault(k, reason, wire))
        self.good &= ~hit

    def fault(self, k: int, reason: str, wire: str) -> BadRow:
        """Make the quarantine record of row ``k``."""
        offset = self.records.column("offset")[k].as_py()
        return bad_row(offset, reason, wire, self.records.column("payload")[k].as_py())

    def take(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Keep the good rows of a column."""
        return column if self.good.all() else column[self.good]

    def int64s(self, name: str) -> I64:
        """Return the good rows of a column of the records."""
        return self.take(int64s(self.records, name))

    def _refuse(self, reasons: I8, wire: str) -> None:
        if not reasons.any():
            return
        for code in np.unique(reasons[reasons != OK]).tolist():
            self.refuse_where(reasons == code, REASONS[code], wire)


def prices(nanos: I64) -> pa.Array:
    """Make a DECIMAL(18,9) column of nanos, NULL_I64 as null."""
    wide = np.empty((len(nanos), 2), np.int64)
    wide[:, 0] = nanos
    wide[:, 1] = nanos >> 63
    present = np.packbits(nanos != NULL_I64, bitorder="little")
    buffers = [pa.py_buffer(present), pa.py_buffer(wide)]
    return pa.Decimal128Array.from_buffers(PRICE, len(nanos), buffers)


def strings(texts: Sequence[str | None]) -> pa.Array:
    """Make a column of text."""
    return pa.array(texts, pa.string())
