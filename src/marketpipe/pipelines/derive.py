"""`Derivation`: everything downstream of a journal, as a function of its records.

It takes whole intervals between clock records, so that its output does not depend on how the
journal was cut when it was read. Its only input beside the records is `TradeHistory`, with the
quotes, which is its own earlier output.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from marketpipe.bars import BarEngine
from marketpipe.bars.events import NO_EVENTS, BarEvents
from marketpipe.bars.state import EngineState
from marketpipe.domain.batches import I64, BadRow, Batch, TradeBatch
from marketpipe.domain.columns import i64_of
from marketpipe.domain.findings import Example, Findings
from marketpipe.domain.overrides import Overrides
from marketpipe.domain.records import CLOCK, CONTROL
from marketpipe.domain.schemas import BARS
from marketpipe.domain.timeframe import Timeframe
from marketpipe.normalize import Correction, CorrectionBook, Normalized, RuleSet, TickNormalizer
from marketpipe.normalize.dates import identity_dates
from marketpipe.normalize.judge import bad_rows
from marketpipe.pipelines.arrivals import (
    Arrivals,
    Tick,
    check_follows,
    correction_messages,
    cuts_of,
    one_batch,
    resolved,
    unmatched,
    usable_corrections,
)
from marketpipe.pipelines.aside import SESSIONS_KEPT, Aside
from marketpipe.pipelines.connectivity import Connectivity
from marketpipe.pipelines.derivestate import STATE_FORMAT, read_state
from marketpipe.pipelines.fetched import Fetched
from marketpipe.pipelines.history import TradeHistory
from marketpipe.pipelines.lane import Lane, trades_in_line
from marketpipe.pipelines.ownership import Owned, by_stream
from marketpipe.pipelines.quarantine import quarantined
from marketpipe.pipelines.quoterepeats import QuoteRepeats
from marketpipe.pipelines.repairs import Repairs
from marketpipe.sources.parsed import MessageParser, Parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveSettings:
    """What shapes the output; part of the run manifest.

    Attributes
    ----------
    journal_id : which journal
    timeframes, calendar, session, overrides, rule_set : as in `BarEngine`
    price_types : bars of what, each with an engine of its own
    delay_ns, grace_ns : the watermark is a clock record's time less both
    """

    journal_id: str
    timeframes: tuple[Timeframe, ...]
    calendar: str = "24/7"
    session: str | None = None
    overrides: Overrides | None = None
    rule_set: RuleSet
    price_types: tuple[str, ...] = ("trade",)
    delay_ns: int = 0
    grace_ns: int = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What some intervals gave.

    Attributes
    ----------
    through : offset of the last record, a clock record
    tables : canonical kinds and ``quarantine``, in their schemas, rows in order of offset
    bars : events, schema BARS, in the order they became known
    bar_offsets : per event, int64: the clock record that ends its interval
    findings : counts of what was noticed
    """

    through: int
    tables: dict[str, pa.Table]
    bars: pa.Table
    bar_offsets: I64
    findings: Findings


