"""Why a bar says what it says: its trades, what they may set, and the bytes behind them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from marketpipe.domain.batches import StreamKey
from marketpipe.domain.columns import i64_of
from marketpipe.domain.records import STORED
from marketpipe.domain.schemas import BARS, TRADES
from marketpipe.domain.ticks import DAY_SHIFT, FIRST_ONLY, HIGH_LOW, LAST, VOLUME, VWAP
from marketpipe.domain.timeframe import Timeframe
from marketpipe.domain.units import DAY_NS, format_nanos
from marketpipe.errors import UsageError
from marketpipe.lake import Lake, LakeTable
from marketpipe.lake.views import ORDER_KEY
from marketpipe.normalize import CorrectionBook, RuleSet
from marketpipe.pipelines.arrivals import correction_messages, one_batch
from marketpipe.pipelines.datafolder import DataFolder
from marketpipe.pipelines.journals import feeds, recorded
from marketpipe.pipelines.lakereads import read_rows
from marketpipe.pipelines.loadlog import JOURNAL as LOADS
from marketpipe.pipelines.rebuild import JOURNAL as REBUILDS
from marketpipe.pipelines.reload import RESTATED
from marketpipe.pipelines.repairs import concerned, identities
from marketpipe.sources.csvfile import CsvParser
from marketpipe.sources.parsed import MessageParser

_WORDS: Final = (
    (LAST, "open/close"),
    (FIRST_ONLY, "open/close if first"),
    (HIGH_LOW, "high/low"),
    (VOLUME, "volume"),
    (VWAP, "vwap"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One message and what became of it.

    Attributes
    ----------
    ts_event : ns
    kind : ``trade``, ``cancel`` or ``correction``
    used : whether it counts in the bar as it is now
    known : whether that is known still
    decision : what it may set, or why it counts no more
    price, size, conditions, trade_id : as it came
    journal_id, offset : its record; raw : the record's bytes
    """

    ts_event: int
    kind: str
    used: bool
    decision: str
    price: str
    size: str
    conditions: str
    trade_id: str
    journal_id: str
    offset: int
    raw: bytes
    known: bool = True


@dataclass(frozen=True, slots=True)
class Explanation:
    """A bar's revisions and the evidence behind them, in order of event time.

    Attributes
    ----------
    dropped : by table of the lake of which days of the bar were dropped: first day it has whole
    """

    revisions: pa.Table
    evidence: tuple[Evidence, ...]
    dropped: Mapping[str, date]


def explain(
    folder: DataFolder,
    symbol: str,
    timeframe: str,
    ts_ns: int,
    *,
    priority: Sequence[str] = (),
    source: str | None = None,
    feed: str | None = None,
) -> Explanation:
    """Find a bar, and everything that had a say in it.

    Parameters
    ----------
    ts_ns : any instant within the bar, ns
    priority : of series, as ``source/feed``
    source, feed : of the series, where it is not clear

    Raises
    ------
    UsageError
        If there is no such bar of trades.
    SeriesError
        If more than one series has one.
    """
    bars = _bars(folder, priority, symbol, timeframe, ts_ns, source, feed)
    last = bars.slice(len(bars) - 1).to_pylist()[0]
    stream = StreamKey(last["source"], last["feed"], symbol)
    span = (last["ts_open"], last["ts_close"])
    dropped = _dropped(folder, last["session_date"], span[1])
    journals = [name for name in folder.journals() if name != REBUILDS]
    evidence = evidence_of(
        folder,
        stream,
        timeframe,
        span,
        last["rule_set"],
        journals if "trades" in dropped else (),
        dropped="trades" in dropped,
    )
    return Explanation(bars, evidence, dropped)


def evidence_of(
    folder: DataFolder,
    stream: StreamKey,
    timeframe: str,
    span: tuple[int, int],
    rule_set: str,
    journals: Collection[str] = (),
    *,
    dropped: bool = False,
) -> tuple[Evidence, ...]:
    """Find all that has a say in a bar, whether or not there is one, in order of event time.

    Parameters
    ----------
    span : of the bar, [start, end) in ns
    rule_set : name of the rules that say what a trade may set
    journals : where else than in those of its trades to look for trades that were refused
    dropped : whether days of its trades were dropped of the lake, so that a trade which is only in
        the raw messages may have counted
    """
    source, feed, symbol = stream
    lake = Lake(folder.lake.root)
    trades = _arrow(lake.trades(symbol, *span, raw=True, source=source, feed=feed), TRADES)
    book, fixes = _book(trades, _corrections(folder, stream, span[0] - DAY_NS))
    evidence = [*_trades(trades, book, timeframe, rule_set), *_messages(fixes)]
    known = {(e["journal_id"], e["offset"]) for e in evidence}
    searched = {*journals, *trades["journal_id"].to_pylist()}
    evidence += _left_out(folder, stream, sorted(searched), span, known, dropped=dropped)
    raw = _payloads(folder, [(e["journal_id"], e["offset"]) for e in evidence])
    found = [Evidence(raw=raw.get((e["journal_id"], e["offset"]), b""), **e) for e in evidence]
    return tuple(sorted(found, key=lambda e: (e.ts_event, e.offset)))


