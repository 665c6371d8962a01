"""Exact deduplication by the vendor's identity, one set of ids per session date.

The identity of a trade is (stream, venue, tape, vendor id) within its session date. Ids are kept
whole, so no two trades are ever taken for one. Of a trade's content (ts_event, price, size) a
64-bit hash is kept: of 2**64 conflicting duplicates about one passes for an equal one, and it is
left out all the same. An id takes 28 bytes (36 in a session that has text ids) and 6 to 13 more
for the table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I8, I32, I64, Dictionaries, StreamKey, TradeBatch
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import StateError
from marketpipe.normalize import _dedup_kernel as kernel
from marketpipe.normalize.codetable import CodeTable

U64: TypeAlias = npt.NDArray[np.uint64]
SessionDates: TypeAlias = Callable[[I64], I32]

_SMALLEST: Final = 512
_SLOTS_PER_5_IDS: Final = 8
_T = TypeVar("_T", bound=np.generic)


class Scope(NamedTuple):
    """Within what a vendor's id is unique on one day."""

    stream: StreamKey
    venue: str
    tape: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionIds:
    """The identities of one session date, in order of first arrival.

    Attributes
    ----------
    date : days since 1970-01-01
    scopes : names of the codes in ``scope``, sorted
    scope : int32
    id_hi, id_lo : int64, as in `TradeBatch`
    content : uint64, `content_fingerprint` of the first trade
    row : int64, row of the first trade
    """

    date: int
    scopes: tuple[Scope, ...]
    scope: I32
    id_hi: I64
    id_lo: I64
    content: U64
    row: I64

    def __len__(self) -> int:
        return len(self.id_lo)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionIds):
            return NotImplemented
        return (self.date, self.scopes) == (other.date, other.scopes) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("scope", "id_hi", "id_lo", "content", "row")
        )

    def __hash__(self) -> int:
        return hash((self.date, len(self)))


