"""Books, statuses, vendor bars and corrections: messages to tables of what they show."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64
from marketpipe.domain.schemas import CANONICAL, VOLUME
from marketpipe.domain.symbols import is_valid_symbol
from marketpipe.domain.tradeids import canonical_trade_id
from marketpipe.sources.alpaca import values, wire
from marketpipe.sources.alpaca.groups import Group, prices, strings
from marketpipe.sources.numbers.reasons import BAD_NUMBER, MISSING_VALUE, OK, REASONS

COMMON: Final = ("source", "feed", "symbol", "venue", "ts_event", "ts_recv", "journal_id", "offset")
"""Columns of every canonical table that a message shows."""

OWED: Final = (
    "session_date",
    "recorded_at",
    "known_at",
    "key_major",
    "key_mid",
    "key_minor",
    "schema_version",
)
"""Columns of canonical tables that the caller adds."""


def table_schema(kind: str) -> pa.Schema:
    """Return the columns of ``CANONICAL[kind]`` that a parser gives, in their order there."""
    return pa.schema([field for field in CANONICAL[kind] if field.name not in OWED])


def _table(
    kind: str, group: Group, columns: Mapping[str, Any], rows: I64 | None = None
) -> pa.Table:
    # `rows`: the message of each row; without it each message is one row.
    keep = group.good if rows is None else group.good[rows]
    places = np.arange(len(group.messages)) if rows is None else rows
    symbols = group.of("symbol")
    venues = [venue or "" for venue in group.of("venue")] if _has_venue(group) else None
    common = {
        **{name: group.records.column(name).take(pa.array(places)) for name in COMMON[:2]},
        "symbol": strings([symbols[k] for k in places]),
        "venue": strings([venues[k] if venues else "" for k in places]),
        **{name: group.records.column(name).take(pa.array(places)) for name in COMMON[5:]},
    }
    schema = table_schema(kind)
    made = {**common, **columns}
    whole = pa.Table.from_arrays([pa.array(made[name]) for name in schema.names], schema=schema)
    return whole if keep.all() else whole.filter(pa.array(keep))


def _has_venue(group: Group) -> bool:
    return isinstance(group.messages[0], (wire.Correction, wire.Cancel))


def _start(group: Group) -> I64:
    symbols = np.array([not is_valid_symbol(symbol) for symbol in group.of("symbol")], np.bool_)
    group.refuse_where(symbols, "bad_symbol", "S")
    return group.instants("ts", "t")


def statuses(group: Group) -> pa.Table:
    """Halts and resumptions."""
    ts = _start(group)
    names = ("status_code", "status_message", "reason_code", "reason_message", "tape")
    return _table(
        "statuses",
        group,
        {
            "kind": strings(["status"] * len(ts)),
            "ts_event": ts,
            **{name: strings(group.of(name)) for name in names},
            **_nulls("statuses", len(ts), "limit_up", "limit_down", "indicator"),
        },
    )


def lulds(group: Group) -> pa.Table:
    """Limit-up, limit-down bands; rows of ``statuses``."""
    ts = _start(group)
    up = group.decimals("limit_up", "u", optional=True)
    down = group.decimals("limit_down", "d", optional=True)
    names = ("status_code", "status_message", "reason_code", "reason_message")
    return _table(
        "statuses",
        group,
        {
            "kind": strings(["luld"] * len(ts)),
            "ts_event": ts,
            "limit_up": prices(up),
            "limit_down": prices(down),
            "indicator": strings(group.of("indicator")),
            "tape": strings(group.of("tape")),
            **_nulls("statuses", len(ts), *names),
        },
    )


def bars(kind: str, timeframe: str) -> Callable[[Group], pa.Table]:
    """Make the reader of one of the vendor's three kinds of bars."""

    def read(group: Group) -> pa.Table:
        ts = _start(group)
        keys = {"open": "o", "high": "h", "low": "l", "close": "c"}
        own = {name: group.decimals(name, key, optional=True) for name, key in keys.items()}
        count = len(ts)
        return _table(
            "vendor_bars",
            group,
            {
                "kind": strings([kind] * count),
                "timeframe": strings([timeframe] * count),
                "ts_event": ts,
                "ts_open": ts,
                **{name: prices(column) for name, column in own.items()},
                "volume": _wide(group, "volume", "v"),
                # A quotient that the vendor rounded already, of crypto to ten decimals.
                "vwap": _wide(group, "vwap", "vw", rounded=True),
                "trade_count": _counts(group),
            },
        )

    return read


