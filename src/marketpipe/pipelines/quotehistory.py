"""The quotes of a pipeline so far, by what tells one from another: they have no ids."""

import hashlib
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.domain.batches import I64
from marketpipe.domain.columns import i64_of, nanos_of
from marketpipe.normalize import content_fingerprint
from marketpipe.normalize.restored import distinct_rows

U64: TypeAlias = npt.NDArray[np.uint64]

_TEXTS: Final = ("source", "feed", "symbol", "bid_venue", "ask_venue", "conditions", "tape")
_NUMBERS: Final = ("bid", "ask", "bid_size", "ask_size")
IDENTITY: Final = (*_TEXTS, "ts_event", *_NUMBERS)
"""Columns of canonical quotes: where all of them are equal, two are copies of one quote."""
COMPARED: Final = ("offset", *IDENTITY)


class Span(NamedTuple):
    """Quotes of some symbols that happened in ``[first_ns, last_ns]``."""

    symbols: tuple[str, ...]
    first_ns: int
    last_ns: int


class QuotesWanted(NamedTuple):
    """Which quotes: spans, their session dates (both inclusive), offsets below one."""

    spans: tuple[Span, ...]
    dates: tuple[int, int]
    before_offset: int


class Standing(NamedTuple):
    """Quotes that stand: their keys (`quote_keys`) and offsets."""

    keys: U64
    offsets: I64


def quote_keys(quotes: pa.Table) -> U64:
    """Hash the columns `IDENTITY` of each quote to 64 bits, the same in every process."""
    codes, names = distinct_rows(quotes, _TEXTS)
    texts = np.array([_text_key(name) for name in names], np.int64)[codes] if names else codes
    times = np.ascontiguousarray(i64_of(quotes["ts_event"]))
    bid, ask, bid_size, ask_size = (
        np.ascontiguousarray(nanos_of(quotes[name])) for name in _NUMBERS
    )
    prices = content_fingerprint(times, bid, ask)
    sizes = content_fingerprint(bid_size, ask_size, texts)
    return content_fingerprint(prices.view(np.int64), sizes.view(np.int64), times)


def _text_key(words: tuple[str, ...]) -> int:
    raw = "\0".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big", signed=True)


def are_wanted(wanted: QuotesWanted) -> pc.Expression:
    """Tell which quotes are wanted, whatever their dates."""
    of_spans = reduce(or_, [_of_span(span) for span in wanted.spans])
    return of_spans & (pc.field("offset") < wanted.before_offset)


def _of_span(span: Span) -> pc.Expression:
    times = pc.field("ts_event")
    then = (times >= span.first_ns) & (times <= span.last_ns)
    return then & pc.field("symbol").isin(list(span.symbols))


def standing_of(tables: Sequence[pa.Table]) -> Standing:
    """Return the quotes of tables, each offset once."""
    if not any(map(len, tables)):
        return Standing(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    rows = pa.concat_tables([table.select(COMPARED) for table in tables])
    offsets, first = np.unique(i64_of(rows["offset"]), return_index=True)
    return Standing(quote_keys(rows)[first], offsets)


class QuoteHistory:
    """Canonical quotes of one run, in memory."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def extend(self, quotes: pa.Table) -> None:
        """Take in quotes that have just been admitted."""
        self._tables.append(quotes.select(COMPARED))

    def standing(self, wanted: QuotesWanted) -> Standing:
        """Return the quotes wanted, among others perhaps."""
        return standing_of([table.filter(are_wanted(wanted)) for table in self._tables])
