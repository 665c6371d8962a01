"""What `marketpipe verify --against-vendor` prints."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from marketpipe.domain.units import format_ns
from marketpipe.pipelines.certify import APART, Certificate, Difference, Outcome, SymbolDay
from marketpipe.pipelines.explain import Evidence
from marketpipe.pipelines.vendorside import COLUMNS, DAY, RULES, VWAP_DIGITS
from marketpipe.pipelines.whydiffers import Why

_DAYS_SHOWN: Final = 40
_EVIDENCE_SHOWN: Final = 20
_NAMES_SHOWN: Final = 10
_RAW_SHOWN: Final = 300


def print_certificate(found: Certificate, why: Why | None) -> None:
    """Print symbol-days, then cells by column, what was left out, and the first difference."""
    print(f"rules      {RULES}; vwap to the {VWAP_DIGITS} decimals that the vendor gives")
    shown = sorted(found.days, key=lambda one: not one.differences)[:_DAYS_SHOWN]
    for one in sorted(shown, key=lambda one: (one.date, one.symbol, one.timeframe == DAY)):
        _print_day(one)
    if len(found.days) > len(shown):
        print(f"           … and {len(found.days) - len(shown):,} more symbol-days")
    outcomes: Counter[Outcome] = Counter()
    cells: Counter[str] = Counter()
    for one in found.days:
        outcomes.update(one.outcomes)
        cells.update(one.cells)
    matched = sum(one.matched for one in found.days)
    print(f"bars       {outcomes['exact']:,} of {matched:,} matched equal{_one_sided(outcomes)}")
    print(f"cells      {' · '.join(f'{c} {cells[c]:,}' for c in COLUMNS)}, each of {matched:,}")
    apart = _apart(outcomes, sum(one.partial_equal for one in found.days))
    if apart:
        print(f"apart      {apart}")
    for line in _left_out(found):
        print(f"left out   {line}")
    if found.first is not None and why is not None:
        _print_difference(found.first, why)


def _print_day(one: SymbolDay) -> None:
    cells = f"{one.cells.total():,} of {one.matched * len(COLUMNS):,} cells"
    apart = _apart(one.outcomes, one.partial_equal)
    print(
        f"day        {one.source}/{one.feed} {one.symbol}@{one.timeframe} "
        f"{date(1970, 1, 1) + timedelta(days=one.date)}: "
        f"{one.outcomes['exact']:,} of {one.matched:,} bars, {cells}{_one_sided(one.outcomes)}"
        f"{f'; apart: {apart}' if apart else ''}"
    )


def _one_sided(outcomes: Mapping[Outcome, int]) -> str:
    words: dict[Outcome, str] = {"only_ours": "only ours", "only_theirs": "only the vendor's"}
    return "".join(f", {outcomes[n]:,} {word}" for n, word in words.items() if outcomes[n])


def _apart(outcomes: Mapping[Outcome, int], partial_equal: int) -> str:
    found = {name: f"{word} {outcomes[name]:,}" for name, word in APART.items() if outcomes[name]}
    if "partial" in found:
        found["partial"] += f" ({partial_equal:,} equal)"
    return ", ".join(found.values())


def _left_out(found: Certificate) -> Iterator[str]:
    if found.without:
        yield f"no bars of the vendor for {_some(found.without)}: subscribe to them"
    if found.untraded:
        yield f"no trade was received of {_some(found.untraded)}: subscribe to trades"
    if found.left_out:
        yield (
            f"crypto, {_some(found.left_out)}: the vendor's bars hold mid-prices of quotes and "
            "cannot be built of trades; name them with --symbols to compare all the same"
        )
    yield from found.other_feeds


def _some(names: Collection[str]) -> str:
    some = sorted(names)
    more = len(some) - _NAMES_SHOWN
    return ", ".join(some[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _print_difference(first: Difference, why: Why) -> None:
    pair = first.pair
    print(
        f"first      {pair.symbol}@{pair.timeframe} {format_ns(pair.ts_open)} of {pair.source}/"
        f"{pair.feed}: {_what(first)}"
    )
    if pair.theirs is not None and pair.heard_ns is not None:
        print(
            f"           the vendor's is {pair.kind}, received {format_ns(pair.heard_ns)} as "
            f"{pair.journal_id}:{pair.offset}"
        )
    for number, (said, cause, known_at) in enumerate(why.revisions):
        values = ", ".join(
            f"{column} {_plain(value)}" for column, value in zip(COLUMNS, said, strict=True)
        )
        print(f"           our revision {number} {cause}, known {format_ns(known_at)}: {values}")
    for hint in why.hints:
        print(f"           {hint}")
    _print_evidence(why.evidence)
    if why.revisions:
        feed = pair.feed or "''"
        print(
            f"           all of it: marketpipe explain {pair.symbol} {pair.timeframe} "
            f"{format_ns(pair.ts_open)} --source {pair.source} --feed {feed}"
        )


def _what(first: Difference) -> str:
    pair = first.pair
    if pair.theirs is None:
        return "only ours"
    if pair.ours is None:
        return "only the vendor's"
    return ", ".join(
        f"{column} was {_plain(ours)}, the vendor's {_plain(theirs)}"
        for column, ours, theirs, same in zip(
            COLUMNS, pair.ours, pair.theirs, pair.equal, strict=True
        )
        if not same
    )


def _print_evidence(evidence: tuple[Evidence, ...]) -> None:
    # What does not count in full says more than what does.
    odd = sorted(evidence, key=lambda one: one.used and "open/close," in one.decision)
    shown = sorted(odd[:_EVIDENCE_SHOWN], key=lambda one: (one.ts_event, one.offset))
    counted = sum(one.used for one in evidence)
    print(f"           messages: {counted:,} of {len(evidence):,} count; {len(shown):,} shown")
    for one in shown:
        print(
            f"{'+' if one.used else '-'} {format_ns(one.ts_event)} {one.kind} {one.price} × "
            f"{one.size} id {one.trade_id or '-'} [{one.conditions}] {one.decision}"
        )
        raw = one.raw[:_RAW_SHOWN].decode("utf-8", "backslashreplace")
        print(f"    {one.journal_id}:{one.offset} {raw}")


def _plain(value: Decimal | int | None) -> str:
    if value is None:
        return "none"
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
