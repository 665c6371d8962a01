"""Cancels and corrections on their way into bars."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.bars import BarEngine
from marketpipe.bars.events import NO_EVENTS, BarEvents
from marketpipe.bars.repair import Recompute, RepairCause
from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.columns import decimals, i64_of, nanos_of
from marketpipe.domain.ticks import Ticks
from marketpipe.domain.units import NANOS
from marketpipe.normalize import Correction, CorrectionBook, Scope
from marketpipe.normalize.identity import SessionDates
from marketpipe.normalize.restored import chosen, stored_ticks
from marketpipe.pipelines.history import TradeHistory

Identity: TypeAlias = tuple[Scope, int, str]
"""Of a trade: scope, session date (days since the epoch), id."""

SETTLE_NS: Final = 15 * 60 * NANOS
"""How long after its last instant a session's date is over for cancels and corrections."""
LOOK_BACK_DAYS: Final = 7
"""How many days before its own a cancel or correction may name a trade of."""


class Repairs:
    """Applies cancels and corrections to the bars of one engine.

    Parameters
    ----------
    engine : builds bars of trades
    history : the trades admitted so far
    dates : session dates of identities
    book : what is known of cancels and corrections
    bring_back : called with instants (ns) whose bars the engine must have
    closed : session dates, by stream, whose bars are not this engine's
    """

    def __init__(
        self,
        engine: BarEngine,
        history: TradeHistory,
        dates: SessionDates,
        book: CorrectionBook,
        bring_back: Callable[[I64], None],
        closed: Mapping[StreamKey, frozenset[int]],
    ) -> None:
        self._bring_back, self._closed = bring_back, closed
        self._engine, self._history, self._dates = engine, history, dates
        self.book = book

    # -- a message -----------------------------------------------------------------------------

    def correct(self, message: Correction) -> tuple[Correction, int | None, BarEvents]:
        """Take a cancel or correction in, and rebuild the bars that it changes.

        Returns
        -------
        The message, under the date of its trade where that was found; when the trade happened
        (ns, None while unknown); the revisions
        """
        message = replace(message, date=self._date_of(message))
        chain = self.book.add(message)
        self._find(message, chain)
        members = self.book.members(message.scope, message.date, message.trade_id)
        happened = next(iter(members.values()), None)
        events = self._redo(message, members.values())
        return message, happened, events

    def settle(self, watermark_ns: int) -> tuple[Correction, ...]:
        """Return the messages of sessions over by an instant that wait in vain, each once."""
        today = int(self._dates(np.array([watermark_ns - SETTLE_NS], np.int64))[0])
        return self.book.settle(today)

    def _date_of(self, message: Correction) -> int:
        """Return the session date of the trade that a message names, else the message's own."""
        scope, last = message.scope, message.date
        ids = (message.trade_id,)
        if len(self._rows(message, (last, last), ids)):
            return last
        for date in range(last, last - LOOK_BACK_DAYS - 1, -1):
            if message.trade_id in self.book.concerns(scope, date):
                return date
        rows = self._rows(message, (last - LOOK_BACK_DAYS, last - 1), ids)
        dates = np.asarray(rows["session_date"].cast(pa.int32()).combine_chunks())
        return int(dates.max()) if len(dates) else last

    def _find(self, message: Correction, chain: Iterable[str]) -> None:
        """Note the trades of a chain that were admitted before the message came."""
        rows = self._rows(message, (message.date, message.date), tuple(chain))
        times = i64_of(rows["ts_event"]).tolist()
        for trade_id, ts_event in zip(rows["trade_id"].to_pylist(), times, strict=True):
            self.book.admit(message.scope, message.date, trade_id, ts_event)

    def _rows(self, message: Correction, dates: tuple[int, int], ids: tuple[str, ...]) -> pa.Table:
        """Return the admitted trades that have one of some ids within a message's scope."""
        scope = message.scope
        rows = self._history.trades(scope.stream, dates, before_offset=message.offset)
        rows = rows.take(np.flatnonzero(np.asarray(pc.is_in(rows["trade_id"], pa.array(ids)))))
        mine = [identity[0] == scope for identity in identities(rows)]
        return rows.filter(pa.array(mine, pa.bool_()))

    # -- a trade that some message is about --------------------------------------------------------

    def concerned(self, trades: pa.Table) -> list[tuple[int, Identity]]:
        """Return the canonical trades that a message is about: their rows, ascending, and ids."""
        return concerned(trades, self.book)

    def admit(self, trade: pa.Table, ticks: Ticks, known_at: int) -> BarEvents:
        """Feed one newly admitted trade of a chain, as far as it counts; redo the chain's others.

        Parameters
        ----------
        trade : the trade, a canonical row
        ticks : its batch, for the codes of streams
        known_at : ns, when it became known
        """
        scope, date, trade_id = identities(trade)[0]
        ts_event = int(trade["ts_event"][0].as_py())
        self.book.admit(scope, date, trade_id, ts_event)
        one = self.effective(trade, ticks.streams)
        parts = [self._engine.apply(one)] if len(one) else []
        others = self.book.members(scope, date, trade_id)
        others.pop(trade_id, None)
        if others:
            after = int(trade["offset"][0].as_py()) + 1
            parts.append(
                self._rebuild(scope.stream, others.values(), "correction", known_at, after)
            )
        return BarEvents.join(parts)

    # -- bars --------------------------------------------------------------------------------------

    def _redo(self, message: Correction, times: Iterable[int]) -> BarEvents:
        return self._rebuild(
            message.scope.stream, times, message.kind, message.known_at, message.offset
        )

    def _rebuild(
        self,
        stream: StreamKey,
        times: Iterable[int],
        cause: RepairCause,
        known_at: int,
        before_offset: int,
    ) -> BarEvents:
        self._bring_back(np.array(sorted(set(times)), np.int64))
        requests = {
            request
            for ts_event in times
            for request in self._engine.request_recompute(stream, ts_event, cause)
        }
        requests = {r for r in requests if not self._is_beyond(r)}
        if not requests:
            return NO_EVENTS
        left = self._left(stream, requests, before_offset)
        return BarEvents.join(
            [
                self._engine.recompute(request, _within(left, request), known_at)
                for request in sorted(requests, key=_finest_first)
            ]
        )

    def _is_beyond(self, request: Recompute) -> bool:
        """Whether a bar is not this engine's, or of a day whose trades an operator dropped."""
        date = int(self._engine.dates_of(np.array([request.ts_open], np.int64))[0])
        return date in self._closed.get(request.stream, ()) or self._history.lacks(date)

    def _left(
        self, stream: StreamKey, requests: Collection[Recompute], before_offset: int
    ) -> Ticks:
        """Return the trades that are left of the session dates of some bars."""
        first = min(request.ts_open for request in requests)
        last = max(_end(request) for request in requests) - 1
        edges = self._dates(np.array([first, last], np.int64))
        rows = self._history.trades(
            stream, (int(edges[0]), int(edges[1])), before_offset=before_offset
        )
        return self.effective(rows, self._engine.streams)

    def effective(self, trades: pa.Table, streams: tuple[StreamKey, ...]) -> Ticks:
        """Return what is left of canonical trades, after all messages known so far."""
        about = self.concerned(trades)
        if about:
            trades = corrected(trades, about, self.book)
        return stored_ticks(trades, self._engine.rule_set, "trade", streams)


