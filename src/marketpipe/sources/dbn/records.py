"""Fixed layouts of DBN's trade and top-of-book records, as columns with their faults."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64
from marketpipe.domain.units import MAX_NANOS, MAX_TS_NS, NANOS, NULL_I64

UNDEF_PRICE: Final = 2**63 - 1
UNDEF_TIMESTAMP: Final = 2**64 - 1

_HEAD: Final = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
    ("price", "<i8"),
    ("size", "<u4"),
    ("action", "u1"),
    ("side", "u1"),
    ("flags", "u1"),
    ("depth", "u1"),
    ("ts_recv", "<u8"),
    ("ts_in_delta", "<i4"),
    ("sequence", "<u4"),
]
_LEVEL: Final = [
    ("bid", "<i8"),
    ("ask", "<i8"),
    ("bid_size", "<u4"),
    ("ask_size", "<u4"),
    ("bid_count", "<u4"),
    ("ask_count", "<u4"),
]
TRADE: Final = np.dtype(_HEAD)
TOP: Final = np.dtype(_HEAD + _LEVEL)

Faults = list[tuple[npt.NDArray[np.bool_], str, str]]

# Ask is the side of the seller who crossed the spread, bid that of the buyer.
_SIDES = np.zeros(256, np.int8)
_SIDES[ord("B")] = 1
_SIDES[ord("A")] = 2


def as_array(records: list[Any], layout: np.dtype[Any]) -> npt.NDArray[Any]:
    """Lay the bytes of records of one type out as an array; more bytes at the end are left."""
    data = b"".join(map(bytes, records))
    size = len(data) // len(records)
    return (
        np.frombuffer(data, np.uint8)
        .reshape(-1, size)[:, : layout.itemsize]
        .copy()
        .view(layout)[:, 0]
    )


def instants(column: npt.NDArray[np.uint64], name: str, faults: Faults) -> I64:
    """Return ns since the epoch; undefined ones are missing."""
    _add(faults, column == UNDEF_TIMESTAMP, "missing_value", name)
    _add(faults, (column > MAX_TS_NS) & (column != UNDEF_TIMESTAMP), "out_of_range", name)
    return column.astype(np.int64)


def optional_instants(column: npt.NDArray[np.uint64]) -> I64:
    """Return ns since the epoch, NULL_I64 where undefined."""
    return np.where(column > MAX_TS_NS, NULL_I64, column.astype(np.int64))


def prices(column: I64, name: str, faults: Faults, *, optional: bool) -> I64:
    """Return nanos, which are DBN's own unit; an undefined price is missing, or NULL_I64."""
    absent = column == UNDEF_PRICE
    wide = (column > MAX_NANOS) | (column < -MAX_NANOS)
    _add(faults, wide & ~absent, "out_of_range", name)
    if not optional:
        _add(faults, absent, "missing_value", name)
    return np.where(absent, NULL_I64, column).astype(np.int64)


def sizes(column: npt.NDArray[np.uint32], name: str, faults: Faults) -> I64:
    """Return whole units as nanos."""
    units = column.astype(np.int64)
    _add(faults, units > MAX_NANOS // NANOS, "out_of_range", name)
    return units * NANOS


def sides(column: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Return 0 unknown, 1 buy, 2 sell: the aggressor."""
    return _SIDES[column]


def _add(faults: Faults, mask: npt.NDArray[np.bool_], reason: str, name: str) -> None:
    if mask.any():
        faults.append((mask, reason, name))
