"""Canonical tables: admitted vendor records in the columns of `domain.schemas.CANONICAL`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marketpipe.domain.batches import I64, Batch, QuoteBatch, TradeBatch
from marketpipe.domain.columns import decimals, i64_of, texts
from marketpipe.domain.schemas import BACKFILLED, CANONICAL, QUOTES, TRADES, schema_version
from marketpipe.domain.tradeids import trade_id_texts
from marketpipe.domain.units import NULL_I64
from marketpipe.normalize.identity import SessionDates
from marketpipe.normalize.order import order_keys

SIDES: Final = ("", "buy", "sell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """When the rows of a batch were received, and when they could have been known.

    Attributes
    ----------
    recorded_at, known_at : int64 ns by row of the batch
    backfilled : bool by row: loaded after the fact
    """

    recorded_at: I64
    known_at: I64
    backfilled: npt.NDArray[np.bool_]


def canonical_ticks(
    batch: Batch,
    admitted: npt.NDArray[np.bool_] | None,
    *,
    journal_id: str,
    dates: SessionDates,
    knowledge: Knowledge,
) -> pa.Table:
    """Return the admitted rows of a batch as canonical trades or quotes, in the batch's order.

    Parameters
    ----------
    batch : its rows are offsets of the journal
    admitted : as in `Normalized`; None for all
    """
    schema = TRADES if isinstance(batch, TradeBatch) else QUOTES
    names, n = batch.dictionaries, len(batch)
    major, mid, minor = order_keys(batch)
    columns: dict[str, Any] = {
        "source": texts(batch.stream, [s.source for s in names.streams], n),
        "feed": texts(batch.stream, [s.feed for s in names.streams], n),
        "symbol": texts(batch.stream, [s.symbol for s in names.streams], n),
        "venue": texts(batch.venue, names.venues, n),
        "session_date": pa.array(dates(batch.ts_event)).cast(pa.date32()),
        "ts_event": pa.array(batch.ts_event),
        "ts_recv": _optional(batch.ts_recv, n),
        "recorded_at": pa.array(knowledge.recorded_at),
        "known_at": pa.array(knowledge.known_at),
        "key_major": pa.array(major),
        "key_mid": pa.array(mid),
        "key_minor": pa.array(minor),
        "journal_id": pa.repeat(pa.scalar(journal_id, pa.string()), n),
        "offset": pa.array(batch.row),
        "schema_version": _version(schema, n),
    }
    columns |= _trade(batch, knowledge) if isinstance(batch, TradeBatch) else _quote(batch)
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    return table if admitted is None else table.filter(pa.array(admitted))


def _trade(batch: TradeBatch, knowledge: Knowledge) -> dict[str, Any]:
    names, n = batch.dictionaries, len(batch)
    if batch.id_hi is None or batch.id_lo is None:
        ids = pa.nulls(n, pa.string())
    else:
        ids = trade_id_texts(batch.id_hi, batch.id_lo)
    flags = np.where(knowledge.backfilled, BACKFILLED, 0).astype(np.int32)
    return {
        "trade_id": ids,
        "price": decimals(batch.price),
        "size": decimals(batch.size),
        "conditions": texts(batch.conditions, names.conditions, n),
        "tape": texts(batch.tape, names.tapes, n),
        "side": texts(batch.side, SIDES, n),
        "flags": pa.array(flags),
    }


def _quote(batch: QuoteBatch) -> dict[str, Any]:
    n = len(batch)
    empty = texts(None, (), n)
    return {
        "bid": decimals(batch.bid),
        "ask": decimals(batch.ask),
        "bid_size": _sizes(batch.bid_size, n),
        "ask_size": _sizes(batch.ask_size, n),
        "bid_venue": empty,
        "ask_venue": empty,
        "conditions": empty,
        "tape": empty,
    }


def complete(
    kind: str,
    table: pa.Table,
    *,
    dates: SessionDates,
    recorded_at: I64,
    known_at: I64,
    keys: tuple[I64, I64, I64],
) -> pa.Table:
    """Add to a parser's table of another kind what only the pipeline knows.

    Parameters
    ----------
    kind : a key of `CANONICAL`
    table : the columns that a parser gives; those it leaves out are null
    recorded_at, known_at : int64 ns by row
    keys : order key by row
    """
    schema, n = CANONICAL[kind], len(table)
    known: Mapping[str, Any] = {
        "session_date": pa.array(dates(i64_of(table["ts_event"]))).cast(pa.date32()),
        "recorded_at": pa.array(recorded_at),
        "known_at": pa.array(known_at),
        "key_major": pa.array(keys[0]),
        "key_mid": pa.array(keys[1]),
        "key_minor": pa.array(keys[2]),
        "schema_version": _version(schema, n),
    }
    columns = []
    for field in schema:
        if field.name in known:
            columns.append(known[field.name])
        elif field.name in table.column_names:
            columns.append(table[field.name].combine_chunks().cast(field.type))
        else:
            columns.append(pa.nulls(n, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _version(schema: pa.Schema, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(schema_version(schema), pa.int16()), count)


def _sizes(column: I64 | None, count: int) -> pa.Array:
    return pa.nulls(count, TRADES.field("size").type) if column is None else decimals(column)


def _optional(column: I64 | None, count: int) -> pa.Array:
    if column is None:
        return pa.nulls(count, pa.int64())
    absent = column == NULL_I64
    return pa.array(column, mask=absent) if absent.any() else pa.array(column)