class Derivation:
    """Derives ticks, bars and findings from a journal's records, interval by interval.

    Parameters
    ----------
    settings : what to build
    parser : of the journal's source
    history : the trades and quotes admitted before
    aside : folder for bars of finished sessions and older trade ids; None keeps all in memory
    closed : sessions whose bars belong to loads and rebuilds; what comes for them is kept and
        counted, and changes no bar here
    """

    def __init__(
        self,
        settings: DeriveSettings,
        parser: MessageParser,
        history: TradeHistory,
        aside: Path | None = None,
        closed: frozenset[Owned] = frozenset(),
    ) -> None:
        self.settings, self.history, self._aside = settings, history, aside
        self._closed = by_stream(closed)
        self._parser = parser
        self._dates = identity_dates(
            settings.calendar,
            new_york=settings.rule_set.anchoring == "ny_day",
            overrides=settings.overrides,
        )
        self._lanes = [self._lane(price_type) for price_type in settings.price_types]
        self._connectivity, self._fetched = Connectivity(), Fetched()
        self._quote_repeats = QuoteRepeats(history.quotes)
        self._repairs = self._repairs_with(CorrectionBook())
        self._vain: list[Correction] = []
        self.through = -1
        self.watermark_ns: int | None = None

    def _lane(self, price_type: str) -> Lane:
        s, ids = self.settings, self._aside
        return Lane(
            price_type,
            TickNormalizer(
                rule_set=s.rule_set, price_type=price_type, session_dates=self._dates, folder=ids
            ),
            BarEngine(
                s.timeframes,
                calendar=s.calendar,
                session=s.session,
                rule_set=s.rule_set,
                price_type=price_type,
                watermark="clock",
                overrides=s.overrides,
            ),
            aside=None if self._aside is None else Aside(self._aside / price_type),
        )

    def _repairs_with(self, book: CorrectionBook) -> Repairs | None:
        for lane in self._lanes:
            if lane.price_type == "trade":
                return Repairs(
                    lane.engine, self.history, self._dates, book, lane.bring_back, self._closed
                )
        return None

    @property
    def engines(self) -> Mapping[str, BarEngine]:
        """The engine of each price type."""
        return {lane.price_type: lane.engine for lane in self._lanes}

    # -- records in ----------------------------------------------------------------------------

    def apply(self, records: pa.Table, parsed: Parsed | None = None) -> Derived:
        """Take whole intervals of STORED, following on, the last a clock's; ``parsed`` or not yet.

        Raises
        ------
        StateError
            If they do not follow on what was applied before, or end without a clock record.
        """
        check_follows(records, self.through)
        batch = one_batch(records)
        parsed = parsed or self._parser.parse(batch)
        tables, findings, refused = self._admit(parsed, Arrivals(batch, self._fetched))
        corrections = tables.get("corrections")
        if "trades" in tables:
            self.history.extend(tables["trades"])
        if "quotes" in tables:
            self.history.quotes.extend(tables["quotes"])
        trades = trades_in_line(self._lanes, tables.get("trades"))
        walked = list(self._walk(records, trades, tables, corrections))
        tables["quarantine"] = quarantined(refused, records)
        self.through = int(records["offset"][-1].as_py())
        return Derived(
            through=self.through,
            tables={name: table for name, table in tables.items() if len(table)},
            bars=pa.concat_tables([BARS.empty_table(), *(bars for _, bars in walked)]),
            bar_offsets=np.repeat(
                np.array([offset for offset, _ in walked], np.int64),
                [len(bars) for _, bars in walked],
            ),
            findings=Findings.merge([findings, self._counted()]),
        )

    def _admit(
        self, parsed: Parsed, arrivals: Arrivals
    ) -> tuple[dict[str, pa.Table], Findings, list[BadRow]]:
        """Normalize what was parsed; return canonical tables, findings and refused rows."""
        parsed, again = self._quote_repeats.leave_out(parsed, arrivals, self._dates)
        tables = {
            kind: arrivals.complete(kind, table, self._dates)
            for kind, table in parsed.tables.items()
        }
        refused = list(parsed.bad)
        if "corrections" in tables:
            tables["corrections"], impossible = usable_corrections(tables["corrections"])
            refused += impossible
        found = [bad_rows(refused), again]
        found += [
            Findings.of("unparsed_message", n, (Example(0, "", kind),))
            for kind, n in parsed.unparsed.items()
        ]
        for batch in (parsed.trades, parsed.quotes):
            if batch is None or not len(batch):
                continue
            done = self._normalize(batch, arrivals)
            refused += (row for one in done[:1] for row in one.quarantined if row not in batch.bad)
            found += [one.findings for one in done]
            tables |= arrivals.ticks(batch, done[0] if done else None, self._dates, parsed)
        return tables, Findings.merge(found), refused

    def _normalize(self, batch: Batch, arrivals: Arrivals) -> list[Normalized]:
        """Put a batch through the normalizers that take it, and their ticks in line."""
        out = []
        for lane in self._lanes:
            if (lane.price_type == "trade") != isinstance(batch, TradeBatch):
                continue
            sealed, first = lane.normalizer.sealed_dates_of(batch), int(batch.row[0])
            lane.normalizer.unseal(self.history.ids(d, before_offset=first) for d in sealed)
            done = lane.normalizer.apply(batch, arrivals.fetched)
            rows = batch.row if done.admitted is None else batch.row[done.admitted]
            lane.give(done.ticks, rows, self._closed, arrivals.filling(rows))
            out.append(done)
        return out

    # -- interval by interval ----------------------------------------------------------------------

    def _walk(
        self,
        records: pa.Table,
        trades: pa.Table | None,
        tables: dict[str, pa.Table],
        corrections: pa.Table | None,
    ) -> Iterator[tuple[int, pa.Table]]:
        """Feed ticks up to each cut, let it happen, and yield the bars of each interval."""
        messages = correction_messages(corrections) if corrections is not None else []
        happened: list[int | None] = []
        pieces: dict[str, list[BarEvents]] = {lane.price_type: [] for lane in self._lanes}
        for cut in cuts_of(records, messages):
            for lane in self._lanes:
                pieces[lane.price_type] += self._feed(lane, cut.offset, trades)
            if cut.kind == CONTROL:
                self._control(records, cut.row)
            elif cut.kind == CLOCK:
                for bars in self._confirm(Tick.of(records, cut.row), pieces):
                    yield cut.offset, bars
            elif self._repairs is not None:
                message, at, events = self._repairs.correct(messages[cut.row])
                messages[cut.row] = message
                happened.append(at)
                pieces["trade"].append(events)
        if corrections is not None and self._repairs is not None:
            tables["corrections"] = resolved(corrections, messages, happened)

    def _feed(self, lane: Lane, offset: int, trades: pa.Table | None) -> Iterator[BarEvents]:
        """Feed a lane the ticks before an offset; those that a correction is about one by one."""
        to = lane.row_of(offset)
        repairs = self._repairs
        if lane.price_type == "trade" and trades is not None and repairs is not None:
            start = lane.fed
            for hit, _ in repairs.concerned(trades.slice(start, to - start)):
                yield lane.feed(start + hit)
                yield self._admit_corrected(lane, repairs, trades, start + hit)
        yield lane.feed(to)

    def _admit_corrected(
        self, lane: Lane, repairs: Repairs, trades: pa.Table, row: int
    ) -> BarEvents:
        if (ticks := lane.ticks) is None:
            return NO_EVENTS
        lane.fed = row + 1
        return repairs.admit(trades.slice(row, 1), ticks, int(ticks.known_at[row]))

    def _confirm(self, tick: Tick, pieces: dict[str, list[BarEvents]]) -> Iterator[pa.Table]:
        """Move the watermark, and yield the interval's bars, one price type after the other."""
        reached_ns = tick.through_ns - self.settings.delay_ns - self.settings.grace_ns
        self.watermark_ns = max(reached_ns, self.watermark_ns or reached_ns)
        if self._repairs is not None and self._repairs.book:
            self._vain += self._repairs.settle(self.watermark_ns)
        for lane in self._lanes:
            mine = pieces[lane.price_type]
            mine.append(lane.engine.advance(self.watermark_ns, tick.at_ns))
            events = BarEvents.join(mine)
            pieces[lane.price_type] = []
            if len(events):
                yield self._with_partial(events.to_arrow())

    def _with_partial(self, bars: pa.Table) -> pa.Table:
        opens, closes = (i64_of(bars[name]) for name in ("ts_open", "ts_close"))
        delay_ns = self.settings.delay_ns
        partial = self._connectivity.partial(opens + delay_ns, closes + delay_ns)
        if not partial.any():
            return bars
        at = bars.column_names.index("partial")
        return bars.set_column(at, bars.field("partial"), pa.array(partial))

    def _control(self, records: pa.Table, row: int) -> None:
        names = ("conn_started_ns", "conn_id", "ts_recv")
        started, conn, at = (int(records[name][row].as_py()) for name in names)
        facts = json.loads(records["payload"][row].as_py())
        self._connectivity.hear(facts, (started, conn), at)

    def _counted(self) -> Findings:
        """Return what the lanes, and messages without a trade, have come to since the last time."""
        vain, self._vain = self._vain, []
        return Findings.merge([*(lane.noticed() for lane in self._lanes), unmatched(vain)])

    # -- memory ------------------------------------------------------------------------------------

    def put_aside(self) -> None:
        """Take finished sessions out of memory; what comes for them later brings them back."""
        for lane in self._lanes:
            if lane.aside is not None:
                lane.aside.put(lane.engine)
            held = lane.normalizer.held_dates
            if len(held) > SESSIONS_KEPT:
                lane.normalizer.forget(held[-SESSIONS_KEPT])

    @property
    def aside_files(self) -> frozenset[str]:
        """Names of the files of what is put aside now; they belong to the state that is saved."""
        return frozenset(
            name for lane in self._lanes if lane.aside for name in lane.aside.index.values()
        )

    def tidy(self, saved: frozenset[str]) -> None:
        """Delete what was put aside and is neither part of a saved state nor of this one."""
        for lane in self._lanes:
            if lane.aside is not None:
                lane.aside.tidy(saved)

    # -- state -------------------------------------------------------------------------------------

    def save(self) -> bytes:
        """Return the state after the last record applied, as bytes.

        Trade ids and quotes are not in it: they are read back from canonical tables.
        """
        head = {
            "format": STATE_FORMAT,
            "through": self.through,
            "watermark_ns": self.watermark_ns,
            "streams": self._parser.streams,
            "connectivity": self._connectivity.save(),
            "fetched": self._fetched.save(),
            "quotes": self._quote_repeats.save(),
            "corrections": self._repairs.book.save() if self._repairs else None,
            "dates": {
                lane.price_type: [*lane.normalizer.held_dates, *lane.normalizer.sealed_dates]
                for lane in self._lanes
            },
            "aside": {
                lane.price_type: sorted(lane.aside.index.items()) if lane.aside else []
                for lane in self._lanes
            },
            "counted": {lane.price_type: dict(lane.counted) for lane in self._lanes},
        }
        parts = [json.dumps(head).encode(), self._parser.state()]
        parts += [lane.engine.save().to_bytes() for lane in self._lanes]
        return msgspec.msgpack.encode(parts)

    def load(self, state: bytes) -> None:
        """Go on where `save` was called; the parser must have been made of the same state.

        Raises
        ------
        StateError
            If the bytes are not such a state, or of other settings.
        """
        head, _, engines = read_state(state)
        for lane, saved in zip(self._lanes, engines, strict=True):
            lane.engine.load(EngineState.from_bytes(saved))
            lane.normalizer.mark_sealed(head["dates"][lane.price_type])
            lane.counted = Counter(head["counted"][lane.price_type])
            if lane.aside is not None:
                lane.aside.index = dict(head["aside"][lane.price_type])
        self._connectivity = Connectivity.load(head["connectivity"])
        self._fetched = Fetched(head["fetched"])
        self._quote_repeats = QuoteRepeats.load(self.history.quotes, head["quotes"])
        if head["corrections"] is not None:
            self._repairs = self._repairs_with(CorrectionBook.load(head["corrections"]))
        self.through, self.watermark_ns = head["through"], head["watermark_ns"]
