"""From a recipe to rows: chunks in event order, then in order of arrival.

A chunk is up to 65,536 trades that are next to each other in a session. Its size is fixed, so
the rows do not depend on how a reader cuts them into batches.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64
from marketpipe.domain.units import NANOS
from marketpipe.sources.synthetic.config import SyntheticConfig, share_of
from marketpipe.sources.synthetic.draws import (
    SLOTS,
    bits,
    draw,
    pick,
    size_slots,
    time_knots,
    warp,
    zipf_slots,
)

Columns: TypeAlias = dict[str, I64]
"""Equally long int64 columns: symbol ts_event price size id venue ts_recv."""

_TIME, _SHAPE, _SIZE, _LATE, _DELAY, _AGAIN, _AGAIN_DELAY = range(7)
_LOT_BITS: Final = 8
_STEPS: Final = np.array([0] * 8 + [1, -1] * 3 + [2, -2], np.int64)
"""Price steps of one trade, in ticks, equally likely."""
_DUPLICATE_WITHIN_NS: Final = NANOS
_ULP: Final = 2.0**-53


class Market:
    """Draws the trades of a recipe in event order, one chunk after another."""

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        self._slots = zipf_slots(len(config.symbols), config.zipf_exponent)
        self._lots = size_slots(_LOT_BITS) * config.lot
        self._ticks = np.array(config.ticks(), np.int64)
        starts = np.array(config.starts(), np.int64) // self._ticks
        self._walk = starts.copy()
        self._floor = np.maximum(starts // 2, 1)
        self._span = 2 * starts - self._floor

    def chunks(self) -> Iterator[tuple[Columns, int]]:
        """Chunks with the instant before which no later chunk has a trade."""
        config, first = self._config, 0
        sessions = len(config.sessions)
        for number, (open_ns, close_ns) in enumerate(config.sessions, 1):
            total = config.total_trades * number // sessions - first
            knots = time_knots(config.u_shape, close_ns - open_ns)
            session = _Session(open_ns, first, total, knots)
            for start in range(0, total, SLOTS):
                stop = min(start + SLOTS, total)
                edge_ns = close_ns
                if stop < total:
                    edge_ns = open_ns + int(warp(np.array([stop / total]), knots)[0])
                yield self._chunk(session, start, stop, edge_ns), edge_ns
            first += total

    def _chunk(self, session: "_Session", start: int, stop: int, edge_ns: int) -> Columns:
        config, count = self._config, stop - start
        open_ns, first, total, knots = session
        shape = draw(config.seed, _SHAPE, first + start, count)
        quantiles = _unit(draw(config.seed, _TIME, first + start, count))
        quantiles *= count
        quantiles += start
        quantiles /= total
        times = warp(quantiles, knots)
        symbols = self._slots[bits(shape, 0, 16)]
        if config.burst_share:
            times, symbols = self._burst(shape, times, symbols, edge_ns - open_ns)
        times, order = _sorted_with_order(times)
        symbols = symbols[order]
        sizes = draw(config.seed, _SIZE, first + start, count)
        columns = {
            "symbol": symbols.astype(np.int64),
            "ts_event": times + open_ns,
            "price": self._prices(symbols, _STEPS[bits(sizes, 0, 4)]),
            "size": self._sizes(sizes),
            "id": np.arange(first + start + 1, first + stop + 1, dtype=np.int64),
        }
        if config.venues:
            venues = bits(sizes, 48, 16) * np.uint64(len(config.venues)) >> np.uint64(16)
            columns["venue"] = venues.astype(np.int64) + 1
        return columns

    def _burst(
        self,
        shape: npt.NDArray[np.uint64],
        times: I64,
        symbols: npt.NDArray[np.uint16],
        edge: int,
    ) -> tuple[I64, npt.NDArray[np.uint16]]:
        """Make some trades followers: in the symbol of the one before, a short wait after it.

        A wait that would pass the chunk's edge leaves the follower its own time.
        """
        follows = bits(shape, 16, 16) < np.uint64(round(self._config.burst_share * SLOTS))
        follows[0] = False
        roots = np.arange(len(times))
        roots[follows] = 0
        np.maximum.accumulate(roots, out=roots)
        waits = (bits(shape, 32, 32) * np.uint64(self._config.burst_gap_ns)) >> np.uint64(32)
        waits[~follows] = 0
        waited = np.cumsum(waits.astype(np.int64))
        followed = times[roots] + waited - waited[roots]
        return np.where(followed < edge, followed, times), symbols[roots]

    def _prices(self, symbols: npt.NDArray[np.uint16], steps: I64) -> I64:
        """Walk each symbol's price on, folded into half to twice its first price."""
        order = np.argsort(symbols, kind="stable")
        counts = np.bincount(symbols, minlength=len(self._walk))
        sums = np.cumsum(steps[order])
        ends = np.concatenate(([0], sums))[np.cumsum(counts)]
        before = np.concatenate(([0], ends[:-1]))
        walked = np.empty(len(steps), np.int64)
        walked[order] = sums + np.repeat(self._walk - before, counts)
        self._walk += ends - before
        floor, span = self._floor[symbols], self._span[symbols]
        place: I64 = np.mod(walked - floor, 2 * span)
        np.minimum(place, 2 * span - place, out=place)
        place += floor
        place *= self._ticks[symbols]
        return place

    def _sizes(self, hashes: npt.NDArray[np.uint64]) -> I64:
        lot = self._config.lot
        sizes = self._lots[bits(hashes, 4, _LOT_BITS)]
        odd = bits(hashes, 16, 16) < np.uint64(round(self._config.odd_lot_share * SLOTS))
        below = (bits(hashes, 32, 16) * np.uint64(lot - 1)) >> np.uint64(16)
        sizes[odd] = below.astype(np.int64)[odd] + 1
        return sizes * NANOS


