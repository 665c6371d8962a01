"""Why a bar of ours is not the vendor's: its revisions, its trades, and which could account."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.units import DAY_NS, NANOS
from marketpipe.pipelines.certify import Difference
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.explain import Evidence, evidence_of
from marketpipe.pipelines.vendorside import (
    COLUMNS,
    DAY,
    RULES,
    Pair,
    Revision,
    VendorSide,
    same_vwap,
)

_PRICES: Final = ("open", "high", "low", "close")
_SETS_PRICES: Final = ("open/close", "high/low")


@dataclass(frozen=True, slots=True)
class Why:
    """What is known of a difference.

    Attributes
    ----------
    revisions : of our bar, first to last; empty where there is none
    evidence : trades, cancels and corrections of its span, in order of event time
    hints : sentences: what of the evidence could account for a cell, or why there is no bar
    """

    revisions: tuple[Revision, ...]
    evidence: tuple[Evidence, ...]
    hints: tuple[str, ...]


def why_differs(folder: DataFolder, difference: Difference) -> Why:
    """Find out what there is to say about a difference.

    Raises
    ------
    LakeError
        If the lake cannot be read.
    """
    pair = difference.pair
    with VendorSide(folder.lake, (pair.symbol,)) as sides:
        revisions = tuple(sides.revisions(pair))
    end_ns = pair.ts_close or pair.ts_open + (DAY_NS if pair.timeframe == DAY else 60 * NANOS)
    stream = StreamKey(pair.source, pair.feed, pair.symbol)
    journals = [pair.journal_id] if pair.journal_id else []
    evidence = evidence_of(folder, stream, pair.timeframe, (pair.ts_open, end_ns), RULES, journals)
    return Why(revisions, evidence, tuple(_hints(pair, evidence)))


def _hints(pair: Pair, evidence: Sequence[Evidence]) -> Iterator[str]:
    trades = [one for one in evidence if one.kind == "trade"]
    if pair.theirs is None:
        yield "the vendor sent no bar of it, although it was connected until its update was due"
    elif pair.ours is None:
        yield _why_no_bar(trades)
    else:
        for column, same in zip(COLUMNS, pair.equal, strict=True):
            if not same and column in _PRICES:
                yield from _priced(column, getattr(pair.theirs, column), trades)
            elif not same and column == "volume":
                yield from _sized(pair.ours.volume, pair.theirs.volume, trades)
            elif not same and column == "vwap":
                yield from _averaged(pair.theirs.vwap, trades)


def _why_no_bar(trades: Sequence[Evidence]) -> str:
    if not trades:
        return "no trade of it was received"
    if not any(one.used for one in trades):
        return f"none of the {len(trades)} trades received counts"
    if not any(one.used and _SETS_PRICES[0] in one.decision for one in trades):
        return (
            f"none of the {len(trades)} trades received may set open and close, and {RULES} emits "
            "no bar without prices"
        )
    return "there are trades for it, but no bar"


def _priced(column: str, theirs: Decimal | None, trades: Sequence[Evidence]) -> Iterator[str]:
    if theirs is None:
        return
    found = [one for one in trades if Decimal(one.price) == theirs]
    if not found:
        yield f"{column}: no trade at the vendor's {_plain(theirs)} was received for it"
    for one in found[:1]:
        yield f"{column}: the vendor's {_plain(theirs)} is the price of {_named(one)}"


def _sized(
    ours: Decimal | None, theirs: Decimal | None, trades: Sequence[Evidence]
) -> Iterator[str]:
    if ours is None or theirs is None:
        return
    more = theirs - ours
    word = "more" if more > 0 else "less"
    found = [one for one in trades if Decimal(one.size) == abs(more) and one.used == (more < 0)]
    account = f"; of that size is {_named(found[0])}" if found else ""
    yield f"volume: the vendor's is {_plain(abs(more))} {word}{account}"


def _averaged(theirs: Decimal | None, trades: Sequence[Evidence]) -> Iterator[str]:
    """Say so if the vendor's is the mean of all that counts in volume, odd lots too."""
    counted = [one for one in trades if one.used and " volume" in one.decision]
    if theirs is None or any(one.decision.endswith("as corrected") for one in counted):
        return
    with localcontext(prec=60):
        size = sum((Decimal(one.size) for one in counted), Decimal(0))
        worth = sum((Decimal(one.price) * Decimal(one.size) for one in counted), Decimal(0))
        if size and same_vwap(worth / size, theirs):
            yield f"vwap: the vendor's {_plain(theirs)} is that of all trades that count in volume"


def _named(one: Evidence) -> str:
    return f"trade {one.trade_id or '-'} [{one.conditions}], which {one.decision}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
