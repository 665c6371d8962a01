"""`QuoteRepeats`: what a gap's history and the stream both gave of quotes, which have no ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import I64, QuoteBatch
from marketpipe.domain.columns import i64_of
from marketpipe.domain.findings import EXAMPLES_KEPT, Example, Findings
from marketpipe.normalize.identity import SessionDates
from marketpipe.normalize.judge import row_text
from marketpipe.pipelines.arrivals import Arrivals
from marketpipe.pipelines.fetched import Fetched
from marketpipe.pipelines.quotehistory import U64, QuoteHistory, QuotesWanted, Span, quote_keys
from marketpipe.sources.parsed import Parsed

Mask: TypeAlias = npt.NDArray[np.bool_]
Page: TypeAlias = tuple[int, int, int]
"""Connection (conn_started_ns, conn_id) and number of a page."""

_MOST_SPANS = 64
_NEVER = -(1 << 62)


class Reached(NamedTuple):
    """When fetched quotes happened, ``[first_ns, last_ns]``, and the last one's offset."""

    first_ns: int
    last_ns: int
    offset: int


@dataclass(slots=True)
class _Copies:
    """Copies of one quote that stand: how many, the first's offset, the last fetched one's."""

    count: int = 0
    first: int = -1
    fetched: int = _NEVER

    def add(self, offset: int, *, is_fetched: bool) -> None:
        self.count += 1
        self.first = offset if self.first < 0 else min(self.first, offset)
        if is_fetched:
            self.fetched = max(self.fetched, offset)


@dataclass(slots=True)
class QuoteRepeats:
    """Leaves out quotes that are there already.

    A feed may send two copies of a quote, so copies are counted: the n-th on a page of history
    stands if fewer than n stand before it. One that is streamed is left out if a copy stands that
    was fetched, no more than `Fetched.reach` records before. Without anything fetched nothing is
    compared.

    Parameters
    ----------
    history : the quotes that stand
    """

    history: QuoteHistory
    _reached: Reached | None = None
    _page: Page | None = None
    _ends: dict[int, int] = field(default_factory=dict)
    """Copies of the last instant of that page, which the next one may go on with."""

    def leave_out(
        self, parsed: Parsed, arrivals: Arrivals, dates: SessionDates
    ) -> tuple[Parsed, Findings]:
        """Return what was parsed without repeats, and their count."""
        batch, fetched = parsed.quotes, arrivals.fetched
        if batch is None or not len(batch) or fetched is None:
            return parsed, Findings()
        filling = arrivals.filling(batch.row)
        fills = np.zeros(len(batch), np.bool_) if filling is None else filling
        looked_at = self._looked_at(batch, fills, fetched)
        if not looked_at.any():
            return parsed, Findings()
        some = _only(parsed, batch, looked_at)
        assert some.quotes is not None  # noqa: S101 - there are some
        rows = arrivals.ticks(some.quotes, None, dates, some)["quotes"]
        stand, firsts = self._judge(rows, fills[looked_at], fetched, int(batch.row[0]))
        found = _findings(some.quotes, stand, firsts)
        if stand.all():
            return parsed, found
        keep = np.ones(len(batch), np.bool_)
        keep[looked_at] = stand
        return _only(parsed, batch, keep), found

    def _looked_at(self, batch: QuoteBatch, fills: Mask, fetched: Fetched) -> Mask:
        """Tell which quotes were fetched, or happened when such did: only those may be repeats."""
        times, looked_at = batch.ts_event, fills.copy()
        reached = self._reached
        if reached is not None and int(batch.row[0]) - reached.offset <= fetched.reach:
            looked_at |= (times >= reached.first_ns) & (times <= reached.last_ns)
        if fills.any():
            looked_at |= (times >= times[fills].min()) & (times <= times[fills].max())
        return looked_at

    def _judge(
        self, rows: pa.Table, fills: Mask, fetched: Fetched, before_offset: int
    ) -> tuple[Mask, list[int]]:
        """Tell which of some quotes stand, and of the first others the offset of a copy."""
        keys, offsets, times = quote_keys(rows), i64_of(rows["offset"]), i64_of(rows["ts_event"])
        nth = self._numbered(rows, keys, times, fills)
        copies = self._standing(rows, keys, fetched, before_offset)
        _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
        known = np.isin(keys, np.fromiter(copies, np.uint64, len(copies)))
        stand = np.ones(len(keys), np.bool_)
        firsts: list[int] = []
        for i in np.flatnonzero(known | (counts[place] > 1)).tolist():
            one, offset = copies.setdefault(int(keys[i]), _Copies()), int(offsets[i])
            if fills[i]:
                stand[i] = nth[i] > one.count
            else:
                stand[i] = offset - one.fetched > fetched.reach
            if stand[i]:
                one.add(offset, is_fetched=bool(fills[i]))
            elif len(firsts) < EXAMPLES_KEPT:
                firsts.append(one.first)
        self._note(times[fills & stand], offsets[fills & stand], fetched)
        return stand, firsts

    def _standing(
        self, rows: pa.Table, keys: U64, fetched: Fetched, before_offset: int
    ) -> dict[int, _Copies]:
        """Return the copies of some quotes that stand, by key."""
        told = self.history.standing(_wanted(rows, before_offset))
        same = np.isin(told.keys, keys)
        offsets = told.offsets[same]
        copies: dict[int, _Copies] = {}
        among = fetched.among(offsets).tolist()
        for key, offset, is_fetched in zip(
            told.keys[same].tolist(), offsets.tolist(), among, strict=True
        ):
            copies.setdefault(key, _Copies()).add(offset, is_fetched=is_fetched)
        return copies

    def _note(self, times: I64, offsets: I64, fetched: Fetched) -> None:
        if not len(times):
            return
        last, now = self._reached, Reached(int(times.min()), int(times.max()), int(offsets[-1]))
        if last is not None and int(offsets[0]) - last.offset <= fetched.reach:
            first_ns, last_ns = min(last.first_ns, now.first_ns), max(last.last_ns, now.last_ns)
            now = now._replace(first_ns=first_ns, last_ns=last_ns)
        self._reached = now

    # -- pages -------------------------------------------------------------------------------------

    def _numbered(self, rows: pa.Table, keys: U64, times: I64, fills: Mask) -> I64:
        """Return which copy on its page each fetched quote is, from 1."""
        nth, at = np.ones(len(keys), np.int64), np.flatnonzero(fills)
        if not len(at):
            return nth
        major, mid, minor = (i64_of(rows[f"key_{part}"])[at] for part in ("major", "mid", "minor"))
        pages = np.stack([major, mid, minor >> 20])
        turns = 1 + np.flatnonzero((pages[:, 1:] != pages[:, :-1]).any(axis=0))
        for begin, end in pairwise([0, *turns.tolist(), len(at)]):
            started, conn, number = pages[:, begin].tolist()
            mine = at[begin:end]
            nth[mine] = self._on_page((started, conn, number), keys[mine], times[mine])
        return nth

    def _on_page(self, page: Page, keys: U64, times: I64) -> I64:
        """Return which copy each quote of a page is; it may go on with the page before."""
        nth = _numbers(keys)
        if self._page == (page[0], page[1], page[2] - 1):
            for key, count in self._ends.items():
                nth[keys == key] += count
        last = times == times[-1]
        ends = zip(keys[last].tolist(), nth[last].tolist(), strict=True)
        # Of the copies of one quote the last, which has the greatest number, is left.
        self._page, self._ends = page, dict(ends)
        return nth

    # -- state -------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return the state as a value that JSON can hold."""
        ends = sorted(self._ends.items())
        return {"reached": self._reached, "page": self._page, "ends": ends}

    @classmethod
    def load(cls, history: QuoteHistory, state: Mapping[str, Any]) -> "QuoteRepeats":
        """Make one of what `save` returned."""
        reached, page = state["reached"], state["page"]
        return cls(
            history,
            None if reached is None else Reached(*reached),
            None if page is None else (page[0], page[1], page[2]),
            dict(state["ends"]),
        )


