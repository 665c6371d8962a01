"""The generated stream as a source: batches of trades, progress, a plain label."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from marketpipe.domain.batches import Dictionaries, StreamKey, TickKind, TradeBatch
from marketpipe.domain.units import NANOS
from marketpipe.errors import UsageError
from marketpipe.sources.base import SourceCounts
from marketpipe.sources.synthetic.config import SyntheticConfig
from marketpipe.sources.synthetic.generate import Columns, arrivals

DEFAULT_BATCH_ROWS: Final = 1 << 18
_TAPES: Final = ("", "A", "B", "C")
_CONDITIONS: Final = ("", "@", "@ I")


class SyntheticSource:
    """Generated trades of a recipe, in order of arrival. They are no market's data.

    Parameters
    ----------
    config : the recipe
    batch_rows : rows in every batch but the last, at least 1; it does not change the rows
    source, feed : names of the streams

    Raises
    ------
    UsageError
        If ``batch_rows`` is below 1.
    """

    def __init__(
        self,
        config: SyntheticConfig,
        *,
        batch_rows: int = DEFAULT_BATCH_ROWS,
        source: str = "synthetic",
        feed: str = "",
    ) -> None:
        if batch_rows < 1:
            raise UsageError(f"batch_rows was '{batch_rows}', valid is 1 or more")
        self.config = config
        self._batch_rows = batch_rows
        self._rows_done = 0
        self._dictionaries = Dictionaries(
            streams=tuple(StreamKey(source, feed, symbol) for symbol in config.symbols),
            venues=("", *config.venues),
            conditions=_CONDITIONS,
            tapes=_TAPES,
        )

    @property
    def kind(self) -> TickKind:
        """Always trades."""
        return "trades"

    def batches(self) -> Iterator[TradeBatch]:
        """Yield every trade from the first on; each call starts anew and gives the same rows."""
        self._rows_done = 0
        for columns in _recut(arrivals(self.config), self._batch_rows):
            yield self._batch(columns)

    def progress(self) -> tuple[int, int]:
        """Return (rows done, rows in all); nothing is stored, so there are no bytes to count."""
        return self._rows_done, self.config.total_rows

    def counts(self) -> SourceCounts:
        """Return the rows generated so far; none of them is bad."""
        return SourceCounts(rows=self._rows_done)

    def describe(self) -> str:
        """Say in one line what this is, and that it is generated."""
        config = self.config
        return (
            f"synthetic, generated ticks: {config.total_rows:,} rows, {len(config.symbols)} "
            f"symbols, {len(config.sessions)} sessions, seed {config.seed}"
        )

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _batch(self, columns: Columns) -> TradeBatch:
        config, count = self.config, len(columns["ts_event"])
        row = np.arange(self._rows_done + 1, self._rows_done + count + 1, dtype=np.int64)
        self._rows_done += count
        conditions = tape = venue = None
        if config.with_conditions:
            odd = columns["size"] < config.lot * NANOS
            conditions = odd.astype(np.int32) + np.int32(1)
        if config.with_tape:
            tape = (columns["symbol"] % 3 + 1).astype(np.int32)
        if config.venues:
            venue = columns["venue"].astype(np.int32)
        return TradeBatch(
            dictionaries=self._dictionaries,
            stream=columns["symbol"].astype(np.int32),
            row=row,
            ts_event=columns["ts_event"],
            price=columns["price"],
            size=columns["size"],
            id_hi=np.zeros(count, np.int64) if config.with_ids else None,
            id_lo=columns["id"] if config.with_ids else None,
            venue=venue,
            conditions=conditions,
            tape=tape,
            ts_recv=columns["ts_recv"] if config.with_ts_recv else None,
        )


def _recut(pieces: Iterator[Columns], rows: int) -> Iterator[Columns]:
    """Cut the same rows into pieces of ``rows``, the last one shorter."""
    held: list[Columns] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece["ts_event"])
        if count < rows:
            continue
        joined = {k: np.concatenate([p[k] for p in held]) for k in piece}
        whole = count - count % rows
        for start in range(0, whole, rows):
            yield {k: v[start : start + rows] for k, v in joined.items()}
        held = [{k: v[whole:] for k, v in joined.items()}]
        count -= whole
    if count:
        yield {k: np.concatenate([p[k] for p in held]) for k in held[0]}
