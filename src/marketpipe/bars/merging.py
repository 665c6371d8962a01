"""Merging finished bars, group by group, with exact sums."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import BARS, NOTIONAL, PRICE, STATES, VOLUME
from marketpipe.errors import BarOverflowError

Mask: TypeAlias = npt.NDArray[np.bool_]

SERIES = ("symbol", "feed", "source", "price_type", "rule_set", "session")
_WORD = 0xFFFFFFFF


class Edges(NamedTuple):
    """Intervals, one row each: [ts_open, ts_close) and when they are due, ns; session dates."""

    ts_open: I64
    ts_close: I64
    due: I64
    date: I64

    def at(self, rows: npt.NDArray[np.intp]) -> "Edges":
        """Take some rows."""
        return Edges(*(column[rows] for column in self))


@dataclass(frozen=True, slots=True)
class Groups:
    """Sorted bars, and the first and last of each group that becomes one bar."""

    bars: pa.Table
    first: npt.NDArray[np.intp]
    last: npt.NDArray[np.intp]

    def table(self, timeframe: str, names: npt.NDArray[Any], edges: Edges) -> pa.Table:
        """Merge each group: ``names`` of its series by row, and its interval."""
        n = len(self.first)
        every = np.ones(n, np.bool_)
        price = {name: _limbs(self.bars, name)[:, 0] for name in ("open", "high", "low", "close")}
        columns: dict[str, Any] = {
            name: pa.array(names[:, i], pa.string()) for i, name in enumerate(SERIES)
        }
        columns |= {
            "timeframe": pa.array([timeframe] * n),
            "session_date": pa.array(edges.date.astype(np.int32)).cast(pa.date32()),
            "ts_open": pa.array(edges.ts_open),
            "ts_close": pa.array(edges.ts_close),
            "open": _prices(price["open"][self.first], every),
            "high": _prices(np.maximum.reduceat(price["high"], self.first), every),
            "low": _prices(np.minimum.reduceat(price["low"], self.first), every),
            "close": _prices(price["close"][self.last], every),
            "trade_count": pa.array(
                np.add.reduceat(int64_of(self.bars, "trade_count"), self.first)
            ),
            "official_open": self._official("official_open", first=True),
            "official_close": self._official("official_close", first=False),
            "state": self._state(),
            "coverage": pa.array(["traded"] * n),
            "partial": pa.array(np.logical_or.reduceat(self._flags("partial"), self.first)),
            "revision": pa.array(np.zeros(n, np.int32)),
            "cause": pa.array(["first"] * n),
            "recorded_at": self._recorded_at(),
            "known_at": pa.array(
                np.maximum(
                    np.maximum.reduceat(int64_of(self.bars, "known_at"), self.first), edges.due
                )
            ),
        }
        volumes, notionals = self._sums("volume"), self._sums("notional")
        columns["volume"] = _wide(volumes, VOLUME)
        columns["notional"] = _wide(notionals, NOTIONAL)
        columns["vwap"] = self._vwap(volumes, notionals)
        return pa.Table.from_arrays([columns[name] for name in BARS.names], schema=BARS)

    def _sums(self, name: str) -> list[int | None]:
        """Add up a wide decimal column, in units of its last place; null where any is null."""
        valid = _valid(self.bars, name)
        limbs = np.where(valid[:, None], _limbs(self.bars, name), 0)
        low, high = limbs[:, 0], limbs[:, 1]
        words = (low & _WORD, low >> 32 & _WORD, high & _WORD, high >> 32)
        parts = (np.add.reduceat(word, self.first).tolist() for word in words)
        whole = np.logical_and.reduceat(valid, self.first).tolist()
        return [
            a + (b << 32) + (c << 64) + (d << 96) if ok else None
            for a, b, c, d, ok in zip(*parts, whole, strict=True)
        ]

    def _vwap(self, volumes: list[int | None], notionals: list[int | None]) -> pa.Array:
        """Divide notional by volume; where the rule set is not plain, average the bars' own."""
        n = len(self.first)
        if pc.all(pc.equal(self.bars["rule_set"], "plain")).as_py():
            weighted, weights = notionals, volumes
        else:
            weighted, weights = [0] * n, [0] * n
            at = np.repeat(np.arange(n), self.last - self.first + 1).tolist()
            known = _valid(self.bars, "vwap") & _valid(self.bars, "volume")
            vwap = _limbs(self.bars, "vwap")[:, 0].tolist()
            volume = _limbs(self.bars, "volume").tolist()
            for i in np.flatnonzero(known).tolist():
                size = (volume[i][1] << 64) + (volume[i][0] & 0xFFFFFFFFFFFFFFFF)
                weighted[at[i]] += vwap[i] * size
                weights[at[i]] += size
        out = [
            _half_even(total, size) if total is not None and size else None
            for total, size in zip(weighted, weights, strict=True)
        ]
        valid = np.array([value is not None for value in out], np.bool_)
        return _prices(np.array([value or 0 for value in out], np.int64), valid)

    def _official(self, name: str, *, first: bool) -> pa.Array:
        """Take the first, or last, of the bars that have such a price."""
        valid, price = _valid(self.bars, name), _limbs(self.bars, name)[:, 0]
        at = np.arange(len(valid))
        if first:
            chosen = np.minimum.reduceat(np.where(valid, at, len(at)), self.first)
        else:
            chosen = np.maximum.reduceat(np.where(valid, at, -1), self.first)
        found = (chosen >= 0) & (chosen < len(at))
        return _prices(price[np.where(found, chosen, 0)], found)

    def _state(self) -> pa.Array:
        ranks = pc.index_in(self.bars["state"], pa.array(STATES)).to_numpy()
        least = np.minimum.reduceat(ranks, self.first)
        return pa.array(np.array(STATES, object)[least], pa.string())

    def _recorded_at(self) -> pa.Array:
        valid = _valid(self.bars, "recorded_at")
        stamps = self.bars["recorded_at"].fill_null(0).to_numpy()
        whole = np.logical_and.reduceat(valid, self.first)
        return pa.array(np.maximum.reduceat(stamps, self.first), mask=~whole)

    def _flags(self, name: str) -> Mask:
        flags: Mask = self.bars[name].to_numpy()
        return flags


