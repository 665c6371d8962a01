"""Cancels and corrections: which bars need their trades again, and the answer.

A cancelled trade cannot be taken out of a state (its high may have been the high), so the
engine names the bars and their caller answers with all the trades that are left.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from marketpipe.bars._life_kernel import content, contribute
from marketpipe.bars._state_kernel import derive, refold, restate
from marketpipe.bars.layout import (
    AUX,
    CANCEL,
    CONFIRMED,
    CORRECTION,
    HAS_TABLE,
    I64_MIN,
    N_OUT,
    OVERFLOW,
    STATUS,
    blank,
    blank_aux,
)
from marketpipe.domain.batches import StreamKey
from marketpipe.domain.ticks import CLOSING_AUCTION, OFFICIAL_CLOSE, PLAIN, Ticks
from marketpipe.errors import BarOverflowError, EngineError

if TYPE_CHECKING:
    from marketpipe.bars.shard import Shard

RepairCause: TypeAlias = Literal["cancel", "correction"]
_CAUSES = {"cancel": CANCEL, "correction": CORRECTION}


@dataclass(frozen=True, slots=True)
class Recompute:
    """A bar that needs its trades again.

    Answer with every admitted trade of ``stream`` in [ts_open, ts_close) that is left at this
    point of the journal (for day bars, up to ``confirm_at`` for closing-auction prints). Those
    that lie outside of the sessions may be among them.
    """

    stream: StreamKey
    timeframe: str
    ts_open: int
    ts_close: int
    confirm_at: int
    cause: RepairCause


def requests(
    shard: "Shard", code: int, key: StreamKey, ts_event: int, cause: RepairCause
) -> tuple[Recompute, ...]:
    """Name the bars built from ticks that hold ``ts_event`` of a stream."""
    rows, _ = shard.used()
    hit = (rows["stream"] == code) & (rows["ts_open"] <= ts_event)
    hit &= ts_event < np.maximum(rows["ts_close"], rows["confirm_at"])
    hit &= shard.plan.levels["derived"][rows["level"]] == 0
    found = rows[hit]
    return tuple(
        Recompute(
            key,
            str(shard.plan.timeframes[int(row["level"])]),
            int(row["ts_open"]),
            int(row["ts_close"]),
            int(row["confirm_at"]),
            cause,
        )
        for row in found[np.argsort(found["level"], kind="stable")]
    )


def answer(shard: "Shard", code: int, request: Recompute, ticks: Ticks, known_at: int) -> None:
    """Rebuild one bar from the trades that are left; a confirmed one gets a revision.

    Raises
    ------
    EngineError
        If the engine has no such bar, or a trade is not of it.
    """
    rows, _ = shard.used()
    names = [str(tf) for tf in shard.plan.timeframes]
    hit = (rows["stream"] == code) & (rows["ts_open"] == request.ts_open)
    hit &= rows["level"] == names.index(request.timeframe)
    if not hit.any():
        raise EngineError(f"recompute: this engine has no bar {request}")
    inside = (ticks.ts_event >= request.ts_open) & (
        ticks.ts_event < max(request.ts_close, request.confirm_at)
    )
    if not (inside & (ticks.stream == code)).all():
        raise EngineError(f"recompute: the answer holds trades that are not of {request}")
    at = int(np.flatnonzero(hit)[0])
    ticks = _in_sessions(shard, ticks)
    if (ticks.flags != PLAIN).any():
        shard.need_aux()
    above = _derived_from(shard, at)
    before = content(shard.st, at)
    was = [content(shard.st, i) for i in above]
    refold(shard.st, at, *shard.columns_of(ticks)[1:])
    if shard.cfg[STATUS] == OVERFLOW:
        raise BarOverflowError(f"recompute of {request}: the sum of price × size no longer fits")
    after = content(shard.st, at)
    cause = _CAUSES[request.cause]
    _restate(shard, at, before, cause, known_at)
    for i, old in zip(above, was, strict=True):
        _derive_again(shard, i)
        _restate(shard, i, old, cause, known_at)
    if shard.slots[at]["revision"] >= 0:
        missing = _levels_above(shard, at) - {int(shard.slots[i]["level"]) for i in above}
        shard.reserve(len(shard.used()[0]) + len(missing))
        for level in sorted(missing):
            # the minute has only now become a bar, and its hour never was one
            neutral = (False, *after[1:])
            contribute(_only(shard, level), at, neutral, cause, known_at)


def _in_sessions(shard: "Shard", ticks: Ticks) -> Ticks:
    """Take out what was never in the bar: trades between sessions, of a day, a break or a week."""
    if not shard.cfg[HAS_TABLE] or not len(ticks):
        return ticks
    ts = ticks.ts_event
    segment = np.searchsorted(shard.seg["open"], ts, side="right") - 1
    inside = (segment >= 0) & (ts < shard.seg["close"][segment])
    session = np.searchsorted(shard.ses["close"], ts, side="right") - 1
    auction = ~inside & (session >= 0) & (ts < shard.ses["auction_end"][session])
    closing = auction & (ticks.flags & CLOSING_AUCTION != 0)
    official = auction & ~closing & (ticks.flags & OFFICIAL_CLOSE != 0)
    kept = inside | closing | official
    columns = {f.name: getattr(ticks, f.name)[kept] for f in fields(Ticks) if f.name != "streams"}
    # the official close is a statement about the auction, not a trade in it
    columns["flags"] = np.where(official, ticks.flags & OFFICIAL_CLOSE, ticks.flags)[kept]
    return Ticks(streams=ticks.streams, **columns)


def _restate(shard: "Shard", at: int, before: tuple[Any, ...], cause: int, known_at: int) -> None:
    """Write the revision of a slot that was rebuilt, if it is one; a void one says nothing."""
    n = int(shard.cfg[N_OUT])
    after = content(shard.st, at)
    restate(shard.st, at, before[0], after != before, cause, known_at)
    if int(shard.cfg[N_OUT]) == n or after[0]:
        return
    # prints that may not make a bar can be left in the slot: the event must not show them
    shard.out["high"][n], shard.out["count"][n] = I64_MIN, 0
    if len(shard.out_aux):
        blank_aux(shard.out_aux[n : n + 1])


def _derived_from(shard: "Shard", at: int) -> list[int]:
    """Return the slots of bars that are rolled up from a base bar."""
    rows, _ = shard.used()
    levels, base = shard.plan.levels, rows[at]
    hit = (levels["derived"][rows["level"]] != 0) & (rows["stream"] == base["stream"])
    hit &= levels["feed"][rows["level"]] == base["level"]
    hit &= (rows["ts_open"] <= base["ts_open"]) & (base["ts_open"] < rows["ts_close"])
    return [int(i) for i in np.flatnonzero(hit)]


def _levels_above(shard: "Shard", at: int) -> set[int]:
    """Return the levels that are rolled up from that of a base bar."""
    levels = shard.plan.levels
    feeds = (levels["derived"] != 0) & (levels["feed"] == shard.slots[at]["level"])
    return {int(i) for i in np.flatnonzero(feeds)}


def _only(shard: "Shard", level: int) -> tuple[Any, ...]:
    """Return the kernel's arrays as if this were the only level that is rolled up."""
    levels = shard.plan.levels.copy()
    levels["feed"][(levels["derived"] != 0) & (np.arange(len(levels)) != level)] = -1
    return (shard.st[0], levels, *shard.st[2:])


def _derive_again(shard: "Shard", at: int) -> None:
    """Empty a rolled-up bar and roll it up from its base bars once more."""
    rows, _ = shard.used()
    target = rows[at].copy()
    empty = blank(np.empty(1, rows.dtype))[0]
    for name in ("ts_open", "ts_close", "confirm_at", "stream", "session_date", "level", "prev"):
        empty[name] = target[name]
    for name in ("next_open", "revision", "status", "cause", "known_at"):
        empty[name] = target[name]
    shard.slots[at] = empty
    shard.aux[at] = blank_aux(np.empty(1, AUX))[0]
    base = (rows["stream"] == target["stream"]) & (rows["status"] == CONFIRMED)
    base &= rows["level"] == shard.plan.levels["feed"][target["level"]]
    base &= (rows["ts_open"] >= target["ts_open"]) & (rows["ts_open"] < target["ts_close"])
    shard.slots["status"][at] = 0  # no revision while it is only half rolled up
    derive(_only(shard, int(target["level"])), np.flatnonzero(base))
    shard.slots["status"][at] = target["status"]
