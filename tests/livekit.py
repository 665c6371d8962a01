"""Feeds for tests of the live pipeline: generated trades as a vendor's frames, with faults."""

import json
import random  # noqa: TID251
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa

from marketpipe.domain.records import STORED
from marketpipe.domain.timeframe import parse_many
from marketpipe.domain.units import DAY_NS, NANOS, format_nanos, format_ns
from marketpipe.journal import Journal, MemoryJournal
from marketpipe.normalize import RuleSet
from marketpipe.pipelines.derive import Derivation, Derived, DeriveSettings
from marketpipe.pipelines.derivestate import read_state
from marketpipe.pipelines.history import TradeHistory, no_lake
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.records import RecordBuilder
from marketpipe.sources.synthetic import SyntheticConfig, SyntheticSource

OPEN_NS = 1_767_623_400 * NANOS  # 2026-01-05 14:30 UTC, a Monday: the open in New York

Message: TypeAlias = dict[str, Any]
Feed: TypeAlias = "Sequence[tuple[int, Message | None]]"
"""(ts_recv, message) in order of receipt; None for a tick of the clock."""


@dataclass(frozen=True, kw_only=True)
class FeedSpec:
    """A generated feed; shares are of trades."""

    symbols: tuple[str, ...] = ("AAPL", "BTC/USD", "MSFT")
    trades: int = 3000
    minutes: int = 10
    opens: tuple[int, ...] = (OPEN_NS,)
    seed: int = 1
    late: float = 0.0
    duplicates: float = 0.0
    cancels: float = 0.0
    corrections: float = 0.0
    early: float = 0.0
    """Of cancels and corrections: those that arrive before the trade they are about."""
    bad: float = 0.0
    per_frame: int = 10
    clock_ns: int = NANOS


FAULTY = FeedSpec(late=0.01, duplicates=0.01, cancels=0.01, corrections=0.01, early=0.3)
"""One in a hundred of each fault."""


def messages(spec: FeedSpec) -> list[tuple[int, Message]]:
    """Return (ts_recv, message) in order of receipt."""
    config = SyntheticConfig(
        symbols=spec.symbols,
        sessions=tuple((at, at + spec.minutes * 60 * NANOS) for at in spec.opens),
        trades=spec.trades,
        seed=spec.seed,
        late_share=spec.late,
        duplicate_share=spec.duplicates,
        with_ts_recv=True,
        venues=("V", "Q"),
        with_tape=True,
    )
    rng = random.Random(spec.seed)
    out: list[tuple[int, Message]] = []
    for batch in SyntheticSource(config).batches():
        names = batch.dictionaries
        assert batch.ts_recv is not None
        assert batch.id_lo is not None
        assert batch.venue is not None
        assert batch.tape is not None
        for i in range(len(batch)):
            trade = {
                "T": "t",
                "S": names.streams[int(batch.stream[i])].symbol,
                "i": int(batch.id_lo[i]),
                "x": names.venues[int(batch.venue[i])],
                "p": Decimal(format_nanos(int(batch.price[i]))),
                "s": int(batch.size[i]) // NANOS,
                "t": format_ns(int(batch.ts_event[i])),
                "c": ["@"],
                "z": names.tapes[int(batch.tape[i])],
            }
            at = int(batch.ts_recv[i])
            out.append((at, trade))
            out.extend(_after(spec, rng, at, trade))
    return sorted(out, key=lambda pair: pair[0])


def _after(
    spec: FeedSpec, rng: random.Random, at: int, trade: Message
) -> Iterator[tuple[int, Message]]:
    draw = rng.random()
    when = at + rng.choice([-1, 1] if rng.random() < spec.early else [1]) * rng.randrange(
        NANOS, 120 * NANOS
    )
    if draw < spec.cancels:
        yield when, cancel(trade, at)
    elif draw < spec.cancels + spec.corrections:
        new = trade["i"] + 10**12
        price = trade["p"] + rng.choice([Decimal("-0.25"), Decimal("0.5")])
        first = correction(trade, at, new_id=new, price=price, size=trade["s"] + 1)
        yield when, first
        if rng.random() < 0.3:  # a correction of the correction, or its cancel
            again = {**trade, "i": new}
            if rng.random() < 0.5:
                yield (
                    when + rng.randrange(1, 60 * NANOS),
                    correction(again, at + 1, new_id=new + 1, price=price + 1, size=trade["s"]),
                )
            else:
                yield when + 5 * NANOS, cancel(again, at + 1)
    if rng.random() < spec.bad:
        yield at + 1, {**trade, "i": trade["i"] + 10**13, "p": -1}


def trade(
    number: int, ts_ns: int, price: str, size: int = 100, *, symbol: str = "AAPL", venue: str = "V"
) -> Message:
    """Make a trade message."""
    return {
        "T": "t", "S": symbol, "i": number, "x": venue, "p": Decimal(price), "s": size,
        "t": format_ns(ts_ns), "c": ["@"], "z": "A",
    }  # fmt: skip


