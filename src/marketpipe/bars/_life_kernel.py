"""A bar's life: pending runs reach their slots, the watermark confirms, late ticks revise."""

import numpy as np

from marketpipe.bars._compile import entry, inlined
from marketpipe.bars._grid_kernel import await_close, edges, index_add, place
from marketpipe.bars._slot_kernel import (
    clear,
    clear_aux,
    copy,
    ends,
    fold,
    fold_aux,
    is_bar,
    merge,
    merge_aux,
)
from marketpipe.bars._sums_kernel import HI_MAX, carry, ratio, times
from marketpipe.bars.layout import (
    ALL_NON_ZERO,
    CLOCK,
    CLOCK_KNOWN,
    CONFIRMED,
    DERIVED,
    EMIT,
    FIRST,
    GRACE,
    I64_MAX,
    I64_MIN,
    INDEXED,
    INTRADAY,
    LATE,
    LATE_CAUSE,
    MODE,
    N_OUT,
    N_SLOTS,
    OVERFLOW,
    STATUS,
)


@entry
def content(st, i):
    """Return what a slot says: (emittable, open, high, low, close, sums…, official prices)."""
    cfg, levels, _, slots, aux, _, _, _, _, _, _, _, _, _ = st
    r = slots[i]
    priced, opened, closed = ends(r, aux, i)
    level = levels[r["level"]]
    nowhere_zero = cfg[ALL_NON_ZERO] != 0 and level["derived"] == 0
    ok = is_bar(r, priced, opened, closed, nowhere_zero)
    xvh = xvl = xnh = xnl = oo = oc = np.int64(0)
    if aux.shape[0] > 0:
        x = aux[i]
        xvh = x["xvol_hi"]
        xvl = x["xvol_lo"]
        xnh = x["xnot_hi"]
        xnl = x["xnot_lo"]
        if level["kind"] != INTRADAY:
            oo = x["official_open"]
            oc = x["official_close"]
    return (
        ok, opened, r["high"], r["low"], closed, r["vol_hi"], r["vol_lo"], r["not_hi"],
        r["not_lo"], r["count"], xvh, xvl, xnh, xnl, oo, oc,
    )  # fmt: skip


@entry
def emit(st, i):
    """Write the slot as it is now to the output."""
    cfg, levels, _, slots, aux, _, _, _, _, _, _, _, out, out_aux = st
    if cfg[EMIT] == 0 or levels[slots[i]["level"]]["visible"] == 0:
        return
    n = cfg[N_OUT]
    copy(out[n], slots[i])
    if aux.shape[0] > 0:
        out_aux[n] = aux[i]
    cfg[N_OUT] = n + 1


@entry
def revise(st, i, before, cause, known):
    """Count and write a revision if a confirmed slot no longer says what it said."""
    _, _, _, slots, _, _, _, _, _, _, _, _, _, _ = st
    r = slots[i]
    after = content(st, i)
    if not after[0] or (r["revision"] >= 0 and after == before):
        return
    r["revision"] += 1
    r["cause"] = cause
    r["known_at"] = max(r["known_at"], known)
    emit(st, i)


@entry
def share(c):
    """Return what an emitted bar adds to a bar above it.

    Volume, notional, count, volume * vwap, and the volume that no vwap weighs (a bar whose
    volume is all of odd lots has none): pairs of limbs but for the count.
    """
    zero = 0 * c[1]
    if not c[0]:
        return zero, zero, zero, zero, zero, zero, zero, zero, zero
    nhi, nlo = carry(c[7] - c[12], c[8] - c[13])
    dhi, dlo = carry(c[5] - c[10], c[6] - c[11])
    vwap = ratio(nhi, nlo, dhi, dlo)
    if vwap < 0:
        return c[5], c[6], c[7], c[8], c[9], zero, zero, c[5], c[6]
    whi, wlo = times(c[5], c[6], vwap)
    return c[5], c[6], c[7], c[8], c[9], whi, wlo, zero, zero


@entry
def unsaid(st, i):
    """Return the content of a slot of which nothing was out yet."""
    c = content(st, i)
    return (
        np.bool_(False), c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11],
        c[12], c[13], c[14], c[15],
    )  # fmt: skip


