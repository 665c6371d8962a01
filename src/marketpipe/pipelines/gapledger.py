"""`GapLedger`: the gaps of a feed, in its journal at once, in the store as soon as that can be."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pyarrow as pa

from marketpipe.domain.units import DAY_NS
from marketpipe.errors import StorageError
from marketpipe.pipelines.deriver import FIRST_PAUSE_S, LONGEST_PAUSE_S, may_pass
from marketpipe.pipelines.intake import Append
from marketpipe.store import GapEntry, GapState, GapStore
from marketpipe.store.gaps import DAY

EVENTS: Final[dict[GapState, str]] = {
    "open": "gap",
    "repaired": "gap_repaired",
    "refused": "gap_refused",
}
"""What a control record of an entry is called, by the state of the entry."""

Noted: TypeAlias = Callable[[int], list[GapEntry]]
"""Reads entries from control records that were received at some time, ns since the epoch, UTC, or
later; it may return older ones too."""

_CLOCK_STEPS_NS: Final = DAY_NS
"""How far a clock may have been set back between two runs."""

_log = logging.getLogger("marketpipe.gaps")


class GapLedger:
    """Entries by number. A feed never waits for the store, and a crash loses no entry.

    An entry that is opened or closed goes into the journal first, as a control record. The store
    gets it from `run`, which tries again while it is refused; what it never got is read back from
    the control records by the next run's `load`.

    Parameters
    ----------
    store : where entries are kept
    append : takes records for the journal
    control : makes a control record of facts
    """

    def __init__(
        self,
        store: GapStore,
        append: Append,
        control: Callable[[dict[str, Any]], pa.RecordBatch],
    ) -> None:
        self._store, self._append, self._control = store, append, control
        self._unsaved: dict[int, GapEntry] = {}
        self._news = asyncio.Event()

    @property
    def unsaved(self) -> int:
        """How many entries the store does not have as they are now."""
        return len(self._unsaved)

    async def load(self, journal_id: str, noted: Noted) -> list[GapEntry]:
        """Return the entries of earlier runs, by number.

        Parameters
        ----------
        noted : reads the entries from the control records; what they know and the store does
            not, because it was locked or lost, counts and is saved
        """
        kept = {entry.number: entry for entry in await self._store.every(journal_id)}
        # Entries are saved in order, so what the store lacks was noted after what it has.
        ends = (entry.end_ns for entry in kept.values() if entry.reason != DAY)
        since_ns = max(0, max(ends, default=0) - _CLOCK_STEPS_NS)
        for entry in await asyncio.to_thread(noted, since_ns):
            known = kept.get(entry.number)
            if known is None or (
                known.state == "open" and (entry.state != "open" or entry.end_ns > known.end_ns)
            ):
                kept[entry.number] = entry
                self._saved_later(entry)
        return [kept[number] for number in sorted(kept)]

    async def enter(self, entry: GapEntry) -> None:
        """Keep an entry that is new, longer or closed now; it is in the journal on return."""
        facts = {
            "event": EVENTS[entry.state],
            "number": entry.number,
            "start_ns": entry.start_ns,
            "end_ns": entry.end_ns,
            "reason": entry.reason,
            "symbols": list(entry.symbols),
            "trades": entry.trades,
            "bars_compared": entry.bars_compared,
            "bars_exact": entry.bars_exact,
            "detail": entry.detail,
        }
        await self._append(self._control(facts))
        self._saved_later(entry)

    def remark(self, entry: GapEntry) -> None:
        """Keep an entry whose detail has changed, in the store alone."""
        self._saved_later(entry)

    def _saved_later(self, entry: GapEntry) -> None:
        self._unsaved[entry.number] = entry
        self._news.set()

    async def run(self) -> None:
        """Save entries until cancelled.

        Raises
        ------
        StorageError
            What no waiting mends.
        """
        pause_s = 0.0
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.save()
            except StorageError as failure:
                if not may_pass(failure):
                    raise
                if not pause_s:
                    _log.error(
                        "gaps cannot be listed until this is mended; the journal keeps them: %s",
                        failure,
                    )
                pause_s = min(2 * pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
                self._news.set()
                await asyncio.sleep(pause_s)
            else:
                if pause_s:
                    _log.warning("gaps are listed again")
                pause_s = 0.0

    async def save(self) -> None:
        """Save what the store does not have.

        Raises
        ------
        StorageError
            If the store refuses.
        """
        for number in sorted(self._unsaved):
            entry = self._unsaved[number]
            await self._store.save(entry)
            if self._unsaved[number] is entry:
                del self._unsaved[number]
