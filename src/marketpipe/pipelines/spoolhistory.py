"""What a run admitted that reads nothing back from the lake: in files, not in memory."""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from marketpipe.domain.columns import i64_of
from marketpipe.domain.schemas import TRADES
from marketpipe.pipelines.history import TradeHistory, no_lake
from marketpipe.pipelines.quotehistory import QuoteHistory, QuotesWanted, Standing, quote_keys

_QUOTE: Final = np.dtype([("key", "<u8"), ("ts_event", "<i8"), ("offset", "<i8")])


class SpooledHistory(TradeHistory):
    """Trades of one run, mapped from files of a folder.

    Parameters
    ----------
    folder : empty; the caller removes it
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(no_lake, 0, quotes=SpooledQuotes(folder))
        self._folder = folder
        self._files = 0

    def extend(self, trades: pa.Table) -> None:
        """Take in trades that have just been admitted."""
        if not len(trades):
            return
        path = self._folder / f"{self._files:08d}.arrow"
        self._files += 1
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TRADES) as writer:
            writer.write_table(trades)
        with pa.memory_map(str(path)) as source:
            super().extend(pa.ipc.open_file(source).read_all())


class _Piece(NamedTuple):
    """Quotes that lie together in the file, and when they happened."""

    row: int
    rows: int
    first_ns: int
    last_ns: int


class SpooledQuotes(QuoteHistory):
    """Quotes of one run: what tells them apart, 24 bytes each, in a file of a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / "quotes.bin"
        self._pieces: list[_Piece] = []

    def extend(self, quotes: pa.Table) -> None:
        """Take in quotes that have just been admitted."""
        if not len(quotes):
            return
        rows = np.empty(len(quotes), _QUOTE)
        rows["key"] = quote_keys(quotes)
        rows["ts_event"] = times = i64_of(quotes["ts_event"])
        rows["offset"] = i64_of(quotes["offset"])
        row = sum(self._pieces[-1][:2]) if self._pieces else 0
        self._pieces.append(_Piece(row, len(rows), int(times.min()), int(times.max())))
        with self._path.open("ab") as file:
            file.write(rows.view(np.uint8).data)

    def standing(self, wanted: QuotesWanted) -> Standing:
        """Return the quotes wanted, and others of the same time."""
        first_ns = min(span.first_ns for span in wanted.spans)
        last_ns = max(span.last_ns for span in wanted.spans)
        found = [np.empty(0, _QUOTE)]
        for piece in self._pieces:
            if piece.first_ns <= last_ns and first_ns <= piece.last_ns:
                at = piece.row * _QUOTE.itemsize
                rows = np.fromfile(self._path, _QUOTE, piece.rows, offset=at)
                found.append(rows[(rows["ts_event"] >= first_ns) & (rows["ts_event"] <= last_ns)])
        rows = np.concatenate(found)
        return Standing(rows["key"], rows["offset"])
