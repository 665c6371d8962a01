"""Putting slots into a shard whole: on loading, merging, detaching and attaching."""

import numpy as np

from marketpipe.bars._state_kernel import combine
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