def int64_of(bars: pa.Table, name: str) -> I64:
    """Return an int64 column without nulls."""
    values: I64 = bars[name].to_numpy()
    return values


def _valid(bars: pa.Table, name: str) -> Mask:
    valid: Mask = pc.is_valid(bars[name]).to_numpy()
    return valid


def _limbs(bars: pa.Table, name: str) -> I64:
    """View a decimal column as limbs of 64 bits, low first; those of nulls are arbitrary."""
    column = bars[name].combine_chunks()
    limbs = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)
    return limbs[column.offset : column.offset + len(column)]


def _prices(nanos: I64, valid: Mask) -> pa.Array:
    limbs = np.stack([nanos, nanos >> 63], axis=1)
    mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Decimal128Array.from_buffers(PRICE, len(nanos), [mask, pa.py_buffer(limbs)])


def _wide(values: list[int | None], kind: pa.Decimal128Type) -> pa.Array:
    limit = 10**kind.precision
    for value in values:
        if value is not None and abs(value) >= limit:
            raise BarOverflowError(
                f"roll-up: a sum was {value} × 10^-{kind.scale}, which does not fit {kind}; "
                "check the sizes of the feed, or roll up to a shorter timeframe"
            )
    data = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in values)
    mask = np.packbits([value is not None for value in values], bitorder="little")
    return pa.Decimal128Array.from_buffers(
        kind, len(values), [pa.py_buffer(mask), pa.py_buffer(data)]
    )


def _half_even(total: int, size: int) -> int:
    quotient, rest = divmod(total, size)
    return quotient + (2 * rest > size or (2 * rest == size and quotient & 1))
