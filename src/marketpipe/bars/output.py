"""From slots to the columns that users see."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.bars._output_kernel import half_even, vwaps, wide
from marketpipe.bars.layout import CONFIRMED, I64_MAX, I64_MIN
from marketpipe.bars.plan import Plan
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.schemas import BARS, CAUSES, NOTIONAL, PRICE, VOLUME
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS

Records = npt.NDArray[np.void]

SETTLE_NS = 15 * 60 * 1_000_000_000
"""A session's bars are settled this long after its close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What slots leave unsaid: the series, the timeframes, and when sessions end.

    ``dates`` (days since the epoch) and ``closes`` (ns) are those of the session table, both
    empty on the grid of UTC.
    """

    streams: tuple[StreamKey, ...]
    timeframes: tuple[Timeframe, ...]
    price_type: str
    rule_set: str
    session: str
    timed: bool
    dates: npt.NDArray[np.int32]
    closes: I64

    def session_ends(self, session_date: npt.NDArray[np.int32]) -> I64:
        """Return when the session of each date closes, ns."""
        if not len(self.dates):
            return (session_date.astype(np.int64) + 1) * DAY_NS
        found: I64 = self.closes[np.searchsorted(self.dates, session_date)]
        return found


def decimals(values: I64, kind: pa.Decimal128Type, valid: npt.NDArray[np.bool_] | None) -> pa.Array:
    """Turn int64 counts of the last decimal place into an Arrow column; ``valid`` False is null."""
    limbs = np.empty((len(values), 2), np.int64)
    limbs[:, 0] = values
    limbs[:, 1] = values >> 63
    return _from_limbs(limbs, kind, valid)


def _from_limbs(
    limbs: I64, kind: pa.Decimal128Type, valid: npt.NDArray[np.bool_] | None
) -> pa.Array:
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Decimal128Array.from_buffers(kind, len(limbs), [mask, pa.py_buffer(limbs)])


def _coded(codes: npt.NDArray[np.int32], names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string())).cast(
        pa.string()
    )


def _constant(value: str, n: int) -> pa.Array:
    return _coded(np.zeros(n, np.int32), [value])


def to_table(rows: Records, aux: Records | None, naming: Naming, watermarks: I64) -> pa.Table:
    """Turn slots into a table of the schema `BARS`, in the order given.

    Parameters
    ----------
    rows : slots; every one must be emittable, or void
    aux : their aux records, None where the rule set needs none
    watermarks : per stream, ns; says which bars are settled
    """
    n = len(rows)
    trade = naming.price_type == "trade"
    lived = rows["high"] != I64_MIN
    opened, closed = _edges(rows, aux)
    zero = np.zeros(n, np.int64)
    xvol = (zero, zero) if aux is None else (aux["xvol_hi"], aux["xvol_lo"])
    xnot = (zero, zero) if aux is None else (aux["xnot_hi"], aux["xnot_lo"])
    vwap = vwaps(
        rows["not_hi"] - xnot[0],
        rows["not_lo"] - xnot[1],
        rows["vol_hi"] - xvol[0],
        rows["vol_lo"] - xvol[1],
    )
    prices = {
        name: half_even(column) if naming.price_type == "mid" else np.ascontiguousarray(column)
        for name, column in (
            ("open", opened),
            ("high", rows["high"]),
            ("low", rows["low"]),
            ("close", closed),
        )
    }
    day = np.array([not tf.is_intraday for tf in naming.timeframes])[rows["level"]]
    none = np.zeros(n, np.bool_)
    official = {
        name: (zero, none) if aux is None else (aux[name], day & (aux[f"{key}_ts"] != empty))
        for name, key, empty in (
            ("official_open", "oo", I64_MAX),
            ("official_close", "oc", I64_MIN),
        )
    }
    traded = lived if trade else none
    stream = rows["stream"].astype(np.int32)
    known = np.ascontiguousarray(rows["known_at"])
    columns = {
        "source": _coded(stream, [s.source for s in naming.streams]),
        "feed": _coded(stream, [s.feed for s in naming.streams]),
        "symbol": _coded(stream, [s.symbol for s in naming.streams]),
        "price_type": _constant(naming.price_type, n),
        "rule_set": _constant(naming.rule_set, n),
        "session": _constant(naming.session, n),
        "timeframe": _coded(rows["level"].astype(np.int32), [str(t) for t in naming.timeframes]),
        "session_date": pa.array(rows["session_date"].astype(np.int32)).cast(pa.date32()),
        "ts_open": pa.array(np.ascontiguousarray(rows["ts_open"])),
        "ts_close": pa.array(np.ascontiguousarray(rows["ts_close"])),
        **{name: decimals(column, PRICE, lived) for name, column in prices.items()},
        "volume": _from_limbs(wide(rows["vol_hi"], rows["vol_lo"]), VOLUME, traded),
        "notional": _from_limbs(wide(rows["not_hi"], rows["not_lo"]), NOTIONAL, traded),
        "vwap": decimals(vwap, PRICE, traded & (vwap >= 0)),
        "trade_count": pa.array(np.ascontiguousarray(rows["count"])),
        **{name: decimals(v, PRICE, ok) for name, (v, ok) in official.items()},
        "state": _states(rows, naming, watermarks),
        "coverage": _coded(np.where(lived, 0, 1).astype(np.int32), ["traded", "void"]),
        "partial": pa.array(none),
        "revision": pa.array(np.maximum(rows["revision"], 0).astype(np.int32)),
        "cause": _coded(rows["cause"].astype(np.int32), list(CAUSES)),
        "recorded_at": pa.array(known) if naming.timed else pa.nulls(n, pa.int64()),
        "known_at": pa.array(np.where(known == I64_MIN, rows["confirm_at"], known)),
    }
    return pa.Table.from_arrays([columns[f.name] for f in BARS], schema=BARS)


def emittable(
    rows: Records, aux: Records | None, all_non_zero: bool, plan: Plan
) -> npt.NDArray[np.bool_]:
    """Say which slots are bars: priced, and under `all_non_zero` nowhere zero."""
    opened, closed = _edges(rows, aux)
    ok: npt.NDArray[np.bool_] = rows["first_ts"] != I64_MAX
    if aux is not None:
        ok = ok | (aux["half_ts"] != I64_MAX)
    ok &= rows["high"] != I64_MIN
    if all_non_zero:
        nowhere_zero = (opened != 0) & (closed != 0) & (rows["high"] != 0) & (rows["low"] != 0)
        nowhere_zero &= (rows["vol_hi"] != 0) | (rows["vol_lo"] != 0)
        ok &= nowhere_zero | (plan.levels["derived"][rows["level"]] != 0)
    return ok


def _edges(rows: Records, aux: Records | None) -> tuple[I64, I64]:
    """Open and close, with the first-only trade where it takes part."""
    opened: I64 = rows["open"]
    closed: I64 = rows["close"]
    if aux is None:
        return opened, closed
    half = aux["half_ts"] != I64_MAX
    alone = half & (rows["first_ts"] == I64_MAX)
    before = np.zeros(len(rows), np.bool_)
    undecided = half
    for part in ("ts", "a", "b", "c"):
        ours, theirs = aux[f"half_{part}"], rows[f"first_{part}"]
        before |= undecided & (ours < theirs)
        undecided = undecided & (ours == theirs)
    return np.where(before, aux["half_px"], opened), np.where(alone, aux["half_px"], closed)


def _states(rows: Records, naming: Naming, watermarks: I64) -> pa.Array:
    ends = naming.session_ends(rows["session_date"])
    settled = watermarks[rows["stream"]] >= ends + SETTLE_NS
    confirmed = rows["status"] == CONFIRMED
    codes = np.where(confirmed, np.where(settled, 2, 1), 0).astype(np.int32)
    return _coded(codes, ["forming", "confirmed", "settled"])