def corrections(group: Group) -> pa.Table:
    """Trades replaced by others."""
    ts = _start(group)
    own = {
        "price": group.decimals("price", "op", optional=True),
        "size": group.decimals("size", "os", optional=True),
        "new_price": group.decimals("new_price", "cp"),
        "new_size": group.decimals("new_size", "cs"),
    }
    return _table(
        "corrections",
        group,
        {
            "kind": strings(["correction"] * len(ts)),
            "ts_event": ts,
            "trade_id": strings([_id_text(x) for x in group.of("trade_id")]),
            "new_trade_id": strings([_id_text(x) for x in group.of("new_trade_id")]),
            "tape": strings(group.of("tape")),
            **{name: prices(column) for name, column in own.items()},
            "conditions": strings(group.conditions("conditions", "oc")),
            "new_conditions": strings(group.conditions("new_conditions", "cc")),
            **_nulls("corrections", len(ts), "action", "trade_ts_event"),
        },
    )


def cancels(group: Group) -> pa.Table:
    """Trades taken back; rows of ``corrections``."""
    ts = _start(group)
    price = group.decimals("price", "p", optional=True)
    size = group.decimals("size", "s", optional=True)
    rest = ("conditions", "new_conditions", "new_trade_id", "new_price", "new_size")
    return _table(
        "corrections",
        group,
        {
            "kind": strings(["cancel"] * len(ts)),
            "ts_event": ts,
            "trade_id": strings([_id_text(x) for x in group.of("trade_id")]),
            "tape": strings(group.of("tape")),
            "action": strings(group.of("action")),
            "price": prices(price),
            "size": prices(size),
            **_nulls("corrections", len(ts), *rest, "trade_ts_event"),
        },
    )


def books(group: Group) -> pa.Table:
    """Books, one row per level; a bad level is left out alone, its message stays."""
    ts = _start(group)
    places = [
        (row, side, level, entry)
        for row, message in enumerate(group.messages)
        for side, levels in (("bid", message.bids or ()), ("ask", message.asks or ()))
        for level, entry in enumerate(levels)
    ]
    empty = [
        (row, "", 0, wire.Level())
        for row, message in enumerate(group.messages)
        if message.is_snapshot and not message.bids and not message.asks
    ]
    places = sorted(places + empty, key=lambda place: place[0])
    rows = np.fromiter((place[0] for place in places), np.int64, len(places))
    price, size, fine = _levels(group, places)
    snapshots = [message.is_snapshot for message in group.messages]
    columns = {
        "ts_event": ts[rows],
        "is_snapshot": pa.array([snapshots[k] for k in rows], pa.bool_()),
        "side": strings([place[1] for place in places]),
        "level": pa.array([place[2] for place in places], pa.int32()),
        "price": prices(price),
        "size": prices(size),
    }
    table = _table("book", group, columns, rows)
    return table if fine.all() else table.filter(pa.array(fine[group.good[rows]]))


def _levels(group: Group, places: list[Any]) -> tuple[I64, I64, Any]:
    packed = None if group.packed is None else [group.packed[place[0]] for place in places]
    fine = np.ones(len(places), np.bool_)
    columns = []
    for name, key in (("price", "p"), ("size", "s")):
        column, reasons = values.decimals([getattr(p[3], name) for p in places], packed)
        absent = np.array([place[1] == "" for place in places], np.bool_)
        column[absent] = np.iinfo(np.int64).min
        reasons[absent] = OK
        for k in np.flatnonzero((reasons != OK) & fine).tolist():
            row, side, level, _ = places[k]
            if group.good[row]:
                where = f"{side[0]}[{level}].{key}"
                group.bad.append(group.fault(row, REASONS[reasons[k]], where))
        fine &= reasons == OK
        columns.append(column)
    return columns[0], columns[1], fine


def _wide(group: Group, name: str, key: str, *, rounded: bool = False) -> pa.Array:
    column, reasons = values.wide_decimals(group.of(name), group.packed, rounded=rounded)
    for code in np.unique(reasons).tolist():
        if code not in (OK, MISSING_VALUE):
            group.refuse_where(reasons == code, REASONS[code], key)
    return pa.array(column, VOLUME)


def _counts(group: Group) -> pa.Array:
    counts = group.of("trade_count")
    fits = [count is None or 0 <= count < 1 << 63 for count in counts]
    group.refuse_where(~np.array(fits, np.bool_), REASONS[BAD_NUMBER], "n")
    kept = [count if fit else None for count, fit in zip(counts, fits, strict=True)]
    return pa.array(kept, pa.int64())


def _nulls(kind: str, count: int, *names: str) -> dict[str, pa.Array]:
    schema = CANONICAL[kind]
    return {name: pa.nulls(count, schema.field(name).type) for name in names}


def _id_text(trade_id: int | str | None) -> str | None:
    return None if trade_id is None else canonical_trade_id(str(trade_id))
