"""The rows of one load, day by day and bucket by bucket: what is new of them, and their bars."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from marketpipe.domain.bars import Cause
from marketpipe.domain.batches import I64, StreamKey, TradeBatch
from marketpipe.domain.buckets import bucket_of
from marketpipe.domain.columns import i64_of
from marketpipe.domain.schemas import BARS, TRADES
from marketpipe.journal import JournalReader
from marketpipe.lake import LakeTable
from marketpipe.normalize import TickNormalizer
from marketpipe.normalize.canonical import Knowledge, canonical_ticks
from marketpipe.normalize.dates import identity_dates
from marketpipe.normalize.judge import bad_rows
from marketpipe.normalize.restored import distinct_rows
from marketpipe.pipelines.arrivals import one_batch
from marketpipe.pipelines.derive import DeriveSettings
from marketpipe.pipelines.lakereads import Days, live_spans, read_rows
from marketpipe.pipelines.ledgerbars import Scope, restatement
from marketpipe.pipelines.loadlog import JOURNAL, Run
from marketpipe.pipelines.ownership import Feed, Owned
from marketpipe.pipelines.quarantine import quarantined
from marketpipe.pipelines.reload import Reload, beside, restatements
from marketpipe.sources.csvfile import CsvParser

if TYPE_CHECKING:
    from marketpipe.pipelines.load import LoadReport

_CHUNK = 262_144
_EVER = (0, 2**63 - 1)


class Part(NamedTuple):
    """A session date (days since 1970-01-01) and a bucket."""

    date: int
    bucket: int


@dataclass(slots=True)
class _Change:
    """What a part has: the symbols with new trades, with restated ones, all of them, and when."""

    seen: set[str] = field(default_factory=set)
    filled: set[str] = field(default_factory=set)
    restated: set[str] = field(default_factory=set)
    first_ns: int = 2**63 - 1
    last_ns: int = 0


class LoadStage:
    """Derives one load from its records; its output depends on them and on the lake alone.

    Parameters
    ----------
    folder : empty, for what does not stay in memory
    settings : the bars to build
    tables : of the lake
    run : the load, all of its lines received
    feeds : the live feeds that are kept beside it
    """

    def __init__(
        self,
        folder: Path,
        settings: DeriveSettings,
        tables: dict[str, LakeTable],
        run: Run,
        feeds: list[Feed],
    ) -> None:
        self._folder, self._settings, self._tables = folder, settings, tables
        self._recorded_at = run.recorded_at
        self._first, self._last = run.first, run.received or run.first
        self._feeds = feeds
        self._live: dict[StreamKey, tuple[int, int]] = {}
        self._dates = identity_dates(
            settings.calendar,
            new_york=settings.rule_set.anchoring == "ny_day",
            overrides=settings.overrides,
        )
        self._normalizer = TickNormalizer(rule_set=settings.rule_set, session_dates=self._dates)
        self._sessions: set[Owned] = set()
        self._changes: dict[tuple[Part, tuple[str, str]], _Change] = {}

    # -- records in --------------------------------------------------------------------------------

    def read(self, reader: JournalReader, report: "LoadReport") -> None:
        """Read the load's records, and put its trades aside by part."""
        parser = CsvParser()
        for n, batch in enumerate(reader.read(self._first, _CHUNK)):
            mine = batch.slice(0, self._last + 1 - int(batch["offset"][0].as_py()))
            if len(mine):
                self._take(n, pa.Table.from_batches([mine]), parser, report)
            if len(mine) < len(batch):
                break
        streams = {session.stream for session in self._sessions}
        self._live = live_spans(self._tables["trades"], streams, JOURNAL)

    def _take(self, n: int, records: pa.Table, parser: CsvParser, report: "LoadReport") -> None:
        parsed = parser.parse(one_batch(records))
        refused = list(parsed.bad)
        report.findings += bad_rows(parsed.bad)
        report.rows += len(parsed.trades) if parsed.trades is not None else 0
        report.rows += len(parsed.bad)
        if parsed.trades is not None:
            done = self._normalizer.apply(parsed.trades)
            refused += done.quarantined
            report.findings += done.findings
            self._put_aside(n, self._canonical(parsed.trades, done.admitted))
        through = int(records["offset"][-1].as_py())
        self._append(
            "quarantine", quarantined(refused, records), f"quarantine/{self._first}", through
        )

    def _canonical(
        self, batch: TradeBatch, admitted: "np.ndarray[tuple[int], np.dtype[np.bool_]] | None"
    ) -> pa.Table:
        n = len(batch)
        recorded = np.full(n, self._recorded_at, np.int64)
        # a time of receipt of the row's own says when it was known; without one, the vendor's delay
        known = batch.ts_event + self._settings.delay_ns
        if batch.ts_recv is not None:
            known = np.where(batch.ts_recv < self._recorded_at, batch.ts_recv, known)
        return canonical_ticks(
            batch,
            admitted,
            journal_id=JOURNAL,
            dates=self._dates,
            knowledge=Knowledge(
                recorded_at=recorded,
                known_at=np.minimum(known, recorded),
                backfilled=np.ones(n, np.bool_),
            ),
        )

    def _put_aside(self, n: int, trades: pa.Table) -> None:
        if not len(trades):
            return
        names_and_days = trades.group_by([*_STREAM, "session_date"]).aggregate([]).to_pylist()
        for row in names_and_days:
            day = int(np.datetime64(row["session_date"]).astype("datetime64[D]").astype(np.int64))
            key = StreamKey(row["source"], row["feed"], row["symbol"])
            self._sessions.add(Owned(key, day))
        codes, names = distinct_rows(trades, ("symbol",))
        buckets = self._tables["trades"].buckets
        of_symbol = np.array([bucket_of(name[0], buckets) for name in names], np.int32)
        ds.write_dataset(
            trades.append_column("bucket", pa.array(of_symbol[codes])),
            self._folder,
            format="feather",
            basename_template=f"{n:08d}-{{i}}.feather",
            partitioning=ds.partitioning(_PARTS, flavor="hive"),
            existing_data_behavior="overwrite_or_ignore",
            max_partitions=100_000,
        )

    def sessions(self) -> frozenset[Owned]:
        """Return the sessions that the load has trades of."""
        return frozenset(self._sessions)

    # -- part by part ------------------------------------------------------------------------------

    def parts(self) -> list[Part]:
        """Return the parts that the load has trades of, ascending."""
        found = []
        for folder in self._folder.glob("session_date=*/bucket=*"):
            day = folder.parent.name.removeprefix("session_date=")
            bucket = int(folder.name.removeprefix("bucket="))
            found.append(Part(int(np.datetime64(day).astype(np.int64)), bucket))
        return sorted(found)

    def write_ticks(self, part: Part, report: "LoadReport") -> None:
        """Append a part's new trades and its restatements to the lake."""
        loaded = self._loaded(part)
        trades, corrections = self._there(part, loaded)
        found = beside(loaded, trades, corrections)
        fresh = self._knowing(found.new, _streams(trades))
        self._note(part, loaded, found)
        name = f"{self._first}/{part.date}/{part.bucket}"
        self._append("trades", fresh, f"trades/{name}", self._last)
        again = restatements(found.restated, self._recorded_at)
        self._append("corrections", again, f"corrections/{name}", self._last)
        report.new += len(found.new)
        report.restated += len(found.restated)
        report.known += found.known

    def _loaded(self, part: Part) -> pa.Table:
        day = np.datetime64(part.date, "D")
        folder = self._folder / f"session_date={day}" / f"bucket={part.bucket}"
        schema = pa.schema([f for f in TRADES if f.name != "session_date"])
        rows = ds.dataset(folder, schema=schema, format="feather").to_table().sort_by("offset")
        at = TRADES.names.index("session_date")
        dates = pa.array(np.full(len(rows), part.date, np.int32)).cast(pa.date32())
        return rows.add_column(at, TRADES.field(at), dates).cast(TRADES)

    def _there(self, part: Part, loaded: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the trades and corrections that were there before this load."""
        others = ~((ds.field("journal_id") == JOURNAL) & (ds.field("offset") >= self._first))
        symbols = sorted(loaded["symbol"].unique().to_pylist())
        trades, corrections = (
            read_rows(self._tables[name], Days(part.date, part.date), symbols, others)
            for name in ("trades", "corrections")
        )
        return trades, corrections

    def _knowing(self, trades: pa.Table, there: set[tuple[str, str, str]]) -> pa.Table:
        """Let trades be known from now on only, where there was a feed or an earlier load.

        Parameters
        ----------
        there : streams that the lake has trades of, of the same session date
        """
        codes, names = distinct_rows(trades, _STREAM)
        first, last = np.full(len(names), _EVER[1]), np.full(len(names), _EVER[0])
        for code, (source, feed, symbol) in enumerate(names):
            if (source, feed, symbol) in there:
                first[code], last[code] = _EVER
            elif (span := self._live.get(StreamKey(source, feed, symbol))) is not None:
                first[code], last[code] = span
        at = i64_of(trades["ts_event"])
        covered = (at >= first[codes]) & (at <= last[codes])
        known = np.where(covered, self._recorded_at, i64_of(trades["known_at"]))
        column = TRADES.names.index("known_at")
        return trades.set_column(column, TRADES.field(column), pa.array(known))

    def _note(self, part: Part, loaded: pa.Table, found: Reload) -> None:
        for source, feed, symbol in _streams(loaded):
            change = self._changes.setdefault((part, (source, feed)), _Change())
            change.seen.add(symbol)
        times = i64_of(loaded["ts_event"])
        for (at, _), change in self._changes.items():
            if at == part:
                change.first_ns, change.last_ns = int(times.min()), int(times.max())
        for rows, is_new in ((found.new, True), (found.restated, False)):
            for source, feed, symbol in _streams(rows):
                change = self._changes[part, (source, feed)]
                (change.filled if is_new else change.restated).add(symbol)

    # -- bars --------------------------------------------------------------------------------------

    def changed(self) -> Iterator[Part]:
        """Yield the parts of which bars are to be computed anew, ascending."""
        yield from sorted({part for part, _ in self._changes})

    def symbols_of(self, part: Part) -> list[str]:
        """Return the symbols of which a part has bars to compute anew, sorted."""
        return sorted({s for (at, _), c in self._changes.items() if at == part for s in c.seen})

    def bars(self, part: Part) -> pa.Table:
        """Return the revisions that a part makes."""
        tables = [BARS.empty_table()]
        for (at, (source, feed)), change in sorted(self._changes.items(), key=lambda c: c[0]):
            if at != part:
                continue
            symbols = tuple(sorted(change.seen))
            scope = Scope(
                source=source,
                feed=feed,
                symbols=symbols,
                first_ns=change.first_ns,
                last_ns=change.last_ns,
                closed_ns=self._closed_ns(source, feed, symbols),
            )
            found = restatement(self._tables, self._settings, scope, Days(part.date, part.date))
            causes: tuple[tuple[Cause, set[str]], ...] = (
                ("backfill", change.filled),
                ("correction", change.restated - change.filled),
            )
            for cause, mine in causes:
                revisions = found.revisions(cause, self._recorded_at)
                tables.append(revisions.filter(_of(mine)))
            # of trades that were known, only bars that were not asked for before
            tables.append(
                found.revisions("first", self._recorded_at).filter(
                    _of(change.seen - change.filled - change.restated) & (pc.field("revision") == 0)
                )
            )
        return pa.concat_tables(tables)

    def _closed_ns(self, source: str, feed: str, symbols: tuple[str, ...]) -> int:
        """Return up to when bars are final: of a feed's symbols, as far as the feed has come."""
        mine = {StreamKey(source, feed, symbol) for symbol in symbols}
        reached = [f.watermark_ns for f in self._feeds if not mine.isdisjoint(f.streams)]
        return min([self._recorded_at, *reached])

    def write_bars(self, part: Part, bars: pa.Table) -> None:
        """Append a part's revisions to the lake."""
        name = f"bars/{self._first}/{part.date}/{part.bucket}"
        self._append("bars", bars, name, self._last, np.full(len(bars), self._last, np.int64))

    def _append(
        self, table: str, rows: pa.Table, name: str, through: int, offsets: I64 | None = None
    ) -> None:
        if len(rows):
            self._tables[table].append(
                rows, app_id=f"load/{name}", through=through, offsets=offsets
            )


_PARTS = pa.schema([("session_date", pa.date32()), ("bucket", pa.int32())])
_STREAM = ("source", "feed", "symbol")


def _streams(trades: pa.Table) -> set[tuple[str, str, str]]:
    return {(n[0], n[1], n[2]) for n in distinct_rows(trades, _STREAM)[1]}


def _of(symbols: set[str]) -> pc.Expression:
    return pc.field("symbol").isin(pa.array(sorted(symbols), pa.string()))
