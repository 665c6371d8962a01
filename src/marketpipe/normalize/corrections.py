"""Cancels and corrections: what is left of a trade, whatever order the messages came in.

Per identity they form a semilattice: cancel > latest correction > replaced > original. A
correction names the trade it replaces and the id of the new one, so corrections form chains; a
chain is one trade, which happened when its first admitted member did. "Latest" is by the time
that the message bears; where two bear the same, by what they say, never by which came first.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import pyarrow as pa

from marketpipe.domain.batches import StreamKey
from marketpipe.normalize.identity import Scope

CorrectionKind: TypeAlias = Literal["cancel", "correction"]


class Content(NamedTuple):
    """What a correction says the trade was: nanos, nanos, conditions separated by spaces."""

    price: int
    size: int
    conditions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One cancel or correction, as its message says it.

    Attributes
    ----------
    kind : ``cancel`` or ``correction``
    scope : stream, venue and tape of the trade
    date : session date of the trade, days since 1970-01-01: that of the message until the trade
        is found
    trade_id : of the trade it is about
    new_trade_id, content : of the corrected trade; None in cancels
    ts_event : ns, the time the message bears
    offset : its record of the journal
    known_at : ns, when it became known
    is_replaced : whether it is a cancel whose action is `marketpipe.domain.schemas.REPLACED`
    """

    kind: CorrectionKind
    scope: Scope
    date: int
    trade_id: str
    new_trade_id: str | None
    content: Content | None
    ts_event: int
    offset: int
    known_at: int
    is_replaced: bool = False

    @property
    def order(self) -> tuple[int, str, Content]:
        """What is later among corrections."""
        return self.ts_event, self.new_trade_id or "", self.content or Content(0, 0, "")

    def to_json(self) -> list[Any]:
        """Return it as a list that JSON can hold."""
        return [
            self.kind, [*self.scope.stream, *self.scope[1:]], self.date, self.trade_id,
            self.new_trade_id, self.content, self.ts_event, self.offset, self.known_at,
            self.is_replaced,
        ]  # fmt: skip

    @classmethod
    def from_json(cls, value: list[Any]) -> "Correction":
        """Read what `to_json` returned."""
        kind, names, date, trade_id, new_id, content, ts_event, offset, known_at, *more = value
        return cls(
            kind=kind,
            scope=Scope(StreamKey(*names[:3]), names[3], names[4]),
            date=date,
            trade_id=trade_id,
            new_trade_id=new_id,
            content=Content(*content) if content is not None else None,
            ts_event=ts_event,
            offset=offset,
            known_at=known_at,
            # States of before there was history to fill gaps do not have it.
            is_replaced=any(more),
        )


class Verdict(NamedTuple):
    """What is left of an admitted trade: nothing, the trade as it came, or other content."""

    counts: bool
    content: Content | None


AS_IT_CAME = Verdict(True, None)
GONE = Verdict(False, None)

_Place: TypeAlias = tuple[Scope, int]
_LATEST = (2**63, "")


@dataclass(slots=True)
class _Day:
    """The chains of one scope and session date."""

    older: dict[str, tuple[int, str]] = field(default_factory=dict)
    newer: dict[str, set[str]] = field(default_factory=dict)
    of: dict[str, list[Correction]] = field(default_factory=dict)
    admitted: dict[str, int] = field(default_factory=dict)

    def chain(self, trade_id: str) -> tuple[str, ...]:
        """Return the ids of a chain, from its root on; safe against messages that form a ring."""
        root, seen = trade_id, {trade_id}
        while (above := self.older.get(root)) is not None and above[1] not in seen:
            root = above[1]
            seen.add(root)
        found = [root]
        for member in found:
            found += [
                new
                for new in sorted(self.newer.get(member, ()))
                if new not in found and self.older[new][1] == member
            ]
        return tuple(found)


def _cancels(said: Collection[Correction]) -> bool:
    """Tell whether messages about one id cancel it."""
    is_corrected = any(c.kind == "correction" for c in said)
    return any(c.kind == "cancel" and not (c.is_replaced and is_corrected) for c in said)


