"""Putting slots into a shard whole: on loading, merging, detaching and attaching."""

import numpy as np
import numpy.typing as npt

from marketpipe.bars._state_kernel import close_ranks, combine
from marketpipe.bars.layout import (
    AUX,
    I64_MAX,
    INDEXED,
    N_SLOTS,
    OPEN,
    blank_aux,
)
from marketpipe.bars.output import Records
from marketpipe.bars.shard import Shard
from marketpipe.domain.batches import I32, I64
from marketpipe.errors import BarOverflowError


def identity_order(rows: Records) -> np.ndarray:
    """Return the order by stream, level and time."""
    return np.lexsort((rows["ts_open"], rows["level"], rows["stream"]))


def refill(shard: Shard, rows: Records, aux: Records | None) -> None:
    """Replace a shard's slots; rows of one identity are merged, links are made anew.

    Raises
    ------
    BarOverflowError
        If a merged sum no longer fits.
    """
    order = identity_order(rows)
    rows = rows[order]
    aux = np.empty(0, AUX) if aux is None else aux[order]
    n = combine(rows, aux)
    if n < 0:
        raise BarOverflowError("the merged bars' sum of price × size no longer fits")
    rows, aux = rows[:n], aux[:n]
    if len(aux):
        shard.need_aux()
    shard.cfg[N_SLOTS] = 0
    shard.cfg[INDEXED] = 0
    shard.reserve(n + 64)
    shard.slots[:n] = rows
    if len(aux):
        shard.aux[:n] = aux
    elif len(shard.aux):
        blank_aux(shard.aux[:n])
    shard.cfg[N_SLOTS] = n
    _link(shard, n)


def take_out(shard: Shard, leaving: npt.NDArray[np.bool_]) -> tuple[Records, Records | None]:
    """Remove confirmed slots from a shard; return them by session date and stream.

    Parameters
    ----------
    leaving : per slot; none of them may be open
    """
    rows, aux = shard.used()
    found = np.flatnonzero(leaving)
    order = found[_stable(rows["stream"][found])]
    order = order[_stable(rows["session_date"][order])]
    taken = _taken(rows, order), None if aux is None else _taken(aux, order)
    if shard.cfg[INDEXED]:  # slots found by their hash need not hang together in time
        staying = np.flatnonzero(~leaving)
        refill(shard, _taken(rows, staying), None if aux is None else _taken(aux, staying))
    else:
        close_ranks(shard.st, leaving, np.empty(len(rows), np.int32))
    return taken


def _stable(codes: I32) -> I64:
    """Return the stable sorting order of codes; of 16 bits, which do mostly, it is quick."""
    low = codes - codes.min(initial=0)
    return np.argsort(low.astype(np.uint16) if low.max(initial=0) < 1 << 16 else low, kind="stable")


def _taken(records: Records, order: I64) -> Records:
    """Return copies of some records; NumPy's own way goes field by field, ten times slower."""
    words = records.view(np.int64).reshape(len(records), records.dtype.itemsize // 8)
    taken: Records = words[order].reshape(-1).view(records.dtype)
    return taken


def _link(shard: Shard, n: int) -> None:
    slots, levels = shard.slots[:n], len(shard.plan.levels)
    group = slots["stream"].astype(np.int64) * levels + slots["level"]
    at = np.arange(n, dtype=np.int32)
    first = np.ones(n, np.bool_)
    first[1:] = group[1:] != group[:-1]
    slots["prev"] = np.where(first, -1, at - 1)
    shard.last[:] = -1
    shard.last[group] = at  # the last of equal groups wins: they are in order of time
    slots["next_open"] = -1
    streams = shard.streams
    streams["open_head"], streams["n_open"], streams["next_close"] = -1, 0, I64_MAX
    waiting = np.flatnonzero(slots["status"] == OPEN).astype(np.int32)
    owner = slots["stream"][waiting]
    same = np.zeros(len(waiting), np.bool_)
    same[1:] = owner[1:] == owner[:-1]
    before = np.where(same, np.roll(waiting, 1), -1)
    slots["next_open"][waiting] = before
    streams["open_head"][owner] = waiting
    np.add.at(streams["n_open"], owner, 1)
    np.minimum.at(streams["next_close"], owner, slots["confirm_at"][waiting])
