"""Which rows can be ticks at all: value rules of trades and quotes, row by row."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I8, I64, BadRow, QuoteBatch, TradeBatch
from marketpipe.domain.findings import EXAMPLES_KEPT, Example, Findings
from marketpipe.domain.units import DAY_NS, LAST_TICK_NS, MAX_NANOS, NULL_I64, format_nanos
from marketpipe.normalize._dedup_kernel import CONFLICT, DUPLICATE

Mask: TypeAlias = npt.NDArray[np.bool_]
QuotePrice: TypeAlias = tuple[I64, Mask | None, tuple[BadRow, ...], Findings]
"""Price column, rows to keep (None: all), rows refused, findings on rows left out."""

_SHOWN_BYTES: Final = 80


class Fetched(Protocol):
    """Rows that were fetched from a vendor's history, beside its stream.

    A repeat of which either is one, the later or the first, was asked for: it is the finding
    ``refetched``, not ``duplicate``.

    Attributes
    ----------
    reach : so many rows after the first, at most, a repeat by the stream may come
    """

    reach: int

    def among(self, rows: I64) -> Mask:
        """Tell which rows are such; of rows that are out of reach it may say no."""


def trades(batch: TradeBatch) -> tuple[Mask | None, tuple[BadRow, ...]]:
    """Return the rows that can be trades (None: all), and the others as quarantine records.

    A row breaks the first of these rules that it breaks: an instant before 1970 or after 2260,
    a price or
    size out of range, a price that is not positive, a negative size. A size of 0 is allowed.
    """
    ts, price, size = batch.ts_event, batch.price, batch.size
    if not len(batch) or (
        ts.min() >= 0
        and ts.max() <= LAST_TICK_NS
        and price.min() > 0
        and price.max() <= MAX_NANOS
        and size.min() >= 0
        and size.max() <= MAX_NANOS
    ):
        return None, ()
    return _refuse(
        batch,
        (
            ("out_of_range", "ts_event", (ts < 0) | (ts > LAST_TICK_NS)),
            ("out_of_range", "price", _too_large(price)),
            ("out_of_range", "size", _too_large(size)),
            ("non_positive_price", "price", price <= 0),
            ("negative_size", "size", size < 0),
        ),
    )


def bid(batch: QuoteBatch) -> QuotePrice:
    """Price of bid bars; quotes without a bid above zero are left out."""
    return _one_side(batch, batch.bid, "bid")


def ask(batch: QuoteBatch) -> QuotePrice:
    """Price of ask bars; quotes without an ask above zero are left out."""
    return _one_side(batch, batch.ask, "ask")


def mid(batch: QuoteBatch) -> QuotePrice:
    """Twice the mid price; one-sided and crossed quotes are left out, locked ones counted."""
    bids, asks = batch.bid, batch.ask
    usable, refused = _usable_quotes(batch, (("bid", bids), ("ask", asks)))
    two_sided = (bids > 0) & (asks > 0)
    one_sided, crossed, locked = ~two_sided, two_sided & (bids > asks), two_sided & (bids == asks)
    if usable is not None:
        one_sided, crossed, locked = one_sided & usable, crossed & usable, locked & usable
    findings = Findings.merge(
        _quote_findings(batch, code, hit)
        for code, hit in (
            ("one_sided_quote", one_sided),
            ("crossed_quote", crossed),
            ("locked_quote", locked),
        )
    )
    keep = ~(one_sided | crossed) if usable is None else usable & ~(one_sided | crossed)
    price = np.zeros(len(batch), np.int64)
    np.add(bids, asks, out=price, where=keep)
    return price, None if keep.all() else keep, refused, findings


def repeats(
    batch: TradeBatch,
    verdict: I8,
    first_row: Callable[[TradeBatch, int], int],
    fetched: Fetched | None,
) -> Findings:
    """Count what the identity index found; ``first_row`` tells which row came first."""
    same = verdict == DUPLICATE
    again = np.zeros(len(batch), np.bool_)
    if fetched is not None:
        again = same & fetched.among(batch.row)
        streamed = np.flatnonzero(same & ~again)
        firsts = np.array([first_row(batch, i) for i in streamed.tolist()], np.int64)
        near = batch.row[streamed] - firsts <= fetched.reach
        again[streamed[near & fetched.among(firsts)]] = True
    parts = []
    for code, found in (
        ("duplicate", same & ~again),
        ("refetched", again),
        ("conflicting_duplicate", verdict == CONFLICT),
    ):
        hit = np.flatnonzero(found)
        examples = [
            Example(
                int(batch.row[i]),
                "trade_id",
                f"first in row {first_row(batch, i)}; here {_trade_text(batch, i)}",
            )
            for i in hit[:EXAMPLES_KEPT].tolist()
        ]
        parts.append(Findings.of(code, len(hit), examples))
    return Findings.merge(parts)


def future_stamps(batch: TradeBatch | QuoteBatch, keep: Mask | None) -> Findings:
    """Count kept rows (None: all) stamped more than a day after their receipt, where that is known.

    Clocks of venues and ours are never that far apart: such a stamp is a mistake.
    """
    received = batch.ts_recv
    if received is None or not len(batch):
        return Findings()
    hit = (received != NULL_I64) & (batch.ts_event > np.maximum(received, 0) + DAY_NS)
    if keep is not None:
        hit &= keep
    positions = np.flatnonzero(hit)
    examples = [
        Example(int(batch.row[i]), "ts_event", row_text(batch, int(i)))
        for i in positions[:EXAMPLES_KEPT]
    ]
    return Findings.of("future_stamp", len(positions), examples)


def bad_rows(rows: Iterable[BadRow]) -> Findings:
    """Count quarantined rows by reason."""
    by_reason: dict[str, list[BadRow]] = {}
    for bad in rows:
        by_reason.setdefault(bad.reason, []).append(bad)
    return Findings.merge(
        Findings.of(
            reason,
            len(found),
            [
                Example(b.row, b.field, b.raw[:_SHOWN_BYTES].decode("utf-8", "backslashreplace"))
                for b in found[:EXAMPLES_KEPT]
            ],
        )
        for reason, found in by_reason.items()
    )


def _one_side(batch: QuoteBatch, side: I64, name: str) -> QuotePrice:
    usable, refused = _usable_quotes(batch, ((name, side),))
    one_sided = side <= 0
    if usable is not None:
        one_sided &= usable
    findings = _quote_findings(batch, "one_sided_quote", one_sided)
    if findings or usable is not None:
        return side, ~one_sided if usable is None else usable & ~one_sided, refused, findings
    return side, None, refused, findings


def _usable_quotes(
    batch: QuoteBatch, sides: tuple[tuple[str, I64], ...]
) -> tuple[Mask | None, tuple[BadRow, ...]]:
    ts = batch.ts_event
    rules = [("out_of_range", "ts_event", (ts < 0) | (ts > LAST_TICK_NS))]
    rules += [("out_of_range", name, _too_large(s) & (s != NULL_I64)) for name, s in sides]
    if not any(broken.any() for _, _, broken in rules):
        return None, ()
    return _refuse(batch, tuple(rules))


def _too_large(value: I64) -> Mask:
    return (value > MAX_NANOS) | (value < -MAX_NANOS)


def _refuse(
    batch: TradeBatch | QuoteBatch, rules: tuple[tuple[str, str, Mask], ...]
) -> tuple[Mask, tuple[BadRow, ...]]:
    usable = np.ones(len(batch), np.bool_)
    refused = []
    for reason, field, broken in rules:
        for i in np.flatnonzero(broken & usable).tolist():
            raw = row_text(batch, i).encode("utf-8", "backslashreplace")
            refused.append(BadRow(int(batch.row[i]), reason, field, raw, len(raw)))
        usable &= ~broken
    return usable, tuple(refused)


def _quote_findings(batch: QuoteBatch, code: str, hit: Mask) -> Findings:
    positions = np.flatnonzero(hit)
    examples = [
        Example(int(batch.row[i]), "", _quote_text(batch, int(i)))
        for i in positions[:EXAMPLES_KEPT]
    ]
    return Findings.of(code, len(positions), examples)


def row_text(batch: TradeBatch | QuoteBatch, i: int) -> str:
    """Write a row as read: a batch does not carry the bytes that it came from."""
    symbol = batch.dictionaries.streams[int(batch.stream[i])].symbol
    values = _trade_text(batch, i) if isinstance(batch, TradeBatch) else _quote_text(batch, i)
    return f"symbol={symbol} {values}"


def _trade_text(batch: TradeBatch, i: int) -> str:
    return f"ts_ns={batch.ts_event[i]} price={_nanos(batch.price[i])} size={_nanos(batch.size[i])}"


def _quote_text(batch: QuoteBatch, i: int) -> str:
    return f"ts_ns={batch.ts_event[i]} bid={_nanos(batch.bid[i])} ask={_nanos(batch.ask[i])}"


def _nanos(value: np.int64) -> str:
    return "" if value == NULL_I64 else format_nanos(int(value))