def _end(request: Recompute) -> int:
    return max(request.ts_close, request.confirm_at)


def _finest_first(request: Recompute) -> tuple[int, int]:
    return request.ts_close - request.ts_open, request.ts_open


def _within(ticks: Ticks, request: Recompute) -> Ticks:
    return chosen(ticks, (ticks.ts_event >= request.ts_open) & (ticks.ts_event < _end(request)))


def identities(trades: pa.Table) -> list[Identity]:
    """Return (scope, session date, id) of canonical trades."""
    names = [trades[n].to_pylist() for n in ("source", "feed", "symbol", "venue", "tape")]
    dates = trades["session_date"].cast(pa.int32()).to_pylist()
    return [
        (Scope(StreamKey(source, feed, symbol), venue, tape or ""), date, trade_id)
        for source, feed, symbol, venue, tape, date, trade_id in zip(
            *names, dates, trades["trade_id"].to_pylist(), strict=True
        )
    ]


def concerned(trades: pa.Table, book: CorrectionBook) -> list[tuple[int, Identity]]:
    """Return the canonical trades that a message is about: their rows, ascending, and ids."""
    if not book or not len(trades):
        return []
    hits = np.flatnonzero(np.asarray(pc.is_in(trades["trade_id"], book.ids)))
    found = zip(hits.tolist(), identities(trades.take(hits)), strict=True)
    return [(row, i) for row, i in found if i[2] in book.concerns(i[0], i[1])]


def corrected(
    trades: pa.Table, about: list[tuple[int, Identity]], book: CorrectionBook
) -> pa.Table:
    """Return canonical trades without those that are gone, and with the corrected content."""
    keep = np.ones(len(trades), np.bool_)
    price, size = nanos_of(trades["price"]).copy(), nanos_of(trades["size"]).copy()
    conditions: list[str | None] | None = None
    for row, identity in about:
        verdict = book.verdict(*identity)
        keep[row] = verdict.counts
        if verdict.content is not None:
            price[row], size[row] = verdict.content.price, verdict.content.size
            conditions = conditions or trades["conditions"].to_pylist()
            conditions[row] = verdict.content.conditions
    columns: dict[str, Any] = {"price": decimals(price), "size": decimals(size)}
    if conditions is not None:
        columns["conditions"] = pa.array(conditions, pa.string())
    for name, column in columns.items():
        trades = trades.set_column(trades.column_names.index(name), trades.field(name), column)
    return trades.filter(pa.array(keep))
