"""Alpaca as a `LiveFeed`: its stream, its history, and bars of its history's trades."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from random import Random  # noqa: TID251  # spreads retries; nothing is built of it
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from marketpipe.bars import BarEngine
from marketpipe.domain.records import DATA, NOT_SPLIT
from marketpipe.domain.units import format_ns
from marketpipe.errors import ConnectError, RefusedError
from marketpipe.normalize import RuleSet, TickNormalizer
from marketpipe.normalize.dates import identity_dates
from marketpipe.pipelines.alpacawarm import warm_up
from marketpipe.pipelines.feeddays import new_york_days, utc_days
from marketpipe.pipelines.gapwork import Compared, RecordKind
from marketpipe.pipelines.livefeed import LiveFeed
from marketpipe.sources.alpaca import AlpacaParser
from marketpipe.sources.alpaca.client import SOURCE, AlpacaConnector
from marketpipe.sources.alpaca.config import AlpacaStream
from marketpipe.sources.alpaca.newest import NewestAsked
from marketpipe.sources.alpaca.pages import add_page, stream_of
from marketpipe.sources.alpaca.protocol import newest_in
from marketpipe.sources.alpaca.rest import AlpacaRest, Mark, Page
from marketpipe.sources.clocks import Clock
from marketpipe.sources.records import RecordBuilder, as_stored

_FILLED: Final = ("trades", "quotes", "bars", "updatedBars", "dailyBars")
"""What a gap does not leave missing: trades, quotes and final bars are fetched."""
_RULES: Final = "alpaca-v1"
_MINUTE: Final = "1m"
_OF_STOCKS: Final = ("open", "high", "low", "close", "volume", "trade_count")
_OF_CRYPTO: Final = ("volume", "trade_count")
"""Prices of crypto bars come from quotes too, so trades do not tell them."""

Cells = tuple[Any, ...]


def alpaca_feed(
    stream: AlpacaStream,
    rest: AlpacaRest,
    symbols: tuple[str, ...],
    clock: Clock,
    random: Random,
    *,
    silence_seconds: float = 30.0,
) -> LiveFeed:
    """Make a live feed of one of Alpaca's streams.

    Parameters
    ----------
    stream : which one
    rest : a client of the history, open as long as the feed is
    symbols : what is subscribed, in all usual channels
    clock : the feed's time
    random : spreads retries
    silence_seconds : silence that is never suspicious, of the feed's time
    """
    history = AlpacaHistory(rest, stream.feed, is_crypto=stream.is_crypto)
    connector = AlpacaConnector(
        stream,
        clock=clock,
        random=random,
        probe=NewestAsked(rest, stream, symbols),
        silence_seconds=silence_seconds,
    )
    return LiveFeed(
        journal_id=f"{SOURCE}-crypto-{stream.feed}"
        if stream.is_crypto
        else f"{SOURCE}-{stream.feed}",
        connector=connector,
        history=history,
        clock=clock,
        source=SOURCE,
        feed=stream.feed,
        symbols=symbols,
        days_of=utc_days if stream.is_crypto else new_york_days,
        make_parser=AlpacaParser,
        newest_of=newest_in,
        with_quotes="quotes" in stream.usual_channels,
        unfilled=tuple(name for name in stream.usual_channels if name not in _FILLED),
        delay_ns=stream.delay_ns,
        is_crypto=stream.is_crypto,
        warm_up=partial(warm_up, stream.encoding),
    )


class AlpacaHistory:
    """Alpaca's history of one feed; see `marketpipe.pipelines.gapwork.History`."""

    def __init__(self, rest: AlpacaRest, feed: str, *, is_crypto: bool) -> None:
        self._rest, self._feed, self._is_crypto = rest, feed, is_crypto

    def pages(self, symbols: tuple[str, ...]) -> "AlpacaPages":
        """Begin to take in a stretch of it."""
        return AlpacaPages(self._rest, self._feed, symbols, is_crypto=self._is_crypto)

    def control(self, facts: dict[str, Any], at_ns: int) -> pa.RecordBatch:
        """Make a control record."""
        builder = self._builder("control", at_ns)
        builder.add_control(facts, at_ns)
        return builder.take()

    def _builder(self, stream: str, at_ns: int) -> RecordBuilder:
        return RecordBuilder(
            source=SOURCE, feed=self._feed, stream=stream, conn_id=0, conn_started_ns=at_ns
        )


