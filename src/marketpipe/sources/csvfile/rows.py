"""Lines to batches: the only place that drives the kernel."""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from marketpipe.domain.batches import I64, BadRow, Batch, QuoteBatch, TradeBatch
from marketpipe.domain.tradeids import text_trade_id
from marketpipe.sources.base import bad_row
from marketpipe.sources.csvfile import _rows_kernel as rows
from marketpipe.sources.csvfile.header import Layout
from marketpipe.sources.csvfile.names import Names
from marketpipe.sources.numbers.reasons import REASONS

U8: TypeAlias = npt.NDArray[np.uint8]

_BAD_PER_CALL: Final = 4096


class RowReader:
    """Reads whole lines of one layout from a window of bytes into columns.

    Call `index` for a window, `parse` until it says `rows.NEED_BYTES`, and `take` whenever a
    batch is wanted.

    Parameters
    ----------
    layout : what the columns hold
    names : dictionaries, which other readers may share
    source, feed : for rows that name none
    file : named in errors
    batch_rows : rows in a full batch
    window_bytes : the largest window, scratch space included
    keep_all : take any symbol, not only those in ``names``

    Attributes
    ----------
    state : counters of the kernel; see there
    bad : bad rows since the last `take`
    """

    def __init__(
        self,
        layout: Layout,
        names: Names,
        *,
        source: str,
        feed: str,
        file: str,
        batch_rows: int,
        window_bytes: int,
        keep_all: bool = True,
    ) -> None:
        self.layout = layout
        self.state: I64 = np.zeros(rows.STATES, np.int64)
        self.bad: list[BadRow] = []
        self._names = names
        self._default = names.codes(source, feed)
        self._file = file
        self._keep_all = keep_all
        self._work = self._new_work(batch_rows, window_bytes)

    def _new_work(self, batch_rows: int, window_bytes: int) -> rows.Work:
        layout = self.layout
        columns = len(layout.columns)
        return rows.Work(
            layout=layout.take,
            header=np.frombuffer(layout.raw, np.uint8).copy(),
            numbers=np.empty((len(layout.number_of), batch_rows), np.int64),
            codes=np.empty((len(layout.code_of), batch_rows), np.int32),
            side=np.empty(batch_rows if "side" in layout.columns else 0, np.int8),
            bad=np.empty((_BAD_PER_CALL, 5), np.int64),
            id_bytes=np.empty(window_bytes, np.uint8),
            marks=np.empty(window_bytes, np.int64),
            spans=np.zeros((columns, 3), np.int64),
            state=self.state,
        )

    def index(self, window: U8, at: int, end: int) -> None:
        """Look at the lines from ``at`` to ``end``; the last `rows.SCRATCH_BYTES` are scratch."""
        self.state[rows.AT] = at
        rows.index_block(window, end, self._work.marks, self.state)

    def parse(self, window: U8) -> int:
        """Read lines until there is a reason to stop, and return it; see the kernel."""
        state = self.state
        before = int(state[rows.ROWS])
        state[rows.ID_BYTES] = 0
        stop = rows.TABLE_FULL
        while stop == rows.TABLE_FULL:
            stop = int(
                rows.parse_rows(
                    window,
                    self._work,
                    self._names.table,
                    self._default,
                    self.layout.columns_of_note,
                    self._keep_all,
                )
            )
            self._note_bad(window)
            if stop == rows.TABLE_FULL:
                self._names.grow(self._file)
        if state[rows.ID_BYTES]:
            self._digest_ids(before, int(state[rows.ROWS]))
        return stop

    def _note_bad(self, window: U8) -> None:
        for line, reason, column, begin, end in self._work.bad[: self.state[rows.BAD]].tolist():
            field = self.layout.columns[column] if column >= 0 else ""
            self.bad.append(bad_row(line, REASONS[reason], field, window[begin:end].tobytes()))

    def _digest_ids(self, begin: int, end: int) -> None:
        high, low = (
            self._work.numbers[self.layout.number_of[name], begin:end]
            for name in ("id_hi", "id_lo")
        )
        arena = self._work.id_bytes[: self.state[rows.ID_BYTES]].tobytes()
        mask = (1 << rows.ID_SIZE_BITS) - 1
        for k in np.flatnonzero(high == 1).tolist():
            at, size = int(low[k]) >> rows.ID_SIZE_BITS, int(low[k]) & mask
            high[k], low[k] = text_trade_id(arena[at : at + size])

    def take(self) -> Batch:
        """Return the rows read so far, and begin anew; what was bad goes with them."""
        count = int(self.state[rows.ROWS])
        layout, work = self.layout, self._work
        numbers: dict[str, Any] = {
            name: work.numbers[place, :count] for name, place in layout.number_of.items()
        }
        codes: dict[str, Any] = {
            name: work.codes[place, :count] for name, place in layout.code_of.items()
        }
        side = work.side[:count] if len(work.side) else None
        bad, self.bad = tuple(self.bad), []
        self.state[rows.ROWS] = 0
        self._work = work._replace(
            numbers=np.empty_like(work.numbers),
            codes=np.empty_like(work.codes),
            side=np.empty_like(work.side),
        )
        dictionaries = self._names.dictionaries()
        if layout.kind == "quotes":
            return QuoteBatch(dictionaries=dictionaries, bad=bad, **codes, **numbers)
        return TradeBatch(dictionaries=dictionaries, bad=bad, side=side, **codes, **numbers)
