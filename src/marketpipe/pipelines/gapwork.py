"""`GapWork`: an entry of the gap ledger on its way, an hour of history at a time."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from marketpipe.domain.units import NANOS
from marketpipe.sources.connector import Gap
from marketpipe.store import GapEntry

PIECE_NS: Final = 3600 * NANOS
"""How much history is held and compared at once, so that memory does not grow with a gap."""
QUOTES_NS: Final = 600 * NANOS
"""For how much time quotes are asked for at once: they are many, and other gaps do not wait."""
NEAR_NS: Final = 60 * NANOS
"""Gaps of one reason that are no further apart are one entry, until that is asked for."""
JOINED_NS: Final = 300 * NANOS
"""The longest that an entry of several gaps may be: its first is not to wait for ever."""

RecordKind: TypeAlias = Literal["trades", "quotes", "bars"]


class Compared(NamedTuple):
    """Minute bars of the vendor beside those built of its trades."""

    compared: int
    exact: int
    first: str

    def and_(self, later: "Compared") -> "Compared":
        """Add up with those of a later time."""
        counts = self.compared + later.compared, self.exact + later.exact
        return Compared(*counts, self.first or later.first)


_NOTHING: Final = Compared(0, 0, "")


class Pages(Protocol):
    """Trades, quotes and bars of one stretch of history, as they come in."""

    def records(
        self, kind: RecordKind, start_ns: int, end_ns: int
    ) -> AsyncIterator[pa.RecordBatch]:
        """Fetch ``[start_ns, end_ns)``; yields records, a page at a time.

        Where that failed before, it goes on behind the last page.
        """

    @property
    def trades(self) -> int:
        """How many trades there were so far, each counted once."""

    @property
    def quotes(self) -> int:
        """How many quotes there were so far; a stretch that is asked for again counts once."""

    def compare(self, start_ns: int, end_ns: int) -> Compared:
        """Compare the vendor's minute bars in ``[start_ns, end_ns)`` with those of the trades."""


class History(Protocol):
    """A vendor's history."""

    def pages(self, symbols: tuple[str, ...]) -> Pages:
        """Begin to take in a stretch of it."""

    def control(self, facts: dict[str, Any], at_ns: int) -> pa.RecordBatch:
        """Make a control record."""


class Asked(NamedTuple):
    """What is to be fetched: ``[start_ns, end_ns)``."""

    kind: RecordKind
    start_ns: int
    end_ns: int


def quotes_between(start_ns: int, end_ns: int, last_ns: int) -> list[Asked]:
    """Return what to ask for to have the quotes in ``[start_ns, end_ns)``.

    Parameters
    ----------
    last_ns : the last part is of so much time, ns, unless there is less
    """
    tail_ns = max(start_ns, end_ns - last_ns)
    starts = [*range(start_ns, tail_ns, QUOTES_NS), tail_ns]
    return [Asked("quotes", *span) for span in pairwise([*starts, end_ns])]


@dataclass(slots=True)
class GapWork:
    """An entry on its way: which piece of it is at hand, and what of that is still to be fetched.

    Attributes
    ----------
    entry : as it is now
    due_ns : when it goes on
    failures : how often the vendor failed since the last page
    looks : how often the bars of the piece were compared
    pages : of the piece at hand; None until its trades are asked for
    left : what is still to be fetched before the next step
    with_bars : whether bars are among it, or fetched
    has_pages : whether any page of the entry has come
    trades, quotes, found : of what is done
    no_quotes : why the vendor gives none; "" if it does
    """

    entry: GapEntry
    due_ns: int = 0
    failures: int = 0
    looks: int = 0
    pages: Pages | None = None
    left: deque[Asked] = field(default_factory=deque)
    with_bars: bool = False
    has_pages: bool = False
    trades: int = 0
    quotes: int = 0
    no_quotes: str = ""
    found: Compared = _NOTHING
    _done_ns: int = 0

    def takes(self, gap: Gap, symbols: tuple[str, ...]) -> bool:
        """Tell whether a new gap can still become part of this one."""
        entry = self.entry
        return (
            self.pages is None
            and not self.has_pages
            and (entry.reason, entry.symbols) == (gap.reason, symbols)
            and entry.start_ns <= gap.start_ns <= entry.end_ns + NEAR_NS
            and gap.end_ns - entry.start_ns <= JOINED_NS
        )

    def piece(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Return the first piece of ``[start_ns, end_ns)`` that is not done."""
        begin_ns = max(start_ns, self._done_ns)
        return begin_ns, min(begin_ns + PIECE_NS, end_ns)

    def begin(self, pages: Pages, trades: Asked, *quotes: Asked) -> None:
        """Ask for the trades of a piece, and then for quotes."""
        self.pages, self.with_bars = pages, False
        self.left = deque([trades, *quotes])

    def go_on(self, *asked: Asked) -> None:
        """Ask for the bars of the piece, and what belongs to them."""
        self.with_bars = True
        self.left.extend(asked)

    def go_without_quotes(self, why: str) -> None:
        """Ask for no quotes any more."""
        self.no_quotes = why
        self.left = deque(asked for asked in self.left if asked.kind != "quotes")

    def begin_again(self) -> None:
        """Forget what was fetched of the piece at hand."""
        self.pages = None
        self.left.clear()

    def settle(self, pages: Pages, found: Compared, end_ns: int) -> None:
        """Count the piece at hand, which ends at ``end_ns``, and leave it."""
        self.trades += pages.trades
        self.found = self.found.and_(found)
        self._done_ns, self.looks = end_ns, 0
        self.begin_again()