class AlpacaPages:
    """Trades, quotes and bars of a stretch of history; see `marketpipe.pipelines.gapwork.Pages`.

    Bars are built of the trades by Alpaca's own rules, whatever the pipeline builds. Of crypto
    only volume and count can be compared.
    """

    def __init__(
        self, rest: AlpacaRest, feed: str, symbols: tuple[str, ...], *, is_crypto: bool
    ) -> None:
        self._rest, self._feed, self._symbols = rest, feed, symbols
        self._is_crypto = is_crypto
        self._parser = AlpacaParser()
        rules = RuleSet.load("plain" if is_crypto else _RULES)
        self._normalizer = TickNormalizer(
            rule_set=rules,
            session_dates=identity_dates("24/7", new_york=not is_crypto, overrides=None),
        )
        self._engine = BarEngine([_MINUTE], rule_set=rules)
        self._theirs: dict[tuple[str, int], Cells] = {}
        self._elements = 0
        self._builders: dict[str, RecordBuilder] = {}
        self._marks: dict[tuple[RecordKind, int, int], Mark] = {}
        self._quotes: dict[tuple[RecordKind, int, int], int] = {}
        self.trades = 0

    @property
    def quotes(self) -> int:
        """How many quotes there were so far; a stretch that is asked for again counts once."""
        return sum(self._quotes.values())

    async def records(
        self, kind: RecordKind, start_ns: int, end_ns: int
    ) -> AsyncIterator[pa.RecordBatch]:
        """Fetch ``[start_ns, end_ns)``; yields records, a page at a time.

        Where that failed before, it goes on behind the last page.
        """
        asked = kind, start_ns, end_ns
        if asked not in self._marks:
            # Its pages are numbered anew: copies of a quote are counted from page to page.
            self._builders.pop(kind, None)
            self._quotes.pop(asked, None)
        pages = self._rest.pages(
            kind,
            self._symbols,
            start_ns,
            end_ns - 1,
            feed=self._feed,
            crypto=self._is_crypto,
            loc=self._feed,
            after=self._marks.get(asked),
        )
        try:
            async for page in pages:
                records = await asyncio.to_thread(self._taken_in, kind, page)
                yield records
                self._marks[asked] = page.mark
                if kind == "quotes":
                    self._quotes[asked] = self._quotes.get(asked, 0) + _elements_in(records)
        except RefusedError as refusal:
            if self._marks.pop(asked, None) is None:
                raise
            # The first page was given: it may be the place of the next that is not known any more.
            raise ConnectError(f"{refusal}. All pages will be asked for anew") from refusal
        self._marks.pop(asked, None)

    def _taken_in(self, kind: RecordKind, page: Page) -> pa.RecordBatch:
        builder = self._builders.get(kind)
        if builder is None:
            builder = self._builders[kind] = RecordBuilder(
                source=SOURCE,
                feed=self._feed,
                stream=stream_of(kind),
                conn_id=0,
                conn_started_ns=page.received_ns,
            )
        add_page(builder, page.body, page.received_ns)
        records = builder.take()
        if kind != "quotes":
            self._look_at(records)
        return records

    def _look_at(self, records: pa.RecordBatch) -> None:
        parsed = self._parser.parse(as_stored(records, SOURCE, self._elements))
        self._elements += int(pc.sum(pc.equal(records["kind"], DATA)).as_py() or 0)
        if parsed.trades is not None:
            ticks = self._normalizer.apply(parsed.trades).ticks
            self.trades += len(ticks)
            self._engine.apply(ticks)
        if "vendor_bars" in parsed.tables:
            names = _OF_CRYPTO if self._is_crypto else _OF_STOCKS
            self._theirs |= _cells(parsed.tables["vendor_bars"], names)

    def compare(self, start_ns: int, end_ns: int) -> Compared:
        """Compare the vendor's minute bars in ``[start_ns, end_ns)`` with those of the trades."""
        self._engine.flush()
        names = _OF_CRYPTO if self._is_crypto else _OF_STOCKS
        ours = _cells(self._engine.bars(), names)
        places = [key for key in {*ours, *self._theirs} if start_ns <= key[1] < end_ns]
        if self._is_crypto:
            # Minutes without a trade have bars too, made of quotes.
            places = [key for key in places if key in ours or self._theirs[key][0]]
        wrong = sorted(key for key in places if ours.get(key) != self._theirs.get(key))
        first = ""
        if wrong:
            symbol, ts_ns = wrong[0]
            told = {"vendor": self._theirs.get(wrong[0]), "trades": ours.get(wrong[0])}
            sides = "; ".join(
                f"{side} " + ("no bar" if cells is None else " ".join(map(str, cells)))
                for side, cells in told.items()
            )
            first = f"{symbol} {format_ns(ts_ns)} ({', '.join(names)}): {sides}"
        return Compared(len(places), len(places) - len(wrong), first)


def _elements_in(records: pa.RecordBatch) -> int:
    """Count the elements of a page; one that could not be split has none."""
    return int(pc.sum(pc.not_equal(records["msg_index"], NOT_SPLIT)).as_py() or 0)


def _cells(bars: pa.Table, names: tuple[str, ...]) -> dict[tuple[str, int], Cells]:
    """Return the cells of bars by symbol and beginning (ns)."""
    columns = [bars[name].to_pylist() for name in ("symbol", "ts_open", *names)]
    return {(symbol, ts): tuple(cells) for symbol, ts, *cells in zip(*columns, strict=True)}