def _numbers(keys: U64) -> I64:
    """Return which of its equals each key is, from 1."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    begins = np.repeat(starts, np.diff(starts, append=len(keys)))
    nth = np.empty(len(keys), np.int64)
    nth[order] = np.arange(len(keys)) - begins + 1
    return nth


def _wanted(rows: pa.Table, before_offset: int) -> QuotesWanted:
    """Ask for the quotes that may be copies of some."""
    times = [("ts_event", "min"), ("ts_event", "max")]
    found = rows.group_by("symbol").aggregate(times).sort_by("symbol").to_pylist()
    spans = [Span((one["symbol"],), one["ts_event_min"], one["ts_event_max"]) for one in found]
    if len(spans) > _MOST_SPANS:
        # A condition of hundreds of parts costs more than rows that are not needed.
        first_ns, last_ns = min(s.first_ns for s in spans), max(s.last_ns for s in spans)
        spans = [Span(tuple(one["symbol"] for one in found), first_ns, last_ns)]
    days = rows["session_date"].cast(pa.int32()).to_numpy()
    return QuotesWanted(tuple(spans), (int(days.min()), int(days.max())), before_offset)


def _only(parsed: Parsed, batch: QuoteBatch, keep: Mask) -> Parsed:
    """Return what was parsed with some of the quotes alone."""
    columns = {
        name: getattr(batch, name)[keep]
        for name in (
            "stream",
            "row",
            "ts_event",
            "bid",
            "ask",
            "bid_size",
            "ask_size",
            "venue",
            "ts_recv",
        )
        if getattr(batch, name) is not None
    }
    if batch.arrival is not None:
        columns["arrival"] = type(batch.arrival)(*(column[keep] for column in batch.arrival))
    details = parsed.quote_details
    return replace(
        parsed,
        quotes=replace(batch, **columns),
        quote_details=None if details is None else details.filter(pa.array(keep)),
    )


def _findings(batch: QuoteBatch, stand: Mask, firsts: list[int]) -> Findings:
    out = np.flatnonzero(~stand).tolist()
    examples = [
        Example(int(batch.row[i]), "", f"first in row {first}; here {row_text(batch, i)}")
        for i, first in zip(out, firsts, strict=False)
    ]
    return Findings.of("refetched", len(out), examples)
