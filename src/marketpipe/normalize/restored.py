"""Canonical tables back to ticks: what the engine needs of trades and quotes that were stored."""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from marketpipe.domain.batches import I64, StreamKey
from marketpipe.domain.columns import i64_of, nanos_of
from marketpipe.domain.ticks import PLAIN, Ticks
from marketpipe.domain.units import NULL_I64
from marketpipe.errors import UsageError
from marketpipe.normalize.ruleset import RuleSet

_STREAM: Final = ("source", "feed", "symbol")


def stored_ticks(
    table: pa.Table,
    rule_set: RuleSet,
    price_type: str = "trade",
    streams: tuple[StreamKey, ...] = (),
) -> Ticks:
    """Return the ticks of canonical trades or quotes, in the table's order.

    Parameters
    ----------
    table : canonical trades (for ``trade``) or quotes, as `canonical_ticks` makes them
    streams : names whose codes are fixed; further ones follow in order of appearance
    """
    codes, names = distinct_rows(table, _STREAM)
    place = {key: code for code, key in enumerate(streams)}
    mapped = [place.setdefault(StreamKey(*name), len(place)) for name in names]
    stream = np.array(mapped, np.int32)[codes] if mapped else np.zeros(0, np.int32)
    if price_type == "trade":
        price, size = nanos_of(table["price"]), nanos_of(table["size"])
        flags = _flags(table, rule_set)
    else:
        price, size = _quoted(table, price_type), np.zeros(len(table), np.int64)
        flags = np.full(len(table), PLAIN, np.uint16)
    ticks = Ticks(
        streams=tuple(place),
        stream=stream,
        ts_event=i64_of(table["ts_event"]),
        price=np.ascontiguousarray(price),
        size=np.ascontiguousarray(size),
        key_major=i64_of(table["key_major"]),
        key_mid=i64_of(table["key_mid"]),
        key_minor=i64_of(table["key_minor"]),
        flags=flags,
        known_at=i64_of(table["known_at"]),
    )
    usable = ticks.price > 0
    return ticks if usable.all() else chosen(ticks, usable)


def chosen(ticks: Ticks, rows: Any) -> Ticks:
    """Return some rows of ticks: a mask, a slice or positions."""
    columns = {
        name: getattr(ticks, name)[rows] for name in Ticks.__dataclass_fields__ if name != "streams"
    }
    return Ticks(streams=ticks.streams, **columns)


def distinct_rows(table: pa.Table, names: tuple[str, ...]) -> tuple[I64, list[tuple[str, ...]]]:
    """Give each combination of text columns a number, in order of first appearance.

    Returns
    -------
    int64 per row, and the texts of each number (a null text is the empty one)
    """
    codes = np.zeros(len(table), np.int64)
    dictionaries: list[list[str]] = []
    for name in names:
        coded = table[name].fill_null("").cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        words = coded.dictionary.to_pylist()
        dictionaries.append(words)
        codes = codes * max(len(words), 1) + np.asarray(coded.indices, np.int64)
    found, first, numbers = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[numbers], [_spelled(int(code), dictionaries) for code in found[order]]


def _spelled(code: int, dictionaries: list[list[str]]) -> tuple[str, ...]:
    words = []
    for known in reversed(dictionaries):
        code, at = divmod(code, len(known))
        words.append(known[at])
    return tuple(reversed(words))


def _flags(table: pa.Table, rule_set: RuleSet) -> Any:
    codes, combinations = distinct_rows(table, ("conditions", "tape", "venue"))
    judged = [rule_set.judge(*names).flags for names in combinations]
    return np.array(judged, np.uint16)[codes] if judged else np.zeros(0, np.uint16)


def _quoted(table: pa.Table, price_type: str) -> I64:
    if price_type not in ("bid", "ask", "mid"):
        raise UsageError(f"price_type was {price_type!r}; valid are trade, bid, ask, mid")
    bid, ask = nanos_of(table["bid"]), nanos_of(table["ask"])
    if price_type != "mid":
        side = bid if price_type == "bid" else ask
        return np.where(side == NULL_I64, 0, side)
    usable = (bid > 0) & (ask > 0) & (bid <= ask)
    return np.where(usable, bid + ask, 0)