@entry
def contribute(st, i, before, cause, known):
    """Carry the change of an emitted base bar into the bars derived from it.

    Sums change by the difference, extremes and edges by merging: a base bar only ever grows
    here (what shrinks it, a cancel or a correction, rebuilds the derived bars whole).
    """
    cfg, levels, streams, slots, aux, _, _, _, seg, ses, grp, _, _, _ = st
    r = slots[i]
    base = np.int64(r["level"])
    s = np.int64(r["stream"])
    for d in range(levels.shape[0]):
        if levels[d]["derived"] == 0 or levels[d]["feed"] != base:
            continue
        after = content(st, i)
        if not after[0]:
            continue
        lo, hi, confirm_at, date = edges(cfg, levels[d], seg, ses, grp, r["ts_open"])
        j = place(st, s, d, lo, hi, confirm_at, date, cause != FIRST)
        was = content(st, j)
        old = share(before)
        new = share(after)
        t = slots[j]
        x = aux[j]
        if r["ts_open"] <= t["first_ts"]:
            t["first_ts"] = r["ts_open"]
            t["open"] = after[1]
        if r["ts_open"] >= t["last_ts"]:
            t["last_ts"] = r["ts_open"]
            t["close"] = after[4]
        t["high"] = max(t["high"], after[2])
        t["low"] = min(t["low"], after[3])
        t["vol_hi"], t["vol_lo"] = carry(
            t["vol_hi"] + new[0] - old[0], t["vol_lo"] + new[1] - old[1]
        )
        dhi, dlo = carry(new[2] - old[2], new[3] - old[3])
        t["not_hi"], t["not_lo"] = carry(t["not_hi"] + dhi, t["not_lo"] + dlo)
        if t["not_hi"] > HI_MAX:
            cfg[STATUS] = OVERFLOW
        t["count"] += new[4] - old[4]
        whi, wlo = carry(new[5] - old[5], new[6] - old[6])
        x["xnot_hi"], x["xnot_lo"] = carry(x["xnot_hi"] + dhi - whi, x["xnot_lo"] + dlo - wlo)
        x["xvol_hi"], x["xvol_lo"] = carry(
            x["xvol_hi"] + new[7] - old[7], x["xvol_lo"] + new[8] - old[8]
        )
        t["known_at"] = max(t["known_at"], r["known_at"])
        if t["confirm_at"] <= streams[s]["watermark"] and t["status"] == CONFIRMED:
            revise(st, j, was, cause, known)


@inlined
def confirm(st, i):
    """Confirm a slot that the watermark has passed; its place in the list is the caller's."""
    cfg, levels, _, slots, aux, _, _, _, _, _, _, _, _, _ = st
    r = slots[i]
    r["status"] = CONFIRMED
    priced, opened, closed = ends(r, aux, i)
    nowhere_zero = cfg[ALL_NON_ZERO] != 0 and levels[r["level"]]["derived"] == 0
    if not is_bar(r, priced, opened, closed, nowhere_zero):
        r["cause"] = LATE_CAUSE
        return
    known = cfg[CLOCK_KNOWN] if cfg[MODE] == CLOCK else r["confirm_at"] + cfg[GRACE]
    r["revision"] = 0
    r["cause"] = FIRST
    r["known_at"] = max(r["known_at"], known)
    if cfg[EMIT]:
        emit(st, i)


@entry
def walk(st, s):
    """Confirm every bar of a stream that its watermark has passed, base bars first."""
    cfg, levels, streams, slots, _, _, _, _, _, _, _, _, _, _ = st
    w = streams[s]
    if w["next_close"] > w["watermark"]:
        return
    for derived in range(1 + cfg[DERIVED]):
        i = w["open_head"]
        before = np.int64(-1)
        soonest = I64_MAX
        while i >= 0:
            r = slots[i]
            after = np.int64(r["next_open"])
            due = r["confirm_at"] <= w["watermark"] and levels[r["level"]]["derived"] == derived
            if due:
                if before < 0:
                    # a derived bar that `contribute` opens goes in front of this one
                    w["open_head"] = after
                else:
                    slots[before]["next_open"] = after
                w["n_open"] -= 1
                r["next_open"] = -1
                confirm(st, i)
                if cfg[DERIVED] and derived == 0 and r["revision"] == 0:
                    head = w["open_head"]
                    contribute(st, i, unsaid(st, i), np.int64(FIRST), r["known_at"])
                    if before < 0 and w["open_head"] != head:
                        before = w["open_head"]
                        while slots[before]["next_open"] != head:
                            before = np.int64(slots[before]["next_open"])
            else:
                soonest = min(soonest, r["confirm_at"])
                before = i
            i = after
        w["next_close"] = soonest


