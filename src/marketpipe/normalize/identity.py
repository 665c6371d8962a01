"""Exact deduplication by the vendor's identity, one set of ids per session date.

The identity of a trade is (stream, venue, tape, vendor id) within its session date. Ids are kept
whole, so no two trades are ever taken for one. Of a trade's content (ts_event, price, size) a
64-bit hash is kept: of 2**64 conflicting duplicates about one passes for an equal one, and it is
left out all the same. An id takes 28 bytes (36 in a session that has text ids) and 6 to 13 more
for the table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I8, I32, I64, Dictionaries, StreamKey, TradeBatch
from marketpipe.domain.units import DAY_NS
from marketpipe.errors import StateError
from marketpipe.normalize import _dedup_kernel as kernel
from marketpipe.normalize.codetable import CodeTable
from marketpipe.normalize.frozen import Entries
from marketpipe.normalize.sessionset import SessionSet

U64: TypeAlias = npt.NDArray[np.uint64]
SessionDates: TypeAlias = Callable[[I64], I32]

IDS_IN_MEMORY: Final = 1 << 20
"""How many ids of a session stay in memory where there is a folder for the others."""


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
    folder : where ids that no longer fit in memory go, into files without a name; None keeps
        all in memory
    ids_in_memory : how many of a session stay in memory if there is a folder
    """

    def __init__(
        self,
        session_dates: SessionDates = utc_dates,
        folder: Path | None = None,
        ids_in_memory: int = IDS_IN_MEMORY,
    ) -> None:
        self._session_dates = session_dates
        self._folder, self._ids_in_memory = folder, ids_in_memory
        self._scopes: list[Scope] = []
        self._codes: dict[Scope, int] = {}
        self._names = Dictionaries(streams=())
        self._table = CodeTable(self._scope_code)
        self._sets: dict[int, SessionSet] = {}
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
            self._session(date).admit(
                rows, Entries(scope, id_hi, id_lo, content, batch.row), verdict
            )
            self._freeze_if_full(date)
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
        self.forget(before_date)
        return sealed

    def forget(self, before_date: int) -> None:
        """Seal the sessions before a date without copying them."""
        for date in self.dates:
            if date < before_date:
                self._sets.pop(date).close()
                self._sealed.add(date)

    def unseal(self, sessions: Iterable[SessionIds]) -> None:
        """Take sessions back; ids that are held already stay as they are."""
        for session in sessions:
            scope = np.array([self._code(s) for s in session.scopes], np.int32)[session.scope]
            entries = Entries(
                np.ascontiguousarray(scope, np.int32),
                session.id_hi,
                session.id_lo,
                session.content,
                session.row,
            )
            verdict = np.zeros(len(session), np.int8)
            for start in range(0, len(session), self._ids_in_memory):
                rows = np.arange(start, min(start + self._ids_in_memory, len(session)))
                self._session(session.date).admit(rows, entries, verdict)
                self._freeze_if_full(session.date)
            self._sealed.discard(session.date)

    def mark_sealed(self, dates: Iterable[int]) -> None:
        """Treat dates as sealed (when state is loaded)."""
        self._sealed.update(dates)

    def snapshot(self, date: int) -> SessionIds:
        """Copy one session's identities; equal histories give equal snapshots."""
        ids = self._sets[date].entries()
        used = np.unique(ids.scope)
        order = sorted(used.tolist(), key=self._scopes.__getitem__)
        recode = np.zeros(len(self._scopes) + 1, np.int32)
        recode[order] = np.arange(len(order), dtype=np.int32)
        return SessionIds(
            date=date,
            scopes=tuple(self._scopes[code] for code in order),
            scope=recode[ids.scope],
            id_hi=ids.id_hi,
            id_lo=ids.id_lo,
            content=ids.content,
            row=ids.row,
        )

    def _session(self, date: int) -> SessionSet:
        session = self._sets.get(date)
        if session is None:
            session = self._sets[date] = SessionSet()
        return session

    def _freeze_if_full(self, date: int) -> None:
        session = self._sets.get(date)
        if session and self._folder and session.in_memory >= self._ids_in_memory:
            session.freeze(len(self._scopes), self._folder)

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


def _present(column: I64 | None) -> I64:
    if column is None:
        raise StateError("id_hi was present and id_lo None; a batch has both or neither")
    return column
