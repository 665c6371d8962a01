"""Canonical trades and quotes of one journal, read back from the lake."""

from functools import partial

import pyarrow as pa
import pyarrow.dataset as ds

from marketpipe.lake import LakeTable
from marketpipe.pipelines.history import Wanted
from marketpipe.pipelines.lakereads import Days, read_rows
from marketpipe.pipelines.lakesink import LakeSink
from marketpipe.pipelines.quotehistory import (
    QuoteHistory,
    QuotesWanted,
    Standing,
    are_wanted,
    standing_of,
)


class LakeTrades:
    """Reads canonical trades from files of the lake, pruned by session date and bucket.

    Parameters
    ----------
    table : ``trades``
    journal_id : whose trades
    """

    def __init__(self, table: LakeTable, journal_id: str) -> None:
        self._table, self._journal_id = table, journal_id

    def __call__(self, wanted: Wanted) -> pa.Table:
        """Return the rows wanted, in no order.

        Raises
        ------
        LakeError
            If a file is missing or cannot be read; `marketpipe.lake.LakeTable.check` names it.
        """
        condition = (ds.field("journal_id") == self._journal_id) & (
            ds.field("offset") < wanted.before_offset
        )
        stream = wanted.stream
        if stream is not None:
            condition &= ds.field("source") == stream.source
            condition &= ds.field("feed") == stream.feed
        return read_rows(
            self._table,
            Days(wanted.first_date, wanted.last_date),
            None if stream is None else [stream.symbol],
            condition,
        )


class LakeQuotes(QuoteHistory):
    """Canonical quotes of one journal: those in the lake, and those on their way into it.

    Parameters
    ----------
    sink : writes the lake
    journal_id : whose quotes
    """

    def __init__(self, sink: LakeSink, journal_id: str) -> None:
        super().__init__()
        self._sink, self._journal_id = sink, journal_id

    def extend(self, quotes: pa.Table) -> None:
        """Take in nothing: the sink holds them until the lake does."""

    def standing(self, wanted: QuotesWanted) -> Standing:
        """Return the quotes wanted.

        Raises
        ------
        LakeError
            If a file is missing or cannot be read; `marketpipe.lake.LakeTable.check` names it.
        """
        stored, waiting = self._sink.holding("quotes", partial(self._read, wanted))
        return standing_of([stored, *(rows.filter(are_wanted(wanted)) for rows in waiting)])

    def _read(self, wanted: QuotesWanted, table: LakeTable) -> pa.Table:
        symbols = [symbol for span in wanted.spans for symbol in span.symbols]
        condition = (ds.field("journal_id") == self._journal_id) & are_wanted(wanted)
        return read_rows(table, Days(*wanted.dates), symbols, condition)