def cancel(of: Message, ts_ns: int) -> Message:
    """Make the cancel of a trade message."""
    facts = {"T": "x", "i": of["i"], "p": of["p"], "s": of["s"], "a": "C"}
    return facts | {"S": of["S"], "x": of["x"], "z": of["z"], "t": format_ns(ts_ns)}


def correction(
    of: Message, ts_ns: int, *, new_id: int, price: Decimal | str, size: int | None = None
) -> Message:
    """Make the correction of a trade message, to another price and maybe another size."""
    return {
        "T": "c", "S": of["S"], "x": of["x"], "z": of["z"], "t": format_ns(ts_ns),
        "oi": of["i"], "op": of["p"], "os": of["s"], "oc": of["c"],
        "ci": new_id, "cp": Decimal(price), "cs": of["s"] if size is None else size, "cc": of["c"],
    }  # fmt: skip


def encode(message: Message) -> str:
    """Write a message as the vendor would: prices are plain JSON numbers."""
    return json.dumps(message, separators=(",", ":"), default=float)


def records(spec: FeedSpec) -> pa.Table:
    """Return the whole feed as records, a clock record at every second that has passed."""
    return framed(with_clock(messages(spec), spec.clock_ns), spec.per_frame)


def with_clock(found: Feed, every_ns: int = NANOS) -> Feed:
    """Put ticks of the clock between messages, none where nothing came for longer, three after."""
    out: list[tuple[int, Message | None]] = []
    clock = found[0][0] // every_ns * every_ns + every_ns
    for when, message in found:
        if when >= clock:
            out.append((clock, None))
            last = when // every_ns * every_ns
            if last > clock:
                out.append((last, None))
            clock = last + every_ns
        out.append((when, message))
    return [*out, *((clock + extra * every_ns, None) for extra in range(3))]


def framed(feed: Feed, per_frame: int = 1) -> pa.Table:
    """Return a feed as records of one connection, up to ``per_frame`` messages to a frame."""
    first = feed[0][0] - NANOS
    builder = RecordBuilder(
        source="alpaca", feed="sip", stream="trades", conn_id=1, conn_started_ns=first
    )
    builder.add_control({"event": "connected"}, first)
    frame: list[str] = []
    at = first
    for when, message in feed:
        if frame and (message is None or len(frame) == per_frame):
            builder.add_frame(f"[{','.join(frame)}]".encode(), at)
            frame = []
        at = when
        if message is None:
            builder.add_clock(when)
        else:
            frame.append(encode(message))
    if frame:
        builder.add_frame(f"[{','.join(frame)}]".encode(), at)
    return pa.Table.from_batches([builder.take()])


def week(seed: int = 20260105, days: int = 7) -> pa.Table:
    """Return records of some days, with cancels, late trades and repeats of earlier days."""
    rng = random.Random(seed)
    feed: list[tuple[int, Message | None]] = []
    past: list[Message] = []
    for day in range(days):
        start = OPEN_NS + day * DAY_NS
        today = [
            # ids begin anew each day
            trade(n, start + n * 3 * NANOS, f"{rng.randrange(900, 1100) / 100:.2f}", 1 + n)
            for n in range(1, 41)
        ]
        feed += [(start + (n + 1) * 3 * NANOS, message) for n, message in enumerate(today)]
        for n, old in enumerate(rng.sample(past, min(len(past), 12))):
            at = start + (200 + 5 * n) * NANOS
            late = {**old, "i": 1_000 + day * 100 + n, "p": old["p"] + 3}
            kinds = [late, old, cancel(old, at), correction(old, at, new_id=5_000 + n, price="20")]
            feed.append((at, rng.choice(kinds)))
        feed += [(start + n * NANOS, None) for n in (62, 130, 199, 221, 300, 3_700)]
        past += today
    return framed(sorted(feed, key=lambda event: event[0]))


def stored(journal: Journal) -> pa.Table:
    """Return everything a journal holds."""
    reader = journal.reader()
    try:
        return pa.Table.from_batches(list(reader.read(reader.first_offset)), STORED)
    finally:
        reader.close()


def numbered(feed: pa.Table) -> pa.Table:
    """Return records as a journal stores them."""
    journal = MemoryJournal("alpaca")
    journal.append(feed)
    return stored(journal)


def derive_settings(timeframes: str = "1s,1m,5m,1h,1d", **changes: Any) -> DeriveSettings:
    """Return the usual settings: plain rules, 24/7."""
    return DeriveSettings(
        journal_id="alpaca",
        timeframes=tuple(parse_many(timeframes)),
        rule_set=RuleSet.load("plain"),
        **changes,
    )


def derivation(settings: DeriveSettings) -> Derivation:
    """Make a derivation that has no lake behind it."""
    return Derivation(settings, AlpacaParser(), TradeHistory(no_lake, 0))


def derived(settings: DeriveSettings, rows: pa.Table) -> Derived:
    """Derive stored records in one go."""
    return derivation(settings).apply(rows)


def reloaded(old: Derivation) -> Derivation:
    """Make a derivation that goes on from what another one saved."""
    state = old.save()
    head, parser_state, _ = read_state(state)
    new = Derivation(old.settings, AlpacaParser(head["streams"], parser_state), old.history)
    new.load(state)
    return new
