"""`TickNormalizer`: vendor records in, admitted ticks and findings out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64, BadRow, Batch, QuoteBatch, TradeBatch
from marketpipe.domain.findings import Findings
from marketpipe.domain.schemas import PRICE_TYPES
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import UsageError
from marketpipe.normalize import judge
from marketpipe.normalize.conditions import ConditionFlags
from marketpipe.normalize.identity import (
    IDS_IN_MEMORY,
    IdentityIndex,
    SessionDates,
    SessionIds,
    utc_dates,
)
from marketpipe.normalize.order import order_keys
from marketpipe.normalize.ruleset import RuleSet
from marketpipe.normalize.state import State, read_state, write_state

_T = TypeVar("_T", bound=np.generic)
_QUOTE_PRICES: Final = {"bid": judge.bid, "ask": judge.ask, "mid": judge.mid}


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalized:
    """What became of one batch; every row of it is a tick, in quarantine, or in the findings.

    Attributes
    ----------
    ticks : the admitted rows, in the batch's order
    admitted : which rows of the batch these are; None for all
    quarantined : the source's bad rows and those the normalizer refused, by row number
    findings : counts and examples of all that was noticed
    """

    ticks: Ticks
    admitted: npt.NDArray[np.bool_] | None
    quarantined: tuple[BadRow, ...]
    findings: Findings


class TickNormalizer:
    """Turns vendor records into canonical ticks.

    Refuses what cannot be a trade, leaves out repeats and unusable quotes, gives every tick its
    order key and the flags of its conditions. It keeps each row's identity and nothing else, so
    cutting the input into other batches changes nothing.

    Parameters
    ----------
    rule_set : which conditions may set what
    price_type : ``trade`` (of `TradeBatch`), or ``bid``, ``ask``, ``mid`` (of `QuoteBatch`).
        The price of ``mid`` is the exact sum bid + ask.
    session_dates : maps int64 ns to session dates (int32, days since the epoch), within which a
        vendor's ids are unique; UTC dates by default
    dedup : False admits repeated ids too, and keeps no identities
    folder : where identities that no longer fit in memory go; None keeps all of them in memory
    ids_in_memory : how many of a session stay in memory if there is a folder

    Raises
    ------
    UsageError
        If ``price_type`` is not one of the four.
    """

    def __init__(
        self,
        *,
        rule_set: RuleSet,
        price_type: str = "trade",
        session_dates: SessionDates | None = None,
        dedup: bool = True,
        folder: Path | None = None,
        ids_in_memory: int = IDS_IN_MEMORY,
    ) -> None:
        if price_type not in PRICE_TYPES:
            raise UsageError(
                f"price_type was {price_type!r}; valid are {', '.join(PRICE_TYPES)}; choose one"
            )
        self._rule_set = rule_set
        self._price_type = price_type
        self._dedup = dedup
        self._conditions = ConditionFlags(rule_set)
        self._identities = IdentityIndex(session_dates or utc_dates, folder, ids_in_memory)

    def apply(self, batch: Batch, fetched: judge.Fetched | None = None) -> Normalized:
        """Normalize one batch. Columns of the result may be views of the batch's.

        Parameters
        ----------
        fetched : tells rows that were fetched from a vendor's history; None: there are none

        Raises
        ------
        UsageError
            If the batch is of the wrong kind for the price type.
        StateError
            If a trade belongs to a sealed session (see `sealed_dates_of`); nothing has changed.
        """
        if isinstance(batch, TradeBatch) and self._price_type == "trade":
            return self._trades(batch, fetched)
        if isinstance(batch, QuoteBatch) and self._price_type != "trade":
            return self._quotes(batch)
        holds, fits = (
            ("trades", "trade") if isinstance(batch, TradeBatch) else ("quotes", "bid, ask or mid")
        )
        raise UsageError(
            f"price_type was {self._price_type!r} and the batch holds {holds}; choose {fits}"
        )

    @property
    def held_dates(self) -> tuple[int, ...]:
        """Session dates whose identities are in memory, ascending."""
        return self._identities.dates

    @property
    def sealed_dates(self) -> tuple[int, ...]:
        """Session dates that were sealed and not unsealed since, ascending."""
        return self._identities.sealed_dates

    def sealed_dates_of(self, batch: Batch) -> tuple[int, ...]:
        """Sealed dates that must be unsealed before the batch can be applied, ascending."""
        if not isinstance(batch, TradeBatch) or not self._dedup:
            return ()
        usable, _ = judge.trades(batch)
        return self._identities.sealed_dates_of(batch, _with_ids(batch, usable))

    def seal(self, before_date: int) -> tuple[SessionIds, ...]:
        """Forget the identities of sessions before a date (days since the epoch, exclusive).

        Returns what was forgotten, by date, so that the caller can keep it. Trades of these
        sessions are refused until `unseal`.
        """
        return self._identities.seal(before_date)

    def forget(self, before_date: int) -> None:
        """Seal without a copy, where ids can be had from elsewhere when they are needed again."""
        self._identities.forget(before_date)

    def unseal(self, sessions: Iterable[SessionIds]) -> None:
        """Take sealed sessions back, in any order; then it is as if they had not been sealed."""
        self._identities.unseal(sessions)

    def mark_sealed(self, dates: Iterable[int]) -> None:
        """Treat dates as sealed: their ids are to be given by `unseal` before they are needed."""
        self._identities.mark_sealed(dates)

    def save(self) -> State:
        """Return the whole state as named arrays; equal histories give equal arrays."""
        index = self._identities
        return write_state(
            rule_set=self._rule_set,
            price_type=self._price_type,
            dedup=self._dedup,
            sealed=index.sealed_dates,
            sessions=tuple(index.snapshot(date) for date in index.dates),
        )

    @classmethod
    def load(
        cls, state: State, *, rule_set: RuleSet, session_dates: SessionDates | None = None
    ) -> "TickNormalizer":
        """Make a normalizer that goes on where `save` was called.

        Raises
        ------
        StateError
            If the state was saved under another rule table, or is not a normalizer's.
        """
        saved = read_state(state, rule_set)
        self = cls(
            rule_set=rule_set,
            price_type=saved.price_type,
            session_dates=session_dates,
            dedup=saved.dedup,
        )
        self._identities.unseal(saved.sessions)
        self._identities.mark_sealed(saved.sealed)
        return self

    def _trades(self, batch: TradeBatch, fetched: judge.Fetched | None) -> Normalized:
        usable, refused = judge.trades(batch)
        repeats = Findings()
        keep = usable
        if self._dedup:
            positions = _with_ids(batch, usable)
            if len(positions):
                verdict = self._identities.admit(batch, positions)
                if verdict.any():
                    repeats = judge.repeats(batch, verdict, self._identities.first_row, fetched)
                    keep = verdict == 0 if usable is None else usable & (verdict == 0)
        judged = self._conditions.of(batch)
        ticks = self._ticks(
            batch, keep, batch.price, batch.size, self._conditions.flags(judged, len(batch))
        )
        unlisted = self._conditions.findings(batch, judged, keep)
        ahead = judge.future_stamps(batch, keep)
        return _normalized(batch, ticks, keep, refused, repeats, unlisted, ahead)

    def _quotes(self, batch: QuoteBatch) -> Normalized:
        price, keep, refused, left_out = _QUOTE_PRICES[self._price_type](batch)
        flags = np.full(len(batch), PLAIN, np.uint16)
        ticks = self._ticks(batch, keep, price, np.zeros(len(batch), np.int64), flags)
        ahead = judge.future_stamps(batch, keep)
        return _normalized(batch, ticks, keep, refused, left_out, ahead)

    def _ticks(
        self,
        batch: Batch,
        keep: npt.NDArray[np.bool_] | None,
        price: I64,
        size: I64,
        flags: npt.NDArray[np.uint16],
    ) -> Ticks:
        def kept(column: npt.NDArray[_T]) -> npt.NDArray[_T]:
            return column if keep is None else column[keep]

        major, mid, minor = order_keys(batch)
        known = batch.ts_recv
        return Ticks(
            streams=batch.dictionaries.streams,
            stream=kept(batch.stream),
            ts_event=kept(batch.ts_event),
            price=kept(price),
            size=kept(size),
            key_major=kept(major),
            key_mid=kept(mid),
            key_minor=kept(minor),
            flags=kept(flags),
            known_at=kept(np.full(len(batch), NULL_I64, np.int64) if known is None else known),
        )


def _with_ids(batch: TradeBatch, usable: npt.NDArray[np.bool_] | None) -> I64:
    """Positions of usable rows that have a vendor id."""
    if batch.id_hi is None:
        return np.empty(0, np.int64)
    identified = batch.id_hi >= 0
    if usable is not None:
        identified &= usable
    return np.flatnonzero(identified)


def _normalized(
    batch: Batch,
    ticks: Ticks,
    admitted: npt.NDArray[np.bool_] | None,
    refused: tuple[BadRow, ...],
    *findings: Findings,
) -> Normalized:
    quarantined = tuple(sorted((*batch.bad, *refused))) if refused else batch.bad
    return Normalized(
        ticks=ticks,
        admitted=admitted,
        quarantined=quarantined,
        findings=Findings.merge((judge.bad_rows(quarantined), *findings)),
    )