class CorrectionBook:
    """All cancels and corrections known so far, and the admitted trades they are about."""

    def __init__(self) -> None:
        self._days: dict[_Place, _Day] = {}
        self._ids: pa.Array | None = None
        self._settled = 0

    def __bool__(self) -> bool:
        return bool(self._days)

    def add(self, correction: Correction) -> tuple[str, ...]:
        """Take a message in; return the ids of the chain it now belongs to, root first.

        The same message a second time changes nothing.
        """
        day = self._days.setdefault((correction.scope, correction.date), _Day())
        old, new = correction.trade_id, correction.new_trade_id
        self._ids = None
        mine = day.of.setdefault(old, [])
        if correction not in mine:
            mine.append(correction)
        if new is not None and new != old:
            # two trades cannot have become one: the earliest message says where an id is from
            day.older[new] = min((correction.ts_event, old), day.older.get(new, _LATEST))
            day.newer.setdefault(old, set()).add(new)
        return day.chain(old)

    def admit(self, scope: Scope, date: int, trade_id: str, ts_event: int) -> None:
        """Note that a trade of a chain was admitted, and when it happened."""
        self._days[scope, date].admitted[trade_id] = ts_event

    def concerns(self, scope: Scope, date: int) -> frozenset[str]:
        """Return the ids of a scope and date that some message is about."""
        day = self._days.get((scope, date))
        if day is None:
            return frozenset()
        return frozenset(day.of) | frozenset(day.older)

    @property
    def ids(self) -> pa.Array:
        """All ids that some message is about."""
        if self._ids is None:
            found = {i for day in self._days.values() for i in (*day.of, *day.older)}
            self._ids = pa.array(sorted(found), pa.string())
        return self._ids

    def members(self, scope: Scope, date: int, trade_id: str) -> dict[str, int]:
        """Return the admitted trades of an id's chain, root first, with their times in ns."""
        day = self._days[scope, date]
        return {m: day.admitted[m] for m in day.chain(trade_id) if m in day.admitted}

    def chain(self, scope: Scope, date: int, trade_id: str) -> tuple[str, ...]:
        """Return the ids that are one trade with this one, from the first on."""
        day = self._days.get((scope, date))
        return (trade_id,) if day is None else day.chain(trade_id)

    def verdict(self, scope: Scope, date: int, trade_id: str) -> Verdict:
        """Say what is left of an admitted trade."""
        day = self._days.get((scope, date))
        if day is None or not (trade_id in day.of or trade_id in day.older):
            return AS_IT_CAME
        chain = day.chain(trade_id)
        if any(_cancels(day.of.get(member, ())) for member in chain):
            return GONE
        if next((m for m in chain if m in day.admitted), trade_id) != trade_id:
            return GONE
        said = (c for member in chain for c in day.of.get(member, ()) if c.kind == "correction")
        last = max(said, key=lambda c: c.order)
        return Verdict(True, last.content)

    def waiting(self) -> Iterator[Correction]:
        """Yield the messages of which no trade was admitted, by offset."""
        found = [
            correction
            for day in self._days.values()
            for trade_id, corrections in day.of.items()
            if not any(m in day.admitted for m in day.chain(trade_id))
            for correction in corrections
        ]
        yield from sorted(found, key=lambda c: c.offset)

    def settle(self, before_date: int) -> tuple[Correction, ...]:
        """Return the messages of sessions before a date (exclusive) that wait in vain, once.

        They still count if their trade comes after all.
        """
        since, self._settled = self._settled, max(self._settled, before_date)
        return tuple(c for c in self.waiting() if since <= c.date < self._settled)

    def save(self) -> dict[str, Any]:
        """Return the state as a value that JSON can hold; equal books give equal values."""
        corrections = [c for day in self._days.values() for cs in day.of.values() for c in cs]
        admitted = [
            [[*scope.stream, *scope[1:]], date, trade_id, ts]
            for (scope, date), day in self._days.items()
            for trade_id, ts in day.admitted.items()
        ]
        return {
            "corrections": [c.to_json() for c in sorted(corrections, key=lambda c: c.offset)],
            "admitted": sorted(admitted),
            "settled": self._settled,
        }

    @classmethod
    def load(cls, state: dict[str, Any]) -> "CorrectionBook":
        """Make a book of what `save` returned."""
        book = cls()
        for value in state["corrections"]:
            book.add(Correction.from_json(value))
        for names, date, trade_id, ts in state["admitted"]:
            book.admit(Scope(StreamKey(*names[:3]), names[3], names[4]), date, trade_id, ts)
        book._settled = state["settled"]
        return book