@inlined
def settle_run(st, s, k, mark):
    """Merge a pending run into its slot and into the runs that it feeds.

    ``mark`` is the stream's watermark as it will be once the tick at hand is in. In order of
    time, a run becomes a new slot with one copy, confirmed at once if it is due by then.
    """
    cfg, levels, streams, slots, aux, runs, run_aux, last, seg, ses, grp, index, _, _ = st
    n = levels.shape[0]
    at = s * n + k
    r = runs[at]
    w = streams[s]
    newest = np.int64(last[at])
    if newest < 0 or slots[newest]["ts_open"] < r["ts_open"]:
        i = cfg[N_SLOTS]
        cfg[N_SLOTS] = i + 1
        d = slots[i]
        copy(d, r)
        d["stream"] = s
        d["level"] = k
        d["prev"] = newest
        d["next_open"] = -1
        d["revision"] = -1
        d["cause"] = 0
        last[at] = i
        if cfg[INDEXED]:
            index_add(cfg, index, slots, i)
        if aux.shape[0] > 0:
            clear_aux(aux[i])
            merge_aux(aux[i], run_aux[at])
        if cfg[DERIVED] == 0 and r["confirm_at"] <= mark:
            confirm(st, i)
        else:
            await_close(w, d, i)
    else:
        # values of one type at every call: each other one is compiled again
        date = np.int64(r["session_date"])
        late = np.bool_(False)
        i = place(st, s, k, r["ts_open"], r["ts_close"], r["confirm_at"], date, late)
        if not merge(slots[i], r):
            cfg[STATUS] = OVERFLOW
        if aux.shape[0] > 0:
            merge_aux(aux[i], run_aux[at])
    for p in range(k + 1, n):
        if levels[p]["feed"] != k or levels[p]["derived"]:
            continue
        q = runs[s * n + p]
        if q["status"] == 0:
            q["ts_open"], q["ts_close"], q["confirm_at"], q["session_date"] = edges(
                cfg, levels[p], seg, ses, grp, r["ts_open"]
            )
            q["status"] = 1
            w["run_open"] = max(w["run_open"], q["ts_open"])
            w["run_close"] = min(w["run_close"], q["ts_close"])
        if not merge(q, r):
            cfg[STATUS] = OVERFLOW
        if aux.shape[0] > 0:
            merge_aux(run_aux[s * n + p], run_aux[at])
    clear(r)
    if aux.shape[0] > 0:
        clear_aux(run_aux[at])
    r["status"] = 0


@entry
def settle_stream(st, s, by):
    """Merge the pending runs of a stream that are due by an instant; confirm what is due.

    Finest first. A run that is not due stays pending: its bar would only be opened to be
    reopened by the next tick.
    """
    _, levels, streams, _, _, runs, _, _, _, _, _, _, _, _ = st
    n = levels.shape[0]
    w = streams[s]
    w["run_open"] = I64_MIN
    w["run_close"] = I64_MAX
    for k in range(n):
        q = runs[s * n + k]
        if q["status"] == 0:
            continue
        if q["confirm_at"] <= by:
            settle_run(st, s, k, w["watermark"])
        elif levels[k]["feed"] >= 0:
            w["run_open"] = max(w["run_open"], q["ts_open"])
            w["run_close"] = min(w["run_close"], q["ts_close"])
    walk(st, s)


@entry
def turn(st, s, root, t, mark):
    """Settle the pending runs above a root that do not hold ``t``; see what is left in common."""
    _, levels, streams, _, _, runs, _, _, _, _, _, _, _, _ = st
    n = levels.shape[0]
    w = streams[s]
    w["run_open"] = I64_MIN
    w["run_close"] = I64_MAX
    for k in range(n):
        q = runs[s * n + k]
        if q["status"] == 0 or levels[k]["feed"] < 0:
            continue
        if levels[k]["root"] == root and not q["ts_open"] <= t < q["ts_close"]:
            settle_run(st, s, k, mark)
        else:
            w["run_open"] = max(w["run_open"], q["ts_open"])
            w["run_close"] = min(w["run_close"], q["ts_close"])


@entry
def direct(st, s, k, lo, hi, confirm_at, date, f, fl, t, a, b, c, price, size, known):
    """Fold a tick straight into its slot; a confirmed one gets a revision."""
    cfg, _, streams, slots, aux, _, _, _, _, _, _, _, _, _ = st
    i = place(st, s, k, lo, hi, confirm_at, date, np.bool_(True))
    r = slots[i]
    before = content(st, i)
    if not fold(r, f, t, a, b, c, price, size, known):
        cfg[STATUS] = OVERFLOW
        return
    if aux.shape[0] > 0:
        fold_aux(aux[i], f, fl, t, a, b, c, price, size)
    if r["status"] != CONFIRMED:
        return
    cfg[LATE] += 1
    seen = max(streams[s]["watermark"], known)
    if cfg[MODE] == CLOCK:
        seen = max(cfg[CLOCK_KNOWN], known)
    revision = r["revision"]
    revise(st, i, before, np.int64(LATE_CAUSE), seen)
    if cfg[DERIVED] and r["revision"] != revision:
        contribute(st, i, before, np.int64(LATE_CAUSE), seen)
