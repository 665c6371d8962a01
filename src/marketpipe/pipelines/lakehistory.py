"""Canonical trades of one journal, read back from the lake."""

import pyarrow as pa
import pyarrow.dataset as ds

from marketpipe.lake import LakeTable
from marketpipe.pipelines.history import Wanted
from marketpipe.pipelines.lakereads import Days, read_rows


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
