"""Merging sorted slots of one identity, closing ranks, and rebuilding single bars."""

import numpy as np

from marketpipe.bars._compile import entry
from marketpipe.bars._life_kernel import content, contribute, emit
from marketpipe.bars._slot_kernel import clear, clear_aux, copy, fold, fold_aux, merge, merge_aux
from marketpipe.bars.layout import CONFIRMED, N_SLOTS, OVERFLOW, REBUILD, STATUS


@entry
def combine(rows, aux):
    """Merge neighbours of one identity in place; return how many are left, -1 on overflow."""
    if rows.shape[0] == 0:
        return 0
    n = 0
    for i in range(1, rows.shape[0]):
        d = rows[n]
        s = rows[i]
        if s["stream"] == d["stream"] and s["level"] == d["level"] and s["ts_open"] == d["ts_open"]:
            if not merge(d, s):
                return -1
            if aux.shape[0] > 0:
                merge_aux(aux[n], aux[i])
            if s["status"] == CONFIRMED:
                d["status"] = CONFIRMED
            if s["revision"] > d["revision"]:
                d["revision"] = s["revision"]
                d["cause"] = s["cause"]
            continue
        n += 1
        if n != i:
            rows[n] = rows[i]
            if aux.shape[0] > 0:
                aux[n] = aux[i]
    return n + 1


@entry
def close_ranks(st, leaving, place):
    """Move the slots that stay to the front, in order, and mend every link.

    There is no hash index. ``leaving``: per slot; none of them open. ``place`` is written: where
    each slot went, and for one that leaves where the nearest one before it in time that stays
    went, or -1.
    """
    cfg, _, streams, slots, aux, _, _, last, _, _, _, _, _, _ = st
    n = 0
    for i in range(cfg[N_SLOTS]):
        place[i] = n
        if not leaving[i]:
            n += 1
    for i in range(cfg[N_SLOTS]):
        if leaving[i]:
            before = np.int64(slots[i]["prev"])
            while before > i and leaving[before]:  # a late one, whose own is not known yet
                before = np.int64(slots[before]["prev"])
            place[i] = place[before] if before >= 0 else -1
    for i in range(cfg[N_SLOTS]):
        if leaving[i]:
            continue
        r = slots[i]
        if r["prev"] >= 0:
            r["prev"] = place[r["prev"]]
        if r["next_open"] >= 0:
            r["next_open"] = place[r["next_open"]]
    for at in range(last.shape[0]):
        if last[at] >= 0:
            last[at] = place[last[at]]
    for s in range(streams.shape[0]):
        if streams[s]["open_head"] >= 0:
            streams[s]["open_head"] = place[streams[s]["open_head"]]
    for i in range(cfg[N_SLOTS]):
        if not leaving[i] and place[i] != i:
            copy(slots[place[i]], slots[i])
            if aux.shape[0] > 0:
                aux[place[i]] = aux[i]
    cfg[N_SLOTS] = n


@entry
def refold(st, i, ts, price, size, ka, kb, kc, flags, known):
    """Empty slot ``i`` and fold these rows into it, without any revision."""
    cfg, levels, _, slots, aux, _, _, _, _, _, _, _, _, _ = st
    r = slots[i]
    kept = r["known_at"]
    clear(r)
    if aux.shape[0] > 0:
        clear_aux(aux[i])
    shift = levels[r["level"]]["shift"]
    for row in range(ts.shape[0]):
        f = (flags[row] >> shift) & 0x1F
        t, a, b, c = ts[row], ka[row], kb[row], kc[row]
        if not fold(r, f, t, a, b, c, price[row], size[row], known[row]):
            cfg[STATUS] = OVERFLOW
            return
        if aux.shape[0] > 0:
            fold_aux(aux[i], f, flags[row], t, a, b, c, price[row], size[row])
    r["known_at"] = max(r["known_at"], kept)


@entry
def derive(st, members):
    """Carry every emitted base bar among ``members`` into the bars derived from it."""
    slots = st[3]
    for k in range(members.shape[0]):
        i = members[k]
        if slots[i]["revision"] < 0:
            continue
        c = content(st, i)
        before = (
            False, c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12],
            c[13], c[14], c[15],
        )  # fmt: skip
        contribute(st, i, before, REBUILD, slots[i]["known_at"])


@entry
def restate(st, i, was_bar, changed, cause, known):
    """Write the revision of a confirmed slot that was refolded; return whether there is one."""
    slots = st[3]
    r = slots[i]
    if r["status"] != CONFIRMED or not changed:
        return False
    if not was_bar and not content(st, i)[0]:
        return False
    r["revision"] += 1
    r["cause"] = cause
    r["known_at"] = max(r["known_at"], known)
    emit(st, i)
    return True