def _dropped(folder: DataFolder, session: date, end_ns: int) -> dict[str, date]:
    """Return the floors of the tables that lack what once was behind a bar.

    Parameters
    ----------
    session : date of the bar
    end_ns : of the bar; what it is made of was hardly received earlier than its last day
    """
    found = {}
    received = date(1970, 1, 1) + timedelta(days=(end_ns - 1) // DAY_NS)
    for name, day in (("trades", session), ("corrections", session), ("raw", received)):
        floor = LakeTable.open(folder.lake, name).floor
        if floor is not None and day < floor:
            found[name] = floor
    return found


def _bars(
    folder: DataFolder,
    priority: Sequence[str],
    symbol: str,
    timeframe: str,
    ts_ns: int,
    source: str | None,
    feed: str | None,
) -> pa.Table:
    lake = Lake(folder.lake.root, priority=priority)
    unit = Timeframe.parse(timeframe)
    longest = unit.duration_ns if unit.is_intraday else unit.n * 8 * DAY_NS
    found = lake.bars(
        symbol, timeframe, ts_ns - longest, ts_ns + 1,
        history=True, source=source, feed=feed, price="trade",
    )  # fmt: skip
    holds = found.filter((pl.col("ts_open") <= ts_ns) & (pl.col("ts_close") > ts_ns))
    if not len(holds):
        floor = LakeTable.open(folder.lake, "bars").floor
        gone = "" if floor is None else f"; bars of days before {floor} were dropped of the lake"
        raise UsageError(
            f"explain: no {timeframe} bar of {symbol} holds {ts_ns}{gone}; marketpipe sql shows "
            "which there are (table bars)"
        )
    return _arrow(holds.sort("revision"), BARS)


def _corrections(folder: DataFolder, stream: StreamKey, since_ns: int) -> pa.Table:
    """Return cancels and corrections of a stream by their own time; it may never have had any."""
    mine = (
        (ds.field("source") == stream.source)
        & (ds.field("feed") == stream.feed)
        & (ds.field("ts_event") >= since_ns)
    )
    table = LakeTable.open(folder.lake, "corrections")
    found = read_rows(table, None, [stream.symbol], mine)
    return found.sort_by([(column, "ascending") for column in ORDER_KEY])


def _arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.select(schema.names).to_arrow().cast(schema)


def _book(trades: pa.Table, fixes: pa.Table) -> tuple[CorrectionBook, pa.Table]:
    """Return the book of the corrections that are about these trades, and these corrections."""
    book = CorrectionBook()
    messages = correction_messages(fixes)
    for message in messages:
        book.add(message)
    times = i64_of(trades["ts_event"])
    chains: set[tuple[Any, ...]] = set()
    for row, (scope, day, trade_id) in concerned(trades, book):
        book.admit(scope, day, trade_id, int(times[row]))
        chains |= {(scope, day, member) for member in book.chain(scope, day, trade_id)}
    mine = [(m.scope, m.date, m.trade_id) in chains for m in messages]
    return book, fixes.filter(pa.array(mine, pa.bool_()))


def _trades(
    trades: pa.Table, book: CorrectionBook, timeframe: str, rule_set: str
) -> Iterator[dict[str, Any]]:
    rules = RuleSet.load(rule_set)
    intraday = Timeframe.parse(timeframe).is_intraday
    names = identities(trades)
    for identity, trade in zip(names, trades.to_pylist(), strict=True):
        verdict = book.verdict(*identity)
        content = verdict.content
        conditions = (trade["conditions"] or "") if content is None else content.conditions
        flags = rules.judge(conditions, trade["tape"] or "", trade["venue"]).flags
        allowed = flags if intraday else flags >> DAY_SHIFT
        may = [word for bit, word in _WORDS if allowed & bit]
        if not verdict.counts:
            decision = "gone: cancelled, or the same trade came under another id"
        elif not may:
            decision = f"sets nothing under {rules.name}"
        else:
            decision = "sets " + ", ".join(may)
            decision += "" if content is None else ", as corrected"
        yield {
            "ts_event": trade["ts_event"],
            "kind": "trade",
            "used": verdict.counts and bool(may),
            "decision": decision,
            **_said(trade),
        }


def _said(trade: dict[str, Any]) -> dict[str, Any]:
    return {
        "price": _plain(trade["price"]),
        "size": _plain(trade["size"]),
        "conditions": trade["conditions"] or "",
        "trade_id": trade["trade_id"] or "",
        "journal_id": trade["journal_id"],
        "offset": trade["offset"],
    }


def _messages(fixes: pa.Table) -> Iterator[dict[str, Any]]:
    for fix in fixes.to_pylist():
        says = f"{fix['kind']} of trade {fix['trade_id']}"
        if fix["kind"] == "correction":
            says += f": {_plain(fix['new_price'])} × {_plain(fix['new_size'])}"
        if fix["action"] == RESTATED:
            says += ", as a file says that was loaded later"
        yield {
            "ts_event": fix["trade_ts_event"] or fix["ts_event"],
            "kind": fix["kind"],
            "used": True,
            "decision": says,
            **_said(fix | _content(fix)),
        }


def _content(fix: dict[str, Any]) -> dict[str, Any]:
    """Return the trade as a message repeats it, or as it is to be where it does not."""
    return {
        name: fix[name] if fix["price"] is not None else fix[f"new_{name}"]
        for name in ("price", "size", "conditions")
    }


def _left_out(
    folder: DataFolder,
    stream: StreamKey,
    journals: Sequence[str],
    span: tuple[int, int],
    known: set[tuple[str, int]],
    *,
    dropped: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the trades of the bar's span that were received and not admitted."""
    refused = _refused(folder, stream.symbol)
    for journal_id in journals:
        records = _records(folder, journal_id, stream.symbol, span)
        batch = _parser(folder, journal_id).parse(one_batch(records)).trades
        if batch is None:
            continue
        inside = (batch.ts_event >= span[0]) & (batch.ts_event < span[1])
        for row in np.flatnonzero(inside).tolist():
            record = (journal_id, int(batch.row[row]))
            if record in known:
                continue
            if batch.dictionaries.streams[int(batch.stream[row])] != stream:
                continue
            number = "" if batch.id_lo is None else str(int(batch.id_lo[row]))
            yield {
                "ts_event": int(batch.ts_event[row]),
                "kind": "trade",
                "used": False,
                "known": not dropped or record in refused,
                "decision": _why_left_out(refused.get(record), dropped=dropped),
                "price": format_nanos(int(batch.price[row])),
                "size": format_nanos(int(batch.size[row])),
                "conditions": "",
                "trade_id": number,
                "journal_id": journal_id,
                "offset": int(batch.row[row]),
            }


def _why_left_out(reason: str | None, *, dropped: bool) -> str:
    if reason is None and dropped:
        return "received; what it set was dropped with the trades of its day"
    if reason is None:
        return "left out: a trade of its id was there before"
    return f"left out: in quarantine, {reason}"


def _refused(folder: DataFolder, symbol: str) -> dict[tuple[str, int], str]:
    """Return why records of a symbol are in quarantine."""
    rows = read_rows(
        LakeTable.open(folder.lake, "quarantine"), None, None, ds.field("symbol") == symbol
    )
    keys = zip(rows["journal_id"].to_pylist(), rows["offset"].to_pylist(), strict=True)
    return dict(zip(keys, rows["reason"].to_pylist(), strict=True))


def _parser(folder: DataFolder, journal_id: str) -> MessageParser:
    if journal_id == LOADS or journal_id not in feeds(folder):
        return CsvParser()
    return recorded(folder, journal_id).make_parser((), b"")


def _records(folder: DataFolder, journal_id: str, symbol: str, span: tuple[int, int]) -> pa.Table:
    """Return a symbol's raw records received from a bar's beginning on, and control records."""
    names = ", ".join(f'"{name}"' for name in STORED.names)
    found = _raw(
        folder,
        f"SELECT {names} FROM read_parquet($files, hive_partitioning = true, "  # noqa: S608
        "hive_types = {'source': VARCHAR}, union_by_name = true) "
        "WHERE journal_id = $journal AND (kind = 'control' OR (kind = 'data' AND "
        'symbol = $symbol AND ts_recv >= $since)) ORDER BY "offset"',
        {"journal": journal_id, "symbol": symbol, "since": span[0] - DAY_NS},
    )
    return found.cast(STORED)


def _payloads(folder: DataFolder, wanted: list[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
    found = _raw(
        folder,
        'SELECT journal_id, "offset", payload FROM read_parquet($files) '
        'WHERE list_contains($journals, journal_id) AND list_contains($offsets, "offset")',
        {"journals": sorted({j for j, _ in wanted}), "offsets": sorted({o for _, o in wanted})},
    )
    return {(r["journal_id"], r["offset"]): r["payload"] for r in found.to_pylist()}


def _raw(folder: DataFolder, query: str, values: dict[str, Any]) -> pa.Table:
    files = LakeTable.open(folder.lake, "raw", create=False).files()
    with duckdb.connect() as connection:
        table: pa.Table = connection.sql(query, params={"files": files, **values}).to_arrow_table()
    return table


def _plain(value: Any) -> str:
    if value is None:
        return ""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