class _Session(NamedTuple):
    open_ns: int
    first: int
    total: int
    knots: npt.NDArray[np.float64]


def arrivals(config: SyntheticConfig) -> Iterator[Columns]:
    """Rows in order of arrival: late trades and second copies where their receipt puts them."""
    if not (config.late_share or config.duplicate_share):
        for columns, _ in Market(config).chunks():
            columns["ts_recv"] = columns["ts_event"] + config.latency_ns
            yield columns
        return
    pending: Columns = {}
    first = 0
    for columns, edge_ns in Market(config).chunks():
        count = len(columns["id"])
        waiting = _received(config, columns, first, first + count)
        if pending:
            waiting = {k: np.concatenate((pending[k], v)) for k, v in waiting.items()}
        waiting = _take(waiting, np.argsort(waiting["ts_recv"], kind="stable"))
        ready = int(np.searchsorted(waiting["ts_recv"], edge_ns + config.latency_ns))
        yield {k: v[:ready] for k, v in waiting.items()}
        pending = {k: v[ready:] for k, v in waiting.items()}
        first += count
    if pending:
        yield pending


def _received(config: SyntheticConfig, columns: Columns, first: int, stop: int) -> Columns:
    seed, count = config.seed, stop - first
    received = columns["ts_event"] + config.latency_ns
    late = share_of(stop, config.late_share) - share_of(first, config.late_share)
    rows = pick(draw(seed, _LATE, first, count), late)
    received[rows] += 1 + _scaled(draw(seed, _DELAY, first, count)[rows], config.late_max_ns)
    columns["ts_recv"] = received
    again = share_of(stop, config.duplicate_share) - share_of(first, config.duplicate_share)
    rows = pick(draw(seed, _AGAIN, first, count), again)
    copies = _take(columns, rows)
    delays = draw(seed, _AGAIN_DELAY, first, count)[rows]
    copies["ts_recv"] += 1 + _scaled(delays, _DUPLICATE_WITHIN_NS)
    return {k: np.concatenate((v, copies[k])) for k, v in columns.items()}


def _take(columns: Columns, rows: I64) -> Columns:
    return {k: v[rows] for k, v in columns.items()}


def _unit(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) * _ULP


def _scaled(hashes: npt.NDArray[np.uint64], below: int) -> I64:
    return (_unit(hashes) * below).astype(np.int64)


def _sorted_with_order(times: I64) -> tuple[I64, I64]:
    """Sort times, ties in row order; also give the rows they came from."""
    keys = (times << 16) | np.arange(len(times))
    keys.sort()
    return keys >> 16, keys & (SLOTS - 1)