def utc_dates(ts_event: I64) -> I32:
    """Session dates of a market that never closes: days since the epoch, in UTC."""
    return (ts_event // DAY_NS).astype(np.int32)


def content_fingerprint(ts_event: I64, price: I64, size: I64) -> U64:
    """Hash each trade's content (int64 ns, nanos, nanos) to 64 bits."""
    out = np.empty(len(ts_event), np.uint64)
    kernel.fingerprint(ts_event, price, size, out)
    return out


class IdentityIndex:
    """The identities seen so far, by session date.

    Parameters
    ----------
    session_dates : maps int64 ns to the session date (int32, days since the epoch) in which the
        vendor's ids are unique
    """

    def __init__(self, session_dates: SessionDates = utc_dates) -> None:
        self._session_dates = session_dates
        self._scopes: list[Scope] = []
        self._codes: dict[Scope, int] = {}
        self._names = Dictionaries(streams=())
        self._table = CodeTable(self._scope_code)
        self._sets: dict[int, _IdSet] = {}
        self._sealed: set[int] = set()

    @property
    def dates(self) -> tuple[int, ...]:
        """Session dates whose identities are held, ascending."""
        return tuple(sorted(self._sets))

    @property
    def sealed_dates(self) -> tuple[int, ...]:
        """Session dates that were sealed and not read back, ascending."""
        return tuple(sorted(self._sealed))

    def sealed_dates_of(self, batch: TradeBatch, positions: I64) -> tuple[int, ...]:
        """Return the sealed dates that the batch's rows with ids belong to, ascending."""
        if not self._sealed or not len(positions):
            return ()
        dates = np.unique(self._session_dates(batch.ts_event[positions]))
        return tuple(int(d) for d in dates if int(d) in self._sealed)

    def admit(self, batch: TradeBatch, positions: I64) -> I8:
        """Enter rows of a batch, all with ids, in their order.

        Returns
        -------
        int8 by batch position: NEW, DUPLICATE or CONFLICT (`_dedup_kernel`)

        Raises
        ------
        StateError
            If a row belongs to a sealed session; nothing has been entered then.
        """
        sealed = self.sealed_dates_of(batch, positions)
        if sealed:
            raise StateError(
                f"session dates {', '.join(map(str, sealed))} (days since 1970-01-01) are sealed "
                "and the batch has trades of them; read their ids back with unseal() first"
            )
        verdict = np.zeros(len(batch), np.int8)
        scope = self._scope_codes(batch)
        id_hi, id_lo = _present(batch.id_hi), _present(batch.id_lo)
        content = content_fingerprint(batch.ts_event, batch.price, batch.size)
        for date, rows in self._by_date(batch.ts_event, positions):
            ids = self._sets.setdefault(date, _IdSet())
            ids.admit(
                rows,
                scope,
                id_hi=id_hi,
                id_lo=id_lo,
                content=content,
                row=batch.row,
                verdict=verdict,
            )
        return verdict

    def first_row(self, batch: TradeBatch, position: int) -> int:
        """Row of the first trade with the identity of a row that has been entered."""
        one = np.array([position], np.int64)
        date = int(self._session_dates(batch.ts_event[one])[0])
        scope = self._scope_codes(batch)[position]
        id_hi, id_lo = _present(batch.id_hi), _present(batch.id_lo)
        return self._sets[date].first_row(scope, id_hi[position], id_lo[position])

    def seal(self, before_date: int) -> tuple[SessionIds, ...]:
        """Forget the sessions before a date and return what was forgotten, by date."""
        sealed = tuple(self.snapshot(date) for date in self.dates if date < before_date)
        for session in sealed:
            del self._sets[session.date]
            self._sealed.add(session.date)
        return sealed

    def unseal(self, sessions: Iterable[SessionIds]) -> None:
        """Take sessions back; ids that are held already stay as they are."""
        for session in sessions:
            scope = np.array([self._code(s) for s in session.scopes], np.int32)[session.scope]
            ids = self._sets.setdefault(session.date, _IdSet())
            everything = np.arange(len(session), dtype=np.int64)
            verdict = np.zeros(len(session), np.int8)
            ids.admit(
                everything,
                np.ascontiguousarray(scope, np.int32),
                id_hi=session.id_hi,
                id_lo=session.id_lo,
                content=session.content,
                row=session.row,
                verdict=verdict,
            )
            self._sealed.discard(session.date)

    def mark_sealed(self, dates: Iterable[int]) -> None:
        """Treat dates as sealed (when state is loaded)."""
        self._sealed.update(dates)

    def snapshot(self, date: int) -> SessionIds:
        """Copy one session's identities; equal histories give equal snapshots."""
        ids = self._sets[date]
        used = np.unique(ids.scope[: ids.count])
        order = sorted(used.tolist(), key=self._scopes.__getitem__)
        recode = np.zeros(len(self._scopes) + 1, np.int32)
        recode[order] = np.arange(len(order), dtype=np.int32)
        id_lo = ids.id_lo[: ids.count].copy()
        return SessionIds(
            date=date,
            scopes=tuple(self._scopes[code] for code in order),
            scope=recode[ids.scope[: ids.count]],
            id_hi=ids.id_hi[: ids.count].copy() if len(ids.id_hi) else np.zeros_like(id_lo),
            id_lo=id_lo,
            content=ids.content[: ids.count].copy(),
            row=ids.row[: ids.count].copy(),
        )

    def _by_date(self, ts_event: I64, positions: I64) -> list[tuple[int, I64]]:
        """Cut positions by session date; each piece keeps its order."""
        if not len(positions):
            return []
        dates = self._session_dates(
            ts_event if len(positions) == len(ts_event) else ts_event[positions]
        )
        if dates.min() == dates.max():
            return [(int(dates[0]), positions)]
        order = np.argsort(dates, kind="stable")
        cuts = np.flatnonzero(np.diff(dates[order])) + 1
        pieces = np.split(positions[order], cuts)
        starts = np.concatenate([np.zeros(1, np.int64), cuts])
        return [(int(dates[order[s]]), p) for s, p in zip(starts, pieces, strict=True)]

    def _scope_codes(self, batch: TradeBatch) -> I32:
        self._names = names = batch.dictionaries
        return self._table.gather(
            (batch.stream, batch.venue, batch.tape), (names.streams, names.venues, names.tapes)
        )

    def _scope_code(self, stream: int, venue: int, tape: int) -> int:
        names = self._names
        return self._code(Scope(names.streams[stream], names.venues[venue], names.tapes[tape]))

    def _code(self, scope: Scope) -> int:
        code = self._codes.setdefault(scope, len(self._scopes))
        if code == len(self._scopes):
            self._scopes.append(scope)
        return code


class _IdSet:
    """Growable arrays around the kernel's set."""

    def __init__(self) -> None:
        self.count = 0
        self.slots = np.zeros(2 * _SMALLEST, np.int32)
        self.scope = np.empty(_SMALLEST, np.int32)
        self.id_hi = np.empty(0, np.int64)
        self.id_lo = np.empty(_SMALLEST, np.int64)
        self.content = np.empty(_SMALLEST, np.uint64)
        self.row = np.empty(_SMALLEST, np.int64)

    def admit(
        self,
        rows: I64,
        scope: I32,
        *,
        id_hi: I64,
        id_lo: I64,
        content: U64,
        row: I64,
        verdict: I8,
    ) -> None:
        self._reserve(self.count + len(rows), wide=len(rows) > 0 and int(id_hi.max()) > 0)
        self.count = int(
            kernel.admit(
                rows, scope, id_hi, id_lo, content, row, self.count,
                self.slots, self.scope, self.id_hi, self.id_lo, self.content, self.row, verdict,
            )
        )  # fmt: skip

    def first_row(self, scope: np.int32, id_hi: np.int64, id_lo: np.int64) -> int:
        entry, _ = kernel.find(self.slots, self.scope, self.id_hi, self.id_lo, scope, id_hi, id_lo)
        return int(self.row[entry])

    def _reserve(self, count: int, *, wide: bool) -> None:
        if wide and not len(self.id_hi):
            self.id_hi = np.zeros(len(self.id_lo), np.int64)
        if count > len(self.id_lo):
            capacity = 1 << (count - 1).bit_length()
            self.scope = _grown(self.scope, self.count, capacity)
            self.id_lo = _grown(self.id_lo, self.count, capacity)
            self.content = _grown(self.content, self.count, capacity)
            self.row = _grown(self.row, self.count, capacity)
            if len(self.id_hi):
                self.id_hi = _grown(self.id_hi, self.count, capacity)
        if count * _SLOTS_PER_5_IDS > len(self.slots) * 5:
            slots = 1 << (count * _SLOTS_PER_5_IDS // 5).bit_length()
            self.slots = np.zeros(slots, np.int32)
            kernel.fill_slots(self.slots, self.scope, self.id_hi, self.id_lo, self.count)


def _grown(array: npt.NDArray[_T], count: int, capacity: int) -> npt.NDArray[_T]:
    # Pages past `count` are not touched, so the head room takes no memory yet.
    larger = np.empty(capacity, array.dtype)
    larger[:count] = array[:count]
    return larger


def _present(column: I64 | None) -> I64:
    if column is None:
        raise StateError("id_hi was present and id_lo None; a batch has both or neither")
    return column
